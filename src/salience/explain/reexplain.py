"""Explain the same rows once more by the same method, on a model or an input that was changed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from salience.core import registry
from salience.core.errors import SalienceError
from salience.explain.answers import target_of
from salience.explain.attribution import Attribution
from salience.explain.explanation import Explanation
from salience.explain.rows import to_frame
from salience.explain.target import Target


def explainer_of(method: str, explainers: Mapping[str, Any]) -> Any | None:
    """Return the explainer of a method: one that was given, or the registered one; None if there is neither."""
    if method in explainers:
        return explainers[method]
    known = any(card.key == method for card in registry.cards("explainer"))
    return registry.load("explainer", method)() if known else None


def by_method(explanations: Sequence[Explanation]) -> dict[tuple[Any, ...], list[int]]:
    """Return positions of explanations that one call of a method can give: by method, seed and quantity."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, e in enumerate(explanations):
        if np.isfinite(e.values).any():
            key = (e.method, e.seed, e.quantity, e.against_index is None)
            groups.setdefault(key, []).append(i)
    return groups


def asked_by(model: Any, group: Sequence[Explanation]) -> tuple[pd.DataFrame, list[Target]]:
    """Return the rows and targets of explanations, as an explainer takes them."""
    frame = to_frame(model, [e.inputs for e in group])
    return frame.set_axis([e.row for e in group]), [target_of(e) for e in group]


def attribute_again(
    model: Any, explainer: Any, group: Sequence[Explanation], memory_mb: int | float
) -> list[Attribution]:
    """Return new attributions of the rows and targets of explanations, with their seed."""
    frame, targets = asked_by(model, group)
    return explainer.attribute(model, frame, targets, seed=group[0].seed, memory_mb=memory_mb)


def why_not(method: str, error: SalienceError | None = None) -> str:
    """Return why a method could not explain once more."""
    return (
        f"{method}: {error.what}"
        if error
        else f"{method} is no registered explainer, and none was given for it"
    )
