"""Does the answer fall anywhere when a number rises? Rows are followed over the values of one column."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from salience.explain.tables.ask import steady
from salience.explain.tables.axis import Axis


@dataclass(frozen=True)
class Moves:
    """Count how often the answer goes one way.

    Attributes:
        rows: share of rows whose answer does so at one step or more.
        interval: exact 95 % interval of that share (Clopper and Pearson).
        steps: share of all rows' steps.
        worst: the largest such change: ``row, from, to, change``; None where there is none.
    """

    rows: float
    interval: tuple[float, float]
    steps: float
    worst: dict[str, Any] | None


@dataclass(frozen=True)
class Monotonicity:
    """Say which way the answer goes when one number column rises.

    Attributes:
        column: name of the column.
        rows: rows that were followed.
        steps: steps between neighbouring values.
        falls, rises: how often the answer goes down, and up.
    """

    column: str
    rows: int
    steps: int
    falls: Moves
    rises: Moves

    @property
    def direction(self) -> str:
        """``"increasing"`` (never falls), ``"decreasing"``, ``"constant"`` (neither), or ``"mixed"``."""
        down, up = self.falls.worst is not None, self.rises.worst is not None
        return {(False, True): "increasing", (True, False): "decreasing", (False, False): "constant"}.get(
            (down, up), "mixed"
        )


def monotonicity(
    axis: Axis, answers: Float[np.ndarray, "row point"], rows: pd.Index, spread: float
) -> Monotonicity:
    """Follow rows over the points of a number column.

    Args:
        axis: the column's points.
        answers: the answer of each row at each point.
        rows: names of the rows.
        spread: standard deviation of the model's answers, against which a change is rounding.
    """
    change = steady(np.diff(answers, axis=1), spread)
    return Monotonicity(
        axis.column,
        len(answers),
        axis.steps,
        _moves(axis, change, change < 0, rows),
        _moves(axis, change, change > 0, rows),
    )


def _moves(
    axis: Axis, change: Float[np.ndarray, "row step"], moved: Bool[np.ndarray, "row step"], rows: pd.Index
) -> Moves:
    count = int(moved.any(axis=1).sum())
    worst = None
    if count:
        row, step = np.unravel_index(np.where(moved, np.abs(change), -1.0).argmax(), change.shape)
        name = rows[row]
        worst = {
            "row": getattr(name, "item", lambda: name)(),
            "from": float(axis.points[step]),
            "to": float(axis.points[step + 1]),
            "change": float(change[row, step]),
        }
    return Moves(count / max(len(change), 1), share_interval(count, len(change)), float(moved.mean()), worst)


def share_interval(count: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, total - count)) if count < total else 1.0
    return low, high
