"""Leave one out: take one unit away at a time and see how the answer falls."""

import numpy as np
import pandas as pd

from salience.explain.attribution import Attribution
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.removals import Removals
from salience.explain.target import Target

CARD = {
    "key": "leave_one_out",
    "kind": "explainer",
    "title": "Leave one out",
    "entry": "LeaveOneOut",
    "summary": "Removes one word, region or cell at a time; its value is how far the answer falls. Needs no gradient.",
    "paper": "Understanding Neural Networks through Representation Erasure (Li, Monroe, Jurafsky, 2016)",
    "year": 2016,
    "url": "https://arxiv.org/abs/1612.08220",
    "source": "paper, section 3; equal to captum's FeatureAblation with one mask value a unit",
    "faithful": "One unit erased at a time, the drop of the explained output.",
    "deviates": "The drop is absolute, in units of the explained quantity; the paper divides by the output. Beyond max_forwards units, runs of neighbours go together and share the drop.",
    "needs": "black_box",
    "complete": False,
    "signed": True,
    "exact_linear": True,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "one forward pass a unit, packed over rows and units",
    "defaults": {"max_forwards": 2048},
}


class LeaveOneOut:
    """Attribute by leaving one unit out.

    Args:
        max_forwards: evaluations of a row at most, besides the whole and the empty row; a row with more units is cut
            to as many runs of neighbours, and the units of a run share its drop.
    """

    def __init__(self, max_forwards: int = 2048) -> None:
        within("max_forwards", max_forwards, 1)
        self.max_forwards = max_forwards

    def attribute(
        self,
        model: BlackBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row; see :mod:`salience.explain.model` for what the model must offer."""
        rows = Removals(model, frame, targets, memory_mb, self.max_forwards)
        found = rows.first([np.eye(count, dtype=bool) for count in rows.counts])
        drops = [whole - scores for whole, scores in zip(rows.whole, found, strict=True)]
        return rows.attributions(drops, baseline="the row without the unit")
