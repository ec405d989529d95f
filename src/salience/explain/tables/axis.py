"""The values at which a column is asked about, and where each row lies among them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from salience.explain.tables.labels import MISSING, number_label

TABULAR = ("number", "category")
FEWEST = 5  # rows a step of a number column, on average, where values are many
MOST_VALUES = 12  # categories of a column that are asked about
MARKS = 9  # values at which distributions of a number column are compared


@dataclass(frozen=True)
class Axis:
    """Hold the points of one column and the rows between them.

    A *line* is a row beside one step, the stretch between two neighbouring points. A number lies on one step; a
    category is an end of two steps, but for the first and the last.

    Attributes:
        column: name of the column.
        kind: ``"number"`` or ``"category"``.
        points: the values, in order: numbers rising, categories so that like ones are neighbours.
        labels: the points as people read them.
        row, step: for each line, the position of its row and of its step.
        share: how much of each point a row's value is: linear between two points; zero off the axis.
    """

    column: str
    kind: str
    points: np.ndarray
    labels: tuple[str, ...]
    row: Int[np.ndarray, " line"]
    step: Int[np.ndarray, " line"]
    share: Float[np.ndarray, "row point"]

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.points) - 1

    @property
    def known(self) -> Int[np.ndarray, " row"]:
        """Positions of the rows whose value lies on the axis."""
        return np.flatnonzero(self.share.any(axis=1))

    @property
    def counts(self) -> Int[np.ndarray, "..."]:
        """Rows of each step (numbers) or of each point (categories)."""
        if self.kind == "number":
            return np.bincount(self.step, minlength=self.steps)
        return self.share.sum(axis=0).astype(int)

    def onehot(self) -> Float[np.ndarray, "line step"]:
        """Return 1 where a line lies on a step."""
        return np.eye(self.steps)[self.step]


def make_axis(frame: pd.DataFrame, column: Any, others: list[Any], steps: int) -> Axis | None:
    """Return the axis of a column; None where its rows hold fewer than two values.

    Args:
        frame: canonical rows.
        column: column of the schema, a number or a category.
        others: further columns of the schema, by which categories are put in order.
        steps: steps of a number column, at most.
    """
    if column.kind == "number":
        return _number_axis(column.name, frame[column.name].to_numpy(np.float64), steps)
    return _category_axis(column.name, frame, others)


def _number_axis(name: str, values: np.ndarray, steps: int) -> Axis | None:
    known = np.flatnonzero(np.isfinite(values))
    points = number_points(values[known], steps)
    if len(points) < 2:
        return None
    step = np.clip(np.searchsorted(points, values[known], side="left") - 1, 0, len(points) - 2)
    fraction = (values[known] - points[step]) / (points[step + 1] - points[step])
    share = np.zeros((len(values), len(points)))
    share[known, step] = 1 - fraction
    share[known, step + 1] = fraction
    return Axis(name, "number", points, tuple(map(number_label, points)), known, step, share)


def number_points(values: Float[np.ndarray, " row"], steps: int) -> Float[np.ndarray, " point"]:
    """Return quantiles that are values of rows; a value that many rows share is a point, and the rest has its own.

    Without the second rule a column that is mostly zero would have two points.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= steps + 1:
        return distinct
    common = distinct[counts * steps > len(values)]
    rest = values[~np.isin(values, common)]
    wanted = max(1, min(steps - len(common), len(rest) // FEWEST))
    quantiles = np.quantile(rest, np.linspace(0, 1, wanted + 1), method="inverted_cdf")
    return np.unique(np.concatenate([quantiles, common, distinct[[0, -1]]]))


def _category_axis(name: str, frame: pd.DataFrame, others: list[Any]) -> Axis | None:
    cells = frame[name].astype(object).where(frame[name].notna(), None)
    labels = cells.map(lambda value: MISSING if value is None else str(value))
    values = dict(zip(labels, cells, strict=True))
    common = sorted(labels.value_counts().sort_index().nlargest(MOST_VALUES).index)
    if len(common) < 2:
        return None
    position = {label: i for i, label in enumerate(common)}
    place = labels.map(lambda label: position.get(label, -1)).to_numpy(int)
    order = in_order(place, frame, others)
    chosen = [common[i] for i in order]
    share = (place[:, None] == order[None]).astype(float)
    row, point = np.nonzero(share)
    sides = [
        (row[point > 0], point[point > 0] - 1),
        (row[point < len(chosen) - 1], point[point < len(chosen) - 1]),
    ]
    points = np.empty(len(chosen), dtype=object)
    points[:] = [values[label] for label in chosen]
    lines = [np.concatenate(part) for part in zip(*sides, strict=True)]
    return Axis(name, "category", points, tuple(chosen), lines[0], lines[1], share)


def in_order(
    place: Int[np.ndarray, " row"], frame: pd.DataFrame, others: list[Any]
) -> Int[np.ndarray, " group"]:
    """Return an order in which groups of rows with like other columns are neighbours.

    As Apley and Zhu (2020) order the levels of a category: the distance of two groups is the sum over the other
    columns of Kolmogorov-Smirnov distances (numbers) or total variation (categories), and one-dimensional classical
    scaling of the distances gives the order. Only the sign is free: the largest group comes in the first half.

    Args:
        place: the group of each row, counted from 0; −1 for none.
        frame: canonical rows.
        others: columns of the schema to compare the groups by.
    """
    groups = place.max() + 1
    square = np.zeros((groups, groups))
    for column in others:
        shares = _distributions(frame[column.name], place, groups, column.kind)
        gaps = np.abs(shares[:, None] - shares[None])
        square += gaps.max(axis=2) if column.kind == "number" else gaps.sum(axis=2) / 2
    squared = square**2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean()
    where = np.linalg.eigh(-centred / 2)[1][:, -1]
    largest = np.bincount(place[place >= 0]).argmax()
    return np.argsort(np.round(where * (-1 if where[largest] > 0 else 1), 9), kind="stable")


def _distributions(
    cells: pd.Series, place: Int[np.ndarray, " row"], groups: int, kind: str
) -> Float[np.ndarray, "group mark"]:
    """Return shares of categories, or cumulative shares at some values, of each group; missing cells are left out."""
    known = cells.notna().to_numpy() & (place >= 0)
    if not known.any():
        return np.zeros((groups, 1))
    if kind == "category":
        marks = pd.factorize(cells[known], sort=True)[0]
    else:
        values = cells.to_numpy(np.float64)[known]
        edges = np.quantile(values, np.linspace(0, 1, MARKS + 2)[1:-1])
        marks = np.searchsorted(edges, values, side="left")
    counts = np.zeros((groups, marks.max() + 1))
    np.add.at(counts, (place[known], marks), 1.0)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares if kind == "category" else shares.cumsum(axis=1)
