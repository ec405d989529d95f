"""Soft comprehensiveness: how much the answer falls when numbers of the embedded input are dropped as often as they are important."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salience.explain.explanation import Explanation
from salience.explain.model import WhiteBox
from salience.explain.options import within
from salience.explain.scores import Scores
from salience.explain.soft import soft_scores

CARD = {
    "key": "soft_comprehensiveness",
    "kind": "metric",
    "title": "Soft comprehensiveness",
    "entry": "SoftComprehensiveness",
    "summary": "Drops numbers of the embedded input, the more often the more important their unit is, and takes the normalised fall of the answer.",
    "convention": "min(1, max(0, p(x) − p(x')) / max(0, p(x) − p(neutral))); every number of x' is kept with probability 1 − a of its unit.",
    "better": "higher",
    "family": "faithfulness",
    "needs": "white_box",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "Incorporating Attribution Importance for Improving Faithfulness Metrics (Zhao, Aletras, ACL 2023)",
    "year": 2023,
    "url": "https://arxiv.org/abs/2305.10496",
    "source": "paper",
    "faithful": "Bernoulli masks on single numbers of the embedded input, kept with 1 − a, as in the paper; the authors' main program keeps a.",
    "deviates": "The mean of several draws; the neutral input in place of zeros; by default all methods drop the same share (π = 0.5), since the score rises with the mean of a. share=None is the paper's.",
    "cost": "22 rows an explanation",
    "defaults": {"share": 0.5, "draws": 20},
}


@dataclass(frozen=True)
class SoftComprehensiveness:
    """Drop what is important, softly.

    Args:
        share: mean of the importances, π, in (0, 1); None leaves them as they are, as in the paper.
        draws: number of random masks.
    """

    share: float | None = 0.5
    draws: int = 20

    def __post_init__(self) -> None:
        within("share", 0.5 if self.share is None else self.share, 0, 1)
        within("draws", self.draws, 1)

    def scores(
        self,
        model: WhiteBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the score of each explanation, in [0, 1]; NaN where the row's answer is not above the neutral one."""
        return soft_scores(
            model,
            explanations,
            lambda a: 1 - a,
            _normalised,
            "Soft comprehensiveness (the paper): max(0, p(x) − p(x')) / max(0, p(x) − p(neutral)), at most 1; a number of "
            "x' is kept with probability 1 − a",
            share=self.share,
            draws=self.draws,
            seed=seed,
            memory_mb=memory_mb,
        )


def _normalised(row: float, neutral: float, found: np.ndarray) -> np.ndarray:
    return np.clip((row - found) / (row - neutral), 0, 1)
