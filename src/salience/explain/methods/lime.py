"""LIME: fit a line to the answers near the row, and read the weights of its units."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from salience.explain.attribution import Attribution
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.removals import Removals
from salience.explain.target import Target

CARD = {
    "key": "lime",
    "kind": "explainer",
    "title": "LIME",
    "entry": "Lime",
    "summary": "Removes random sets of units and fits a linear model to the answers, nearer sets counting more; says how well the line fits. Needs no gradient.",
    "paper": "“Why Should I Trust You?” Explaining the Predictions of Any Classifier (Ribeiro, Singh, Guestrin, KDD 2016)",
    "year": 2016,
    "url": "https://arxiv.org/abs/1602.04938",
    "source": "paper, section 3; sampling, kernel and ridge as the authors' package lime has them for text",
    "faithful": "Set sizes uniform from 1 to all units; weight √exp(−d²/0.25²) at cosine distance d to the whole row; ridge with penalty 1 and a free intercept.",
    "deviates": "The explained quantity (log-odds, value) in place of the probability; all units keep a weight (no feature selection); 1,000 samples in place of 5,000; tables and images are cut to units like text.",
    "needs": "black_box",
    "complete": False,
    "signed": True,
    "exact_linear": False,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "1,000 forward passes a row",
    "defaults": {"samples": 1000, "kernel_width": 0.25, "penalty": 1.0},
    "tiny": {"samples": 200},
}


class Lime:
    """Attribute by the weights of a local linear model.

    The evidence holds ``"local_r2"``: the weighted share of variance that the line explains; NaN where the answer does
    not vary. The paper's kernel is exp(−d²/width²); the authors' package takes the square root and a width of 0.25 on
    cosine distance, and so does this.

    Args:
        samples: evaluations of a row. A row with more units than a quarter of it is cut to runs of neighbours.
        kernel_width: width of the kernel, in cosine distance.
        penalty: weight of the squared coefficients, beside weighted squared errors.
    """

    def __init__(self, samples: int = 1000, kernel_width: float = 0.25, penalty: float = 1.0) -> None:
        within("samples", samples, 4)
        within("kernel_width", kernel_width, 1e-3)
        within("penalty", penalty, 1e-9)
        self.samples, self.kernel_width, self.penalty = samples, kernel_width, penalty

    def attribute(
        self,
        model: BlackBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row; see :mod:`salience.explain.model` for what the model must offer."""
        rows = Removals(model, frame, targets, memory_mb, max(1, self.samples // 4))
        streams = rows.generators(seed, "lime")
        removed = [draw(rng, self.samples, n) for rng, n in zip(streams, rows.counts, strict=True)]
        found = rows.first(removed)
        fits = [
            fit(~sets, scores - whole, self.kernel_width, self.penalty)
            for sets, scores, whole in zip(removed, found, rows.whole, strict=True)
        ]
        return rows.attributions([v for v, _ in fits], evidence=[{"local_r2": r2} for _, r2 in fits])


def draw(rng: np.random.Generator, samples: int, parts: int) -> Bool[np.ndarray, "set part"]:
    """Return the whole row, then random sets to take away: sizes uniform from 1 to all, parts of a size alike."""
    if not parts:
        return np.zeros((1, 0), dtype=bool)
    sizes = np.r_[0, rng.integers(1, parts + 1, samples - 1)]
    return rng.random((samples, parts)).argsort(axis=1).argsort(axis=1) < sizes[:, None]


def fit(
    kept: Bool[np.ndarray, "set part"], scores: Float[np.ndarray, " set"], width: float, penalty: float
) -> tuple[Float[np.ndarray, " part"], float]:
    """Return the weights of the local linear model and its weighted R².

    Args:
        kept: the parts that each sample holds.
        scores: the explained quantity of each.
        width: width of the kernel.
        penalty: of the ridge; the intercept is free of it.
    """
    z = kept.astype(float)
    cosine = np.sqrt(z.mean(axis=1)) if z.shape[1] else np.ones(len(z))  # with the row of ones
    weight = np.sqrt(np.exp(-((1 - cosine) ** 2) / width**2))
    centred, rest = (x - weight @ x / weight.sum() for x in (z, scores))
    weighted = centred * weight[:, None]
    values = np.linalg.solve(weighted.T @ centred + penalty * np.eye(z.shape[1]), weighted.T @ rest)
    spread = float(weight @ rest**2)
    left = float(weight @ (rest - centred @ values) ** 2)
    return values, 1 - left / spread if spread > 0 else float("nan")
