"""Embeddings of numbers beside ``rtdl_num_embeddings``: time and memory against the number of bins.

Both see the same numbers, edges and parameters, in turns, in one process. Time is processor time of one thread, the median
of the repeats; memory is by how much a fresh process grows at its peak. Nothing is asserted: times depend on the machine.
"""

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

from salience.benchmarks.measure import fill_to_peak, interleaved, measured_apart, peak_megabytes
from salience.core.extras import require
from salience.core.progress import Stage

CARD = {
    "key": "number-embeddings",
    "kind": "benchmark",
    "title": "Embeddings of numbers beside rtdl_num_embeddings",
    "entry": "run",
    "summary": "Time of forward and backward passes and peak memory of piecewise linear embeddings, against the number of bins, and of periodic ones.",
    "extras": ["bench"],
    "cost": "about four minutes on an idle core; quick: 30 seconds",
}
OURS, PEER = "ours", "rtdl"
FEATURES, ROWS, DIM = 100, 1024, 24
SMALL_FEATURES, SMALL_ROWS = 8, 256  # a table like California, in its batches
BINS, QUICK_BINS, SMALL_BINS = (8, 16, 32, 48, 64, 128, 256), (48, 256), (8, 48)
REPEATS, QUICK_REPEATS, SMALL_REPEATS = 9, 3, 200
FREQUENCIES, SIGMA = 48, 0.1
MEMORY_CODE = (
    "from salience.benchmarks.number_embeddings import peak_memory; peak_memory({library!r}, {bins}, {seed})"
)
Pair = dict[str, Any]  # a module of each library
Version = Literal["A", "B"]


