"""Random control: numbers that know nothing of the model. A method that does not beat it explains nothing."""

from time import perf_counter

import pandas as pd

from salience.explain.attribution import Attribution
from salience.explain.model import BlackBox
from salience.explain.removals import row_generator
from salience.explain.rows import records
from salience.explain.target import Target

CARD = {
    "key": "random",
    "kind": "explainer",
    "title": "Random control",
    "entry": "RandomControl",
    "summary": "Draws a number for each unit. Every other method must beat it.",
    "needs": "black_box",
    "complete": False,
    "signed": True,
    "exact_linear": False,
    "uses_target": False,
    "control": True,
    "drawn": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "nothing",
    "defaults": {},
}


class RandomControl:
    """Attribute at random: standard normal numbers that depend on the seed, the row's name and its units alone."""

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
            units = model.units(row)
            values = row_generator(seed, "random", units).standard_normal(len(units))
            result.append(Attribution(values, None, None, "none", None, 0, perf_counter() - begin))
        return result
