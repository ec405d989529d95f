"""A model whose answer is any function of which units are there, so that every removal has a known answer."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from salience.core.unit import Unit
from salience.data.schema import Column, Schema

PRESENT = "present"
Value = Callable[[Float[np.ndarray, "set unit"]], Float[np.ndarray, " set"]]


def word_units(count: int) -> tuple[Unit, ...]:
    """Return the units of a text of one-letter words."""
    return tuple(Unit("text", "text", f"w{i}", (2 * i, 2 * i + 1)) for i in range(count))


def cell_units(count: int) -> tuple[Unit, ...]:
    """Return one number cell a column."""
    return tuple(Unit(f"c{i}", "number", f"c{i} = 1") for i in range(count))


def region_units(down: int, across: int) -> tuple[Unit, ...]:
    """Return the regions of a grid, row by row."""
    return tuple(
        Unit("image", "image", f"{i},{j}", (j / across, i / down, (j + 1) / across, (i + 1) / down))
        for i in range(down)
        for j in range(across)
    )


class Game:
    """Answer for rows that say which units are present: a black box without gradients.

    Args:
        value: from presence, 1.0 or 0.0, (set, unit), to one number a set.
        units: units of every row.
    """

    def __init__(self, value: Value, units: Sequence[Unit]) -> None:
        self.value, self._units, self.rows_seen = value, tuple(units), 0
        columns = (Column(PRESENT, "category", "input"), Column("value", "number", "target"))
        self.schema = Schema(columns, "regression", None)

    def frame(self, rows: int = 1) -> pd.DataFrame:
        """Return rows with all units."""
        return pd.DataFrame({PRESENT: pd.Series(["1" * len(self._units)] * rows, dtype=object)})

    def outputs(self, frame: pd.DataFrame) -> Float[np.ndarray, "row 1"]:
        """Return the value of each row."""
        self.rows_seen += len(frame)
        present = [[float(c) for c in cell] for cell in frame[PRESENT]]
        return np.asarray(self.value(np.array(present).reshape(len(frame), len(self._units))), float)[:, None]

    def predict_proba(self, outputs: np.ndarray) -> np.ndarray:
        """Return the outputs; there are no classes."""
        return outputs

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return all units."""
        return self._units

    def remove(self, row: dict[str, Any], units: Sequence[Unit]) -> dict[str, Any]:
        """Return the row without these units."""
        gone = {self._units.index(unit) for unit in units}
        return {PRESENT: "".join("0" if i in gone else c for i, c in enumerate(row[PRESENT]))}


def interactions(units: int, seed: int = 0) -> Value:
    """Return a game with main effects, all pairs, and one product of three units.

    Args:
        units: three or more.
        seed: of the weights.
    """
    rng = np.random.default_rng(seed)
    main, pairs = rng.normal(size=units), rng.normal(size=(units, units)) / 2

    def value(present: Float[np.ndarray, "set unit"]) -> Float[np.ndarray, " set"]:
        product = present[:, 0] * present[:, 1] * present[:, -1]
        return 0.5 + present @ main + np.einsum("si,ij,sj->s", present, pairs, present) + 2 * product

    return value
