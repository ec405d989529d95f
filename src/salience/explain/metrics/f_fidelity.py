"""F-Fidelity: faithfulness on a model that was fine-tuned on randomly masked rows, so that a masked row is none it never saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from salience.core.stats import generator
from salience.explain.answers import scale_words
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.orders import drops, order_of, shares, with_nothing
from salience.explain.scores import Scores, by_removal, one_of, random_sets

CARD = {
    "key": "f_fidelity",
    "kind": "metric",
    "title": "F-Fidelity",
    "entry": "FFidelity",
    "summary": "Masks random parts of the top units and of the others, never more than the model was fine-tuned to bear, and compares the two falls of the answer.",
    "convention": "Mean over shares s of: mean fall of p when a random half of the top s of the units is masked, less that when as large a part of the others is; at most the rate of the fine-tuning is masked.",
    "better": "higher",
    "family": "faithfulness",
    "needs": "black_box",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "F-Fidelity (Zheng et al., ICLR 2025)",
    "year": 2025,
    "url": "https://arxiv.org/abs/2410.02970",
    "source": "paper",
    "faithful": "Fine-tuning knows no explanation; the masked part is random inside the explanation and stays within the rate of the fine-tuning.",
    "deviates": "The fall of the answer, not of the accuracy; the difference of the two fidelities by default; rate and shares are ours. Without a fine-tuned model it is the R-Fidelity of the model itself, and says so.",
    "cost": "up to 81 rows an explanation, after one fine-tuning (salience.explain.masking.fine_tune_on_masks)",
    "defaults": {
        "part": "difference",
        "shares": [0.1, 0.2, 0.3, 0.4, 0.5],
        "share_masked": 0.5,
        "rate": 0.2,
        "draws": 8,
    },
}
PARTS = {
    "top": "fall of p when a random part of the top s of the units is masked (Fid+)",
    "rest": "fall of p when a random part of the units outside the top s is masked (Fid−)",
    "difference": "fall of p when a random part of the top s of the units is masked, less that when a random part of the others is (Fid+ − Fid−)",
}


@dataclass(frozen=True)
class FFidelity:
    """Mask random parts of an explanation.

    Args:
        finetuned: a model fine-tuned on random masks; None to ask the explained model itself, which the convention says.
        part: ``"top"`` (Fid+), ``"rest"`` (Fid−, lower is better) or ``"difference"``.
        shares: sizes of the top, as shares of the units.
        share_masked: share of the part that is masked, if the rate allows it.
        rate: highest share of all units that is masked: that of the fine-tuning; at least one unit is.
        draws: random masks of each size and part.
    """

    finetuned: BlackBox | None = None
    part: str = "difference"
    shares: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5)
    share_masked: float = 0.5
    rate: float = 0.2
    draws: int = 8

    def __post_init__(self) -> None:
        one_of("part", self.part, PARTS)
        within("share_masked", self.share_masked, 0, 1)
        within("rate", self.rate, 0, 1)
        within("draws", self.draws, 1)

    @property
    def better(self) -> str:
        """Whether a good explanation has a ``"higher"`` or a ``"lower"`` score."""
        return "lower" if self.part == "rest" else "higher"

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the fidelity of each explanation."""
        asked = self.finetuned if self.finetuned is not None else model
        return by_removal(
            asked,
            explanations,
            lambda e: self._sets(e, seed),
            self._difference,
            self._words(asked, explanations),
            memory_mb=memory_mb,
        )

    def _words(self, asked: Any, explanations: Sequence[Explanation]) -> str:
        name = "F-Fidelity, on a model fine-tuned on random masks"
        if self.finetuned is None:
            name = "R-Fidelity, not F-Fidelity: the explained model itself was asked, which no fine-tuning prepared for masks"
        listed = ", ".join(f"{100 * share:g}" for share in self.shares)
        return (
            f"{name}: mean over s = {listed} % and {self.draws} draws of the {PARTS[self.part]}; "
            f"{100 * self.share_masked:g} % of the part, at most {100 * self.rate:g} % of all units, at least one; p is "
            f"the {scale_words(asked, explanations)}; a masked unit gets its neutral value."
        )

    def _sets(self, explanation: Explanation, seed: int) -> Bool[np.ndarray, "set unit"]:
        """Return nothing, then for each share the draws from the top and the draws from the others."""
        order = order_of(explanation, seed)
        rng = generator(seed, "f-fidelity", str(explanation.row))
        parts = [p for k in shares(len(order), self.shares) for p in (order[:k], order[k:])]
        return with_nothing(*(self._masks(part, len(order), rng) for part in parts))

    def _masks(self, part: np.ndarray, units: int, rng: np.random.Generator) -> Bool[np.ndarray, "draw unit"]:
        size = min(round(self.share_masked * len(part)), int(self.rate * units))
        masks = np.zeros((self.draws, units), dtype=bool)
        masks[:, part] = random_sets(len(part), np.full(self.draws, min(len(part), max(1, size))), rng)
        return masks

    def _difference(
        self, explanation: Explanation, sets: Bool[np.ndarray, "set unit"], found: Float[np.ndarray, " set"]
    ) -> float:
        top, rest = drops(found).reshape(-1, 2, self.draws).mean(axis=(0, 2))
        return float({"top": top, "rest": rest, "difference": top - rest}[self.part])
