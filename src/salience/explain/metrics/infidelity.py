"""Infidelity: how far the sum of a set's values is from the drop of the answer without the set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from salience.core.stats import generator
from salience.explain.answers import quantity_words
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.orders import drops, values_of, with_nothing
from salience.explain.scores import QUANTITY, Scores, by_removal, random_sets, subset_sums

CARD = {
    "key": "infidelity",
    "kind": "metric",
    "title": "Infidelity",
    "entry": "Infidelity",
    "summary": "Squared distance of what the values promise from how far the answer falls, over random sets of units.",
    "convention": "Mean over random sets S of (Σ values in S − (f(x) − f(x without S)))², in squared units of f.",
    "better": "lower",
    "family": "faithfulness",
    "scale_free": False,
    "needs": "black_box",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "On the (In)fidelity and Sensitivity of Explanations (Yeh et al., NeurIPS 2019)",
    "year": 2019,
    "url": "https://arxiv.org/abs/1901.09392",
    "source": "paper",
    "faithful": "The perturbation I is the difference from the neutral input, so values that are already multiplied by it are summed as they are; each set starts from the untouched row.",
    "deviates": "normalise=True scales the values by the factor that fits best, as captum does; that hides a wrong sign.",
    "cost": "33 rows an explanation",
    "defaults": {"draws": 32, "normalise": False},
}


@dataclass(frozen=True)
class Infidelity:
    """Compare sums with drops.

    Args:
        draws: number of random sets; each has from one to all units, every size as likely.
        normalise: whether values are first scaled by ``β = Σ(Iᵀφ·Δf) / Σ(Iᵀφ)²``, for methods whose values are not in
            units of the explained quantity.
    """

    draws: int = 32
    normalise: bool = False

    def __post_init__(self) -> None:
        within("draws", self.draws, 1)

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the infidelity of each explanation, at least 0."""
        scaled = "values scaled by the factor that fits best" if self.normalise else "values as they are"
        convention = (
            f"Mean over {self.draws} random sets S (every size as likely) of (Σ values in S − (f(x) − f(x without S)))²; "
            f"{scaled}; f is {quantity_words(explanations)}; a removed unit gets its neutral value."
        )
        return by_removal(
            model,
            explanations,
            lambda e: self._sets(e, seed),
            self._mean,
            convention,
            memory_mb=memory_mb,
            column=QUANTITY,
        )

    def _sets(self, explanation: Explanation, seed: int) -> Bool[np.ndarray, "set unit"]:
        units, rng = len(explanation.values), generator(seed, "infidelity", str(explanation.row))
        return with_nothing(random_sets(units, rng.integers(1, units + 1, self.draws), rng))

    def _mean(
        self, explanation: Explanation, sets: Bool[np.ndarray, "set unit"], found: Float[np.ndarray, " set"]
    ) -> float:
        return infidelity(subset_sums(values_of(explanation), sets[1:]), drops(found), self.normalise)


def infidelity(
    promised: Float[np.ndarray, " draw"], fall: Float[np.ndarray, " draw"], normalise: bool = False
) -> float:
    """Return the mean squared distance of ``Iᵀφ`` from ``f(x) − f(x − I)``, over perturbations I; NaN if too large."""
    with np.errstate(over="ignore", invalid="ignore"):
        if normalise:
            size = promised @ promised
            promised = promised * (promised @ fall / size if size else 1.0)
        value = float(((promised - fall) ** 2).mean())
    return value if np.isfinite(value) else float("nan")
