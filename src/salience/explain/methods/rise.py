"""RISE: hide random halves of the row; a unit is worth the answers that came while it was seen."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from salience.explain.attribution import Attribution
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.removals import Removals
from salience.explain.target import Target

CARD = {
    "key": "rise",
    "kind": "explainer",
    "title": "RISE: randomized input sampling",
    "entry": "Rise",
    "summary": "Hides random sets of units; a unit's value is the mean answer while it was seen, less the mean over all sets. Needs no gradient.",
    "paper": "RISE: Randomized Input Sampling for Explanation of Black-box Models (Petsiuk, Das, Saenko, BMVC 2018)",
    "year": 2018,
    "url": "https://arxiv.org/abs/1806.07421",
    "source": "paper, section 3",
    "faithful": "Each unit is kept with probability p; the score of a unit is the mean of the answer over masks that keep it.",
    "deviates": "The mean over all masks is subtracted, which changes no order and gives zero where nothing matters; divided by how often a unit was kept rather than by p; a mask hides whole units, so image masks are the paper's coarse grids without enlarging, shifting and blending.",
    "needs": "black_box",
    "complete": False,
    "signed": True,
    "exact_linear": False,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "1,000 forward passes a row",
    "defaults": {"samples": 1000, "keep": 0.5},
    "tiny": {"samples": 200},
}


class Rise:
    """Attribute by the mean answer over random masks that keep a unit.

    Args:
        samples: masks of a row. A row with more units than a quarter of it is cut to runs of neighbours.
        keep: probability that a mask keeps a unit, in (0, 1).
    """

    def __init__(self, samples: int = 1000, keep: float = 0.5) -> None:
        within("samples", samples, 4)
        within("keep", keep, 0.01, 0.99)
        self.samples, self.keep = samples, keep

    def attribute(
        self,
        model: BlackBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row; see :mod:`salience.explain.model` for what the model must offer."""
        rows = Removals(model, frame, targets, memory_mb, max(1, self.samples // 4))
        streams = rows.generators(seed, "rise")
        kept = [
            rng.random((self.samples, n)) < self.keep for rng, n in zip(streams, rows.counts, strict=True)
        ]
        found = rows.first([~sets for sets in kept])
        means = [_means(*row) for row in zip(kept, found, rows.whole, strict=True)]
        return rows.attributions([v for v, _ in means], errors=[e for _, e in means])


def _means(
    kept: Bool[np.ndarray, "set part"], scores: Float[np.ndarray, " set"], whole: float
) -> tuple[Float[np.ndarray, " part"], Float[np.ndarray, " part"]]:
    """Return the mean of the scores while a part was kept, less their mean, and its standard error."""
    drops = scores - whole  # exactly zero where nothing matters
    drops = drops - drops.mean()
    count = np.maximum(kept.sum(axis=0), 1)
    values = drops @ kept / count
    squares = drops**2 @ kept / count - values**2
    return values, np.sqrt(np.maximum(squares, 0) / count)
