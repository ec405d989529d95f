"""Insertion: the area under the curve of the answer while units come back, most relevant first."""

from collections.abc import Sequence
from dataclasses import dataclass

from salience.explain.answers import scale_words
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.orders import grid, order_of, tops
from salience.explain.scores import Scores, area_under, by_removal

CARD = {
    "key": "insertion_auc",
    "kind": "metric",
    "title": "Insertion AUC",
    "entry": "InsertionAUC",
    "summary": "Starts from the neutral input, brings units back, most relevant first, and takes the area under the answer.",
    "convention": "Area under p(x with the top share s of the units alone), s from 0 to 1, by the trapezoid rule.",
    "better": "higher",
    "family": "faithfulness",
    "needs": "black_box",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "RISE (Petsiuk, Das, Saenko, BMVC 2018)",
    "year": 2018,
    "url": "https://arxiv.org/abs/1806.07421",
    "source": "paper and the authors' code",
    "faithful": "The class stays that of the untouched row; trapezoid rule on [0, 1].",
    "deviates": "Starts from the neutral input of the model (a picture's mean colour), where the paper blurs the picture.",
    "cost": "up to 21 rows an explanation",
    "defaults": {"steps": 20},
}


@dataclass(frozen=True)
class InsertionAUC:
    """Bring units back until all are there.

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
            "Insertion (RISE): area under p(x with the top share s of the units alone), s from 0 to 1, by the "
            f"trapezoid rule in at most {self.steps} steps; p is the {scale_words(model, explanations)}; an absent "
            "unit has its neutral value."
        )
        return by_removal(
            model,
            explanations,
            lambda e: ~tops(order_of(e, seed), grid(len(e.values), self.steps)),
            lambda e, sets, found: area_under(found, 1 - sets.mean(axis=1)),
            convention,
            memory_mb=memory_mb,
        )
