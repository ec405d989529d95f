"""Integrated gradients: the gradient, averaged on the straight path from a neutral input, times the distance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import pandas as pd

from salience.explain.attribution import Attribution
from salience.explain.baselines import NEUTRAL, Baselines
from salience.explain.gradients import Path, along_path, ends, make_path, path_attributions, scores_at
from salience.explain.model import WhiteBox
from salience.explain.state import frozen
from salience.explain.target import Target

CARD = {
    "key": "integrated_gradients",
    "kind": "explainer",
    "title": "Integrated gradients",
    "entry": "IntegratedGradients",
    "summary": "Averages the gradient between a neutral input and the row; the values add up to the change of the answer.",
    "paper": "Axiomatic Attribution for Deep Networks (Sundararajan, Taly, Yan, ICML 2017)",
    "year": 2017,
    "url": "https://arxiv.org/abs/1703.01365",
    "source": "paper, section 3",
    "faithful": "Straight path, gradient times distance, one value a unit (sum over its tokens and features).",
    "deviates": "Gauss-Legendre points in place of a Riemann sum; where values do not add up within 1 %, the path is cut in half. Several neutral inputs are averaged.",
    "needs": "white_box",
    "complete": True,
    "signed": True,
    "exact_linear": True,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "16 forward and backward passes a row and baseline, up to 512 where the function bends",
    "defaults": {"steps": 16, "max_steps": 512, "tolerance": 0.01, "baseline": "neutral"},
}


@dataclass(frozen=True, eq=False)
class _Stretch:
    """A stretch of one row's path, the quantity at both of its ends, and the integral on it."""

    row: int
    start: float
    stop: float
    first: float
    last: float
    values: np.ndarray

    @property
    def gap(self) -> float:
        """By how much the integral misses the change of the quantity."""
        return float(self.values.sum() - (self.last - self.first))


class IntegratedGradients:
    """Attribute by integrated gradients.

    The quantity is known at both ends of a stretch of the path, so its values show where they do not add up. Only there
    the path is cut in half: a network with normalisation may jump within a thousandth of it.

    Args:
        steps: points on the path at first, and on each half of a stretch that is cut.
        max_steps: points on the path after which nothing is cut any more.
        tolerance: largest completeness gap, as a share of the change between neutral input and row, or of a
            tenth of the sum of absolute values where that is more (values of both signs that nearly cancel).
        baseline: name of the neutral input, or several whose values are averaged; see
            :data:`salience.explain.baselines.WORDS`.
        background: training rows, for the baselines that need them.

    Raises:
        ConfigError: an unknown baseline.
    """

    def __init__(
        self,
        steps: int = 16,
        max_steps: int = 512,
        tolerance: float = 0.01,
        baseline: str | Sequence[str] = NEUTRAL,
        background: pd.DataFrame | None = None,
    ) -> None:
        self.steps, self.max_steps, self.tolerance = steps, max_steps, tolerance
        self.baselines = Baselines.of(baseline, background)

    def attribute(
        self,
        model: WhiteBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row; see :mod:`salience.explain.model` for what the model must offer."""
        if not len(frame):
            return []
        begin, baselines = perf_counter(), self.baselines.seeded(seed)
        with frozen(model):
            path = make_path(model, frame, targets, memory_mb, baselines)
            output, neutral = ends(model, path)
            values, spent = self._integrate(model, path, output, neutral)
        seconds = perf_counter() - begin
        return path_attributions(
            model, path, values, output, neutral, spent, seconds, baselines, complete=True
        )

    def _integrate(
        self, model: WhiteBox, path: Path, output: np.ndarray, neutral: np.ndarray
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Cut the stretches that do not add up; return values and evaluations of each row."""
        stretches: list[list[_Stretch]] = [[] for _ in output]
        spent, empty = np.full(len(output), 2), np.zeros(0)
        new = [_Stretch(i, 0.0, 1.0, neutral[i], output[i], empty) for i in range(len(output))]
        while new:
            for stretch in self._measured(model, path, new):
                stretches[stretch.row].append(stretch)
                spent[stretch.row] += self.steps
            open_rows = np.flatnonzero(spent - 2 < self.max_steps)
            cut = [stretch for i in open_rows for stretch in self._bad(stretches[i])]
            for stretch in cut:
                stretches[stretch.row].remove(stretch)
                spent[stretch.row] += 1
            new = _halves(model, path, cut)
        return [np.sum([s.values for s in found], axis=0) for found in stretches], spent

    def _measured(self, model: WhiteBox, path: Path, stretches: list[_Stretch]) -> list[_Stretch]:
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        rows, starts, stops = (
            np.array(x) for x in zip(*((s.row, s.start, s.stop) for s in stretches), strict=True)
        )
        length = (stops - starts)[:, None]
        points = starts[:, None] + length * (nodes + 1) / 2
        found = along_path(model, path, rows, points, length * weights / 2)
        return [replace(s, values=values) for s, values in zip(stretches, found, strict=True)]

    def _bad(self, stretches: list[_Stretch]) -> list[_Stretch]:
        """Return the stretches to cut: none if all add up; where values nearly cancel, a tenth of their size counts."""
        values, change = sum(s.values for s in stretches), sum(s.last - s.first for s in stretches)
        measure = max(abs(change), 0.1 * np.abs(values).sum())
        gaps = np.abs([s.gap for s in stretches])
        if gaps.sum() <= self.tolerance * measure + 1e-5:
            return []
        return [s for s, gap in zip(stretches, gaps, strict=True) if gap >= gaps.max() / 4]


def _halves(model: WhiteBox, path: Path, stretches: list[_Stretch]) -> list[_Stretch]:
    middles = np.array([(s.start + s.stop) / 2 for s in stretches])
    values = scores_at(model, path, np.array([s.row for s in stretches], dtype=int), middles)
    return [
        half
        for s, middle, value in zip(stretches, middles, values, strict=True)
        for half in (replace(s, stop=middle, last=value), replace(s, start=middle, first=value))
    ]
