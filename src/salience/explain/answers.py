"""What is measured when a row is changed: the answer of the model, on a scale that a person can read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from salience.explain.explanation import Explanation
from salience.explain.target import Target, score

SATURATED = 500.0  # log-odds beyond which a probability is 0 or 1
SCALES = {
    "probability": "probability of the explained class",
    "standard deviations": "prediction in standard deviations of the training target",
    "units of the target": "prediction in units of the target",
    "log-probability": "log-probability of the explained text, in nats",
}


def target_of(explanation: Explanation) -> Target:
    """Return what an explanation explains."""
    e = explanation
    return Target(e.target_index, e.target, e.quantity, e.against_index, e.independent)


def target_spread(model: Any, index: int = 0) -> float | None:
    """Return the standard deviation of a regression's training target; None if the model does not keep it."""
    spreads = getattr(getattr(model, "head", None), "std", None)
    spread = 0.0 if spreads is None else float(spreads.reshape(-1)[index])
    return spread if spread > 0 else None


def answers(
    model: Any, explanation: Explanation, outputs: Float[np.ndarray, "line output"]
) -> Float[np.ndarray, "line 2"]:
    """Return the answer on its own scale (see :func:`scale`), and the explained quantity.

    Args:
        model: the model that was explained.
        explanation: says which class, pair of classes, number or text is explained.
        outputs: outputs of changed copies of its row.
    """
    e = explanation
    quantity = score(outputs, [target_of(e)] * len(outputs))
    if e.quantity == "log-probability":
        answer = quantity
    elif e.quantity == "value":
        answer = quantity / (target_spread(model, e.target_index) or 1.0)
    elif e.against_index is None:
        answer = model.predict_proba(outputs)[:, e.target_index]
    else:  # probability of the one, given that it is one of the two, and not both
        answer = 1 / (1 + np.exp(-np.clip(quantity, -SATURATED, SATURATED)))
    return np.stack([answer, quantity], axis=1)


def scale(model: Any, explanation: Explanation) -> str:
    """Return the scale of the answer, a key of :data:`SCALES`."""
    if explanation.quantity == "value":
        return (
            "standard deviations" if target_spread(model, explanation.target_index) else "units of the target"
        )
    return "log-probability" if explanation.quantity == "log-probability" else "probability"


def scale_words(model: Any, explanations: Sequence[Explanation]) -> str:
    """Return what the answer of these explanations is, in words."""
    found = {scale(model, e): None for e in explanations}
    return " or ".join(SCALES[name] for name in found) or "answer"


def quantity_words(explanations: Sequence[Explanation]) -> str:
    """Return what the explained quantity of these explanations is, in words."""
    found = {e.quantity: None for e in explanations}
    return " or ".join(f"the explained {name}" for name in found) or "the explained quantity"
