"""Bins of a column with labels that people read."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from salience.explain.tables.labels import MISSING, number_label, range_label, readable

OTHERS = "other values"


@dataclass(frozen=True)
class Bins:
    """Tell which bin a cell of one column belongs to.

    Attributes:
        column: name of the column.
        kind: ``"number"`` or ``"category"``.
        labels: one a bin; the last is for missing cells, the last but one of categories for rare ones.
        edges: of the number bins; a cell belongs to the bin whose left edge it has reached. Empty for categories.
    """

    column: str
    kind: str
    labels: tuple[str, ...]
    edges: tuple[float, ...] = ()

    def place(self, cells: pd.Series) -> Int[np.ndarray, " row"]:
        """Return the position of each cell's bin."""
        if self.kind == "category":
            position = {label: i for i, label in enumerate(self.labels[:-2])}
            missing, rare = len(self.labels) - 1, len(self.labels) - 2
            known = cells.notna()
            found = [position.get(str(v), rare) if k else missing for v, k in zip(cells, known, strict=True)]
            return np.array(found, dtype=int)
        values = cells.to_numpy(np.float64)
        found = np.searchsorted(np.asarray(self.edges[1:-1]), values, side="right")
        return np.where(np.isfinite(values), found, len(self.labels) - 1)


def make_bins(column: Any, cells: pd.Series, most: int) -> Bins:
    """Return the bins of a column: a bin a value where they are few, else like numbers of rows at readable edges.

    Args:
        column: column of the schema, a number or a category.
        cells: canonical cells of the training rows, or of the rows that are explained.
        most: bins, at most, besides those of rare and missing cells.
    """
    if column.kind == "category":
        common = cells.dropna().astype(str).value_counts().sort_index().nlargest(most).index
        return Bins(column.name, "category", (*common, OTHERS, MISSING))
    values = cells.to_numpy(np.float64)
    values = values[np.isfinite(values)]
    distinct = np.unique(values)
    if len(distinct) <= most:
        inner = (distinct[1:] + distinct[:-1]) / 2
        edges = (*distinct[:1].tolist(), *inner.tolist(), *distinct[-1:].tolist())
        return Bins(column.name, "number", (*map(number_label, distinct), MISSING), edges)
    quantiles = np.quantile(values, np.linspace(0, 1, most + 1), method="inverted_cdf")
    edges = readable(np.unique(quantiles), values)
    return Bins(column.name, "number", (*_labels(edges, distinct), MISSING), tuple(edges.tolist()))


def _labels(edges: np.ndarray, distinct: np.ndarray) -> list[str]:
    whole = bool(np.all(distinct == np.round(distinct)))
    if not whole:
        return [range_label(a, b, False) for a, b in pairwise(edges)]
    inside = [distinct[(distinct >= a) & (distinct < b)] for a, b in pairwise(edges)]
    last = [*[part[-1] for part in inside[:-1]], edges[-1]]
    return [range_label(a, b, True) for a, b in zip(edges, last, strict=False)]
