"""Main effects: how the answer moves with one column, with intervals, counts and a control.

Accumulated local effects (Apley and Zhu, JRSS B 2020): within each step of the column the answer's change is averaged
over the rows that lie there, and the changes are summed up. No row is moved far from where it is, so correlated columns do
not lead to rows that cannot be. Partial dependence (Friedman 2001) sets the column to each value in all rows.
Both are centred: their mean over the rows is zero. The mean is that of the curve at the rows' own values, so that the effect
in a linear model is ``slope × (x − mean of x)``; the authors' package takes the middle of the steps.

The control turns each row's own effect upside down at random. What is left of the strength is chance: the level that rows
whose changes cancel out on average would reach.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from salience.core.stats import generator
from salience.explain.tables.ask import Asker, constant, steady
from salience.explain.tables.axis import Axis

LEVEL = 0.95
RESAMPLES = 400
MIRRORED = 999  # random signs of the control, at least
A_TEST = 40  # of them for each test, so that the smallest p can survive the adjustment
BLOCK = 2**22  # numbers in one block of a product


@dataclass(frozen=True)
class Curve:
    """Hold the effect of one column on the answer.

    Attributes:
        column: name of the column.
        kind: ``"number"`` or ``"category"``.
        method: ``"ale"`` or ``"partial_dependence"``.
        points: numbers or categories at which the effect is given.
        labels: the same as people read them.
        effect: what the column adds at each point, mean 0 over the rows, in units of the answer.
        low, high: ends of the 95 % bootstrap interval of each point.
        counts: rows of each step between two points (numbers), or of each point (categories).
        strength: standard deviation of the effect over the rows.
        interval: 95 % bootstrap interval of the strength.
        control: strength that chance reaches in one case of twenty.
        p_value: of no effect on average; adjusted by Holm over the columns.
        rows: rows on the axis.
        left: rows off it: missing numbers, and categories that are rare.
        spread: 10 % and 90 % of the rows' own curves at each point, (2, point); None for accumulated effects.
    """

    column: str
    kind: str
    method: str
    points: tuple[float | str | None, ...]
    labels: tuple[str, ...]
    effect: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    counts: tuple[int, ...]
    strength: float
    interval: tuple[float, float]
    control: float
    p_value: float
    rows: int
    left: int
    spread: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @property
    def real(self) -> bool:
        """Whether the effect is beyond noise."""
        return self.p_value < 1 - LEVEL


def accumulated(
    asker: Asker, frame: pd.DataFrame, axis: Axis, *, spread: float, seed: int, tests: int = 1
) -> Curve:
    """Return the accumulated local effect of a column.

    Args:
        asker: asks the model.
        frame: canonical rows, those of the axis.
        axis: the column's points.
        spread: standard deviation of the model's answers, against which a change is rounding.
        seed: seed of the resamples and of the control.
        tests: columns that are tested together; more of them need more random signs.
    """
    delta = steady(_local(asker, frame, axis), spread)
    return _curve(axis, delta, seed, tests, "ale")


def _local(asker: Asker, frame: pd.DataFrame, axis: Axis) -> Float[np.ndarray, " line"]:
    """Return by how much each line's answer changes from the lower to the upper end of its step."""
    ends = [{axis.column: axis.points[axis.step + i]} for i in (0, 1)]
    low, high = asker(frame.iloc[axis.row], ends)
    return high - low


def profiles(asker: Asker, frame: pd.DataFrame, axis: Axis) -> Float[np.ndarray, "row point"]:
    """Return the answer of each row with the column set to each point: individual conditional expectations."""
    return asker(frame, [{axis.column: constant(point, len(frame))} for point in axis.points]).T


def partial_dependence(
    axis: Axis, answers: Float[np.ndarray, "row point"], *, spread: float, seed: int, tests: int = 1
) -> Curve:
    """Return the partial dependence of a column, with the spread of the rows' own curves.

    Args:
        axis: the column's points.
        answers: what :func:`profiles` returns for rows of the axis, all of them or the first.
        spread: standard deviation of the model's answers.
        seed: seed of the resamples and of the control.
        tests: columns that are tested together.
    """
    rows, steps = len(answers), axis.steps
    every = Axis(
        axis.column,
        axis.kind,
        axis.points,
        axis.labels,
        np.repeat(np.arange(rows), steps),
        np.tile(np.arange(steps), rows),
        axis.share[:rows],
    )
    found = _curve(every, steady(np.diff(answers, axis=1), spread).ravel(), seed, tests, "partial_dependence")
    own = answers - (answers @ every.share.mean(axis=0) / every.share.mean(axis=0).sum())[:, None]
    counts = axis.counts if rows == len(axis.share) else _first(axis, rows)
    low, high = np.quantile(own, [0.1, 0.9], axis=0)
    fields = vars(found) | {
        "counts": tuple(counts.tolist()),
        "spread": (tuple(low.tolist()), tuple(high.tolist())),
    }
    return Curve(**fields)


