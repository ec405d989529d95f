"""The inverse control: another method with the sign of every value turned."""

from dataclasses import replace
from typing import Any

import pandas as pd

from salience.core import registry
from salience.explain.attribution import Attribution
from salience.explain.model import BlackBox
from salience.explain.target import Target

CARD = {
    "key": "inverse",
    "kind": "explainer",
    "title": "Inverse control",
    "entry": "InverseControl",
    "summary": "Turns the sign of another method's values, so that its last unit comes first. A measurement that does not punish it measures nothing.",
    "needs": "black_box",
    "complete": False,
    "signed": True,
    "exact_linear": False,
    "uses_target": True,
    "control": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "that of the other method",
    "defaults": {"method": "leave_one_out"},
}


class InverseControl:
    """Attribute the opposite of another method.

    Args:
        method: key of the explainer whose values are negated, or an explainer.
        options: options of that method.
    """

    def __init__(self, method: Any = "leave_one_out", **options: Any) -> None:
        self.explainer = registry.load("explainer", method)(**options) if isinstance(method, str) else method

    def attribute(
        self,
        model: BlackBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row; the model must offer what the other method asks of it."""
        found = self.explainer.attribute(model, frame, targets, seed=seed, memory_mb=memory_mb)
        return [replace(a, values=-a.values, completeness_gap=None) for a in found]
