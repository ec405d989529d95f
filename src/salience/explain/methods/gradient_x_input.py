"""Gradient × input: the gradient at the row times its distance from a neutral input."""

from time import perf_counter

import numpy as np
import pandas as pd

from salience.explain.attribution import Attribution
from salience.explain.gradients import along_path, ends, make_path
from salience.explain.model import WhiteBox
from salience.explain.rows import describe_baseline
from salience.explain.state import frozen
from salience.explain.target import Target

CARD = {
    "key": "gradient_x_input",
    "kind": "explainer",
    "title": "Gradient × input",
    "entry": "GradientXInput",
    "summary": "One gradient a row, times the distance from the neutral input; the quickest method, and exact for linear models only.",
    "paper": "Not Just a Black Box (Shrikumar, Greenside, Shcherbina, Kundaje, 2016)",
    "year": 2016,
    "url": "https://arxiv.org/abs/1605.01713",
    "source": "paper",
    "faithful": "Gradient at the row, times input.",
    "deviates": "The neutral input is taken away from the input first, so that zero means neutral.",
    "needs": "white_box",
    "complete": False,
    "signed": True,
    "exact_linear": True,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "one forward and backward pass a row",
    "defaults": {},
}


class GradientXInput:
    """Attribute by gradient times (input − neutral input)."""

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
            rows = np.arange(len(frame))
            values = along_path(model, path, rows, np.ones((len(rows), 1)), np.ones((len(rows), 1)))
        seconds, baseline = (perf_counter() - begin) / len(values), describe_baseline(model)
        return [
            Attribution(found, float(end), float(start), baseline, None, 3, seconds)
            for found, end, start in zip(values, output, neutral, strict=True)
        ]