def _first(axis: Axis, rows: int) -> np.ndarray:
    if axis.kind == "number":
        return np.bincount(axis.step[axis.row < rows], minlength=axis.steps)
    return axis.share[:rows].sum(axis=0).astype(int)


def _curve(axis: Axis, delta: Float[np.ndarray, " line"], seed: int, tests: int, method: str) -> Curve:
    rows, known = len(axis.share), axis.known
    effect, strength = summed(axis, delta, np.ones((1, rows)))
    drawn = generator(seed, "effects", axis.column).multinomial(rows, np.full(rows, 1 / rows), RESAMPLES)
    many, strengths = summed(axis, delta, drawn.astype(float))
    low, high = np.quantile(many, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    chance = by_chance(axis, delta, seed, max(MIRRORED, A_TEST * tests))
    return Curve(
        axis.column,
        axis.kind,
        method,
        tuple(axis.points.tolist()),
        axis.labels,
        tuple(effect[0].tolist()),
        tuple(low.tolist()),
        tuple(high.tolist()),
        tuple(axis.counts.tolist()),
        float(strength[0]),
        tuple(np.quantile(strengths, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()),
        float(np.quantile(chance, LEVEL)),
        p_value(float(strength[0]), chance),
        len(known),
        rows - len(known),
    )


def summed(
    axis: Axis, delta: Float[np.ndarray, " line"], weights: Float[np.ndarray, "draw row"]
) -> tuple[Float[np.ndarray, "draw point"], Float[np.ndarray, " draw"]]:
    """Return centred curves and their strengths, with rows weighted; a step without rows keeps its mean.

    Args:
        axis: the column's points.
        delta: change of each line's answer over its step.
        weights: one line a draw, at least 0.
    """
    onehot = axis.onehot()
    lines = weights[:, axis.row]
    count = lines @ onehot
    plain = delta @ onehot / np.maximum(onehot.sum(axis=0), 1)
    means = np.where(count > 0, (lines * delta) @ onehot / np.maximum(count, 1e-300), plain)
    return _centred(axis, means, weights)


def _centred(
    axis: Axis, means: Float[np.ndarray, "draw step"], weights: Float[np.ndarray, "draw row"]
) -> tuple[Float[np.ndarray, "draw point"], Float[np.ndarray, " draw"]]:
    curves = np.concatenate([np.zeros((len(means), 1)), means.cumsum(axis=1)], axis=1)
    known = axis.known
    share = axis.share[known]
    weight = weights[:, known] / np.maximum(weights[:, known].sum(axis=1, keepdims=True), 1e-300)
    at_rows = curves @ share.T
    centre = (weight * at_rows).sum(axis=1, keepdims=True)
    squares = (weight * (at_rows - centre) ** 2).sum(axis=1)
    return curves - centre, np.sqrt(squares)


def by_chance(
    axis: Axis, delta: Float[np.ndarray, " line"], seed: int, draws: int
) -> Float[np.ndarray, " draw"]:
    """Return strengths of curves in which each row's changes are turned upside down at random."""
    onehot, rows = axis.onehot(), len(axis.share)
    part = delta[:, None] * onehot / np.maximum(onehot.sum(axis=0), 1)
    rng, found = generator(seed, "mirrored", axis.column), []
    block = max(1, BLOCK // max(rows, len(delta), 1))
    for start in range(0, draws, block):
        count = min(block, draws - start)
        signs = random_signs(rng, (count, rows))
        found.append(_centred(axis, signs[:, axis.row] @ part, np.ones((count, rows)))[1])
    return np.concatenate(found)


def random_signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Return 1 or −1 at random."""
    return 2.0 * rng.integers(0, 2, shape, dtype=np.int8) - 1.0


def p_value(strength: float, chance: Sequence[float] | np.ndarray) -> float:
    """Return the share of the control that is as strong, the strength itself counted with it."""
    as_strong = (np.asarray(chance) >= strength * (1 - 1e-12)).sum()
    return float((1 + as_strong) / (1 + len(chance)))
