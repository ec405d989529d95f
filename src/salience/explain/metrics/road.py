"""ROAD: take regions of a picture away so that no edge of a mask shows, and see how far the answer falls."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from salience.core.stats import generator
from salience.explain.answers import answers, scale_words
from salience.explain.explanation import Explanation
from salience.explain.imputation import impute
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.orders import drops, order_of
from salience.explain.rows import evaluate
from salience.explain.scores import ANSWER, Scores
from salience.explain.state import frozen

CARD = {
    "key": "road",
    "kind": "metric",
    "title": "Remove and debias (ROAD)",
    "entry": "ROAD",
    "summary": "Fills the top regions of a picture from the pixels around them, with a little noise, so that the mask itself tells nothing, and takes the mean fall of the answer.",
    "convention": "Mean over the top 10, 20, 30, 40, 50 % of the regions of p(x) − p(x with these regions filled by noisy linear imputation).",
    "better": "higher",
    "family": "faithfulness",
    "needs": "black_box",
    "kinds": ["image"],
    "tasks": ["classification", "regression"],
    "paper": "A Consistent and Efficient Evaluation Strategy for Attribution Methods (Rong et al., ICML 2022)",
    "year": 2022,
    "url": "https://arxiv.org/abs/2202.00449",
    "source": "paper",
    "faithful": "Every removed pixel is the weighted mean of its neighbours, solved for all of them at once, plus normal noise.",
    "deviates": "The weights (1/6 beside, above and below, 1/12 across the corners) are from a second-hand description and were not verified against the paper. Whole regions go, not pixels. The score is the fall of the answer, not the share of right predictions.",
    "cost": "6 rows an explanation and a sparse system a share",
    "defaults": {"fractions": [0.1, 0.2, 0.3, 0.4, 0.5], "noise": 0.01},
}


@dataclass(frozen=True)
class ROAD:
    """Fill the top regions from what is around them.

    Args:
        fractions: shares of the regions, rounded to whole regions, at least one.
        noise: standard deviation of the noise on a filled pixel, as a share of the range of a channel.
    """

    fractions: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5)
    noise: float = 0.01

    def __post_init__(self) -> None:
        within("noise", self.noise, 0, 1)
        for fraction in self.fractions:
            within("fractions", fraction, 0, 1)

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the mean fall of the answer of each explanation; NaN for a row without a picture."""
        begin = perf_counter()
        where = [i for i, e in enumerate(explanations) if _regions(e).any() and np.isfinite(e.values).any()]
        known, lines = [explanations[i] for i in where], len(self.fractions) + 1
        rows = (row for e in known for row in self._rows(e, seed))

        def keep(outputs: np.ndarray, first: int) -> np.ndarray:
            found = [
                answers(model, known[(first + i) // lines], outputs[i : i + 1])[:, ANSWER]
                for i in range(len(outputs))
            ]
            return np.concatenate(found) if found else np.zeros(0)

        with frozen(model):
            found = evaluate(model, rows, memory_mb, keep).reshape(len(known), lines)
        values = np.full(len(explanations), np.nan)
        values[where] = [drops(line).mean() for line in found]
        absent = len(explanations) - len(known)
        return Scores(
            values,
            self._words(model, explanations),
            lines * len(known),
            perf_counter() - begin,
            f"{absent} rows have no region with a value" if absent else "",
        )

    def _words(self, model: Any, explanations: Sequence[Explanation]) -> str:
        listed = ", ".join(f"{100 * fraction:g}" for fraction in self.fractions)
        return (
            f"ROAD: mean over the top {listed} % of the regions (at least one) of p(x) − p(x with them filled by noisy "
            f"linear imputation: neighbours 1/6, corners 1/12, weights not verified; noise {self.noise:g}); p is the "
            f"{scale_words(model, explanations)}; units of other kinds stay."
        )

    def _rows(self, explanation: Explanation, seed: int) -> list[dict[str, Any]]:
        """Return the row, and the row with the top regions of each share filled."""
        order = [i for i in order_of(explanation, seed) if _regions(explanation)[i]]
        rows = [explanation.inputs]
        for fraction in self.fractions:
            gone = order[: max(1, round(fraction * len(order)))]
            rows.append(_filled(explanation, gone, self.noise, seed))
        return rows


def _regions(explanation: Explanation) -> Bool[np.ndarray, " unit"]:
    return np.array([unit.kind == "image" for unit in explanation.units], dtype=bool)


def _filled(explanation: Explanation, gone: list[int], noise: float, seed: int) -> dict[str, Any]:
    from PIL import Image

    from salience.data.images import load_image
    from salience.data.kinds import pixel_box

    row, units = dict(explanation.inputs), [explanation.units[i] for i in gone]
    for column in sorted({unit.column for unit in units}):
        image = load_image(row[column])
        pixels: Float[np.ndarray, "height width channel"] = np.asarray(image, dtype=np.float64) / 255
        mask = np.zeros(pixels.shape[:2], dtype=bool)
        for unit in units:
            if unit.column == column:
                left, top, right, bottom = pixel_box(unit.locator, image.size)
                mask[top:bottom, left:right] = True
        filled = impute(pixels, mask, noise, generator(seed, "road", column, str(explanation.row)))
        row[column] = Image.fromarray((filled * 255).round().astype(np.uint8))
    return row
