"""One temperature for all logits, fitted on validation rows (Guo et al., ICML 2017)."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch


def fit_temperature(loss: Callable[[float], float]) -> float:
    """Return the temperature in [0.05, 20] with the least loss.

    Args:
        loss: mean negative log probability of the truth, of logits divided by a temperature.

    Golden-section search over the logarithm of the temperature: the loss has one minimum there.
    """
    low, high, ratio = -3.0, 3.0, (5**0.5 - 1) / 2
    for _ in range(40):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if loss(math.exp(a)) < loss(math.exp(b)) else (a, high)
    return math.exp((low + high) / 2)


def calibrate(model: Any, frame: pd.DataFrame, target: np.ndarray) -> None:
    """Set the temperature of a model, or of an ensemble, by rows that it was not trained on; values have none.

    Args:
        model: gives ``outputs`` and has a head.
        frame: canonical rows.
        target: what :meth:`~salience.data.schema.Schema.encode_target` gives for them.
    """
    if hasattr(model.head, "calibrate"):
        model.head.calibrate(
            torch.from_numpy(model.outputs(frame, calibrated=False)), torch.from_numpy(target)
        )
