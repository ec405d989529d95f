"""Random control: numbers that know nothing of the model. A method that does not beat it explains nothing."""

from time import perf_counter

import pandas as pd

from salience.core.stats import generator
from salience.explain.attribution import Attribution
from salience.explain.model import BlackBox
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
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "nothing",
    "defaults": {},
}


class RandomControl:
    """Attribute at random: standard normal numbers that depend on the seed and the row alone."""

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
            name = "\x1f".join(unit.label for unit in units)
            values = generator(seed, "random", name).standard_normal(len(units))
            result.append(Attribution(values, None, None, "none", None, 0, perf_counter() - begin))
        return result
