"""Does one column alone nearly give the target away?"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from salience.audit.context import AuditContext
from salience.audit.features import TextFeatures, pixel_matrix
from salience.audit.make import make_finding
from salience.audit.phrases import between, number
from salience.core.errors import SalienceError, UnsupportedError
from salience.core.finding import Control, Finding
from salience.core.metrics import PROBABLE, auroc, label_auroc, r2
from salience.core.stats import bootstrap, generator
from salience.data.kinds import KINDS
from salience.data.profile import Facts, guess

CARD = {
    "key": "leakage",
    "kind": "check",
    "order": 30,
    "title": "Leakage from a single column",
    "entry": "run",
    "summary": "Cross-validated score of every column alone (shallow tree, class rates of a category, TF-IDF with "
    "logistic regression), also of columns that were left out, beside a shuffled target. Of several targets the one "
    "that a column tells best, by one tree, mean or ridge regression for all of them.",
    "question": "Does one column alone nearly give the target away?",
    "tasks": ["classification", "regression", "multi-label", "multi-regression"],
    "pass": "no number or category alone reaches 0.90 AUROC (R²)",
    "warn": "one does, or a text or an image alone reaches 0.995",
    "fail": "one reaches 0.95 and at least 90 % of what the model gains over chance",
}
FAIL, WARN, WARN_TEXT, SHARE = 0.95, 0.90, 0.995, 0.90
FOLDS = 3
MIN_ROWS = 60
LIMIT = {"number": 6000, "category": 6000, "text": 3000, "image": 1500}
PLAIN = ("number", "category")


def run(context: AuditContext) -> list[Finding]:
    """Score every column alone on training rows, by cross validation.

    Raises:
        UnsupportedError: fewer than 60 training rows, or fewer than 3 rows of every class but one.
    """
    _require(context, context.truth("train"))
    rows = [_score_column(context, *column) for column in columns(context)]
    rows.sort(key=lambda row: -row["value"])
    inputs = [row for row in rows if row["used"] == "input"]
    plain = [row for row in inputs if row["kind"] in PLAIN] or inputs
    best = plain[0]
    return [_finding(context, rows, best, _verdict(context, inputs))]


def _require(context: AuditContext, truth: np.ndarray) -> None:
    counts = np.unique(truth, return_counts=True)[1]
    enough = context.task != "classification" or (counts >= FOLDS).sum() >= 2
    if len(truth) < MIN_ROWS or len(counts) < 2 or not enough:
        raise UnsupportedError(
            "Too few training rows to score single columns",
            f"{len(truth)} rows, {len(counts)} distinct targets.",
            f"Give at least {MIN_ROWS} rows and {FOLDS} of each class.",
        )


def columns(context: AuditContext) -> Iterator[tuple[str, str, pd.Series, str]]:
    """Yield name, kind, canonical training values and use of the inputs and of the columns that were left out."""
    inputs = context.inputs("train")
    for column in context.schema.inputs:
        yield column.name, column.kind, inputs[column.name], "input"
    raw = context.frame("train")
    for column in context.schema.columns:
        if column.role != "ignored" or column.name not in raw.columns:
            continue
        kind = _kind_of(raw[column.name])
        if kind:
            yield column.name, kind, KINDS[kind].parse(raw[column.name], ""), "left out"


def _kind_of(series: pd.Series) -> str | None:
    """Return the kind that a left-out column would have; None for ids, constants and what cannot be read."""
    try:
        found = guess(Facts(series, ""))
    except SalienceError:
        return None
    return found.kind if found.role == "input" and found.kind in PLAIN else None


def _score_column(
    context: AuditContext, name: str, kind: str, values: pd.Series, used: str
) -> dict[str, Any]:
    index = context.sample("train", LIMIT[kind], f"leakage {name}")
    truth, values = context.truth("train")[index], values.iloc[index].reset_index(drop=True)
    shuffled = generator(context.seed, "shuffled target", name).permutation(truth)
    told, y, p = _best_told(context, truth, cross_predict(context, kind, values, truth))
    score = SCORES[context.task]
    low, high = bootstrap(score, y, p, replicates=100, seed=context.seed)
    _, by_chance, guess = _best_told(context, shuffled, cross_predict(context, kind, values, shuffled))
    return {
        "column": name,
        **({"target": told} if truth.ndim == 2 else {}),
        "value": score(y, p),
        "low": low,
        "high": high,
        "control": score(by_chance, guess),
        "kind": kind,
        "used": used,
        "rows": len(truth),
    }


def _best_told(
    context: AuditContext, truth: np.ndarray, predicted: np.ndarray
) -> tuple[str, np.ndarray, np.ndarray]:
    """Return the target that is predicted best, with its truth and predictions; the only one where there is one."""
    if truth.ndim == 1:
        return context.schema.target.name, truth, predicted
    found = [SCORES[context.task](y, p) for y, p in zip(truth.T, predicted.T, strict=True)]
    best = int(np.argmax(np.nan_to_num(found, nan=-np.inf)))
    return context.schema.outputs[best], truth[:, best], predicted[:, best]


def cross_predict(context: AuditContext, kind: str, values: pd.Series, truth: np.ndarray) -> np.ndarray:
    """Return predictions of the target from one column, each by a model that did not see the row.

    Several targets share one model of numbers, in standard deviations; a label is the number 0 or 1.
    """
    classes = len(context.schema.classes) if context.task == "classification" else 0
    folds = _folds(truth, classes, context.seed)
    predicted = np.zeros((len(truth), classes)) if classes else np.zeros(truth.shape)
    spread = truth.std(axis=0) if truth.ndim == 2 else 1.0
    wanted = truth / np.where(spread == 0, 1.0, spread) if truth.ndim == 2 else truth
    for fold in range(FOLDS):
        held = folds == fold
        predicted[held] = FITS[kind](values[~held], wanted[~held], values[held], classes)
    return predicted * spread


def _folds(truth: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Return the fold of each row; every class is spread over the folds."""
    order = generator(seed, "leakage folds").permutation(len(truth))
    if classes:
        order = order[np.argsort(truth[order], kind="stable")]
    folds = np.empty(len(truth), dtype=int)
    folds[order] = np.arange(len(truth)) % FOLDS
    return folds


