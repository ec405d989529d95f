"""Integrated gradients: the gradient, averaged on the straight path from a neutral input, times the distance."""

from time import perf_counter

import numpy as np
import pandas as pd

from salience.explain.attribution import Attribution
from salience.explain.gradients import Path, along_path, ends, make_path
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
    "deviates": "Gauss-Legendre points in place of a Riemann sum; steps double for the rows whose gap is above 1 %.",
    "needs": "white_box",
    "complete": True,
    "signed": True,
    "exact_linear": True,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "16 forward and backward passes a row, up to 256 where the function bends",
    "defaults": {"steps": 16, "max_steps": 256, "tolerance": 0.01},
}


class IntegratedGradients:
    """Attribute by integrated gradients.

    Args:
        steps: points on the path at first.
        max_steps: points on the path at most.
        tolerance: largest completeness gap, as a share of the change between neutral input and row, or of a
            tenth of the sum of absolute values where that is more (values of both signs that nearly cancel).
    """

    def __init__(self, steps: int = 16, max_steps: int = 256, tolerance: float = 0.01) -> None:
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
            values, steps = self._refine(model, path, output - neutral)
        seconds = (perf_counter() - begin) / steps.sum()
        baseline = describe_baseline(model)
        return [
            Attribution(
                values[i], float(output[i]), float(neutral[i]), baseline,
                float(values[i].sum() - (output[i] - neutral[i])), int(steps[i]) + 2, float(seconds * steps[i]),
            )
            for i in range(len(values))
        ]  # fmt: skip

    def _refine(self, model: WhiteBox, path: Path, change: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Double the points of the rows whose values do not add up; return values and points spent."""
        values: list[np.ndarray] = [np.zeros(units) for units in path.units]
        spent, open_rows, steps = np.zeros(len(values), dtype=int), list(range(len(values))), self.steps
        while open_rows:
            nodes, weights = np.polynomial.legendre.leggauss(steps)
            found = along_path(model, path.select(open_rows), (nodes + 1) / 2, weights / 2)
            for row, value in zip(open_rows, found, strict=True):
                values[row] = value
            spent[open_rows] += steps
            open_rows = [i for i in open_rows if not self._settled(values[i], change[i])]
            steps *= 2
            if steps > self.max_steps:
                break
        return values, spent

    def _settled(self, values: np.ndarray, change: float) -> bool:
        """Tell whether values add up; where they nearly cancel, a tenth of their size is the measure."""
        measure = max(abs(change), 0.1 * np.abs(values).sum())
        return bool(abs(values.sum() - change) <= self.tolerance * measure + 1e-5)
