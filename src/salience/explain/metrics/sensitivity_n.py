"""Sensitivity-n: the faithfulness correlation at every size of set, from one unit to almost all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from salience.core.stats import generator
from salience.explain.answers import quantity_words
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.orders import drops, grid, values_of, with_nothing
from salience.explain.scores import QUANTITY, Scores, by_removal, correlation, random_sets, subset_sums

CARD = {
    "key": "sensitivity_n",
    "kind": "metric",
    "title": "Sensitivity-n",
    "entry": "SensitivityN",
    "summary": "Correlates, at each of several sizes, the drop without a random set with the sum of the set's values, and averages over sizes.",
    "convention": "Mean over sizes n of Pearson's correlation over random sets S of n units of Σ values in S and f(x) − f(x without S).",
    "better": "higher",
    "family": "faithfulness",
    "needs": "black_box",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "Towards better understanding of gradient-based attribution methods (Ancona et al., ICLR 2018)",
    "year": 2018,
    "url": "https://arxiv.org/abs/1711.06104",
    "source": "paper",
    "faithful": "Sets of one size at a time; a size at which sums or drops are all alike is left out of the mean.",
    "deviates": "Ten sizes and 20 sets a size by default; the paper takes 100 sets and sizes up to four fifths of the pixels.",
    "cost": "up to 201 rows an explanation",
    "defaults": {"sizes": 10, "draws": 20},
}


@dataclass(frozen=True)
class SensitivityN:
    """Correlate over random sets of several sizes.

    Args:
        sizes: highest number of sizes, spread over 1 … units − 1.
        draws: number of sets of each size.
    """

    sizes: int = 10
    draws: int = 20

    def __post_init__(self) -> None:
        within("sizes", self.sizes, 1)
        within("draws", self.draws, 2)

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the mean correlation of each explanation; NaN where no size has one."""
        convention = (
            f"Mean over at most {self.sizes} sizes n (1 … units − 1) of Pearson's correlation over {self.draws} random "
            "sets S of n units of Σ values in S and f(x) − f(x without S); sizes without a correlation are left out; f "
            f"is {quantity_words(explanations)}; a removed unit gets its neutral value."
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
        units = len(explanation.values)
        sizes = 1 + grid(units - 2, self.sizes - 1) if units > 1 else np.zeros(0, int)
        rng = generator(seed, "sensitivity-n", str(explanation.row))
        return with_nothing(random_sets(units, np.repeat(sizes, self.draws), rng))

    def _mean(
        self, explanation: Explanation, sets: Bool[np.ndarray, "set unit"], found: Float[np.ndarray, " set"]
    ) -> float:
        sums = subset_sums(values_of(explanation), sets[1:]).reshape(-1, self.draws)
        each = [correlation(*pair) for pair in zip(sums, drops(found).reshape(-1, self.draws), strict=True)]
        known = [r for r in each if not np.isnan(r)]
        return float(np.mean(known)) if known else float("nan")
