"""Our explainers beside captum and shap on the same text transformer: time, evaluations, agreement.

The network is a plain torch module over token ids with random weights. Ours explains it through
:func:`salience.explain.adapters.from_torch`, from the text on; captum and shap get the token ids. captum is called as
its defaults have it (one perturbation a forward pass), and at the best of several numbers of perturbations; for one
text, and for several, which it then gets in one call where it can. The sampled methods draw the same number of
orders or coalitions. Each round runs every form once, in turns; a ratio is the median over rounds. Nothing is asserted.
"""

import statistics
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from salience.benchmarks.measure import interleaved, once
from salience.core.progress import Stage
from salience.core.stats import bootstrap, generator

CARD = {
    "key": "explainers",
    "kind": "benchmark",
    "title": "Explainers beside captum and shap",
    "entry": "run",
    "summary": "Time, model evaluations and agreement of leave-one-out, Shapley sampling, kernel SHAP, integrated gradients and gradient × input on one text transformer.",
    "cost": "about eight minutes on two idle cores; quick: 20 seconds",
}
NETWORKS = {
    "small": {"dim": 32, "heads": 2, "layers": 2, "tokens": 32},
    "medium": {"dim": 128, "heads": 4, "layers": 4, "tokens": 64},
}
TEXTS, QUICK_TEXTS = (1, 4), (1,)
REPEATS, QUICK_REPEATS = 5, 3
BATCHES, QUICK_BATCHES = (
    (16, 64, 256),
    (32, 64),
)  # perturbations a forward pass, of which captum gets the best
WORDS, PAD, NEUTRAL = 500, 0, 1  # of the vocabulary; its first two tokens
PAIRS = 4  # orders with their reverses, as many as one round of ours has
STEPS = 50  # of integrated gradients: captum's default
PEERS = ("captum", "shap")


class TextTransformer(nn.Module):
    """Answer with two logits for token ids; it counts the rows that it evaluates.

    Args:
        dim: features of a token.
        heads: attention heads.
        layers: encoder layers.
        tokens: length of a text.
    """

    def __init__(self, dim: int, heads: int, layers: int, tokens: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS + 2, dim)
        self.position = nn.Parameter(torch.randn(tokens, dim) / 4)
        layer = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(dim, 2)
        self.rows = 0
        with torch.no_grad():
            self.embedding.weight[[PAD, NEUTRAL]] = 0.0

    def forward(self, ids: Int[Tensor, "row token"]) -> Float[Tensor, "row 2"]:
        """Return the logits of both classes."""
        self.rows += len(ids)
        x = self.embedding(ids) + self.position[: ids.shape[1]]
        return self.head(self.encoder(x).mean(dim=1))


class Subject:
    """The network, texts, and both views of them: ours and the tensors that peers want.

    Args:
        sizes: arguments of :class:`TextTransformer`.
        texts: number of texts.
        seed: of weights and texts.
    """

    def __init__(self, sizes: dict[str, int], texts: int, seed: int) -> None:
        from salience.explain.adapters import TokenInput, from_torch
        from salience.explain.target import resolve

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = TextTransformer(**sizes).eval()
        drawn = generator(seed, "explainers").integers(0, WORDS, (texts, sizes["tokens"]))
        self.ids = torch.from_numpy(drawn + 2)
        vocabulary = {f"w{i}": i + 2 for i in range(WORDS)}
        self.model = from_torch(
            self.module, TokenInput(vocabulary, neutral_id=NEUTRAL), classes=["no", "yes"]
        )
        self.frame = self.model.frame([" ".join(f"w{i}" for i in line) for line in drawn])
        self.targets = resolve(self.model.schema, ("yes", "no"), np.zeros((texts, 2)))

    def score(self, ids: Int[Tensor, "row token"]) -> Float[Tensor, " row"]:
        """Return what is explained: the log-odds of the second class."""
        logits = self.module(ids)
        return logits[:, 1] - logits[:, 0]

    def ours(self, key: str, **options: Any) -> Float[np.ndarray, "row token"]:
        """Return the values of one of our explainers."""
        from salience.core import registry

        explainer = registry.load("explainer", key)(**options)
        return np.stack([a.values for a in explainer.attribute(self.model, self.frame, self.targets, seed=0)])


