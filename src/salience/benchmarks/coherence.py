"""Gradient coherence beside other ways to the same number: time and memory on a perceptron, a CNN and a transformer.

Every way gives Σ g and every ‖g_i‖² of the same batches, and the same m-coherence comes out. The ordinary pass gives
the mean gradient alone, which is what a training step costs. opacus and backpack are peers, used where they are installed and
never needed. Time is processor time of one thread, in turns, the least of the repeats; memory is what a fresh process
grows by. Nothing is asserted.
"""

import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any

from salience.core.progress import Stage

CARD = {
    "key": "coherence",
    "kind": "benchmark",
    "title": "Gradient coherence beside torch.func, opacus and backpack",
    "entry": "run",
    "summary": "Processor time and peak memory of exact coherence, of its estimate by random signs and of per-example gradients, as multiples of an ordinary forward and backward pass.",
    "cost": "about six minutes on two idle cores; quick: half a minute, without memory",
}
REPEATS, QUICK_REPEATS = 3, 2
BATCHES, QUICK_BATCHES = 2, 1
QUICK_PART = 4  # a quick batch has a quarter of the examples
ORDINARY, EXACT = "ordinary pass", "exact"
CHUNK = 64  # examples that torch.func takes at a time
Answer = float


def run(quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Measure every way on every network.

    Args:
        quick: fewer and smaller batches, fewer repeats, and no memory.
        seed: seed of weights and data.

    Returns:
        ``rows``: one a network and way: seconds, multiple of the ordinary pass, megabytes, m-coherence, and why a way is
        absent; ``summary``: versions, and multiples of our time that other ways take.
    """
    rows = []
    with Stage("coherence", len(NETWORKS) * len(WAYS)) as stage:
        for network in NETWORKS:
            rows += _network_rows(network, quick, seed, stage)
    return {"rows": rows, "summary": _summary(rows)}


def _network_rows(network: str, quick: bool, seed: int, stage: Stage) -> list[dict[str, Any]]:
    case = Case(network, quick, seed)
    found = {way: _first(case, way) for way in WAYS}
    able = {way: call for way, call in WAYS.items() if not isinstance(found[way], str)}
    seconds = case.seconds(able, QUICK_REPEATS if quick else REPEATS)
    rows = []
    for way in WAYS:
        reason = found[way] if isinstance(found[way], str) else ""
        rows.append(
            {
                "part": network,
                "way": way,
                "seconds": seconds.get(way),
                "× ordinary": seconds[way] / seconds[ORDINARY] if way in seconds else None,
                "MiB": None if reason or quick else _megabytes(network, way, seed),
                "m-coherence": None if reason or way == ORDINARY else found[way],
                "reason": reason,
            }
        )
        stage.step(f"{network}, {way}")
    return rows


def _first(case: "Case", way: str) -> Answer | str:
    """Return what a way finds, or why it finds nothing."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of the peers, about hooks
            return WAYS[way](case)
    except ImportError as error:
        return f"{error.name or error} is not installed"
    except Exception as error:  # a peer's own errors
        if way not in PEERS:
            raise
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:90]}"


def _megabytes(network: str, way: str, seed: int) -> float:
    """Return by how much a fresh process grows when it goes this way."""
    from salience.benchmarks.measure import measured_apart

    return measured_apart(
        "import json\n"
        "from salience.benchmarks.coherence import WAYS, Case\n"
        "from salience.benchmarks.measure import fill_to_peak, peak_megabytes\n"
        f"case = Case({network!r}, False, {seed!r})\n"
        f"small = Case({network!r}, False, {seed!r}, rows=2)\n"
        f"WAYS[{way!r}](small)\n"
        "ballast, before = fill_to_peak(), peak_megabytes()\n"
        f"WAYS[{way!r}](case)\n"
        "print(json.dumps(peak_megabytes() - before))"
    )


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for network in NETWORKS:
        seconds = {r["way"]: r["seconds"] for r in rows if r["part"] == network and r["seconds"]}
        ratios = {w: round(s / seconds[EXACT], 2) for w, s in seconds.items() if w not in (ORDINARY, EXACT)}
        found[network] = {
            "exact / ordinary": round(seconds[EXACT] / seconds[ORDINARY], 2),
            **{f"{w} / exact": v for w, v in ratios.items()},
        }
    return {name: ", ".join(f"{k} {v}" for k, v in part.items()) for name, part in found.items()} | {
        "peers": ", ".join(f"{name} {_version(name)}" for name in ("torch", "opacus", "backpack-for-pytorch"))
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


class Case:
    """Hold a network and its batches; every way starts from the same weights.

    Args:
        network: key of :data:`NETWORKS`.
        quick: fewer and smaller batches.
        seed: seed of weights and data.
        rows: examples of a batch; the network's own number if none.
    """

    def __init__(self, network: str, quick: bool, seed: int, rows: int | None = None) -> None:
        import torch

        torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net, draw, usual = NETWORKS[network]()
            rows = rows or (usual // QUICK_PART if quick else usual)
            self.batches = [
                (draw(rows), torch.randint(0, 10, (rows,)))
                for _ in range(QUICK_BATCHES if quick else BATCHES)
            ]
        self.net.eval()
        self.parameters = dict(self.net.named_parameters())

    def seconds(self, ways: dict[str, Callable[["Case"], Answer]], repeats: int) -> dict[str, float]:
        """Return the least processor time of each way, taken in turns."""
        from time import process_time

        least: dict[str, float] = {}
        with warnings.catch_warnings(action="ignore"):
            for name, call in [pair for _ in range(repeats) for pair in ways.items()]:
                begin = process_time()
                call(self)
                least[name] = min(least.get(name, float("inf")), process_time() - begin)
        return least

    def gathered(self, gradients: Callable[[Any], Any]) -> Answer:
        """Return m-coherence from all batches' gradients of examples, by name."""
        total: list[Any] = []
        squares = 0.0
        for batch in self.batches:
            for_batch = gradients(batch)
            squares += float(sum(g.flatten(1).square().sum() for g in for_batch))
            sums = [g.sum(0) for g in for_batch]
            total = [t + s for t, s in zip(total, sums, strict=True)] if total else sums
        return float(sum(t.square().sum() for t in total)) / squares


def losses(net: Any, batch: Any) -> Any:
    """Return one loss an example."""
    from torch.nn import functional as F

    return F.cross_entropy(net(batch[0]), batch[1], reduction="none")


def ordinary(case: Case) -> Answer:
    """Run an ordinary forward and backward pass over every batch."""
    import torch

    for batch in case.batches:
        torch.autograd.grad(losses(case.net, batch).mean(), list(case.parameters.values()))
    return 0.0


def by_ours(method: str, **options: Any) -> Callable[[Case], Answer]:
    """Return our measurement by one of its methods."""

    def measure(case: Case) -> Answer:
        from salience.training.coherence import coherence

        return coherence(case.net, losses, case.batches, method=method, **options).m_coherence

    return measure


def by_torch_func(case: Case) -> Answer:
    """Vectorise the gradient of one example."""
    import torch
    from torch.nn import functional as F

    def one(parameters: Any, x: Any, y: Any) -> Any:
        logits = torch.func.functional_call(case.net, parameters, (x[None],))
        return F.cross_entropy(logits, y[None])

    each = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0), chunk_size=CHUNK)
    detached = {name: p.detach() for name, p in case.parameters.items()}
    return case.gathered(lambda batch: list(each(detached, *batch).values()))


