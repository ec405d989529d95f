"""Contributions by bin in raw units: what explanations of many rows say about ranges of numbers and about categories."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from salience.core.stats import mean_interval
from salience.explain.explanation import Explanation
from salience.explain.importance import from_side_of
from salience.explain.tables.axis import TABULAR
from salience.explain.tables.bins import Bins, make_bins

BINS = 8
FEWEST = 2  # rows of a bin that is told; one row has no interval


@dataclass(frozen=True)
class BinContribution:
    """Hold the mean contribution of one bin.

    Attributes:
        label: the range or the category.
        mean: mean signed attribution, in units of the explained quantity.
        interval: 95 % bootstrap interval of the mean over the bin's rows.
        rows: explained rows in the bin.
        supported: share of these rows whose explanation was measured to be true: what it names moves the answer more
            than random units do. None where it was not measured.
    """

    label: str
    mean: float
    interval: tuple[float, float]
    rows: int
    supported: float | None


@dataclass(frozen=True)
class ColumnContributions:
    """Hold the contributions of one column by bin.

    Attributes:
        column: name of the column.
        kind: ``"number"`` or ``"category"``.
        toward: what a positive contribution speaks for.
        quantity: what is explained: ``"log-odds"`` or ``"value"``.
        method: key of the explainer.
        bins: numbers in rising order, categories by rows; missing cells last.
    """

    column: str
    kind: str
    toward: str
    quantity: str
    method: str
    bins: tuple[BinContribution, ...]


def contributions(
    explanations: Sequence[Explanation],
    columns: Sequence[Any],
    *,
    classes: Sequence[str] | None = None,
    toward: str | None = None,
    reference: pd.DataFrame | None = None,
    bins: int = BINS,
    seed: int = 0,
) -> tuple[ColumnContributions, ...]:
    """Gather explanations of many rows by bin.

    Args:
        explanations: of rows of one model, by one method, for one target (with two classes either one: the sign is
            turned to that of the second). Those of other targets than ``toward`` are left out.
        columns: columns of the schema to gather; texts and images have no bins and are left out.
        classes: classes of the model.
        toward: the explained class or column; the most frequent one if none, or if no explanation is about it.
        reference: canonical rows whose quantiles make the bins, such as the training rows; those explained if None.
        bins: bins of a column, at most.
        seed: seed of the intervals.
    """
    two = classes is not None and len(classes) == 2
    told = [from_side_of(e, classes[1]) if two else e for e in explanations if e.signed]  # type: ignore[index]
    names = [e.target for e in told]
    if toward not in names:
        toward = max(dict.fromkeys(names), key=names.count, default=None)
    told = [e for e in told if e.target == toward]
    return tuple(
        _column(c, told, reference, bins, seed)
        for c in columns
        if told and c.kind in TABULAR and c.name in told[0].kinds
    )


def _column(
    column: Any, told: Sequence[Explanation], reference: pd.DataFrame | None, most: int, seed: int
) -> ColumnContributions:
    cells = pd.Series(
        [e.inputs[column.name] for e in told], dtype=float if column.kind == "number" else object
    )
    found = make_bins(column, cells if reference is None else reference[column.name], most)
    values = np.array([_value(e, column.name) for e in told])
    place = found.place(cells)
    lines = [_bin(found, i, values, place, told, seed) for i in range(len(found.labels))]
    kept = tuple(line for line in lines if line.rows >= FEWEST)
    first = told[0]
    return ColumnContributions(column.name, column.kind, first.target, first.quantity, first.method, kept)


def _value(explanation: Explanation, column: str) -> float:
    return math.fsum(value for value in explanation.units_of(column)[1])


def _bin(
    bins: Bins, i: int, values: np.ndarray, place: np.ndarray, told: Sequence[Explanation], seed: int
) -> BinContribution:
    inside = np.flatnonzero((place == i) & np.isfinite(values))
    verdicts = [told[j].faithfulness.verdict for j in inside if told[j].faithfulness]  # type: ignore[union-attr]
    supported = float(np.mean([v == "supported" for v in verdicts])) if verdicts else None
    mean = float(values[inside].mean()) if len(inside) else float("nan")
    return BinContribution(
        bins.labels[i], mean, mean_interval(values[inside], seed=seed), len(inside), supported
    )