Form = Callable[[], Any]


def forms(subject: Subject, batches: tuple[int, ...], peers: tuple[str, ...]) -> dict[str, dict[str, Form]]:
    """Return for each method its forms: ours, captum at its defaults and its best batching, shap."""
    tokens = subject.ids.shape[1]
    evaluations = 2 * PAIRS * tokens
    found: dict[str, dict[str, Form]] = {
        "leave one out": {"ours": lambda: subject.ours("leave_one_out")},
        "Shapley sampling": {
            "ours": lambda: subject.ours(
                "permutation_shapley", tolerance=0, exact=0, max_forwards=evaluations
            )
        },
        "kernel SHAP": {
            "ours": lambda: subject.ours("kernel_shapley", tolerance=0, exact=0, max_forwards=evaluations)
        },
        "integrated gradients": {
            "ours": lambda: subject.ours("integrated_gradients", steps=STEPS, max_steps=STEPS)
        },
        "gradient × input": {"ours": lambda: subject.ours("gradient_x_input")},
    }
    if "captum" in peers:
        for method, (plain, batched) in _captum(subject).items():
            found[method] |= {"captum, defaults": plain} | _best(batched, batches)
    if "shap" in peers:
        found["Shapley sampling"]["shap, permutation"] = lambda: _shap(subject)
    return found


def _best(batched: Callable[[int], Any] | None, batches: tuple[int, ...]) -> dict[str, Form]:
    """Return the form with the number of perturbations that was fastest in one trial of each."""
    if batched is None:
        return {}
    best = min(batches, key=lambda batch: once(lambda: batched(batch)))
    return {f"captum, {best} a pass": lambda: batched(best)}


def _captum(subject: Subject) -> dict[str, tuple[Form, Callable[[int], Any] | None]]:
    """Return for each method captum's form at its defaults, and the one that takes a number of perturbations."""
    from captum import attr

    ids, none = subject.ids, torch.full_like(subject.ids, NEUTRAL)
    coalitions = 4 * 2 * ids.shape[1]  # two rounds of ours, within its evaluations

    def ablation(batch: int = 1) -> Tensor:
        return attr.FeatureAblation(subject.score).attribute(
            ids, baselines=none, perturbations_per_eval=batch
        )

    def sampling(batch: int = 1) -> Tensor:
        return attr.ShapleyValueSampling(subject.score).attribute(
            ids, baselines=none, n_samples=2 * PAIRS, perturbations_per_eval=batch
        )

    def kernel(batch: int = 1) -> Tensor:
        explainer = attr.KernelShap(subject.score)
        rows = [
            explainer.attribute(
                line[None], baselines=none[:1], n_samples=coalitions, perturbations_per_eval=batch
            )
            for line in ids
        ]
        return torch.cat(rows)

    def integrated() -> Tensor:
        explainer = attr.LayerIntegratedGradients(subject.score, subject.module.embedding)
        return explainer.attribute(ids, baselines=none, n_steps=STEPS).sum(-1)

    def gradient() -> Tensor:
        return attr.LayerGradientXActivation(subject.score, subject.module.embedding).attribute(ids).sum(-1)

    drawn = (_without_gradients(form) for form in (ablation, sampling, kernel))
    names = ("leave one out", "Shapley sampling", "kernel SHAP")
    return {
        **{name: (form, form) for name, form in zip(names, drawn, strict=True)},
        "integrated gradients": (integrated, None),
        "gradient × input": (gradient, None),
    }


def _without_gradients(form: Callable[..., Any]) -> Callable[..., Any]:
    def step(batch: int = 1) -> Any:
        with torch.no_grad():
            return form(batch)

    return step


