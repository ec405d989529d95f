"""Evaluate many changed copies of rows in few calls of a black box."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from salience.explain.model import BlackBox

ROW_BYTES = 2048  # what a short row costs besides its text and images


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
    model: BlackBox, rows: Iterable[dict[str, Any]], memory_mb: int | float
) -> Float[np.ndarray, "row output"]:
    """Return the outputs of rows, in calls as large as the memory budget allows.

    Args:
        model: the model to call.
        rows: raw rows; taken one by one, so that a generator needs no memory of its own.
        memory_mb: budget for the raw rows of one call, in MiB; the model bounds its own batches.
    """
    budget, held, waiting, results = memory_mb * 2**20, 0, [], []
    for row in rows:
        size = row_bytes(row)
        if waiting and held + size > budget:
            results.append(model.outputs(to_frame(model, waiting)))
            held, waiting = 0, []
        waiting.append(row)
        held += size
    if waiting:
        results.append(model.outputs(to_frame(model, waiting)))
    return np.concatenate(results).astype(np.float64) if results else np.zeros((0, 1))


def row_bytes(row: dict[str, Any]) -> int:
    """Estimate the memory of a raw row, with what a tokenizer makes of it."""
    size = ROW_BYTES
    for cell in row.values():
        if isinstance(cell, str | bytes):
            size += 16 * len(cell)
        elif hasattr(cell, "getbands"):
            size += 4 * cell.width * cell.height * len(cell.getbands())
    return size


def describe_baseline(model: BlackBox) -> str:
    """Return the neutral input in words, for the kinds of column that the model has."""
    neutral = {
        "text": "unknown words",
        "number": "training medians",
        "category": "missing categories",
        "image": "the mean colour",
    }
    kinds = {column.kind for column in model.schema.inputs}
    return ", ".join(words for kind, words in neutral.items() if kind in kinds)
