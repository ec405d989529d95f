"""Estimators of scikit-learn's kind: ``SalienceClassifier`` and ``SalienceRegressor``."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from salience.api import Predictor
from salience.core.errors import SalienceError
from salience.core.stats import generator
from salience.data.kinds import to_label
from salience.data.schema import Column, Schema, infer
from salience.explain.explanation import Explanation

__all__ = ["SalienceClassifier", "SalienceRegressor"]


class _SalienceEstimator(BaseEstimator):
    """Hold what classifier and regressor share: rows in, a fitted predictor inside."""

    def __init__(
        self,
        *,
        preset: str = "good",
        kinds: Mapping[str, str] | None = None,
        time_limit: float | None = None,
        validation_fraction: float = 0.1,
        overrides: Sequence[str] = (),
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.preset = preset
        self.kinds = kinds
        self.time_limit = time_limit
        self.validation_fraction = validation_fraction
        self.overrides = overrides
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """Say what scikit-learn may expect: a missing number is no error, it has a vector of its own."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def explain(self, X: Any, *, method: str | None = None, target: Any = "predicted") -> list[Explanation]:
        """Explain rows: one number a cell or word, with a measurement of whether it is true.

        Args:
            X: rows, as for ``predict``.
            method: key of an explainer; see ``salience list explainers``.
            target: ``"predicted"``, the name of a class, or a pair of names.
        """
        check_is_fitted(self)
        frame = self._rows(X)
        with _as_value_error():
            return self.predictor_.explain(frame, method=method, target=target)

    def _training_rows(self, X: Any, y: Any, *, y_numeric: bool) -> tuple[pd.DataFrame, np.ndarray]:
        """Check training rows and targets as scikit-learn does, and return a table with names."""
        columns = (*getattr(y, "shape", ()), 1, 1)[1]
        if columns > 1:
            raise ValueError(
                f"{type(self).__name__} predicts one target; y should be a 1d array, got {columns} columns. "
                "Several targets are for salience.Predictor([name, …])."
            )
        if not _is_mixed(X):
            X, y = validate_data(
                self, X, y, y_numeric=y_numeric, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=2
            )  # fmt: skip
            return self._named(X), y
        validate_data(self, X, y, skip_check_array=True)
        y = column_or_1d(y, warn=True)
        if y_numeric:
            y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(X, y)
        if len(X) < 2:
            raise ValueError(f"Found array with {len(X)} sample(s) while a minimum of 2 is required.")
        return self._named(_finite(X)), y

    def _rows(self, X: Any) -> pd.DataFrame:
        """Check rows against those of ``fit``, and return a table with names."""
        if _is_mixed(X):
            return self._named(_finite(validate_data(self, X, reset=False, skip_check_array=True)))
        return self._named(
            validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        )

    def _named(self, X: Any) -> pd.DataFrame:
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(self.n_features_in_)])
        if isinstance(X, pd.DataFrame):
            return X.set_axis(list(names), axis=1).reset_index(drop=True)
        return pd.DataFrame(X, columns=list(names))

    def _fit_rows(self, frame: pd.DataFrame, target: np.ndarray, classes: list[str] | None) -> None:
        """Train a predictor; ``target`` holds class indices where there are classes."""
        name = "target"
        while name in frame.columns:
            name += "_"
        held = self._held_out(target, by_class=classes is not None)
        with _as_value_error():
            self.predictor_ = Predictor(
                name,
                preset=self.preset,
                time_limit=self.time_limit,
                seed=self._seed(),
                overrides=list(self.overrides),
            )
            inputs = self._inputs(frame)
            column = Column(name, "category" if classes else "number", "target")
            task = "classification" if classes else "regression"
            schema = Schema((*inputs.columns, column), task, classes)
            table = frame.assign(**{name: np.array(classes, dtype=object)[target] if classes else target})
            train, validation = (table[~held], table[held]) if held.any() else (table, table)
            self.predictor_.fit_split(schema, train, validation)
        self.n_iter_ = len(self.predictor_.history.epochs)

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _inputs(self, frame: pd.DataFrame) -> Schema:
        """Find out what each column is; numbers stay numbers unless ``kinds`` says otherwise."""
        numbers = {name: "number" for name in frame.columns if _is_number(frame[name])}
        return infer(frame, None, kinds=numbers | dict(self.kinds or {}))

    def _held_out(self, target: np.ndarray, *, by_class: bool) -> np.ndarray:
        """Mark validation rows, drawn by class for a classifier; none where the share is less than a row."""
        rng = generator(0, "sklearn", "validation")
        held = np.zeros(len(target), dtype=bool)
        for value in np.unique(target) if by_class else [None]:
            rows = np.flatnonzero(target == value) if by_class else np.arange(len(target))
            held[rng.permutation(rows)[: int(len(rows) * self.validation_fraction)]] = True
        return held