def _from_number(values: pd.Series, truth: np.ndarray, new: pd.Series, classes: int) -> np.ndarray:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    known, asked = values.to_numpy(dtype=float)[:, None], new.to_numpy(dtype=float)[:, None]
    options = {"max_depth": 4, "min_samples_leaf": max(len(truth) // 200, 5), "random_state": 0}
    if not classes:
        return DecisionTreeRegressor(**options).fit(known, truth).predict(asked)
    model = DecisionTreeClassifier(**options).fit(known, truth)
    return _spread(model.classes_, model.predict_proba(asked), classes)


def _from_category(values: pd.Series, truth: np.ndarray, new: pd.Series, classes: int) -> np.ndarray:
    """Return class rates (or target means) of the category among the known rows, pulled to the overall ones."""
    targets = np.eye(classes)[truth] if classes else truth.reshape(len(truth), -1).astype(float)
    overall, weight = targets.mean(axis=0), 5.0
    sums = pd.DataFrame(targets).groupby(values.fillna("").astype(str).to_numpy()).agg(["sum", "count"])
    totals, counts = sums.xs("sum", axis=1, level=1), sums.xs("count", axis=1, level=1)
    rates = (totals + weight * overall) / (counts + weight)
    found = rates.reindex(new.fillna("").astype(str).to_numpy()).to_numpy()
    result = np.where(np.isnan(found), overall, found)
    return result if classes or truth.ndim == 2 else result[:, 0]


def _from_text(values: pd.Series, truth: np.ndarray, new: pd.Series, classes: int) -> np.ndarray:
    features = TextFeatures(pairs=False, limit=20_000)
    return _from_matrix(features.fit_transform(values), truth, features.transform(new), classes)


def _from_image(values: pd.Series, truth: np.ndarray, new: pd.Series, classes: int) -> np.ndarray:
    return _from_matrix(pixel_matrix(values), truth, pixel_matrix(new), classes)


def _from_matrix(known: Any, truth: np.ndarray, new: Any, classes: int) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression, Ridge

    if known.shape[1] == 0:
        trivial = np.bincount(truth, minlength=classes) / len(truth) if classes else truth.mean(axis=0)
        return np.broadcast_to(trivial, (new.shape[0], *np.shape(trivial)))
    if not classes:
        return Ridge(1.0, solver="lsqr").fit(known, truth).predict(new)
    binary = len(np.unique(truth)) == 2
    model = LogisticRegression(
        C=3.0, solver="liblinear" if binary else "lbfgs", max_iter=1000, tol=1e-2, random_state=0
    )
    model.fit(known, truth)
    return _spread(model.classes_, model.predict_proba(new), classes)


def _spread(present: np.ndarray, probabilities: np.ndarray, classes: int) -> np.ndarray:
    result = np.zeros((len(probabilities), classes))
    result[:, present] = probabilities
    return result


SCORES = {"classification": auroc, "regression": r2, "multi-label": label_auroc, "multi-regression": r2}
FITS = {"number": _from_number, "category": _from_category, "text": _from_text, "image": _from_image}


def _model_score(context: AuditContext, row: dict[str, Any]) -> float:
    """Return how well the whole model predicts the target that a column tells best."""
    truth, predicted = context.truth("test"), context.predictions("test")
    if truth.ndim == 2:
        position = context.schema.outputs.index(row["target"])
        truth, predicted = truth[:, position], predicted[:, position]
    return SCORES[context.task](truth, predicted)


def _gives_away(context: AuditContext, row: dict[str, Any]) -> bool:
    chance = 0.5 if context.task in PROBABLE else 0.0
    lift = _model_score(context, row) - chance
    return row["value"] >= FAIL and row["value"] - chance >= SHARE * lift


def _verdict(context: AuditContext, inputs: list[dict[str, Any]]) -> str:
    plain = [row for row in inputs if row["kind"] in PLAIN]
    rich = [row for row in inputs if row["kind"] not in PLAIN]
    if any(_gives_away(context, row) for row in plain):
        return "fail"
    seen = any(row["value"] >= WARN for row in plain) or any(row["value"] >= WARN_TEXT for row in rich)
    return "warn" if seen else "pass"


def _finding(
    context: AuditContext, rows: list[dict[str, Any]], best: dict[str, Any], verdict: str
) -> Finding:
    unit = "AUROC" if context.task in PROBABLE else "R²"
    controls = [row["control"] for row in rows if row["used"] == "input"]
    interval = (best["low"], best["high"])
    what = "number or category" if best["kind"] in PLAIN else "column"
    about = f" (about the target {best['target']!r})" if "target" in best else ""
    text = (
        f"The {what} that says most alone is {best['column']!r}{about}: {unit} {number(best['value'])} by cross validation on "
        f"{best['rows']:,} training rows ({between(interval)}); the whole model reaches "
        f"{number(_model_score(context, best))} on the test rows. With a shuffled target the best input column "
        f"reaches {number(max(controls))}."
    )
    left_out = [row for row in rows if row["used"] == "left out" and row["value"] >= WARN]
    for row in left_out:
        text += f" Left out, rightly: {row['column']!r} alone would reach {number(row['value'])}."
    return make_finding(
        CARD,
        answer=text,
        verdict=verdict,
        value=best["value"],
        unit=unit,
        interval=interval,
        control=Control("best input column with a shuffled target", max(controls)),
        split="train",
        rows=best["rows"],
        advice=_advice(verdict, best["column"]),
        tables={"columns": rows},
    )


def _advice(verdict: str, column: str) -> str:
    if verdict == "pass":
        return ""
    return (
        f"Ask whether {column!r} is known at the moment of prediction. If it is written together with the target, "
        "or after it, leave it out and train again."
    )