def _shap(subject: Subject) -> Float[np.ndarray, "row token"]:
    """Return the values of shap's explainer with permutations and their reverses."""
    import shap

    tokens, rows = subject.ids.shape[1], []
    masker = shap.maskers.Independent(np.zeros((1, tokens)))
    for line in subject.ids:

        @torch.no_grad()
        def value(present: np.ndarray, line: Tensor = line) -> np.ndarray:
            kept = torch.from_numpy(np.asarray(present, dtype=bool))
            return subject.score(torch.where(kept, line, NEUTRAL)).double().numpy()

        explainer = shap.explainers.Permutation(value, masker, seed=0)
        found = explainer(np.ones((1, tokens)), max_evals=PAIRS * (2 * tokens + 1), silent=True)
        rows.append(found.values[0])
    return np.stack(rows)


def run(quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Measure every method in every form.

    Args:
        quick: a smaller network, one text, three rounds, without shap, whose compiler takes half a minute.
        seed: seed of weights and texts.

    Returns:
        ``rows``: one a number of texts, method and form, with milliseconds (median, least, most), evaluations, how many
        times faster ours is (with a 95 % interval of the median over rounds), largest difference from ours as a share
        of the largest value, and the rank correlation with ours; ``summary``: the ratios; ``not_measured``.
    """
    networks, texts = (["small"], QUICK_TEXTS) if quick else (list(NETWORKS), TEXTS)
    peers = tuple(name for name in PEERS if find_spec(name) and not (quick and name == "shap"))
    rows: list[dict[str, Any]] = []
    plan = [(network, count) for network in networks for count in texts]
    with Stage("explainers", 5 * len(plan)) as stage:
        for network, count in plan:
            subject = Subject(NETWORKS[network], count, seed)
            for method, steps in forms(subject, QUICK_BATCHES if quick else BATCHES, peers).items():
                found = measured(subject, method, steps, QUICK_REPEATS if quick else REPEATS)
                rows += [{"part": f"{network} network", **row} for row in found]
                stage.step(f"{method}, {count} texts, {network} network")
    missing = [f"{name}: not installed, or left out of the quick run." for name in PEERS if name not in peers]
    return {
        "rows": rows,
        "summary": _summary(rows),
        "networks": {name: NETWORKS[name] for name in networks},
        "threads": torch.get_num_threads(),
        "not_measured": missing,
    }


def measured(subject: Subject, method: str, steps: dict[str, Form], repeats: int) -> list[dict[str, Any]]:
    """Return one line a form of a method."""
    values, evaluations = {}, {}
    for name, step in steps.items():
        subject.module.rows = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found = step()
        values[name] = found.detach().numpy() if isinstance(found, Tensor) else found
        evaluations[name] = subject.module.rows
    seconds = interleaved(steps, repeats)
    return [
        {
            "texts": len(subject.ids), "method": method, "form": name, "unit": "ms",
            "value": 1e3 * statistics.median(taken), "least": 1e3 * min(taken), "most": 1e3 * max(taken),
            "evaluations": evaluations[name], **_ratio(seconds["ours"], taken),
            **_agreement(values["ours"], values[name]),
        }
        for name, taken in seconds.items()
    ]  # fmt: skip


def _ratio(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    ratios = np.divide(theirs, ours)
    low, high = bootstrap(np.median, ratios)
    return {"ours_times_faster": float(np.median(ratios)), "interval": [low, high]}


def _agreement(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    from scipy.stats import spearmanr

    return {
        "difference": float(np.abs(ours - theirs).max() / np.abs(ours).max()),
        "rank_correlation": float(
            np.mean([spearmanr(a, b).statistic for a, b in zip(ours, theirs, strict=True)])
        ),
    }


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Say how many times faster ours is than each peer, by method and number of texts."""
    return {
        f"{row['part']}, {row['method']}, {row['texts']} texts: ours, times as fast as {row['form']}": (
            f"{row['ours_times_faster']:.1f} ({row['interval'][0]:.1f} to {row['interval'][1]:.1f})"
        )
        for row in rows
        if row["form"] != "ours"
    }