class SalienceClassifier(ClassifierMixin, _SalienceEstimator):
    """Classify rows of numbers, or of a data frame with text, categories and images too.

    Args:
        preset: ``"fast"``, ``"good"`` or ``"best"``.
        kinds: column → ``"text"``, ``"image"``, ``"number"``, ``"category"`` or ``"ignored"``, where the guess is
            wrong. Columns of a numeric type are numbers.
        time_limit: minutes of training.
        validation_fraction: share of the rows that decides when training stops, in [0, 1); where it is less than
            one row, the training rows decide.
        overrides: options as ``"training.epochs=3"``.
        random_state: seed of weights, batches and dropout.

    Attributes:
        classes_: labels of the classes, sorted.
        n_features_in_: number of columns.
        feature_names_in_: their names, where they have names.
        n_iter_: epochs that were run.
        predictor_: the fitted :class:`~salience.api.Predictor`.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> SalienceClassifier(preset="fast").fit(X, y).score(X, y) > 0.8
        True
    """

    def fit(self, X: Any, y: Any) -> "SalienceClassifier":
        """Train.

        Args:
            X: an array of numbers (row, column), NaN where missing, or a data frame.
            y: one label a row, at least two different ones.
        """
        frame, y = self._training_rows(X, y, y_numeric=False)
        check_classification_targets(y)
        self.classes_, target = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"SalienceClassifier needs at least two classes; y holds one class: {self.classes_[0]}."
            )
        self._fit_rows(frame, target, _class_names(self.classes_))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the calibrated probability of each class, one column a class in the order of ``classes_``."""
        check_is_fitted(self)
        frame = self._rows(X)
        with _as_value_error():
            return self.predictor_.predict_proba(frame).to_numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each row."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]


class SalienceRegressor(RegressorMixin, _SalienceEstimator):
    """Predict a number from rows of numbers, or of a data frame with text, categories and images too.

    Arguments and attributes are those of :class:`SalienceClassifier`, without ``classes_``.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> SalienceRegressor(preset="fast").fit(X, y).score(X, y) > 0.3
        True
    """

    def fit(self, X: Any, y: Any) -> "SalienceRegressor":
        """Train.

        Args:
            X: an array of numbers (row, column), NaN where missing, or a data frame.
            y: one number a row.
        """
        frame, y = self._training_rows(X, y, y_numeric=True)
        self._fit_rows(frame, np.asarray(y, dtype=np.float64), None)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted number of each row, in units of ``y``."""
        check_is_fitted(self)
        frame = self._rows(X)
        with _as_value_error():
            return self.predictor_.predict(frame).to_numpy(dtype=np.float64)


def _class_names(classes: np.ndarray) -> list[str]:
    """Return how labels are written in explanations; numbered where two labels would be written alike."""
    names = [to_label(value) for value in classes]
    if None in names or len(set(names)) < len(names):
        return [f"class {i}" for i in range(len(names))]
    return names


def _is_number(series: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_bool_dtype(series.dtype)


def _is_mixed(X: Any) -> bool:
    """Say whether rows are a data frame with other columns than numbers."""
    return isinstance(X, pd.DataFrame) and not all(_is_number(X.iloc[:, i]) for i in range(X.shape[1]))


def _finite(X: pd.DataFrame) -> pd.DataFrame:
    """Return a data frame; infinity is refused, as it is in arrays."""
    numbers = X.select_dtypes("number").to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(numbers).any():
        raise ValueError("Input X contains infinity or a value too large for dtype('float64').")
    return X


@contextmanager
def _as_value_error() -> Iterator[None]:
    """Raise our errors as the kind that scikit-learn's tools expect."""
    try:
        yield
    except SalienceError as error:
        raise ValueError(str(error)) from None
