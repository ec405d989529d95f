"""A fitted scikit-learn estimator, seen as a black box."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from salience.core.errors import ConfigError, NotFittedError, UnsupportedError, nearest
from salience.data.kinds import to_label
from salience.explain.adapters.callable import TEXT, CallableModel, checked, input_rows

Rows = Callable[[pd.DataFrame], Any]


def from_sklearn(
    estimator: Any,
    frame: pd.DataFrame | pd.Series | np.ndarray | Sequence[str],
    *,
    target: str | None = None,
    kinds: Mapping[str, str] | None = None,
) -> CallableModel:
    """Return a fitted scikit-learn classifier or regressor, or a pipeline, as a model that can be explained.

    The estimator is called in the way it was fitted: on frames, on arrays, or on lists of texts. A classifier
    answers by ``predict_proba``, of which the clipped logarithm is taken as in :func:`from_callable`; one that has
    only ``decision_function`` answers by that, and its scores stand in place of logits.

    Args:
        estimator: fitted.
        frame: example rows as the estimator takes them: a frame (columns that it was not fitted on are left out), a
            list or column of texts, or an array (row, feature). Give the training rows: they give the neutral values.
        target: name of what is predicted.
        kinds: kind of columns that are guessed wrong.

    Raises:
        NotFittedError: the estimator is not fitted.
        UnsupportedError: a classifier that gives labels alone, or an estimator of several targets.
        ConfigError: the example is not what the estimator was fitted on.
    """
    _check_fitted(estimator)
    classes = _sklearn_classes(estimator)
    rows, call = _as_fitted(estimator, frame, target)
    if len(rows.columns) == 1 and not pd.api.types.is_numeric_dtype(rows.dtypes.iloc[0]):
        kinds = dict.fromkeys(rows.columns, "text") | dict(kinds or {})
    answer = checked(_predict(estimator, call, classes), classes, type(estimator).__name__)
    return CallableModel(answer, rows, target, classes, kinds)


def _check_fitted(estimator: Any) -> None:
    from sklearn.exceptions import NotFittedError as Unfitted
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except Unfitted:
        raise NotFittedError(
            "The estimator is not fitted", type(estimator).__name__, "Call its fit first."
        ) from None
    except TypeError:
        raise UnsupportedError(
            "This is no scikit-learn estimator", type(estimator).__name__, "Use from_callable for a function."
        ) from None


def _sklearn_classes(estimator: Any) -> list[str] | None:
    found = getattr(estimator, "classes_", None)
    if found is None:
        return None
    if isinstance(found, list):
        raise UnsupportedError(
            "An estimator of several targets has no single answer to explain",
            f"{len(found)} targets.",
            "Use from_callable with a function that gives the probabilities of one of them.",
        )
    return [to_label(value) or str(value) for value in found]


def _as_fitted(estimator: Any, frame: Any, target: str | None) -> tuple[pd.DataFrame, Rows]:
    """Return example rows as a frame, and what turns such frames into what the estimator takes."""
    names = getattr(estimator, "feature_names_in_", None)
    if isinstance(frame, pd.DataFrame):
        frame = frame if names is None else _fitted_columns(frame, list(names))
    elif getattr(frame, "ndim", 1) == 2:
        frame = pd.DataFrame(frame, columns=names if names is not None else _numbered(frame.shape[1]))
    else:
        frame = pd.DataFrame(
            {str(getattr(frame, "name", None) or TEXT): pd.Series(list(frame), dtype=object)}
        )
    rows = input_rows(frame, target)
    if names is not None:
        return rows, lambda part: part.set_axis(list(names), axis=1)
    if all(map(pd.api.types.is_numeric_dtype, rows.dtypes)):
        return rows, lambda part: part.to_numpy()
    if len(rows.columns) == 1:  # vectorisers take texts, and of a frame they would read the column's name
        return rows, lambda part: part.iloc[:, 0].tolist()
    return rows, lambda part: part


def _numbered(count: int) -> list[str]:
    return [f"feature {i}" for i in range(count)]


def _fitted_columns(frame: pd.DataFrame, names: list[Any]) -> pd.DataFrame:
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise ConfigError(
            f"The estimator was fitted on a column {absent[0]!r} that these rows lack",
            f"{len(absent)} of {len(names)} columns are missing.",
            nearest(str(absent[0]), map(str, frame.columns)),
            code="SAL-D031",
        )
    return frame[names]


def _predict(estimator: Any, call: Rows, classes: list[str] | None) -> Rows:
    """Return what the estimator says of a frame: numbers, or probabilities."""
    if classes is None:
        return lambda part: estimator.predict(call(part))
    if hasattr(estimator, "predict_proba"):
        return lambda part: estimator.predict_proba(call(part))
    if hasattr(estimator, "decision_function"):
        return lambda part: _shares(estimator.decision_function(call(part)))
    raise UnsupportedError(
        "A classifier that gives labels alone has nothing that changes little by little",
        f"{type(estimator).__name__} has neither predict_proba nor decision_function.",
        "Wrap it in CalibratedClassifierCV and fit that.",
    )


def _shares(scores: Float[np.ndarray, "..."]) -> Float[np.ndarray, "row output"]:
    """Return the softmax of scores; one score a row is that of the second class."""
    from scipy.special import softmax

    scores = np.stack([np.zeros_like(scores), scores], axis=1) if scores.ndim == 1 else scores
    return softmax(scores, axis=1)
