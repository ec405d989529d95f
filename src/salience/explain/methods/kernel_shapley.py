"""Shapley values by kernel SHAP: a weighted linear regression on random coalitions of units."""

from dataclasses import dataclass, field
from math import comb

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from salience.explain.attribution import Attribution
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.removals import Removals
from salience.explain.shapley import precise, subsets
from salience.explain.target import Target

CARD = {
    "key": "kernel_shapley",
    "kind": "explainer",
    "title": "Shapley values by kernel SHAP",
    "entry": "KernelShapley",
    "summary": "Fits a linear model to random coalitions of units under the Shapley kernel; its weights estimate Shapley values and add up exactly.",
    "paper": "A Unified Approach to Interpreting Model Predictions (Lundberg, Lee, NeurIPS 2017); Improving KernelSHAP (Covert, Lee, AISTATS 2021)",
    "year": 2021,
    "url": "https://arxiv.org/abs/2012.01536",
    "source": "papers: theorem 2 of the first, sections 3 and 4 of the second",
    "faithful": "Coalition sizes drawn from the Shapley kernel, each coalition with its complement, least squares under the constraint that values add up; all coalitions with their kernel weights for few units.",
    "deviates": "Standard errors from the sandwich estimator over pairs, where the second paper tracks means over batches. Beyond an eighth of max_forwards units, runs of neighbours are one player and share its value.",
    "needs": "black_box",
    "complete": True,
    "signed": True,
    "exact_linear": True,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "four forward passes a unit a round, 2,048 passes a row at most",
    "defaults": {"tolerance": 0.02, "max_forwards": 2048, "exact": 10},
    "tiny": {"max_forwards": 256, "exact": 6},
}
PAIRS_A_PART = 2  # coalitions with their complements that a round adds for each part


@dataclass
class _Sample:
    """The coalitions of one row so far; the second half of each round are the complements of the first."""

    kept: list[np.ndarray] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)
    values: np.ndarray = field(default_factory=lambda: np.zeros(0))
    errors: np.ndarray = field(default_factory=lambda: np.zeros(0))


