"""The uniform control: every unit gets the same share."""

from time import perf_counter

import numpy as np
import pandas as pd

from salience.explain.attribution import Attribution
from salience.explain.model import BlackBox
from salience.explain.rows import records
from salience.explain.target import Target

CARD = {
    "key": "uniform",
    "kind": "explainer",
    "title": "Uniform control",
    "entry": "UniformControl",
    "summary": "Gives every unit the same share of one. What it scores is what a method gets for saying nothing.",
    "needs": "black_box",
    "complete": False,
    "signed": False,
    "exact_linear": False,
    "uses_target": False,
    "control": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "nothing",
    "defaults": {},
}


class UniformControl:
    """Attribute one over the number of units to every unit."""

    def attribute(
        self,
        model: BlackBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row; the model is asked for its units and never called."""
        result = []
        for row in records(model, frame):
            begin = perf_counter()
            count = len(model.units(row))
            values = np.full(count, 1 / max(count, 1))
            result.append(Attribution(values, None, None, "none", None, 0, perf_counter() - begin))
        return result
