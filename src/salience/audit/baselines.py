"""Trivial and classical baselines, trained on the same rows as the model and scored on the same test rows."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from salience.audit.features import DenseFeatures, LinearFeatures
from salience.core.metrics import PROBABLE, auroc, log_loss, rmse
from salience.core.stats import generator

MAX_ROWS = 100_000
ROUNDS, MAX_TREES = 200, 1000  # boosted trees of a target, and of all targets together while each has fifty
STRENGTHS = (1.0, 3.0, 10.0)
PENALTIES = (1.0, 10.0, 100.0)
TRIVIAL = {
    "classification": "majority", "regression": "mean", "multi-label": "majority", "multi-regression": "mean",
}  # fmt: skip
OneTarget = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Baseline:
    """Hold what a baseline predicts for the test rows.

    Attributes:
        predictions: probabilities ``(row, class)``, or values ``(row,)`` in units of the target; of several targets
            the probability of each label, or the values, ``(row, target)``.
        seconds: time to fit and predict.
        description: what was fitted, in one sentence.
    """

    predictions: np.ndarray
    seconds: float = 0.0
    description: str = ""


def fit_baselines(
    schema: Any, train: pd.DataFrame, test: pd.DataFrame, *, seed: int = 0
) -> dict[str, Baseline]:
    """Fit the baselines and predict the test rows.

    Args:
        schema: columns and task.
        train: training rows, raw or canonical, with the target.
        test: test rows; the target is not looked at.
        seed: seed of the inner split, the text directions and the boosting.

    Returns:
        ``"majority"`` or ``"mean"``, ``"logistic regression"`` or ``"ridge regression"``, ``"gradient boosting"``.
        Several targets have one model each. More than 100,000 training rows are sampled down to that number, and the description says so.
    """
    parsed = schema.parse(train)
    truth = schema.encode_target(parsed)
    index = _sample(len(truth), seed)
    inputs, note = parsed.iloc[index], _row_note(len(truth))
    rows = schema.parse(test)
    fits: dict[str, tuple[Callable[..., tuple[np.ndarray, str]], str]] = {
        TRIVIAL[schema.task]: (_constant, ""),
        "logistic regression" if schema.task in PROBABLE else "ridge regression": (_linear, note),
        "gradient boosting": (_boosting, note),
    }
    fitted = {}
    for name, (fit, suffix) in fits.items():
        start = perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # convergence and feature-name notes of a library; not the user's
            predictions, description = fit(schema, inputs, truth[index], rows, seed)
        fitted[name] = Baseline(predictions, perf_counter() - start, description + suffix)
    return fitted


def constant_predictions(schema: Any, truth: np.ndarray, rows: int) -> np.ndarray:
    """Return the trivial answer: the shares of classes or labels, or the means, of ``truth`` for every row."""
    if schema.task != "classification":
        return np.tile(truth.mean(axis=0), (rows, 1) if truth.ndim == 2 else rows).astype(float)
    counts = np.bincount(truth, minlength=len(schema.classes)).astype(float)
    return np.tile(counts / counts.sum(), (rows, 1))


def _sample(rows: int, seed: int) -> np.ndarray:
    if rows <= MAX_ROWS:
        return np.arange(rows)
    return np.sort(generator(seed, "baseline rows").choice(rows, MAX_ROWS, replace=False))


def _row_note(rows: int) -> str:
    return f" Trained on {MAX_ROWS:,} of {rows:,} rows." if rows > MAX_ROWS else ""


def _constant(
    schema: Any, _: Any, truth: np.ndarray, rows: pd.DataFrame, seed: int
) -> tuple[np.ndarray, str]:
    what = {"classification": "The class shares", "multi-label": "The share of each label"}
    text = f"{what.get(schema.task, 'The mean')} of the training rows, for every row."
    return constant_predictions(schema, truth, len(rows)), text


def _every_target(schema: Any, truth: np.ndarray, rows: int, predict: OneTarget) -> np.ndarray:
    """Return the predictions of one model a target.

    Args:
        schema: task and classes.
        truth: training target or targets.
        rows: number of rows to predict.
        predict: from the truth of one target and its number of classes, 0 for numbers, to predictions.
    """
    if schema.task == "classification":
        return predict(truth, len(schema.classes))
    if schema.task == "regression":
        return predict(truth, 0)
    if schema.task == "multi-regression":
        return np.stack([predict(values, 0) for values in truth.T], axis=1)
    return np.stack([_label(values, rows, predict) for values in truth.T], axis=1)


def _label(truth: np.ndarray, rows: int, predict: OneTarget) -> np.ndarray:
    """Return the probability of a label; one that never varies in training can only be told as it was there."""
    return predict(truth, 2)[:, 1] if truth.min() < truth.max() else np.full(rows, float(truth[0]))


def _linear(
    schema: Any, train: pd.DataFrame, truth: np.ndarray, rows: pd.DataFrame, seed: int
) -> tuple[np.ndarray, str]:
    features, chosen = LinearFeatures(schema), []
    matrix, new = features.fit_transform(train), features.transform(rows)
    options = STRENGTHS if schema.task in PROBABLE else PENALTIES

    def predict(target: np.ndarray, classes: int) -> np.ndarray:
        inner, held = _inner_split(target, classes, seed)
        losses = [
            _loss(
                target[held],
                _fit_linear(matrix[inner], target[inner], matrix[held], classes, option, 1e-2),
                classes,
            )
            for option in options
        ]
        chosen.append(options[int(np.argmin(losses))])
        return _fit_linear(matrix, target, new, classes, chosen[-1])

    predictions = _every_target(schema, truth, len(rows), predict)
    symbol = "C" if schema.task in PROBABLE else "penalty"
    setting = f"{symbol} = {chosen[0]:g}" if truth.ndim == 1 else f"one model a target, its {symbol}"
    text = (
        f"Linear model on word and word-pair TF-IDF of each text column, one-hot categories, standardised "
        f"numbers and 8 × 8 pixels ({matrix.shape[1]:,} features, {setting} chosen on a tenth of the "
        "training rows)."
    )
    return predictions, text


def _inner_split(truth: np.ndarray, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = generator(seed, "baseline inner split").permutation(len(truth))
    held = order[: max(len(truth) // 10, 1)]
    inner = order[len(held) :]
    if classes and len(np.unique(truth[inner])) < len(np.unique(truth)):
        return order, held  # a class too rare to hold out: choose on rows that were also fitted
    return inner, held


def _loss(truth: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    if not classes:
        return rmse(truth, predicted)
    rank = auroc(truth, predicted)
    return -rank if np.isfinite(rank) else log_loss(truth, predicted)


def _fit_linear(
    matrix: Any, truth: np.ndarray, new: Any, classes: int, option: float, tolerance: float = 1e-4
) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression, Ridge

    if not classes:
        solver = "lsqr" if matrix.shape[1] > 2000 else "auto"
        return Ridge(option, solver=solver).fit(matrix, truth).predict(new)
    binary = len(np.unique(truth)) == 2
    solver = "liblinear" if binary else "lbfgs"
    model = LogisticRegression(C=option, solver=solver, max_iter=200, random_state=0, tol=tolerance)
    return _all_classes(model.fit(matrix, truth), new, classes)


def _all_classes(model: Any, new: Any, classes: int) -> np.ndarray:
    """Return probabilities with a column for every class, also one absent from training."""
    result = np.zeros((new.shape[0], classes))
    result[:, model.classes_] = model.predict_proba(new)
    return result


def _boosting(
    schema: Any, train: pd.DataFrame, truth: np.ndarray, rows: pd.DataFrame, seed: int
) -> tuple[np.ndarray, str]:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    features = DenseFeatures(schema, seed=seed)
    matrix, new = features.fit_transform(train), features.transform(rows)
    rounds = max(ROUNDS // 4, min(ROUNDS, MAX_TREES // max(len(schema.targets), 1)))

    def predict(target: np.ndarray, classes: int) -> np.ndarray:
        rare = classes and np.bincount(target)[np.unique(target)].min() < 10
        options = {
            "max_iter": rounds,
            "learning_rate": 0.1,
            "early_stopping": len(target) >= 1000 and not rare,
            "n_iter_no_change": 10,
            "categorical_features": features.categorical,
            "random_state": seed,
        }
        if not classes:
            return HistGradientBoostingRegressor(**options).fit(matrix, target).predict(new)
        return _all_classes(HistGradientBoostingClassifier(**options).fit(matrix, target), new, classes)

    several = ", one model a target" if truth.ndim == 2 else ""
    text = (
        f"Boosted trees (at most {rounds}{several}) on {matrix.shape[1]} features: numbers, categories, 40 directions "
        "a text."
    )
    return _every_target(schema, truth, len(rows), predict), text
