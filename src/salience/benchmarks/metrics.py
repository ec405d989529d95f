"""Metrics beside those of quantus: the same model, images and attributions, the same convention where it can be set.

The model tells digits below five from the others; it has one output, so that both sides read the same number. Units are
pixels, a removed pixel gets 0 (the mean, since pixels are standardised). quantus is a peer, used where it is installed
(``pip install quantus==0.6.0``) and never needed. Nothing is asserted: a difference has its reason beside it.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from time import process_time
from typing import Any

import numpy as np

from salience.core.progress import Stage

CARD = {
    "key": "metrics",
    "kind": "benchmark",
    "title": "Metrics beside quantus",
    "entry": "run",
    "summary": "Values and seconds of the metrics that both have, on one image model; where they differ by design, why.",
    "cost": "about a minute on two idle cores; quick: 15 seconds",
}
SIDE = 8
IMAGES, QUICK_IMAGES = 24, 6
DRAWS, QUICK_DRAWS = 400, 100  # random sets of the faithfulness correlation
NOISE_DRAWS, QUICK_NOISE_DRAWS = 50, 10
RADIUS, SUBSET = 0.02, 16
TRAIN, EPOCHS, RATE = 1500, 6, 0.1
SAME = "the same convention"
SAMPLED = "the same convention, other random draws"
ABSENT = "quantus is not installed"


@dataclass(frozen=True)
class Pair:
    """One metric on both sides.

    Attributes:
        name: what is measured.
        ours: returns one number an image.
        theirs: the same from quantus.
        relation: ``"same"``, ``"sampled"`` or ``"other"``: whether values must agree.
        reason: why they do or do not.
    """

    name: str
    ours: Callable[[], np.ndarray]
    theirs: Callable[[Any], np.ndarray]
    relation: str
    reason: str


def run(quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Compare every metric that both have.

    Args:
        quick: fewer images and draws.
        seed: seed of the model, the images and our draws.

    Returns:
        ``rows``: one a metric: means of both sides, the largest difference of an image, whether the conventions are
        the same, the reason, CPU seconds of both; ``summary``: the version of quantus and the largest difference where
        the convention is the same.
    """
    case = Case(quick, seed)
    peer = _peer()
    pairs = case.pairs()
    rows = []
    with Stage("metrics", len(pairs)) as stage:
        for pair in pairs:
            rows.append(_row(pair, peer))
            stage.step(pair.name)
    return {"rows": rows, "summary": _summary(rows, peer)}


def _peer() -> Any:
    try:
        import quantus
    except ImportError:
        return None
    return quantus


def _row(pair: Pair, peer: Any) -> dict[str, Any]:
    ours, seconds = _timed(pair.ours)
    row = {"metric": pair.name, "value": float(np.nanmean(ours)), "seconds": seconds}
    if peer is None:
        return {**row, "quantus": None, "difference": None, "quantus seconds": None, "reason": ABSENT}
    theirs, their_seconds = _timed(lambda: pair.theirs(peer))
    difference = float(np.nanmax(np.abs(ours - theirs))) if pair.relation != "other" else None
    return {
        **row, "quantus": float(np.nanmean(theirs)), "difference": difference, "quantus seconds": their_seconds,
        "convention": pair.relation, "reason": pair.reason,
    }  # fmt: skip


def _timed(call: Callable[[], Any]) -> tuple[np.ndarray, float]:
    begin = process_time()
    with warnings.catch_warnings(action="ignore"):
        found = np.asarray(call(), dtype=float)
    return found, process_time() - begin


def _summary(rows: list[dict[str, Any]], peer: Any) -> dict[str, Any]:
    if peer is None:
        return {"quantus": ABSENT, "install": "pip install quantus==0.6.0"}
    same = [row for row in rows if row["convention"] == "same"]
    ratio = {row["metric"]: row["quantus seconds"] / max(row["seconds"], 1e-9) for row in rows}
    return {
        "quantus": peer.__version__,
        "largest difference where the convention is the same": max(row["difference"] for row in same),
        "quantus seconds / ours": {name: round(value, 2) for name, value in ratio.items()},
    }


