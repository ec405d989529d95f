"""Trivial and classical baselines, trained on the same rows as the model and scored on the same test rows."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from salience.audit.features import DenseFeatures, LinearFeatures
from salience.core.stats import generator

MAX_ROWS = 100_000
STRENGTHS = (1.0, 3.0, 10.0)
PENALTIES = (1.0, 10.0, 100.0)
TRIVIAL = {"classification": "majority", "regression": "mean"}


@dataclass(frozen=True)
class Baseline:
    """Hold what a baseline predicts for the test rows.

    Attributes:
        predictions: probabilities ``(row, class)``, or values ``(row,)`` in units of the target.
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
        More than 100,000 training rows are sampled down to that number, and the description says so.
    """
    parsed = schema.parse(train)
    truth = schema.encode_target(parsed)
    index = _sample(len(truth), seed)
    inputs, note = parsed.iloc[index], _row_note(len(truth))
    rows = schema.parse(test)
    fits: dict[str, tuple[Callable[..., tuple[np.ndarray, str]], str]] = {
        TRIVIAL[schema.task]: (_constant, ""),
        "logistic regression" if schema.task == "classification" else "ridge regression": (_linear, note),
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
    """Return the trivial answer: the class shares, or the mean, of ``truth`` for every row."""
    if schema.task == "regression":
        return np.full(rows, float(np.mean(truth)))
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
    what = "The class shares" if schema.task == "classification" else "The mean"
    return constant_predictions(schema, truth, len(rows)), f"{what} of the training rows, for every row."


def _linear(
    schema: Any, train: pd.DataFrame, truth: np.ndarray, rows: pd.DataFrame, seed: int
) -> tuple[np.ndarray, str]:
    features = LinearFeatures(schema)
    matrix, new = features.fit_transform(train), features.transform(rows)
    inner, held = _inner_split(schema, truth, seed)
    options = STRENGTHS if schema.task == "classification" else PENALTIES
    losses = [
        _loss(
            schema, truth[held], _fit_linear(schema, matrix[inner], truth[inner], matrix[held], option, 1e-2)
        )
        for option in options
    ]
    best = options[int(np.argmin(losses))]
    symbol = "C" if schema.task == "classification" else "penalty"
    text = (
        f"Linear model on word and word-pair TF-IDF of each text column, one-hot categories, standardised "
        f"numbers and 8 × 8 pixels ({matrix.shape[1]:,} features, {symbol} = {best:g} chosen on a tenth of the "
        "training rows)."
    )
    return _fit_linear(schema, matrix, truth, new, best), text


def _inner_split(schema: Any, truth: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = generator(seed, "baseline inner split").permutation(len(truth))
    held = order[: max(len(truth) // 10, 1)]
    inner = order[len(held) :]
    if schema.task == "classification" and len(np.unique(truth[inner])) < len(np.unique(truth)):
        return order, held  # a class too rare to hold out: choose on rows that were also fitted
    return inner, held


def _loss(schema: Any, truth: np.ndarray, predicted: np.ndarray) -> float:
    from salience.core.metrics import auroc, log_loss, rmse

    if schema.task == "regression":
        return rmse(truth, predicted)
    rank = auroc(truth, predicted)
    return -rank if np.isfinite(rank) else log_loss(truth, predicted)


def _fit_linear(
    schema: Any, matrix: Any, truth: np.ndarray, new: Any, option: float, tolerance: float = 1e-4
) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression, Ridge

    if schema.task == "regression":
        solver = "lsqr" if matrix.shape[1] > 2000 else "auto"
        return Ridge(option, solver=solver).fit(matrix, truth).predict(new)
    binary = len(np.unique(truth)) == 2
    solver = "liblinear" if binary else "lbfgs"
    model = LogisticRegression(C=option, solver=solver, max_iter=200, random_state=0, tol=tolerance)
    return _all_classes(schema, model.fit(matrix, truth), new)


def _all_classes(schema: Any, model: Any, new: Any) -> np.ndarray:
    """Return probabilities with a column for every class of the schema, also one absent from training."""
    result = np.zeros((new.shape[0], len(schema.classes)))
    result[:, model.classes_] = model.predict_proba(new)
    return result


def _boosting(
    schema: Any, train: pd.DataFrame, truth: np.ndarray, rows: pd.DataFrame, seed: int
) -> tuple[np.ndarray, str]:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    features = DenseFeatures(schema, seed=seed)
    matrix, new = features.fit_transform(train), features.transform(rows)
    rare = schema.task == "classification" and np.bincount(truth)[np.unique(truth)].min() < 10
    options = {
        "max_iter": 200,
        "learning_rate": 0.1,
        "early_stopping": len(truth) >= 1000 and not rare,
        "n_iter_no_change": 10,
        "categorical_features": features.categorical,
        "random_state": seed,
    }
    text = f"Boosted trees (at most 200) on {matrix.shape[1]} features: numbers, categories, 40 directions a text."
    if schema.task == "regression":
        return HistGradientBoostingRegressor(**options).fit(matrix, truth).predict(new), text
    return _all_classes(schema, HistGradientBoostingClassifier(**options).fit(matrix, truth), new), text
