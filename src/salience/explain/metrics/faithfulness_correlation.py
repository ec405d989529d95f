"""Faithfulness correlation: whether the sum of a set's values says how far the answer falls without the set."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Bool

from salience.core.stats import generator
from salience.explain.answers import quantity_words
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.orders import drops, values_of, with_nothing
from salience.explain.scores import QUANTITY, Scores, by_removal, correlation, random_sets, subset_sums

CARD = {
    "key": "faithfulness_correlation",
    "kind": "metric",
    "title": "Faithfulness correlation",
    "entry": "FaithfulnessCorrelation",
    "summary": "Takes random sets of one size away and correlates the drop with the sum of the set's values.",
    "convention": "Pearson's correlation over 100 random sets S of one size of Σ values in S and f(x) − f(x without S).",
    "better": "higher",
    "family": "faithfulness",
    "needs": "black_box",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "Evaluating and Aggregating Feature-based Model Explanations (Bhatt, Weller, Moura, IJCAI 2020)",
    "year": 2020,
    "url": "https://arxiv.org/abs/2005.00631",
    "source": "paper",
    "faithful": "Sets of one size, all as likely; values with their sign, not normalised.",
    "deviates": "The size is a share of the units, since rows have few and different numbers of them; a unit without a value adds 0.",
    "cost": "101 rows an explanation",
    "defaults": {"size": 0.25, "draws": 100},
}


@dataclass(frozen=True)
class FaithfulnessCorrelation:
    """Correlate over random sets.

    Args:
        size: number of units of a set, or, below 1, their share (rounded up).
        draws: number of sets.
    """

    size: int | float = 0.25
    draws: int = 100

    def __post_init__(self) -> None:
        within("size", self.size, 1e-9)
        within("draws", self.draws, 2)

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the correlation of each explanation; NaN where sums or drops are all alike, as in a set of all units."""
        size = f"{100 * self.size:g} % of the units (rounded up)" if self.size < 1 else f"{self.size:g} units"
        convention = (
            f"Pearson's correlation over {self.draws} random sets S of {size} of Σ values in S and f(x) − f(x without "
            f"S); f is {quantity_words(explanations)}; values with their sign, not normalised; a removed unit gets its "
            "neutral value."
        )
        return by_removal(
            model,
            explanations,
            lambda e: self._sets(e, seed),
            lambda e, sets, found: correlation(subset_sums(values_of(e), sets[1:]), drops(found)),
            convention,
            memory_mb=memory_mb,
            column=QUANTITY,
        )

    def _sets(self, explanation: Explanation, seed: int) -> Bool[np.ndarray, "set unit"]:
        units = len(explanation.values)
        size = min(units, ceil(self.size * units) if self.size < 1 else int(self.size))
        rng = generator(seed, "faithfulness correlation", str(explanation.row))
        return with_nothing(random_sets(units, np.full(self.draws, size), rng))
