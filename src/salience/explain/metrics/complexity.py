"""Complexity: how evenly an explanation spreads over the units, as an entropy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.scores import Scores, by_values

CARD = {
    "key": "complexity",
    "kind": "metric",
    "title": "Complexity",
    "entry": "Complexity",
    "summary": "Entropy of the shares of the absolute values: 0 if one unit has all, log of the number of units if all have as much.",
    "convention": "−Σ q ln q with q = |value| / Σ |values|, in nats, over the units that have a value.",
    "better": "lower",
    "family": "complexity",
    "needs": "values",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "Evaluating and Aggregating Feature-based Model Explanations (Bhatt, Weller, Moura, IJCAI 2020)",
    "year": 2020,
    "url": "https://arxiv.org/abs/2005.00631",
    "source": "paper",
    "faithful": "The paper's entropy.",
    "deviates": "Says how short an explanation is, not whether it is true.",
    "cost": "none",
    "defaults": {},
}


@dataclass(frozen=True)
class Complexity:
    """Take the entropy of the shares."""

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the entropy of each explanation; NaN where all values are 0."""
        return by_values(explanations, entropy, CARD["convention"])


def entropy(values: Float[np.ndarray, " unit"]) -> float:
    """Return the entropy of the shares of the absolute values, in nats; NaN if all are 0."""
    size = np.abs(values)
    if not size.max():
        return float("nan")
    share = size / size.max()  # first, so that the sum cannot overflow
    share = share[share > 0] / share.sum()
    share = share[share > 0]
    return float(-(share * np.log(share)).sum() + 0.0)
