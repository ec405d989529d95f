"""AOPC: the area over the curve of the answer while units are taken away, most or least relevant first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from salience.explain.answers import scale_words
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.orders import grid, order_of, tops
from salience.explain.scores import Scores, by_removal, one_of

CARD = {
    "key": "aopc",
    "kind": "metric",
    "title": "AOPC, area between the curves",
    "entry": "AOPC",
    "summary": "Takes units away one after another, most relevant first and least relevant first, and takes the area between the two curves of the answer.",
    "convention": "AOPC = 1/(L+1) · Σ p(x) − p(x without the first k units), k = 0 … L, the term k = 0 with it; the area between is AOPC most relevant first less AOPC least relevant first.",
    "better": "higher",
    "family": "faithfulness",
    "needs": "black_box",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "Evaluating the Visualization of What a Deep Neural Network Has Learned (Samek et al., IEEE TNNLS 2017)",
    "year": 2017,
    "url": "https://arxiv.org/abs/1509.06321",
    "source": "paper",
    "faithful": "The paper's formula, with its first term, which is zero.",
    "deviates": "A removed unit gets its neutral value, not random pixels; long rows are taken in at most 32 steps as equal as whole units allow.",
    "cost": "up to 65 rows an explanation",
    "defaults": {"order": "area", "steps": 32},
}
ORDERS = {
    "morf": "AOPC, most relevant first",
    "lerf": "AOPC, least relevant first",
    "area": "AOPC most relevant first less AOPC least relevant first",
}


@dataclass(frozen=True)
class AOPC:
    """Take units away in order.

    Args:
        order: ``"morf"``, most relevant first; ``"lerf"``, least relevant first (lower is better); ``"area"``, their
            difference.
        steps: highest number of steps, L.
    """

    order: str = "area"
    steps: int = 32

    def __post_init__(self) -> None:
        one_of("order", self.order, ORDERS)
        within("steps", self.steps, 1)

    @property
    def better(self) -> str:
        """Whether a good explanation has a ``"higher"`` or a ``"lower"`` score."""
        return "lower" if self.order == "lerf" else "higher"

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the area of each explanation."""
        convention = (
            f"{ORDERS[self.order]}: 1/(L+1) · Σ p(x) − p(x without the first k units), k = 0 … L, in at most "
            f"{self.steps} steps; p is the {scale_words(model, explanations)}; a removed unit gets its neutral value."
        )
        return by_removal(
            model, explanations, lambda e: self._sets(e, seed), self._area, convention, memory_mb=memory_mb
        )

    def _sets(self, explanation: Explanation, seed: int) -> Bool[np.ndarray, "set unit"]:
        order = order_of(explanation, seed)
        sizes = grid(len(order), self.steps)
        curves = {"morf": [order], "lerf": [order[::-1]], "area": [order, order[::-1]]}[self.order]
        return np.concatenate([tops(curve, sizes) for curve in curves])

    def _area(
        self, explanation: Explanation, sets: Bool[np.ndarray, "set unit"], found: Float[np.ndarray, " set"]
    ) -> float:
        curves = found.reshape(2 if self.order == "area" else 1, -1)
        areas = (curves[:, :1] - curves).mean(axis=1)  # over k = 0 … L
        return float(areas[0] - areas[1:].sum())