def by_opacus(case: Case) -> Answer:
    """Let opacus keep a gradient an example."""
    import copy

    from opacus.grad_sample import GradSampleModule

    net = GradSampleModule(copy.deepcopy(case.net).train(), loss_reduction="sum")

    def gradients(batch: Any) -> Any:
        net.zero_grad(set_to_none=True)
        losses(net, batch).sum().backward()
        return [p.grad_sample for p in net.parameters()]

    return case.gathered(gradients)


def by_backpack(case: Case) -> Answer:
    """Let backpack compute squared norms beside the gradient."""
    import copy

    import torch
    from backpack import backpack, extend
    from backpack.extensions import BatchL2Grad

    net = extend(copy.deepcopy(case.net))
    criterion = extend(torch.nn.CrossEntropyLoss(reduction="sum"))
    squares = 0.0
    for x, y in case.batches:
        with backpack(BatchL2Grad()):
            criterion(net(x), y).backward()
        squares += float(sum(p.batch_l2.sum() for p in net.parameters()))
    return float(sum(p.grad.square().sum() for p in net.parameters())) / squares


WAYS: dict[str, Callable[[Case], Answer]] = {
    ORDINARY: ordinary,
    EXACT: by_ours("exact"),
    "signs (8 draws)": by_ours("signs"),
    "loop over examples": by_ours("per_example"),
    "torch.func": by_torch_func,
    "opacus": by_opacus,
    "backpack": by_backpack,
}
PEERS = ("opacus", "backpack")


def perceptron() -> Any:
    """Return three layers of 512 units, and rows of 64 numbers, 256 a batch."""
    import torch
    from torch import nn

    net = nn.Sequential(
        nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )  # fmt: skip
    return net, lambda rows: torch.randn(rows, 64), 256


def convolutional() -> Any:
    """Return four convolutions and two linear layers, 656,000 parameters, and pictures of 32 × 32, 256 a batch."""
    import torch
    from torch import nn

    def block(into: int, out: int, pool: bool) -> list[nn.Module]:
        return [nn.Conv2d(into, out, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if pool else [])]

    net = nn.Sequential(
        *block(3, 32, False), *block(32, 64, True), *block(64, 64, True), *block(64, 128, False),
        nn.Flatten(), nn.Linear(128 * 64, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    return net, lambda rows: torch.randn(rows, 3, 32, 32), 256


def transformer() -> Any:
    """Return two layers of width 128 with four heads, and texts of 64 words of 5,000, 64 a batch."""
    import torch
    from torch import nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.out = nn.Linear(128, 384), nn.Linear(128, 128)

        def forward(self, x: Any) -> Any:
            q, k, v = (t.unflatten(-1, (4, 32)).transpose(1, 2) for t in self.into(x).chunk(3, -1))
            found = nn.functional.scaled_dot_product_attention(q, k, v)
            return self.out(found.transpose(1, 2).flatten(2))

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.attention, self.second = nn.LayerNorm(128), Attention(), nn.LayerNorm(128)
            self.wide = nn.Sequential(nn.Linear(128, 512), nn.GELU(), nn.Linear(512, 128))

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.first(x))
            return x + self.wide(self.second(x))

    class Mean(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.mean(1)

    net = nn.Sequential(nn.Embedding(5000, 128), Layer(), Layer(), Mean(), nn.Linear(128, 10))
    return net, lambda rows: torch.randint(0, 5000, (rows, 64)), 64


NETWORKS = {"perceptron": perceptron, "CNN": convolutional, "transformer": transformer}
