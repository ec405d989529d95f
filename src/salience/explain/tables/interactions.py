"""Pairs of columns whose joint effect is more than the sum of their effects, told only where it is beyond noise.

Two steps. All pairs are screened on some rows by the total interaction index (Liu and Owen, 2006): the root of a quarter
of the mean squared second difference when both columns are taken from another row. It is zero exactly where the columns do
not interact at all. The pairs that stand out are measured on other rows by accumulated local effects of second order (Apley
and Zhu, 2020), so choosing them does not bias the test. The control turns each row's second differences upside
down at random; p-values are adjusted by Holm over the pairs that are measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from salience.core.stats import generator, holm
from salience.explain.tables.ask import Asker, steady
from salience.explain.tables.axis import Axis
from salience.explain.tables.curves import A_TEST, LEVEL, MIRRORED, RESAMPLES, p_value, random_signs

SCREENED = 128  # rows on which all pairs are looked at
MOST_COLUMNS = 24  # whose pairs are looked at
LEAST = 1e-3  # of the spread of the answers; a smaller interaction is not looked at further


@dataclass(frozen=True)
class Interaction:
    """Hold the joint effect of two columns beyond their own effects.

    Attributes:
        columns: names of the columns.
        labels: points of each column as people read them.
        effect: joint effect at each pair of points, (point of the first, point of the second), centred.
        counts: rows beside each pair of steps.
        strength: standard deviation of the joint effect over the rows, in units of the answer.
        interval: its 95 % bootstrap interval.
        control: strength that chance reaches in one case of twenty.
        p_value: of no joint effect on average; adjusted by Holm over the pairs measured.
        index: total interaction index on the rows of the screening, in units of the answer; with higher orders.
        rows: rows that were measured.
    """

    columns: tuple[str, str]
    labels: tuple[tuple[str, ...], tuple[str, ...]]
    effect: tuple[tuple[float, ...], ...]
    counts: tuple[tuple[int, ...], ...]
    strength: float
    interval: tuple[float, float]
    control: float
    p_value: float
    index: float
    rows: int

    @property
    def real(self) -> bool:
        """Whether the interaction is beyond noise: no chance, and stronger than chance gets."""
        return self.p_value < 1 - LEVEL and self.strength > self.control


def screen(
    asker: Asker, frame: pd.DataFrame, columns: Sequence[str], *, most: int, spread: float, seed: int
) -> list[tuple[str, str, float]]:
    """Return the pairs with the largest total interaction index, strongest first, as (first, second, index).

    Args:
        asker: asks the model.
        frame: canonical rows of the screening.
        columns: columns whose pairs are looked at; of more than 24 those that move the answer most.
        most: pairs returned, at most.
        spread: standard deviation of the model's answers.
        seed: seed of the rows that values are taken from.
    """
    other = frame.iloc[_derangement(len(frame), seed)]
    cells = {name: other[name].to_numpy() for name in columns}
    base, *moved = asker(frame, [{}, *({name: cells[name]} for name in columns)])
    first = dict(zip(columns, moved, strict=True))
    size = {name: float(np.abs(found - base).mean()) for name, found in first.items()}
    chosen = sorted(columns, key=lambda name: -size[name])[:MOST_COLUMNS]
    pairs = list(combinations([name for name in columns if name in chosen], 2))
    both = asker(frame, [{a: cells[a], b: cells[b]} for a, b in pairs])
    index = [
        float(np.sqrt(np.mean((joint - first[a] - first[b] + base) ** 2)) / 2)
        for (a, b), joint in zip(pairs, both, strict=True)
    ]
    ranked = sorted(zip(pairs, index, strict=True), key=lambda pair: -pair[1])
    return [(a, b, found) for (a, b), found in ranked[:most] if found > LEAST * spread]


def _derangement(rows: int, seed: int) -> Int[np.ndarray, " row"]:
    """Return another row for each row: the next one in a random circle."""
    circle = generator(seed, "donors").permutation(rows)
    result = np.empty(rows, dtype=int)
    result[circle] = np.roll(circle, 1)
    return result


def measure(
    asker: Asker,
    frame: pd.DataFrame,
    axes: dict[str, Axis],
    pairs: Sequence[tuple[str, str, float]],
    *,
    spread: float,
    seed: int,
) -> tuple[Interaction, ...]:
    """Return the second-order effects of pairs, strongest first.

    Args:
        asker: asks the model.
        frame: canonical rows, not those of the screening.
        axes: coarse axes of these rows, by column.
        pairs: what :func:`screen` returns.
        spread: standard deviation of the model's answers.
        seed: seed of the resamples and of the control.
    """
    found = [
        _measure(
            make_cells(asker, frame, axes[a], axes[b], spread), axes[a], axes[b], index, len(pairs), seed
        )
        for a, b, index in pairs
    ]
    adjusted = holm(np.array([pair.p_value for pair in found]))
    told = [replace(pair, p_value=float(p)) for pair, p in zip(found, adjusted, strict=True)]
    return tuple(sorted(told, key=lambda pair: -pair.strength))


@dataclass(frozen=True)
class Cells:
    """Hold the lines of a pair, each a row beside one step of each column, and the second difference there.

    Attributes:
        row, first, second: for each line, the position of its row and of its steps.
        shape: steps of each column.
        shares: for each column, how much of each point a row's value is, (row, point).
        delta: second difference of each line.
    """

    row: Int[np.ndarray, " line"]
    first: Int[np.ndarray, " line"]
    second: Int[np.ndarray, " line"]
    shape: tuple[int, int]
    shares: tuple[Float[np.ndarray, "row point"], Float[np.ndarray, "row other"]]
    delta: Float[np.ndarray, " line"]

    def counts(self) -> Int[np.ndarray, "first second"]:
        """Return the lines of each cell."""
        cell = self.first * self.shape[1] + self.second
        return np.bincount(cell, minlength=self.shape[0] * self.shape[1]).reshape(self.shape)

    def turned(self) -> "Cells":
        """Return the same lines with the columns in the other order."""
        return replace(
            self, first=self.second, second=self.first, shape=self.shape[::-1], shares=self.shares[::-1]
        )

    def means(
        self, weights: Float[np.ndarray, "draw row"], signs: Float[np.ndarray, "#draw row"]
    ) -> Float[np.ndarray, "draw first second"]:
        """Return the weighted mean of each cell's second differences times signs; a cell without rows has none."""
        onehot = np.eye(self.shape[0] * self.shape[1])[self.first * self.shape[1] + self.second]
        lines = weights[:, self.row]
        count = lines @ onehot
        total = (lines * signs[:, self.row] * self.delta) @ onehot
        return np.where(count > 0, total / np.maximum(count, 1e-300), 0.0).reshape(-1, *self.shape)


