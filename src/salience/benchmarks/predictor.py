"""Benchmark: our predictor beside classical models, and AutoGluon where it is installed, on the same rows."""

import time
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from salience.api import Predictor
from salience.audit.baselines import fit_baselines
from salience.core import metrics
from salience.core.progress import Stage
from salience.core.stats import generator
from salience.data import readers, splits

CARD = {
    "key": "predictor",
    "kind": "benchmark",
    "title": "Predictor beside classical models on the same split",
    "entry": "run",
    "summary": "Scores with intervals, training seconds and milliseconds a row, on three data sets; every model sees the same training rows and is scored on the same test rows.",
    "cost": "about ten minutes on two cores; quick: one minute",
}
SETS = {"clothing-reviews": ("Rating",), "california": (), "adult": ()}
QUICK_ROWS = 3_000


def run(quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Fit every model on every set.

    Args:
        quick: at most 3,000 rows a set and the ``fast`` preset.
        seed: seed of sample, split and training.

    Returns:
        ``rows`` (one a set and model) and a ``summary`` sentence.
    """
    rows: list[dict[str, Any]] = []
    with Stage("bench", len(SETS)) as stage:
        for name, drop in SETS.items():
            rows += _one_set(name, drop, quick, seed)
            stage.step(name)
    return {"rows": rows, "summary": _summary(rows)}


def _one_set(name: str, drop: tuple[str, ...], quick: bool, seed: int) -> list[dict[str, Any]]:
    table = readers.read(name)
    predictor = Predictor(drop=drop, preset="fast" if quick else "good", seed=seed)
    schema = predictor.infer(table)
    frame = table.frame
    if quick and len(frame) > QUICK_ROWS:
        frame = frame.iloc[np.sort(generator(seed, name).choice(len(frame), QUICK_ROWS, replace=False))]
    part = splits.split(frame, schema, seed=seed)
    train, held, test = (frame[part == p] for p in ("train", "validation", "test"))
    truth = schema.encode_target(schema.parse(test, target=True))
    seen = pd.concat([train, held])
    found = {"salience": _ours(predictor, schema, train, held, test)}
    for key, baseline in fit_baselines(schema, seen, test, seed=seed).items():
        found[key] = (baseline.predictions, baseline.seconds, float("nan"))
    if find_spec("autogluon") is not None:
        found["autogluon"] = _autogluon(schema, seen, test, max(found["salience"][1], 30.0))
    return [_row(name, key, schema.task, truth, *result, seed) for key, result in found.items()]


def _ours(
    predictor: Predictor, schema: Any, train: Any, held: Any, test: Any
) -> tuple[np.ndarray, float, float]:
    started = time.perf_counter()
    predictor.fit_split(schema, train, held)
    fitted = time.perf_counter()
    predicted = predictor.predict_proba(test) if schema.task == "classification" else predictor.predict(test)
    return predicted.to_numpy(), fitted - started, 1000 * (time.perf_counter() - fitted) / len(test)


def _autogluon(schema: Any, train: Any, test: Any, seconds: float) -> tuple[np.ndarray, float, float]:
    from autogluon.tabular import TabularPredictor

    columns = [c.name for c in schema.inputs]
    target = schema.target.name
    started = time.perf_counter()
    peer = TabularPredictor(target, verbosity=0).fit(train[[*columns, target]], time_limit=seconds)
    fitted = time.perf_counter()
    if schema.task == "classification":
        predicted = peer.predict_proba(test[columns])
        predicted = predicted[sorted(predicted.columns, key=str)].to_numpy()
    else:
        predicted = peer.predict(test[columns]).to_numpy()
    return predicted, fitted - started, 1000 * (time.perf_counter() - fitted) / len(test)


def _row(
    name: str,
    model: str,
    task: str,
    truth: np.ndarray,
    predicted: np.ndarray,
    seconds: float,
    milliseconds: float,
    seed: int,
) -> dict[str, Any]:
    scores = metrics.scores_with_intervals(task, truth, predicted, seed=seed)
    main = metrics.MAIN[task]
    low, high = scores[main]["interval"]
    return {
        "data": name,
        "model": model,
        "metric": main,
        "value": scores[main]["value"],
        "low": low,
        "high": high,
        "fit_seconds": round(seconds, 2),
        "milliseconds_a_row": round(milliseconds, 3) if np.isfinite(milliseconds) else None,
        "test_rows": len(truth),
    }


def _summary(rows: list[dict[str, Any]]) -> str:
    parts = []
    for name in dict.fromkeys(row["data"] for row in rows):
        scores = {row["model"]: row["value"] for row in rows if row["data"] == name}
        metric = next(row["metric"] for row in rows if row["data"] == name)
        ours = scores.pop("salience")
        pick = max if metrics.HIGHER_IS_BETTER[metric] else min
        best = pick(scores, key=scores.get)
        parts.append(f"{name}: {metric} {ours:.4f}, best other {best} {scores[best]:.4f}")
    return "; ".join(parts) + "."
