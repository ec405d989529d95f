"""Integrated gradients: the gradient, averaged on the straight path from a neutral input, times the distance."""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import pandas as pd

from salience.explain.attribution import Attribution
from salience.explain.gradients import Path, along_path, ends, make_path, scores_at
from salience.explain.model import WhiteBox
from salience.explain.rows import describe_baseline
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
    "deviates": "Gauss-Legendre points in place of a Riemann sum; where values do not add up within 1 %, the path is cut in half.",
    "needs": "white_box",
    "complete": True,
    "signed": True,
    "exact_linear": True,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "16 forward and backward passes a row, up to 512 where the function bends",
    "defaults": {"steps": 16, "max_steps": 512, "tolerance": 0.01},
}


@dataclass(frozen=True, eq=False)
class _Stretch:
    """A stretch of one row's path: the integral on it, and by how much that misses the change of the quantity."""

    start: float
    stop: float
    values: np.ndarray
    gap: float


class IntegratedGradients:
    """Attribute by integrated gradients.

    The quantity is known at both ends of a stretch of the path, so its values show where they do not add up. Only there
    the path is cut in half: a network with normalisation may jump within a thousandth of it.

    Args:
        steps: points on the path at first, and on each half of a stretch that is cut.
        max_steps: points on the path after which nothing is cut any more.
        tolerance: largest completeness gap, as a share of the change between neutral input and row, or of a
            tenth of the sum of absolute values where that is more (values of both signs that nearly cancel).
    """

    def __init__(self, steps: int = 16, max_steps: int = 512, tolerance: float = 0.01) -> None:
        self.steps, self.max_steps, self.tolerance = steps, max_steps, tolerance

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
        begin = perf_counter()
        with frozen(model):
            path = make_path(model, frame, targets, memory_mb)
            output, neutral = ends(model, path)
            values, spent = self._integrate(model, path, output, neutral)
        seconds = (perf_counter() - begin) / spent.sum()
        baseline = describe_baseline(model)
        return [
            Attribution(
                values[i], float(output[i]), float(neutral[i]), baseline,
                float(values[i].sum() - (output[i] - neutral[i])), int(spent[i]), float(seconds * spent[i]),
            )
            for i in range(len(values))
        ]  # fmt: skip

    def _integrate(
        self, model: WhiteBox, path: Path, output: np.ndarray, neutral: np.ndarray
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Cut the stretches that do not add up; return values and evaluations of each row."""
        count = len(output)
        spent = np.full(count, 2)
        known = [{0.0: neutral[i], 1.0: output[i]} for i in range(count)]
        stretches: list[list[_Stretch]] = [[] for _ in range(count)]
        wanted = [(i, 0.0, 1.0) for i in range(count)]
        while wanted:
            for (row, *_), found in zip(wanted, self._measure(model, path, wanted, known), strict=True):
                stretches[row].append(found)
                spent[row] += self.steps
            cut = [(i, s) for i in range(count) for s in self._bad(stretches[i], output[i] - neutral[i])]
            cut = [(i, s) for i, s in cut if spent[i] - 2 < self.max_steps]
            middles = [(s.start + s.stop) / 2 for _, s in cut]
            rows = np.array([i for i, _ in cut], dtype=int)
            for (i, s), middle, value in zip(
                cut, middles, scores_at(model, path, rows, np.array(middles)), strict=True
            ):
                known[i][middle] = value
                stretches[i].remove(s)
                spent[i] += 1
            wanted = [
                part
                for (i, s), m in zip(cut, middles, strict=True)
                for part in ((i, s.start, m), (i, m, s.stop))
            ]
        return [np.sum([s.values for s in found], axis=0) for found in stretches], spent

    def _measure(
        self,
        model: WhiteBox,
        path: Path,
        wanted: list[tuple[int, float, float]],
        known: list[dict[float, float]],
    ) -> list[_Stretch]:
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        rows, starts, stops = (np.array(x) for x in zip(*wanted, strict=True))
        length = (stops - starts)[:, None]
        points = starts[:, None] + length * (nodes + 1) / 2
        found = along_path(model, path, rows, points, length * weights / 2)
        return [
            _Stretch(start, stop, values, values.sum() - (known[row][stop] - known[row][start]))
            for (row, start, stop), values in zip(wanted, found, strict=True)
        ]

    def _bad(self, stretches: list[_Stretch], change: float) -> list[_Stretch]:
        """Return the stretches to cut: none if all add up; where values nearly cancel, a tenth of their size counts."""
        values = np.sum([s.values for s in stretches], axis=0)
        measure = max(abs(change), 0.1 * np.abs(values).sum())
        gaps = np.abs([s.gap for s in stretches])
        if gaps.sum() <= self.tolerance * measure + 1e-5:
            return []
        return [s for s, gap in zip(stretches, gaps, strict=True) if gap >= gaps.max() / 4]