def make_cells(asker: Asker, frame: pd.DataFrame, a: Axis, b: Axis, spread: float) -> Cells:
    """Ask the model about the four corners of the cell that each row lies in."""
    beside = [np.flatnonzero(b.row == row) for row in range(len(frame))]
    pairs = np.array([(i, j) for i, row in enumerate(a.row) for j in beside[row]], dtype=int).reshape(-1, 2)
    row, first, second = a.row[pairs[:, 0]], a.step[pairs[:, 0]], b.step[pairs[:, 1]]
    changes = [
        {a.column: a.points[first + i], b.column: b.points[second + j]}
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    low, right, up, both = asker(frame.iloc[row], changes)
    delta = steady(both - right - up + low, spread)
    return Cells(row, first, second, (a.steps, b.steps), (a.share, b.share), delta)


def _measure(cells: Cells, a: Axis, b: Axis, index: float, tests: int, seed: int) -> Interaction:
    rows = len(a.share)
    once = np.ones((1, rows))
    rng = generator(seed, "pair", a.column, b.column)
    drawn = rng.multinomial(rows, np.full(rows, 1 / rows), RESAMPLES).astype(float)
    signs = random_signs(rng, (max(MIRRORED, A_TEST * tests), rows))
    effect, strength = surfaces(cells, once, once)
    chance = surfaces(cells, np.ones_like(signs), signs)[1]
    low, high = np.quantile(surfaces(cells, drawn, once)[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interaction(
        (a.column, b.column),
        (a.labels, b.labels),
        tuple(map(tuple, effect[0].tolist())),
        tuple(map(tuple, cells.counts().tolist())),
        float(strength[0]),
        (float(low), float(high)),
        float(np.quantile(chance, LEVEL)),
        p_value(float(strength[0]), chance),
        index,
        len(np.unique(cells.row)),
    )


def surfaces(
    cells: Cells, weights: Float[np.ndarray, "draw row"], signs: Float[np.ndarray, "#draw row"]
) -> tuple[Float[np.ndarray, "draw point other"], Float[np.ndarray, " draw"]]:
    """Return joint effects without the columns' own effects, centred, and their strengths.

    Second differences are summed up over both columns; what the sum still holds of each column alone, its accumulated
    effect of first order, is taken off, as in Apley and Zhu (2020). Effects of rows are read at their own values,
    between the points; the authors' package takes the middles of the cells.

    Args:
        cells: second differences of rows.
        weights: how often each row counts.
        signs: 1, or −1 where a row is turned upside down.
    """
    means = cells.means(weights, signs)
    draws, first, second = means.shape
    summed = np.zeros((draws, first + 1, second + 1))
    summed[:, 1:, 1:] = means.cumsum(axis=1).cumsum(axis=2)
    mine, other = _own(summed, cells, weights), _own(summed.swapaxes(1, 2), cells.turned(), weights)
    surface = summed - mine[:, :, None] - other[:, None, :]
    known = np.unique(cells.row)
    place = (cells.shares[0][known, :, None] * cells.shares[1][known, None, :]).reshape(len(known), -1)
    at_rows = surface.reshape(draws, -1) @ place.T
    weight = weights[:, known] / np.maximum(weights[:, known].sum(axis=1, keepdims=True), 1e-300)
    centre = (weight * at_rows).sum(axis=1, keepdims=True)
    strength = np.sqrt((weight * (at_rows - centre) ** 2).sum(axis=1))
    return surface - centre[:, :, None], strength


def _own(
    surface: Float[np.ndarray, "draw point other"], cells: Cells, weights: Float[np.ndarray, "draw row"]
) -> Float[np.ndarray, "draw point"]:
    """Return the accumulated effect of the first column alone in a surface."""
    steps, others = cells.shape[0], surface.shape[2]
    place = np.eye(steps)[cells.first][:, :, None] * cells.shares[1][cells.row][:, None, :]
    lines = weights[:, cells.row]
    weight = (lines @ place.reshape(len(lines.T), -1)).reshape(-1, steps, others)
    count = np.maximum(weight.sum(axis=2), 1e-300)
    mean = (np.diff(surface, axis=1) * weight).sum(axis=2) / count
    return np.concatenate([np.zeros((len(mean), 1)), mean.cumsum(axis=1)], axis=1)
