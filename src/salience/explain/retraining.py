"""What the tests share that train a model again: a callable that trains, and rows with their targets.

A fit is ``fit(frame, seed) -> model``: it trains a fresh model, of :mod:`salience.explain.model`, on rows with their
target. For a Predictor: ``lambda frame, seed: Predictor(target, seed=seed).fit(frame).model``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from salience.core.errors import UnsupportedError
from salience.core.stats import generator
from salience.explain.engine import explain
from salience.explain.orders import values_of
from salience.explain.scores import spearman

Fit = Callable[[pd.DataFrame, int], Any]


def accuracy(model: Any, frame: pd.DataFrame) -> float:
    """Return the share of rows whose class is predicted right.

    Raises:
        UnsupportedError: the model predicts a number.
    """
    if model.schema.classes is None:
        raise UnsupportedError("Accuracy needs classes", f"The target is {model.schema.target.name!r}.")
    return float((model.outputs(frame).argmax(axis=1) == model.schema.encode_target(frame)).mean())


def data_randomisation(
    fit: Fit,
    model: Any,
    train: pd.DataFrame,
    frame: pd.DataFrame,
    *,
    method: Any = "integrated_gradients",
    target: Any = "predicted",
    seed: int = 0,
    memory_mb: int | float = 256,
) -> pd.Series:
    """Return Spearman's correlation of |φ| of a model and of one that was trained on shuffled targets, a row each.

    An explanation that says the same of a model that learned nothing does not explain what was learned (Adebayo et
    al., NeurIPS 2018). Costs one training. Near 0 is good; NaN where the values of a row are all alike.

    Args:
        fit: trains a model; see the head of this module.
        model: the model to explain.
        train: training rows with their target, which is shuffled.
        frame: rows to explain.
        method: key of an explainer, or an explainer.
        target: what is explained; by default the class that each of the two models predicts.
        seed: seed of the shuffle, the training and the method.
        memory_mb: memory for one pass of the model, in MiB.
    """
    name = model.schema.target.name
    order = generator(seed, "shuffled targets").permutation(len(train))
    shuffled = train.assign(**{name: train[name].to_numpy()[order]})
    options = {
        "method": method,
        "target": target,
        "seed": seed,
        "memory_mb": memory_mb,
        "faithfulness": False,
    }
    pairs = zip(*(explain(m, frame, **options) for m in (model, fit(shuffled, seed))), strict=True)
    found = [spearman(np.abs(values_of(a)), np.abs(values_of(b))) for a, b in pairs]
    return pd.Series(found, index=frame.index, name="spearman")
