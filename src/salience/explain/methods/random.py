"""Random control: numbers that know nothing of the model. A method that does not beat it explains nothing."""

from hashlib import sha256
from time import perf_counter

import numpy as np
import pandas as pd

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
        for name, row in zip(frame.index, records(model, frame), strict=True):
            begin = perf_counter()
            units = model.units(row)
            # the regions of all pictures are the same units: without the row's name all would get the same map
            text = "\x1f".join([str(name), *(unit.label for unit in units)])
            digest = sha256(text.encode("utf-8", "surrogatepass")).digest()
            values = np.random.default_rng([seed, int.from_bytes(digest[:8], "little")]).standard_normal(
                len(units)
            )
            result.append(Attribution(values, None, None, "none", None, 0, perf_counter() - begin))
        return result