class Case:
    """Hold the model, the images, and their attributions by gradient × input.

    Args:
        quick: fewer images and draws.
        seed: seed of everything that is drawn.
    """

    def __init__(self, quick: bool, seed: int) -> None:
        import pandas as pd

        from salience.explain.adapters import FeatureInput, from_torch
        from salience.explain.engine import explain

        pixels, labels = _digits(seed)
        self.seed, self.draws = seed, QUICK_DRAWS if quick else DRAWS
        self.noise_draws = QUICK_NOISE_DRAWS if quick else NOISE_DRAWS
        self.network = _trained(pixels[:TRAIN], labels[:TRAIN], seed)
        names = [f"p{i}" for i in range(SIDE * SIDE)]
        self.model = from_torch(self.network, FeatureInput(names))
        images = pixels[TRAIN : TRAIN + (QUICK_IMAGES if quick else IMAGES)]
        self.explanations = explain(
            self.model, pd.DataFrame(images, columns=names), method="gradient_x_input", faithfulness=False
        )
        shape = (len(images), 1, SIDE, SIDE)
        values = np.array([e.values for e in self.explanations])
        self.call = {
            "x_batch": images.astype(np.float32).reshape(shape), "y_batch": np.zeros(len(images), dtype=int),
            "a_batch": values.astype(np.float32).reshape(shape), "device": "cpu", "softmax": False,
        }  # fmt: skip

    def ours(self, key: str, **options: Any) -> Callable[[], np.ndarray]:
        """Return a call of our metric."""
        from salience.core import registry

        metric = registry.load("metric", key)(**options)
        return lambda: metric.scores(self.model, self.explanations, seed=self.seed).values

    def theirs(self, name: str, explain: bool = False, **options: Any) -> Callable[[Any], np.ndarray]:
        """Return a call of the metric of quantus, without any normalisation."""
        settings = {"abs": False, "normalise": False, "disable_warnings": True, **options}
        extra = {"explain_func": gradient_x_input} if explain else {}

        def call(peer: Any) -> np.ndarray:
            state = np.random.get_state()  # noqa: NPY002
            np.random.seed(self.seed)  # noqa: NPY002
            try:  # the peer draws from numpy's global state
                return getattr(peer, name)(**settings)(model=self.network, **self.call, **extra)
            finally:
                np.random.set_state(state)  # noqa: NPY002

        return call

    def pairs(self) -> list[Pair]:
        """Return what is compared."""
        zero = {"perturb_baseline": 0.0}
        return [
            Pair("complexity", self.ours("complexity"), self.theirs("Complexity", abs=True), "same", SAME),
            Pair("sparseness", self.ours("sparseness"), self.theirs("Sparseness", abs=True), "same", SAME),
            Pair("AOPC, most relevant first", self.ours("aopc", order="morf", steps=SIDE * SIDE),
                 self._flipping(**zero), "same", SAME + ": their curve, averaged by Samek's formula"),
            Pair("faithfulness estimate", self.ours("faithfulness_estimate"),
                 self.theirs("FaithfulnessEstimate", features_in_step=1, **zero), "same", SAME),
            Pair("faithfulness correlation", self.ours("faithfulness_correlation", size=SUBSET, draws=self.draws),
                 self.theirs("FaithfulnessCorrelation", subset_size=SUBSET, nr_runs=self.draws,
                             return_aggregate=False, **zero), "sampled", SAMPLED),
            Pair("sensitivity", self.ours("sensitivity_max", radius=RADIUS, draws=self.noise_draws),
                 self.theirs("MaxSensitivity", explain=True, nr_samples=self.noise_draws, lower_bound=RADIUS),
                 "sampled", SAMPLED),
            Pair("infidelity", self.ours("infidelity", draws=32), self.theirs("Infidelity", perturb_patch_sizes=[2], **zero),
                 "other", "independent random sets of pixels here; square patches there, each on top of the one before"),
            Pair("model randomisation", self.ours("randomisation", stages=8),
                 self.theirs("MPRT", explain=True, abs=True, return_average_correlation=True), "other",
                 "other random weights; both cascade from the output and take Spearman's correlation of absolute values"),
        ]  # fmt: skip

    def _flipping(self, **options: Any) -> Callable[[Any], np.ndarray]:
        import torch

        call = self.theirs("PixelFlipping", features_in_step=1, **options)
        with torch.no_grad():
            whole = self.network(torch.from_numpy(self.call["x_batch"])).numpy()[:, 0]
        return lambda peer: _aopc(whole, np.array(call(peer)))


def _aopc(whole: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Return 1/(L+1) · Σ (f(x) − f_k) of curves that begin after the first step."""
    return (whole[:, None] - curve).sum(axis=1) / (curve.shape[1] + 1)


def gradient_x_input(model: Any, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
    """Explain as ``method="gradient_x_input"`` does, in the form that the peer calls."""
    import torch

    x = torch.as_tensor(np.asarray(inputs)).float().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    return (gradient * x).detach().numpy()


def _digits(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return standardised pixels of shuffled digits, and whether each is below five."""
    from sklearn.datasets import load_digits

    from salience.core.stats import generator

    data = load_digits()
    order = generator(seed, "digits").permutation(len(data.target))
    pixels = data.data[order] / 16
    return (pixels - pixels.mean()) / pixels.std(), (data.target[order] < 5).astype(np.float32)


def _trained(pixels: np.ndarray, labels: np.ndarray, seed: int) -> Any:
    """Return a small convolutional network with one output that tells digits below five."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Flatten(1), nn.Unflatten(1, (1, SIDE, SIDE)),
            nn.Conv2d(1, 8, 3, padding=1), nn.Softplus(), nn.Conv2d(8, 8, 3, stride=2), nn.Softplus(),
            nn.Flatten(), nn.Linear(72, 1),
        )  # fmt: skip
        x, y = torch.from_numpy(pixels).float(), torch.from_numpy(labels)[:, None]
        weights = list(network.parameters())
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(x)).split(64):
                loss = nn.functional.binary_cross_entropy_with_logits(network(x[batch]), y[batch])
                with torch.no_grad():
                    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                        weight -= RATE * gradient
    return network.eval()
