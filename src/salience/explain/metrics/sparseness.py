"""Sparseness: how unevenly an explanation spreads over the units, as a Gini index."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.scores import Scores, by_values

CARD = {
    "key": "sparseness",
    "kind": "metric",
    "title": "Sparseness",
    "entry": "Sparseness",
    "summary": "Gini index of the absolute values: 0 if all units have as much, (n − 1)/n if one of n units has all.",
    "convention": "Σ (2i − n − 1) |value|_(i) / (n Σ |value|), i = 1 … n in rising order, over the units that have a value.",
    "better": "higher",
    "family": "complexity",
    "needs": "values",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "Concise Explanations of Neural Networks using Adversarial Training (Chalasani et al., ICML 2020)",
    "year": 2020,
    "url": "https://arxiv.org/abs/1810.06583",
    "source": "paper",
    "faithful": "The Gini index of absolute values.",
    "deviates": "Says how short an explanation is, not whether it is true.",
    "cost": "none",
    "defaults": {},
}


@dataclass(frozen=True)
class Sparseness:
    """Take the Gini index."""

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the Gini index of each explanation, in [0, 1); NaN where all values are 0."""
        return by_values(explanations, gini, CARD["convention"])


def gini(values: Float[np.ndarray, " unit"]) -> float:
    """Return the Gini index of the absolute values; NaN if all are 0."""
    size = np.sort(np.abs(values))
    if not size[-1]:
        return float("nan")
    size, units = size / size[-1], len(size)  # first, so that the sum cannot overflow
    return float((2 * np.arange(1, units + 1) - units - 1) @ size / (units * size.sum()))
