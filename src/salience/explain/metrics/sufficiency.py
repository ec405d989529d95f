"""Sufficiency: how much the answer falls when only the units that an explanation names are left."""

from collections.abc import Sequence
from dataclasses import dataclass

from salience.explain import eraser
from salience.explain.answers import scale_words
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.orders import drops
from salience.explain.scores import Scores, by_removal

CARD = {
    "key": "sufficiency",
    "kind": "metric",
    "title": "Sufficiency",
    "entry": "Sufficiency",
    "summary": "Keeps the top units alone, at several shares, and averages how far the answer falls.",
    "convention": "Plain mean over the top 1, 5, 10, 20, 50 % of the units of p(x) − p(x with them alone).",
    "better": "lower",
    "family": "faithfulness",
    "needs": "black_box",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "ERASER (DeYoung et al., ACL 2020)",
    "year": 2020,
    "url": "https://arxiv.org/abs/1911.03429",
    "source": "paper and the authors' scorer",
    "faithful": "Follows the scorer: a plain mean over shares, of the class that is explained.",
    "deviates": "The paper divides by the number of shares plus one: convention='paper'. convention='ferret' is that of the ferret library.",
    "cost": "6 rows an explanation",
    "defaults": {"convention": "eraser", "fractions": None},
}


@dataclass(frozen=True)
class Sufficiency:
    """Keep the top units alone.

    Args:
        convention: ``"eraser"``, ``"paper"`` or ``"ferret"``; see :data:`salience.explain.eraser.CONVENTIONS`.
        fractions: shares of the units, in (0, 1]; None for those of the convention.
    """

    convention: str = "eraser"
    fractions: Sequence[float] | None = None

    def __post_init__(self) -> None:
        eraser.fractions_of(self.convention, self.fractions)

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the mean drop of the answer of each explanation."""
        fractions = eraser.fractions_of(self.convention, self.fractions)
        return by_removal(
            model,
            explanations,
            lambda e: eraser.sets(e, self.convention, fractions, remove=False, seed=seed),
            lambda e, _, found: float(eraser.mean_drop(drops(found), self.convention, remove=False)),
            eraser.words(self.convention, fractions, scale_words(model, explanations), remove=False),
            memory_mb=memory_mb,
        )
