"""The oracle control: the units that are known to matter, and no others."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from salience.core.errors import ConfigError
from salience.core.unit import Unit
from salience.explain.attribution import Attribution
from salience.explain.model import BlackBox
from salience.explain.rows import records
from salience.explain.target import Target

CARD = {
    "key": "oracle",
    "kind": "explainer",
    "title": "Oracle control",
    "entry": "OracleControl",
    "summary": "Gives one to the units that are known to matter and zero to all others; needs data whose ground truth is known.",
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
Region = Callable[[dict[str, Any], tuple[Unit, ...]], Any]


class OracleControl:
    """Attribute one to every unit of a known region.

    Args:
        region: from a raw row and its units to one boolean a unit, True where the unit is known to matter.
    """

    def __init__(self, region: Region | None = None) -> None:
        self.region = region

    def attribute(
        self,
        model: BlackBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row; the model is asked for its units and never called.

        Raises:
            ConfigError: no region was given, or it does not say one thing a unit.
        """
        if self.region is None:
            raise ConfigError(
                "The oracle does not know what matters",
                "No region was given.",
                "Give options={'region': function}: from a row and its units to one boolean a unit.",
                code="SAL-C005",
            )
        result = []
        for row in records(model, frame):
            begin = perf_counter()
            units = model.units(row)
            values = np.asarray(self.region(row, units), dtype=bool).astype(float)
            if values.shape != (len(units),):
                raise ConfigError(
                    "The region does not say one thing a unit",
                    f"Shape {values.shape} for {len(units)} units.",
                    "Return one boolean for each of the units that the function is given.",
                    code="SAL-C005",
                )
            result.append(Attribution(values, None, None, "none", None, 0, perf_counter() - begin))
        return result
