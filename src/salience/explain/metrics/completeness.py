"""Completeness: how far the values are from adding up to the change from the neutral input."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from salience.explain.answers import quantity_words
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.orders import values_of, with_nothing
from salience.explain.scores import QUANTITY, Scores, by_removal, subset_sums

CARD = {
    "key": "completeness",
    "kind": "metric",
    "title": "Completeness gap",
    "entry": "Completeness",
    "summary": "Distance of the sum of all values from the change of the explained quantity, from the neutral input to the row.",
    "convention": "|Σ values − (f(x) − f(x'))|; x' is the method's own neutral input where it states f(x'), else the row without any unit.",
    "better": "lower",
    "family": "axioms",
    "scale_free": False,
    "needs": "black_box",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "Axiomatic Attribution for Deep Networks (Sundararajan, Taly, Yan, ICML 2017)",
    "year": 2017,
    "url": "https://arxiv.org/abs/1703.01365",
    "source": "paper",
    "faithful": "f(x) is always measured, never taken from the explanation.",
    "deviates": "relative=True divides by |f(x) − f(x')|.",
    "cost": "2 rows an explanation",
    "defaults": {"relative": False},
}


@dataclass(frozen=True)
class Completeness:
    """Compare the sum of all values with the whole change.

    Args:
        relative: whether to divide by the change; NaN where there is none.
    """

    relative: bool = False

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the gap of each explanation, at least 0."""
        share = ", as a share of |f(x) − f(x')|" if self.relative else ""
        convention = (
            f"|Σ values − (f(x) − f(x'))|{share}; f is {quantity_words(explanations)}; x' is the method's own neutral "
            "input where it states f(x'), else the row without any unit; a unit without a value adds 0."
        )
        return by_removal(
            model,
            explanations,
            lambda e: with_nothing(np.ones((1, len(e.values)), dtype=bool)),
            self._gap,
            convention,
            memory_mb=memory_mb,
            column=QUANTITY,
        )

    def _gap(
        self, explanation: Explanation, sets: Bool[np.ndarray, "set unit"], found: Float[np.ndarray, " set"]
    ) -> float:
        neutral = explanation.baseline_output
        change = found[0] - (found[1] if neutral is None else neutral)
        total = subset_sums(values_of(explanation), sets[1:])[0]
        gap = abs(total - change) if np.isfinite(total) else np.nan
        if not self.relative:
            return float(gap)
        return float(gap / abs(change)) if change else float("nan")