def run(quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Measure both libraries at every number of bins.

    Args:
        quick: two numbers of bins, three repeats.
        seed: seed of numbers, edges and parameters.

    Returns:
        ``rows``: one a part, number of bins and pass, with the milliseconds (or megabytes) of both libraries and their
        ratio; ``summary``: the ratios in words.

    Raises:
        MissingExtraError: ``rtdl_num_embeddings`` is not installed.
    """
    import torch

    require("rtdl_num_embeddings")
    bins, repeats = (QUICK_BINS, QUICK_REPEATS) if quick else (BINS, REPEATS)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = _timed(bins, repeats, seed)
        rows += _memory(QUICK_BINS if quick else BINS, seed)
    finally:
        torch.set_num_threads(threads)
    return {"rows": rows, "summary": _summary(rows)}


def _timed(bins: tuple[int, ...], repeats: int, seed: int) -> list[dict[str, Any]]:
    size = f"{ROWS:,} rows of {FEATURES} numbers"
    rows: list[dict[str, Any]] = []
    with Stage("number-embeddings", 2 * len(bins) + len(SMALL_BINS) + 2) as stage:
        for version in get_args(Version):
            for count in bins:
                pair = piecewise_pair(version, count, FEATURES, seed)
                rows += _rows(
                    f"version {version}, {size}", count, pair, numbers(ROWS, FEATURES, seed), repeats
                )
                stage.step(f"version {version}, {count} bins")
        for count in SMALL_BINS:
            pair = piecewise_pair("B", count, SMALL_FEATURES, seed)
            part = f"version B, {SMALL_ROWS} rows of {SMALL_FEATURES} numbers"
            rows += _rows(part, count, pair, numbers(SMALL_ROWS, SMALL_FEATURES, seed), SMALL_REPEATS)
            stage.step(part)
        for lite in (False, True):
            part = f"periodic{', lite' if lite else ''}, {size}"
            rows += _rows(part, None, periodic_pair(lite, seed), numbers(ROWS, FEATURES, seed), repeats)
            stage.step(part)
    return rows


def numbers(rows: int, features: int, seed: int) -> Any:
    """Return normal numbers, of which a few lie outside all bins."""
    import torch

    return torch.randn(rows, features, generator=torch.Generator().manual_seed(seed))


def piecewise_pair(version: Version, bins: int, features: int, seed: int) -> Pair:
    """Return a piecewise linear embedding of each library, with the same edges and parameters."""
    import numpy as np
    import torch

    from salience.nn.embeddings.piecewise_linear import PiecewiseLinearEmbedding

    rng = np.random.default_rng(seed)
    edges = [np.quantile(rng.normal(size=20 * bins), np.linspace(0, 1, bins + 1)) for _ in range(features)]
    tensors = [torch.tensor(edge, dtype=torch.float32) for edge in edges]
    peer = require("rtdl_num_embeddings")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(seed)
        ours = PiecewiseLinearEmbedding(edges, DIM, version)
        theirs = peer.PiecewiseLinearEmbeddings(tensors, DIM, activation=False, version=version)
        torch.nn.init.normal_(ours.weight, std=0.1)
    other = {"weight": theirs.linear.weight, "bias": theirs.linear.bias}
    if version == "B":
        other |= {"linear.weight": theirs.linear0.weight, "linear.bias": theirs.linear0.bias}
    _copy(ours, other)
    return {OURS: ours, PEER: theirs}


def periodic_pair(lite: bool, seed: int) -> Pair:
    """Return a periodic embedding of each library, with the same parameters."""
    import torch

    from salience.nn.embeddings.periodic import PeriodicEmbedding

    peer = require("rtdl_num_embeddings")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ours = PeriodicEmbedding(FEATURES, DIM, FREQUENCIES, SIGMA, lite=lite)
        theirs = peer.PeriodicEmbeddings(
            FEATURES, DIM, n_frequencies=FREQUENCIES, frequency_init_scale=SIGMA, lite=lite
        )
    linear = {"linear.weight": theirs.linear.weight, "linear.bias": theirs.linear.bias}
    _copy(ours, {"periodic.frequency": theirs.periodic.weight, **linear})
    return {OURS: ours, PEER: theirs}


def _copy(ours: Any, theirs: dict[str, Any]) -> None:
    """Give their module the parameters of ours."""
    import torch

    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            theirs[name].copy_(parameter)


def passes(module: Any, x: Any) -> dict[str, Callable[[], Any]]:
    """Return what is timed: a forward pass, that of a training step, and that of an explanation in the numbers."""
    import torch

    parameters, leaf = list(module.parameters()), x.clone().requires_grad_()
    upstream = torch.ones_like(module(x))

    def forward() -> None:
        with torch.no_grad():
            module(x)

    return {
        "forward": forward,
        "forward and backward": lambda: torch.autograd.grad(module(x), parameters, upstream),
        "also in the numbers": lambda: torch.autograd.grad(module(leaf), [*parameters, leaf], upstream),
    }


def _rows(part: str, bins: int | None, pair: Pair, x: Any, repeats: int) -> list[dict[str, Any]]:
    of_each = {library: passes(module, x) for library, module in pair.items()}
    rows = []
    for name in of_each[OURS]:
        taken = interleaved({lib: calls[name] for lib, calls in of_each.items()}, repeats, time.process_time)
        rows.append(
            _row(part, bins, name, {lib: 1e3 * statistics.median(s) for lib, s in taken.items()}, "ms")
        )
    return rows


def _row(part: str, bins: int | None, name: str, found: dict[str, float], unit: str) -> dict[str, Any]:
    settings = {"part": part} | ({} if bins is None else {"bins": bins}) | {"pass": name}
    values = {f"{library} ({unit})": found[library] for library in (OURS, PEER)}
    return {**settings, **values, "rtdl / ours": found[PEER] / found[OURS] if found[OURS] > 0 else None}


def _memory(bins: tuple[int, ...], seed: int) -> list[dict[str, Any]]:
    part = f"peak memory, version B, {ROWS:,} rows of {FEATURES} numbers"
    rows = []
    with Stage("memory", len(bins)) as stage:
        for count in bins:
            found = {
                library: measured_apart(MEMORY_CODE.format(library=library, bins=count, seed=seed))
                for library in (OURS, PEER)
            }
            rows.append(_row(part, count, "forward and backward", found, "MiB"))
            stage.step(f"{count} bins")
    return rows


def peak_memory(library: str, bins: int, seed: int) -> None:
    """Write to standard output by how many megabytes one step raises the peak of this process.

    The same step goes first, so that everything is loaded. Ballast then fills what it has freed, so that all of the
    second step shows.
    """
    import torch

    torch.set_num_threads(1)
    module = piecewise_pair("B", bins, FEATURES, seed)[library]
    step = passes(module, numbers(ROWS, FEATURES, seed))["forward and backward"]
    step()
    ballast = fill_to_peak()
    before = peak_megabytes()
    step()
    sys.stdout.write(json.dumps(peak_megabytes() - before))
    del ballast


def _summary(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Return, for each part, how many times as much theirs takes at each number of bins."""
    found: dict[str, list[str]] = {}
    for row in rows:
        ratio = row["rtdl / ours"]
        at = f" at T={row['bins']}" if "bins" in row else ""
        if ratio is not None and row.get("bins", 48) in (48, 256):
            found.setdefault(row["part"], []).append(f"{row['pass']}{at}: {ratio:.1f}")
    return {part: "rtdl / ours: " + ", ".join(words) for part, words in found.items()}
