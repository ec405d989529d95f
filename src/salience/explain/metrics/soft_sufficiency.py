"""Soft sufficiency: how much of the answer stays when numbers of the embedded input are kept as often as they are important."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salience.explain.explanation import Explanation
from salience.explain.model import WhiteBox
from salience.explain.options import within
from salience.explain.scores import Scores
from salience.explain.soft import soft_scores

CARD = {
    "key": "soft_sufficiency",
    "kind": "metric",
    "title": "Soft sufficiency",
    "entry": "SoftSufficiency",
    "summary": "Keeps numbers of the embedded input, the more often the more important their unit is, and takes the share of the answer that stays.",
    "convention": "max(0, (S' − S'₀) / (1 − S'₀)) with S' = 1 − max(0, p(x) − p(x')), S'₀ that of the neutral input; every number of x' is kept with probability a of its unit.",
    "better": "higher",
    "family": "faithfulness",
    "needs": "white_box",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "Incorporating Attribution Importance for Improving Faithfulness Metrics (Zhao, Aletras, ACL 2023)",
    "year": 2023,
    "url": "https://arxiv.org/abs/2305.10496",
    "source": "paper",
    "faithful": "Bernoulli masks on single numbers of the embedded input, kept with a, as in the paper; the authors' main program keeps 1 − a.",
    "deviates": "The mean of several draws; the neutral input in place of zeros; by default all methods keep the same share (π = 0.5), since the score rises with the mean of a. share=None is the paper's.",
    "cost": "22 rows an explanation",
    "defaults": {"share": 0.5, "draws": 20},
}


@dataclass(frozen=True)
class SoftSufficiency:
    """Keep what is important, softly.

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
            lambda a: a,
            _normalised,
            "Soft sufficiency (the paper): max(0, (S' − S'₀) / (1 − S'₀)), S' = 1 − max(0, p(x) − p(x')), S'₀ that of the "
            "neutral input; a number of x' is kept with probability a",
            share=self.share,
            draws=self.draws,
            seed=seed,
            memory_mb=memory_mb,
        )


def _normalised(row: float, neutral: float, found: np.ndarray) -> np.ndarray:
    lost, all_lost = np.maximum(row - found, 0), row - neutral  # 1 − S', 1 − S'₀
    return np.maximum((all_lost - lost) / all_lost, 0)
