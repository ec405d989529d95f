"""Gradient boosting on raw columns: CatBoost, XGBoost and LightGBM, stopped on validation rows."""

from typing import Any

import numpy as np
import pandas as pd

from salience.core.extras import require

TREES, PATIENCE, RATE = 2000, 50, 0.05


def predict(
    library: str,
    columns: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
    targets: tuple[np.ndarray, np.ndarray],
    *,
    task: str,
    score: str,
    seed: int,
    trees: int = TREES,
) -> np.ndarray:
    """Return predictions for test rows: one number, or the probability of each class, a row.

    At most 2,000 trees, stopped after 50 without a better validation score, as published; a learning rate of 0.05
    where the library's own is for few trees, and otherwise its defaults. One thread.

    Args:
        library: ``"catboost"``, ``"xgboost"`` or ``"lightgbm"``.
        columns: inputs of training, validation and test rows; numbers as float64, categories as text or None.
        targets: targets of training and validation rows.
        task: ``"regression"`` or ``"classification"``.
        score: ``"rmse"`` or ``"accuracy"``.
        seed: seed of the library.
        trees: highest number of trees.

    Raises:
        MissingExtraError: the library is not installed.
    """
    words = [c for c in columns[0] if columns[0][c].dtype == object]
    fits = {"catboost": _catboost, "xgboost": _xgboost, "lightgbm": _lightgbm}
    model = fits[library](columns[:2], targets, words, task, score, seed, trees)
    test = _ready(columns[2], columns[0], words, library)
    return model.predict_proba(test) if task == "classification" else model.predict(test)


def _ready(frame: pd.DataFrame, train: pd.DataFrame, words: list[str], library: str) -> pd.DataFrame:
    """Return the columns as a library wants them: categories of the training rows, or text for CatBoost."""
    if library == "catboost":
        return frame.assign(**{c: frame[c].fillna("missing").astype(str) for c in words})
    known = {c: sorted(train[c].dropna().unique()) for c in words}  # an unseen value counts as missing
    return frame.assign(
        **{c: pd.Categorical(frame[c].where(frame[c].isin(known[c])), known[c]) for c in words}
    )


def _catboost(
    columns: Any, targets: Any, words: list[str], task: str, score: str, seed: int, trees: int
) -> Any:
    catboost = require("catboost")
    maker = catboost.CatBoostClassifier if task == "classification" else catboost.CatBoostRegressor
    metric = {"rmse": "RMSE", "accuracy": "Accuracy"}[score]
    model = maker(
        iterations=trees,
        early_stopping_rounds=PATIENCE,
        eval_metric=metric,
        random_seed=seed,
        thread_count=1,
        verbose=False,
        allow_writing_files=False,
    )
    train, held = (_ready(part, columns[0], words, "catboost") for part in columns)
    return model.fit(train, targets[0], cat_features=words, eval_set=(held, targets[1]))


def _xgboost(
    columns: Any, targets: Any, words: list[str], task: str, score: str, seed: int, trees: int
) -> Any:
    xgboost = require("xgboost")
    maker = xgboost.XGBClassifier if task == "classification" else xgboost.XGBRegressor
    model = maker(
        n_estimators=trees,
        learning_rate=RATE,
        early_stopping_rounds=PATIENCE,
        eval_metric={"rmse": "rmse", "accuracy": "error"}[score],
        enable_categorical=True,
        tree_method="hist",
        random_state=seed,
        n_jobs=1,
    )
    train, held = (_ready(part, columns[0], words, "xgboost") for part in columns)
    return model.fit(train, targets[0], eval_set=[(held, targets[1])], verbose=False)


def _lightgbm(
    columns: Any, targets: Any, words: list[str], task: str, score: str, seed: int, trees: int
) -> Any:
    lightgbm = require("lightgbm")
    maker = lightgbm.LGBMClassifier if task == "classification" else lightgbm.LGBMRegressor
    model = maker(n_estimators=trees, learning_rate=RATE, random_state=seed, n_jobs=1, verbosity=-1)
    train, held = (_ready(part, columns[0], words, "lightgbm") for part in columns)
    return model.fit(
        train,
        targets[0],
        eval_X=held,
        eval_y=targets[1],
        eval_metric={"rmse": "rmse", "accuracy": "binary_error"}[score],
        callbacks=[lightgbm.early_stopping(PATIENCE, first_metric_only=True, verbose=False)],
    )
