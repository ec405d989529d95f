"""What an explainer returns for one row, before it is dressed as an Explanation."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Attribution:
    """Give each unit of one row a number.

    Attributes:
        values: one number a unit, in the order of ``model.units(row)``; NaN where the method says nothing.
        output: the explained quantity of the row; None if the method does not look at it.
        baseline_output: the explained quantity of the neutral input; None likewise.
        baseline: the neutral input, in words.
        completeness_gap: ``sum(values) − (output − baseline_output)``, in units of the quantity; None if the
            method does not claim that the two agree.
        forwards: rows that the model evaluated for it.
        seconds: its share of the time.
        evidence: what else a view can show, such as attention maps by name.
    """

    values: Float[np.ndarray, " unit"]
    output: float | None
    baseline_output: float | None
    baseline: str
    completeness_gap: float | None
    forwards: int
    seconds: float
    evidence: dict[str, Any] = field(default_factory=dict)
