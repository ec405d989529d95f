"""Name a place in the user's data the same way in every message."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

SHOWN = 3


def place(source: str = "", row: Any = None, column: str | None = None) -> str:
    """Return ``"reviews.csv, row 3, column 'Age'"``, with the parts that are known."""
    parts = [source] if source else []
    if row is not None:
        parts.append(f"row {row}")
    if column is not None:
        parts.append(f"column {column!r}")
    return ", ".join(parts)


def sentence(source: str, about: str = "") -> str:
    """Return ``"reviews.csv: 3 columns."``, or one of both, or nothing."""
    both = ": ".join(part for part in (source, about) if part)
    return f"{both}." if both else ""


def row_name(index: pd.Index, position: int) -> str:
    """Return how a person counts a row: from 1, without the header; a named or textual index by its label."""
    label = index[position]
    if index.name is None and pd.api.types.is_integer_dtype(index.dtype):
        return str(int(label) + 1)
    return repr(label)


def cells(series: pd.Series, positions: Iterable[int]) -> str:
    """Return ``"row 3 holds 'abc', row 9 holds '?' (and 4 more)"`` for some cells of a column."""
    found = list(positions)
    shown = [f"row {row_name(series.index, i)} holds {brief(series.iloc[i])}" for i in found[:SHOWN]]
    more = f" (and {len(found) - SHOWN:,} more)" if len(found) > SHOWN else ""
    return ", ".join(shown) + more


def rows(index: pd.Index, positions: Iterable[int]) -> str:
    """Return ``"rows 3, 9, 12 (and 4 more)"``."""
    found = list(positions)
    names = ", ".join(row_name(index, i) for i in found[:SHOWN])
    more = f" (and {len(found) - SHOWN:,} more)" if len(found) > SHOWN else ""
    return ("row " if len(found) == 1 else "rows ") + names + more


def brief(value: Any, limit: int = 40) -> str:
    """Return a short readable form of a value, on one line."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, np.generic):
        value = value.item()
    text = repr(value) if isinstance(value, str | int | float | bool) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
