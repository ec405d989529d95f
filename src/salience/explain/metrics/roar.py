"""ROAR: remove what an explainer names from all rows, train again, and see how much worse the model gets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from salience.core.errors import ConfigError
from salience.core.progress import Stage
from salience.core.stats import mean_interval
from salience.explain.engine import explain
from salience.explain.explanation import Explanation
from salience.explain.orders import order_of, tops
from salience.explain.retraining import Fit, accuracy
from salience.explain.rows import records, to_frame

CARD = {
    "key": "roar",
    "kind": "metric",
    "title": "Remove and retrain (ROAR)",
    "entry": "roar",
    "summary": "Takes the top units out of all training and test rows, trains a fresh model, and reports its accuracy; random removal beside it.",
    "convention": "Accuracy of a model that was trained and tested on rows without their top t of the units, for t = 10, 30, 50, 70, 90 %; a larger drop from t = 0 is better.",
    "better": "lower",
    "family": "faithfulness",
    "per": "data set",
    "needs": "retraining",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification"],
    "paper": "A Benchmark for Interpretability Methods in Deep Neural Networks (Hooker et al., NeurIPS 2019)",
    "year": 2019,
    "url": "https://arxiv.org/abs/1806.10758",
    "source": "paper",
    "faithful": "Training and test rows are both changed; models start afresh; the control removes at random; keep=True keeps the top units (KAR).",
    "deviates": "A removed unit gets its neutral value (a picture's mean colour, not the channel's mean over the data). Seeds and shares are the caller's: their number in the paper was not verified.",
    "cost": "trainings: (methods + 1) × shares × seeds + seeds; the mask itself can tell the class, so a high accuracy is no proof against a method",
    "defaults": {"fractions": [0.1, 0.3, 0.5, 0.7, 0.9], "seeds": [0], "keep": False},
}
CONTROL = "random"


def roar(
    fit: Fit,
    model: Any,
    train: pd.DataFrame,
    test: pd.DataFrame,
    methods: Sequence[str] | Mapping[str, Any],
    *,
    fractions: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    seeds: Sequence[int] = (0,),
    keep: bool = False,
    memory_mb: int | float = 256,
) -> pd.DataFrame:
    """Return accuracy after removal and training, one line a method and share, the random control with them.

    Args:
        fit: trains a fresh model: ``fit(frame, seed) -> model``; see :mod:`salience.explain.retraining`.
        model: the model that explains.
        train, test: canonical rows with their target.
        methods: keys of explainers, or explainers by name.
        fractions: shares of the units that are removed, rounded to whole units.
        seeds: seeds of the trainings.
        keep: whether to keep the top units and remove all others (KAR); a smaller drop is then better.
        memory_mb: memory for one pass of the model, in MiB.

    Returns:
        Columns ``method, fraction, accuracy, low, high, drop, drop_low, drop_high``: means over seeds with 95 %
        bootstrap intervals (which need several seeds to say anything), and the drop from the model trained on whole
        rows with the same seed.

    Raises:
        ConfigError: no method or no seed.
        UnsupportedError: the target is a number.
    """
    named = dict(methods) if isinstance(methods, Mapping) else {key: key for key in methods}
    if not named or not seeds:
        raise ConfigError("ROAR needs a method and a seed", f"{len(named)} methods, {len(seeds)} seeds.", "")
    named.setdefault(CONTROL, CONTROL)
    lines = []
    with Stage("roar", len(named) * len(fractions) * len(seeds) + len(seeds)) as stage:
        whole = []
        for seed in seeds:
            whole.append(accuracy(fit(train, seed), test))
            stage.step("whole rows")
        for name, method in named.items():
            found = [_explained(model, frame, method, memory_mb) for frame in (train, test)]
            for fraction in fractions:
                changed = [
                    _without(model, frame, group, fraction, keep)
                    for frame, group in zip((train, test), found, strict=True)
                ]
                scores = []
                for seed in seeds:
                    scores.append(accuracy(fit(changed[0], seed), changed[1]))
                    stage.step(f"{name}: {100 * fraction:g} %")
                lines.append(_line(name, fraction, np.array(scores), np.array(whole)))
    return pd.DataFrame(lines)


def _explained(model: Any, frame: pd.DataFrame, method: Any, memory_mb: int | float) -> list[Explanation]:
    return explain(model, frame, method=method, memory_mb=memory_mb, faithfulness=False)


def _without(
    model: Any, frame: pd.DataFrame, explanations: list[Explanation], fraction: float, keep: bool
) -> pd.DataFrame:
    """Return rows without their top units, or with these alone, and with their target."""
    rows = []
    for row, e in zip(records(model, frame), explanations, strict=True):
        gone = tops(order_of(e, 0), [round(fraction * len(e.units))])[0] != keep
        rows.append(model.remove(row, tuple(e.units[i] for i in np.flatnonzero(gone))))
    name = model.schema.target.name
    return to_frame(model, rows).set_axis(frame.index).assign(**{name: frame[name]})


def _line(name: str, fraction: float, scores: np.ndarray, whole: np.ndarray) -> dict[str, Any]:
    (low, high), (drop_low, drop_high) = mean_interval(scores), mean_interval(whole - scores)
    return {
        "method": name, "fraction": fraction, "accuracy": scores.mean(), "low": low, "high": high,
        "drop": (whole - scores).mean(), "drop_low": drop_low, "drop_high": drop_high,
    }  # fmt: skip
