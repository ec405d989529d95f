"""Ask a model for one number a row, with some columns of the rows set to other values."""

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from salience.explain.model import BlackBox
from salience.explain.rows import output_bytes, records, row_bytes
from salience.explain.target import Target, score

ROUNDING = 1e-6  # of the spread of the answers; a smaller change is none
Change = dict[str, np.ndarray]  # column → one value a row


class Asker:
    """Ask a model about rows of which some cells are changed, in calls that the memory allows.

    Args:
        model: a black box.
        target: the number that is asked for.
        memory_mb: budget for the raw rows and the outputs of one call, in MiB.

    Attributes:
        forwards: rows that the model has evaluated so far.
        seconds: time spent on it so far.
    """

    def __init__(self, model: BlackBox, target: Target, memory_mb: int | float = 256) -> None:
        self.model, self.target, self.memory_mb = model, target, memory_mb
        self.forwards, self.seconds = 0, 0.0

    def __call__(self, frame: pd.DataFrame, changes: Sequence[Change]) -> Float[np.ndarray, "change row"]:
        """Return the asked number of every row under each change; ``{}`` leaves the rows as they are."""
        if not len(frame) or not changes:
            return np.zeros((len(changes), len(frame)))
        from salience.explain.state import frozen  # torch, which reading a report does not need

        begin, pack = perf_counter(), self._copies(frame)
        with frozen(self.model):
            parts = [self._scores(frame, changes[i : i + pack]) for i in range(0, len(changes), pack)]
        self.seconds += perf_counter() - begin
        return np.concatenate(parts)

    def _copies(self, frame: pd.DataFrame) -> int:
        """Return how many changed copies of the rows one call may hold, at least one."""
        size = row_bytes(records(self.model, frame.iloc[:1])[0]) + output_bytes(self.model)
        return max(1, int(self.memory_mb * 2**20 / (size * len(frame))))

    def _scores(self, frame: pd.DataFrame, changes: Sequence[Change]) -> Float[np.ndarray, "change row"]:
        joined = pd.concat([frame.assign(**change) for change in changes], ignore_index=True)
        outputs = np.asarray(self.model.outputs(joined), dtype=np.float64)
        self.forwards += len(joined)
        return score(outputs, [self.target] * len(joined)).reshape(len(changes), len(frame))


def constant(value: Any, rows: int) -> np.ndarray:
    """Return a column that holds one value in every row."""
    return np.full(rows, value, dtype=np.float64 if isinstance(value, float) else object)


def steady(change: Float[np.ndarray, "..."], spread: float) -> Float[np.ndarray, "..."]:
    """Return changes of an answer with those that rounding makes set to zero.

    Args:
        change: differences of answers.
        spread: standard deviation of the answers.
    """
    return np.where(np.abs(change) <= ROUNDING * spread, 0.0, change)
