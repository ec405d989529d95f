"""Changes of numbers with exact regions: a shifted column, and two columns that tell the label only together.

Both are this project's own; the paper changes pictures and texts.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from salience.core.errors import DataError
from salience.explain.ground_truth.design import Areas, Design, Row

CELL = np.ones((), dtype=bool)


def _numbers(frame: pd.DataFrame, column: str) -> np.ndarray:
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(np.unique(values)) < 2:
        raise DataError(
            "A manipulation needs a column with two numbers or more",
            f"Column {column!r}.",
            "Choose another column.",
        )
    return values


@dataclass(frozen=True)
class ShiftColumn:
    """Add a constant to a number; a missing one counts as ``fill``.

    Attributes:
        column: column of numbers.
        by: what is added, in units of the column.
        fill: stands for a missing number before the shift.
    """

    column: str
    by: float
    fill: float

    @classmethod
    def of(cls, frame: pd.DataFrame, column: str, spreads: float = 3.0) -> "ShiftColumn":
        """Return a shift by so many standard deviations of the column; a missing number counts as the median."""
        values = _numbers(frame, column)
        return cls(column, spreads * float(values.std()), float(np.median(values)))

    def fits(self, row: Row) -> bool:
        """Every row can carry it."""
        return True

    def apply(self, row: Row, rng: np.random.Generator) -> Row:
        """Return the row with the shifted number."""
        value = row[self.column]
        return {**row, self.column: (value if np.isfinite(value) else self.fill) + self.by}

    def area(self, row: Row) -> Areas:
        """Return the cell."""
        return {self.column: CELL}


@dataclass(frozen=True)
class MatchSides:
    """Make two numbers lie on the same side of their medians, or on opposite ones.

    Where they do not, the second is replaced by a number of the table from its other side. With one such change for each
    label the label is an exclusive or: neither column tells it alone, both together tell it surely.

    Attributes:
        first, second: columns of numbers; a missing number counts as below.
        middle: the two borders; at the border is below.
        below, above: numbers that replace the second, from each side of its border.
        same: whether the two must lie on the same side.
    """

    first: str
    second: str
    middle: tuple[float, float]
    below: tuple[float, ...]
    above: tuple[float, ...]
    same: bool

    @classmethod
    def design(cls, frame: pd.DataFrame, first: str, second: str, *, kept: float = 0.5) -> Design:
        """Return the design in which the first class has opposite sides and the second the same side.

        Args:
            frame: rows, for medians and replacements.
            first, second: columns of numbers.
            kept: share of rows that keep their label, as in :meth:`Design.binary`.
        """
        borders = tuple(_border(_numbers(frame, name)) for name in (first, second))
        pool = _numbers(frame, second)
        sides = tuple(pool[pool <= borders[1]].tolist()), tuple(pool[pool > borders[1]].tolist())
        return Design.binary(
            *(cls(first, second, borders, *sides, same) for same in (False, True)), kept=kept
        )

    def fits(self, row: Row) -> bool:
        """Every row can carry it."""
        return True

    def apply(self, row: Row, rng: np.random.Generator) -> Row:
        """Return the row with the second number moved to the other side where it must."""
        one, two = (
            row[name] > border for name, border in zip((self.first, self.second), self.middle, strict=True)
        )
        if (one == two) == self.same:
            return row
        return {**row, self.second: float(rng.choice(self.below if two else self.above))}

    def area(self, row: Row) -> Areas:
        """Return both cells."""
        return {self.first: CELL, self.second: CELL}


def _border(values: np.ndarray) -> float:
    """Return the median, or the number below it where nothing lies above."""
    median = float(np.median(values))
    return median if (values > median).any() else float(values[values < median].max())
