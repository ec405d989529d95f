"""Faithfulness estimate: the correlation of the values with the drops when each unit is taken away alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from salience.explain.answers import quantity_words
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.orders import drops, values_of, with_nothing
from salience.explain.scores import QUANTITY, Scores, by_removal, correlation

CARD = {
    "key": "faithfulness_estimate",
    "kind": "metric",
    "title": "Faithfulness estimate",
    "entry": "FaithfulnessEstimate",
    "summary": "Correlates the values with the drops when each unit is taken away alone.",
    "convention": "Pearson's correlation of the values and of f(x) − f(x without unit i), over the units that have a value.",
    "better": "higher",
    "family": "faithfulness",
    "needs": "black_box",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "Towards Robust Interpretability with Self-Explaining Neural Networks (Alvarez-Melis, Jaakkola, NeurIPS 2018)",
    "year": 2018,
    "url": "https://arxiv.org/abs/1806.07538",
    "source": "paper",
    "faithful": "One unit at a time; signed values.",
    "deviates": "Drops of the explained quantity, such as log-odds, where the paper takes probabilities: values explain the quantity.",
    "cost": "one row a unit",
    "defaults": {},
}


@dataclass(frozen=True)
class FaithfulnessEstimate:
    """Correlate with leaving one unit out."""

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the correlation of each explanation; NaN where values or drops are all alike."""
        convention = (
            "Pearson's correlation of the values and of f(x) − f(x without unit i), over the units that have a "
            f"value; f is {quantity_words(explanations)}; a removed unit gets its neutral value."
        )
        return by_removal(
            model,
            explanations,
            lambda e: with_nothing(np.eye(len(e.values), dtype=bool)),
            _correlation,
            convention,
            memory_mb=memory_mb,
            column=QUANTITY,
        )


def _correlation(
    explanation: Explanation, sets: Bool[np.ndarray, "set unit"], found: Float[np.ndarray, " set"]
) -> float:
    values = values_of(explanation)
    known = ~np.isnan(values)
    return correlation(values[known], drops(found)[known])
