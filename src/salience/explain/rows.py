"""Evaluate many changed copies of rows in few calls of a black box."""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from salience.explain.model import BlackBox

ROW_BYTES = 2048  # what a short row costs besides its text and images
COPIES = (
    4  # of a row's outputs that exist at once: raw, in float64, as probabilities, without the explained class
)


def records(model: BlackBox, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the input cells of each row as dictionaries."""
    names = [column.name for column in model.schema.inputs]
    cells = [frame[name].tolist() for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)]


def to_frame(model: BlackBox, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a frame of canonical columns."""
    series = {}
    for column in model.schema.inputs:
        dtype = np.float64 if column.kind == "number" else object
        series[column.name] = pd.Series([row[column.name] for row in rows], dtype=dtype)
    return pd.DataFrame(series)


def evaluate(
    model: BlackBox,
    rows: Iterable[dict[str, Any]],
    memory_mb: int | float,
    keep: Callable[[Float[np.ndarray, "line output"], int], np.ndarray] = lambda outputs, first: outputs,
) -> np.ndarray:
    """Return what is kept of the outputs of rows, in calls as large as the memory budget allows.

    Args:
        model: the model to call.
        rows: raw rows; taken one by one, so that a generator needs no memory of its own.
        memory_mb: budget for the raw rows and the outputs of one call, in MiB; the model bounds its own batches.
        keep: from the outputs of one call and the position of its first row to a line a row; all outputs if not
            given. A language model has as many as its vocabulary, too many to hold for all rows together.
    """
    results: list[np.ndarray] = []
    for waiting in _calls(rows, memory_mb * 2**20, output_bytes(model)):
        outputs = np.asarray(model.outputs(to_frame(model, waiting)), dtype=np.float64)
        results.append(keep(outputs, sum(map(len, results))))
    return np.concatenate(results) if results else keep(np.zeros((0, 1)), 0)


def _calls(
    rows: Iterable[dict[str, Any]], budget: float, outputs_bytes: int
) -> Iterator[list[dict[str, Any]]]:
    held, waiting = 0, []
    for row in rows:
        size = row_bytes(row) + outputs_bytes
        if waiting and held + size > budget:
            yield waiting
            held, waiting = 0, []
        waiting.append(row)
        held += size
    if waiting:
        yield waiting


def output_bytes(model: BlackBox) -> int:
    """Return the memory of the outputs of one row while they are looked at."""
    return COPIES * 8 * max(len(model.schema.outputs), 1)


def row_bytes(row: dict[str, Any]) -> int:
    """Estimate the memory of a raw row, with what a tokenizer makes of it."""
    size = ROW_BYTES
    for cell in row.values():
        if isinstance(cell, str | bytes):
            size += 16 * len(cell)
        elif hasattr(cell, "getbands"):
            size += 4 * cell.width * cell.height * len(cell.getbands())
    return size


def describe_baseline(model: BlackBox, only: Collection[str] | None = None) -> str:
    """Return the neutral input in words: the model's own, or that of its kinds of column, of these only if given."""
    if hasattr(model, "neutral_words"):
        return model.neutral_words
    neutral = {
        "text": "unknown words",
        "number": "training medians",
        "category": "missing categories",
        "image": "the mean colour",
    }
    kinds = {column.kind for column in model.schema.inputs if only is None or column.kind in only}
    return ", ".join(words for kind, words in neutral.items() if kind in kinds)
