"""Gradient × input: the gradient at the row times its distance from a neutral input."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np
import pandas as pd

from salience.explain.attribution import Attribution
from salience.explain.baselines import NEUTRAL, Baselines
from salience.explain.gradients import along_path, ends, make_path, path_attributions
from salience.explain.model import WhiteBox
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
    "deviates": "The neutral input is taken away from the input first, so that zero means neutral; several are averaged.",
    "needs": "white_box",
    "complete": False,
    "signed": True,
    "exact_linear": True,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "one forward and backward pass and two forward passes a row and baseline",
    "defaults": {"baseline": "neutral"},
}


class GradientXInput:
    """Attribute by gradient times (input − neutral input).

    Args:
        baseline: name of the neutral input, or several whose values are averaged; see
            :data:`salience.explain.baselines.WORDS`.
        background: training rows, for the baselines that need them.

    Raises:
        ConfigError: an unknown baseline.
    """

    def __init__(
        self, baseline: str | Sequence[str] = NEUTRAL, background: pd.DataFrame | None = None
    ) -> None:
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
            one = np.ones((len(path.targets), 1))
            values = along_path(model, path, np.arange(len(one)), one, one)
        spent, seconds = np.full(len(one), 3), perf_counter() - begin
        return path_attributions(
            model, path, values, output, neutral, spent, seconds, baselines, complete=False
        )
