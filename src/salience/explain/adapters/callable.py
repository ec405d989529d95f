"""A function of data frames, seen as a black box."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from salience.core.errors import ConfigError, nearest
from salience.data.kinds import KINDS, is_missing, to_label
from salience.data.profile import Facts, guess
from salience.data.schema import Column
from salience.explain.adapters.base import Adapted, as_frame, check_answers, log_probabilities, schema_of

TEXT = "text"  # name of the column of a list of texts
Answer = Callable[[pd.DataFrame], Float[np.ndarray, "row output"]]


class CallableModel(Adapted):
    """A black box around a function of data frames.

    The function gets frames with the columns, order and types of the example: category names are turned back into
    the values that they came from, whole numbers into integers.

    Args:
        answer: from a frame as the user's to outputs.
        frame: example rows, input columns only; they are asked about once.
        target: name of what is predicted.
        classes: names of the classes; None for a number.
        kinds: kinds of columns that override the guess.
    """

    neutral_words = "empty texts, medians, the most frequent categories, the mean colour"

    def __init__(
        self,
        answer: Answer,
        frame: pd.DataFrame,
        target: str | None,
        classes: Sequence[str] | None,
        kinds: Mapping[str, str] | None,
    ) -> None:
        unknown = sorted(set(kinds or {}) - set(frame.columns))
        if unknown:
            raise ConfigError(
                f"There is no column {unknown[0]!r}",
                "",
                nearest(unknown[0], map(str, frame.columns)),
                code="SAL-C001",
            )
        self._answer, self._example = answer, frame.iloc[:0]
        columns = [_column(frame[name], (kinds or {}).get(name)) for name in frame]
        self.schema = schema_of(columns, target, classes)
        self._values = {c.name: _originals(frame[c.name]) for c in columns if c.kind == "category"}
        self.outputs(self.frame(frame.iloc[:2]))  # so that what is wrong shows at once

    def outputs(self, frame: pd.DataFrame) -> Float[np.ndarray, "row output"]:
        """Return logits of each class, or the predicted number."""
        if not len(frame):
            return np.zeros((0, len(self.schema.classes or [None])))
        frame = frame.reset_index(drop=True)
        return self._answer(
            pd.DataFrame({c.name: self._restored(frame[c.name], c) for c in self.schema.inputs})
        )

    def _restored(self, series: pd.Series, column: Column) -> pd.Series:
        """Return canonical cells as the user's own column holds them."""
        dtype = self._example[column.name].dtype
        if column.kind == "category":
            found, missing = self._values[column.name]
            values = [missing if value is None else found.get(value, value) for value in series]
            return _cast(pd.Series(values, dtype=object), dtype)
        if column.kind == "number" and pd.api.types.is_integer_dtype(dtype):
            return _cast(series.round(), dtype)
        return _cast(series, dtype)


def _cast(series: pd.Series, dtype: Any) -> pd.Series:
    """Return a column in its type; as it is where a value does not fit, such as a missing one among integers."""
    try:
        return series.astype(dtype)
    except (TypeError, ValueError):
        return series.infer_objects()


def _originals(series: pd.Series) -> tuple[dict[str, Any], Any]:
    """Return the value of each category name, and the value of a missing cell."""
    found: dict[str, Any] = {}
    missing = None
    for value in series.drop_duplicates():
        if is_missing(value):
            missing = value
        else:
            found.setdefault(str(to_label(value)), value)
    return found, missing


def _column(series: pd.Series, kind: str | None) -> Column:
    name = str(series.name)
    if kind is not None and kind not in KINDS:
        raise ConfigError(
            f"Column {name!r} has an unknown kind {kind!r}", "", nearest(kind, KINDS), code="SAL-C001"
        )
    kind = kind or _kind(series)
    parsed = KINDS[kind].parse(series)
    neutral: Any = KINDS[kind].baseline(parsed)
    if kind == "category":  # a function need not know what is missing, but it knows the most frequent
        counts = parsed.value_counts()
        neutral = str(counts.index[0]) if len(counts) else None
    if kind == "number" and pd.api.types.is_integer_dtype(series.dtype):
        neutral = float(round(neutral))
    return Column(name, kind, "input", baseline=neutral)


def _kind(series: pd.Series) -> str:
    dtype = series.dtype
    if pd.api.types.is_bool_dtype(dtype):
        return "category"
    if pd.api.types.is_numeric_dtype(dtype):
        return "number"
    found = guess(Facts(series)).kind
    return found if found in ("text", "image") else "category"


def from_callable(
    predict: Callable[[pd.DataFrame], Any],
    frame: pd.DataFrame | Sequence[str],
    *,
    target: str | None = None,
    classes: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> CallableModel:
    """Return a function from a data frame to class probabilities, or to numbers, as a model that can be explained.

    Explanations are of log-odds. A function that gives probabilities has no logits, so their logarithm is taken,
    clipped at 1e-12; a probability of exactly 0 or 1 therefore has log-odds of ±27.6.

    Args:
        predict: takes rows as ``frame`` has them and returns, in their order, one line a row and one column a class
            (an array or a frame); for two classes the probability of the second is enough; without classes one
            number a row.
        frame: example rows: they give columns, types and neutral values (medians, most frequent categories), so
            give the training rows. A list of texts is one column, ``"text"``.
        target: name of what is predicted; a column of this name is no input.
        classes: names of the classes, in the order of the columns; None for numbers.
        kinds: kind of columns that are guessed wrong: ``"text"``, ``"number"``, ``"category"`` or ``"image"``.

    Raises:
        ConfigError: the answers have another shape, hold NaN, or are no probabilities (SAL-M003); unknown columns.
    """
    if not isinstance(frame, pd.DataFrame):
        kinds = {TEXT: "text"} | dict(kinds or {})
    rows = input_rows(as_frame(frame, [TEXT]), target)
    names = None if classes is None else [str(name) for name in classes]
    return CallableModel(checked(predict, names, "The function"), rows, target, names, kinds)


def input_rows(frame: pd.DataFrame, target: str | None) -> pd.DataFrame:
    """Return the input columns of example rows, with names that are text.

    Raises:
        ConfigError: there is no row or no column.
    """
    rows = frame.drop(columns=[target]) if target in frame.columns else frame
    if not len(rows.columns) or not len(rows):
        raise ConfigError(
            "Example rows are needed",
            f"{len(rows)} rows of {len(rows.columns)} input columns.",
            "Give the training rows, or some of them.",
        )
    return rows.set_axis([str(name) for name in rows.columns], axis=1)


def checked(predict: Callable[[pd.DataFrame], Any], classes: list[str] | None, source: str) -> Answer:
    """Return a function of frames whose answers are checked, and whose probabilities become logits."""

    def answer(frame: pd.DataFrame) -> Float[np.ndarray, "row output"]:
        found = np.asarray(predict(frame), dtype=np.float64)
        found = found[:, None] if found.ndim == 1 else found
        if classes and len(classes) == 2 and found.shape[1:] == (1,):
            found = np.concatenate([1 - found, found], axis=1)
        array = check_answers(found, len(frame), classes, source)
        return log_probabilities(array, classes, source) if classes else array

    return answer
