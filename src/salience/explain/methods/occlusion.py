"""Occlusion: slide a window over neighbouring units and see how the answer falls."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from salience.core.unit import Unit
from salience.explain.attribution import Attribution
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.removals import Removals
from salience.explain.target import Target

CARD = {
    "key": "occlusion",
    "kind": "explainer",
    "title": "Occlusion with a sliding window",
    "entry": "Occlusion",
    "summary": "Removes a window of neighbouring words or regions at a time; a unit's value is the mean fall of the answer over the windows that hold it. Needs no gradient.",
    "paper": "Visualizing and Understanding Convolutional Networks (Zeiler, Fergus, ECCV 2014)",
    "year": 2014,
    "url": "https://arxiv.org/abs/1311.2901",
    "source": "paper, section 4.2; windows and averages as in captum's Occlusion",
    "faithful": "A window slides over the input; the drop of the explained output is laid on what it hides.",
    "deviates": "Windows are of units (words of a column, regions of the image grid) and hide them with the neutral value; a cell is hidden alone. The drop of a window is not divided by its size, so a unit beside a strong one gets part of it.",
    "needs": "black_box",
    "complete": False,
    "signed": True,
    "exact_linear": False,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "one forward pass a window, packed over rows and windows",
    "defaults": {"window": 3, "block": 2, "stride": 1, "max_forwards": 2048},
}


class Occlusion:
    """Attribute by hiding windows of neighbouring units.

    A window starts at the first unit of a column and moves on by ``stride`` until it covers the last one; there it may
    stick out, and hides what is left. The value of a unit is the mean of the drops of all windows that hold it.

    Args:
        window: neighbouring words of a column that are hidden together.
        block: rows and columns of neighbouring image regions that are hidden together.
        stride: by how many units a window moves on; at most ``window`` and ``block``, so that none is left out.
        max_forwards: windows of a row at most; a row with more units is cut to runs of neighbours, which slide as one.

    Raises:
        ConfigError: an option is out of its range.
    """

    def __init__(self, window: int = 3, block: int = 2, stride: int = 1, max_forwards: int = 2048) -> None:
        within("window", window, 1)
        within("block", block, 1)
        within("stride", stride, 1, min(window, block))
        within("max_forwards", max_forwards, 1)
        self.window, self.block, self.stride, self.max_forwards = window, block, stride, max_forwards

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
        rows = Removals(model, frame, targets, memory_mb, self.max_forwards)
        hidden = [self._windows(units, part) for units, part in zip(rows.units, rows.part, strict=True)]
        found = rows.first(hidden)
        values = [
            (whole - scores) @ sets / np.maximum(sets.sum(axis=0), 1)
            for whole, scores, sets in zip(rows.whole, found, hidden, strict=True)
        ]
        return rows.attributions(values, baseline="the row without the window")

    def _windows(
        self, units: Sequence[Unit], part: Int[np.ndarray, " unit"]
    ) -> Bool[np.ndarray, "window part"]:
        """Return the parts that each window hides."""
        first = np.unique(part, return_index=True)[1]  # one unit stands for its part
        places: dict[tuple[str, str], list[int]] = {}
        for at, unit in enumerate(units[i] for i in first):
            places.setdefault((unit.column, unit.kind), []).append(at)
        found = [np.zeros((0, len(first)), dtype=bool)]
        for (_, kind), held in places.items():
            local = self._local(kind, [units[first[i]] for i in held])
            wide = np.zeros((len(local), len(first)), dtype=bool)
            wide[:, held] = local
            found.append(wide)
        return np.concatenate(found)

    def _local(self, kind: str, units: Sequence[Unit]) -> Bool[np.ndarray, "window unit"]:
        """Return the windows of one column."""
        if kind == "image":
            x, y = (np.unique([unit.locator[k] for unit in units], return_inverse=True)[1] for k in (0, 1))
            across, down = (self._slid(int(v.max()) + 1, self.block)[:, v] for v in (x, y))
            return (down[:, None] & across[None]).reshape(-1, len(units))
        return self._slid(len(units), self.window if kind == "text" else 1)

    def _slid(self, count: int, window: int) -> Bool[np.ndarray, "window place"]:
        stride = min(self.stride, window)
        starts = np.arange(0, max(count - window, 0) + stride, stride)[:, None]
        places = np.arange(count)
        return (starts <= places) & (places < starts + window)
