"""τ-LOO: whether the values rank the units as taking each of them away alone does."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from salience.explain.answers import quantity_words
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.orders import drops, values_of, with_nothing
from salience.explain.scores import QUANTITY, Scores, by_removal

CARD = {
    "key": "tau_loo",
    "kind": "metric",
    "title": "τ with leave-one-out",
    "entry": "TauLOO",
    "summary": "Compares the order of the values with the order of the drops when each unit is taken away alone.",
    "convention": "Kendall's τ-b of the values and of f(x) − f(x without unit i), over the units that have a value.",
    "better": "higher",
    "family": "faithfulness",
    "needs": "black_box",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "Attention is not Explanation (Jain, Wallace, NAACL 2019)",
    "year": 2019,
    "url": "https://arxiv.org/abs/1902.10186",
    "source": "paper",
    "faithful": "Kendall's τ; ties as in τ-b.",
    "deviates": "The drop of the explained quantity with its sign, not the distance of two distributions.",
    "cost": "one row a unit",
    "defaults": {},
}
ROUNDING = 9  # digits; drops that differ by less are ties


@dataclass(frozen=True)
class TauLOO:
    """Compare with leaving one unit out."""

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return τ of each explanation, in [−1, 1]; NaN where values or drops are all alike."""
        convention = (
            "Kendall's τ-b of the values and of f(x) − f(x without unit i), over the units that have a value; "
            f"f is {quantity_words(explanations)}; a removed unit gets its neutral value."
        )
        return by_removal(
            model,
            explanations,
            lambda e: with_nothing(np.eye(len(e.values), dtype=bool)),
            _tau,
            convention,
            memory_mb=memory_mb,
            column=QUANTITY,
        )


def _tau(
    explanation: Explanation, sets: Bool[np.ndarray, "set unit"], found: Float[np.ndarray, " set"]
) -> float:
    from scipy.stats import kendalltau

    values, fall = values_of(explanation), np.round(drops(found), ROUNDING)
    known = ~np.isnan(values)
    if known.sum() < 2:
        return float("nan")
    with warnings.catch_warnings(action="ignore"):  # constant input: NaN is the answer
        return float(kendalltau(values[known], fall[known]).statistic)
