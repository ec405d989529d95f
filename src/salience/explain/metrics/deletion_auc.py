"""Deletion: the area under the curve of the answer while units are taken away, most relevant first."""

from collections.abc import Sequence
from dataclasses import dataclass

from salience.explain.answers import scale_words
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.orders import grid, order_of, tops
from salience.explain.scores import Scores, area_under, by_removal

CARD = {
    "key": "deletion_auc",
    "kind": "metric",
    "title": "Deletion AUC",
    "entry": "DeletionAUC",
    "summary": "Takes units away, most relevant first, until none is left, and takes the area under the answer.",
    "convention": "Area under p(x without the top share s of the units), s from 0 to 1, by the trapezoid rule.",
    "better": "lower",
    "family": "faithfulness",
    "needs": "black_box",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "RISE (Petsiuk, Das, Saenko, BMVC 2018)",
    "year": 2018,
    "url": "https://arxiv.org/abs/1806.07421",
    "source": "paper and the authors' code",
    "faithful": "The class stays that of the untouched row; trapezoid rule on [0, 1].",
    "deviates": "Units are words, regions and cells, not pixels; a removed unit gets its neutral value, not zero.",
    "cost": "up to 21 rows an explanation",
    "defaults": {"steps": 20},
}


@dataclass(frozen=True)
class DeletionAUC:
    """Take units away until none is left.

    Args:
        steps: highest number of steps.
    """

    steps: int = 20

    def __post_init__(self) -> None:
        within("steps", self.steps, 1)

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
            "Deletion (RISE): area under p(x without the top share s of the units), s from 0 to 1, by the trapezoid "
            f"rule in at most {self.steps} steps; p is the {scale_words(model, explanations)}; a removed unit gets "
            "its neutral value."
        )
        return by_removal(
            model,
            explanations,
            lambda e: tops(order_of(e, seed), grid(len(e.values), self.steps)),
            lambda e, sets, found: area_under(found, sets.mean(axis=1)),
            convention,
            memory_mb=memory_mb,
        )