class KernelShapley:
    """Attribute by Shapley values from a regression on coalitions.

    The evidence holds ``"standard_errors"`` (zero where all coalitions were evaluated) and the number of
    ``"coalitions"``.

    Args:
        tolerance: largest standard error at which sampling stops, as a share of the change of the answer from the empty
            row to the whole one; see :func:`salience.explain.shapley.precise`. 0 samples until ``max_forwards``.
        max_forwards: evaluations of a row at most; one round is always made.
        exact: number of units up to which all coalitions are evaluated, at most 16.
    """

    def __init__(self, tolerance: float = 0.02, max_forwards: int = 2048, exact: int = 10) -> None:
        within("tolerance", tolerance, 0)
        within("max_forwards", max_forwards, 4 * PAIRS_A_PART)
        within("exact", exact, 0, 16)
        self.tolerance, self.max_forwards, self.exact = tolerance, max_forwards, exact

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
        rows = Removals(model, frame, targets, memory_mb, self.max_forwards // (4 * PAIRS_A_PART))
        streams = rows.generators(seed, "kernel")
        samples = [_Sample() for _ in rows.counts]
        few = [count <= max(self.exact, 1) for count in rows.counts]
        asked = [
            subsets(n)[1:-1] if f else coalitions(rng, n)
            for f, rng, n in zip(few, streams, rows.counts, strict=True)
        ]
        active, found = list(range(len(few))), rows.first([~kept for kept in asked])
        while active:
            for i, kept, scores in zip(active, asked, found, strict=True):
                self._add(samples[i], kept, scores - rows.empty[i], rows.whole[i] - rows.empty[i], few[i])
            active = [i for i in active if not few[i] and self._goes_on(samples[i])]
            asked = [coalitions(streams[i], rows.counts[i]) for i in active]
            found = rows.scores(active, [~kept for kept in asked])
        return rows.attributions(
            [sample.values for sample in samples],
            errors=[sample.errors for sample in samples],
            complete=True,
            evidence=[{"coalitions": float(sum(map(len, sample.kept)))} for sample in samples],
        )

    def _add(self, sample: _Sample, kept: np.ndarray, scores: np.ndarray, change: float, every: bool) -> None:
        """Fit the values again with one more round of coalitions."""
        sample.kept.append(kept)
        sample.scores.append(scores)
        z, y = np.concatenate(sample.kept), np.concatenate(sample.scores)
        weight = kernel(z) if every else np.ones(len(z))
        sample.values, residual, inverse = constrained_fit(z, y, weight, change)
        if every:
            sample.errors = np.zeros(len(sample.values))
            return
        halves = [np.arange(len(part)) % (len(part) // 2) for part in sample.kept]
        starts = np.cumsum([0, *(len(part) // 2 for part in sample.kept[:-1])])
        pair = np.concatenate([half + start for half, start in zip(halves, starts, strict=True)])
        sample.errors = _sandwich(z, residual, inverse, pair)

    def _goes_on(self, sample: _Sample) -> bool:
        """Tell whether another round is needed and allowed."""
        seen, more = sum(map(len, sample.kept)), len(sample.kept[0])
        return seen + more <= self.max_forwards and not precise(sample.errors, sample.values, self.tolerance)


def kernel(kept: Bool[np.ndarray, "set part"]) -> Float[np.ndarray, " set"]:
    """Return the Shapley kernel of coalitions that are neither empty nor whole."""
    count, size = kept.shape[1], kept.sum(axis=1)
    weight = [0.0, *((count - 1) / (comb(count, s) * s * (count - s)) for s in range(1, count))]
    return np.array(weight)[size]


def coalitions(rng: np.random.Generator, parts: int) -> Bool[np.ndarray, "set part"]:
    """Return a round of coalitions under the Shapley kernel, and then their complements."""
    sizes = np.arange(1, parts)
    weight = 1 / (sizes * (parts - sizes))
    size = rng.choice(sizes, PAIRS_A_PART * parts, p=weight / weight.sum())
    drawn = rng.random((len(size), parts)).argsort(axis=1).argsort(axis=1) < size[:, None]
    return np.concatenate([drawn, ~drawn])


def constrained_fit(
    kept: Bool[np.ndarray, "set part"],
    scores: Float[np.ndarray, " set"],
    weight: Float[np.ndarray, " set"],
    change: float,
) -> tuple[Float[np.ndarray, " part"], Float[np.ndarray, " set"], Float[np.ndarray, "free free"]]:
    """Return the least-squares values that add up to ``change``, the residuals, and the inverse of the normal matrix.

    The last value is what the others leave, so the fit has one free value less.

    Args:
        kept: coalitions.
        scores: their scores, less that of the empty row.
        weight: weight of each.
        change: score of the whole row, less that of the empty one.
    """
    if not kept.shape[1]:
        return np.zeros(0), np.zeros(len(kept)), np.zeros((0, 0))
    z, y = _free(kept), scores - kept[:, -1] * change
    inverse = np.linalg.pinv(z.T @ (z * weight[:, None]), hermitian=True)
    free = inverse @ (z.T @ (weight * y))
    return np.append(free, change - free.sum()), y - z @ free, inverse


def _free(kept: Bool[np.ndarray, "set part"]) -> Float[np.ndarray, "set free"]:
    return kept[:, :-1].astype(float) - kept[:, -1:]


def _sandwich(
    kept: Bool[np.ndarray, "set part"],
    residual: Float[np.ndarray, " set"],
    inverse: Float[np.ndarray, "free free"],
    pair: np.ndarray,
) -> Float[np.ndarray, " part"]:
    """Return standard errors that hold whatever the residuals look like, with pairs as the independent draws.

    The correction by pairs over pairs less free values is the usual one for few draws.
    """
    pairs = int(pair.max()) + 1
    pull = np.zeros((pairs, len(inverse)))
    np.add.at(pull, pair, _free(kept) * residual[:, None])
    spread = pull @ inverse
    covariance = spread.T @ spread * pairs / max(pairs - len(inverse), 1)
    variance = np.append(np.diag(covariance), covariance.sum())
    return np.sqrt(np.maximum(variance, 0))
