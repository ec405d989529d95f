"""Decide what a target column asks for: which task, which classes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from salience.core.errors import DataError
from salience.data.kinds import KINDS, MISSING_NUMBERS, not_numbers, to_numbers
from salience.data.places import rows, sentence
from salience.data.profile import MAX_CATEGORIES, NUMERIC_SHARE, Facts, missing_positions

TASKS = ("classification", "regression")
MAX_INTEGER_CLASSES = 20


@dataclass(frozen=True)
class TargetGuess:
    """The task that a target column asks for, its classes (sorted; the last of two is the positive one), and why."""

    task: str
    classes: list[str] | None
    reason: str


def guess_target(
    series: pd.Series, *, task: str | None = None, missing: str = "error", source: str = ""
) -> TargetGuess:
    """Decide the task of a target column.

    True or false, named values, and up to 20 distinct whole numbers with two rows each on average mean
    classification; other numbers mean regression.

    Args:
        series: the raw target column.
        task: ``"classification"`` or ``"regression"`` to decide it from outside.
        missing: ``"error"``, or ``"drop"`` where rows without a target will be left out.
        source: name of the table, for messages.

    Raises:
        DataError: rows without a target (SAL-D021), one class or value only (SAL-D022), too many classes
            (SAL-D023), values that cannot be a target (SAL-D024), numbers mixed with words (SAL-D030).
    """
    facts = Facts(series, source)
    _refuse_missing(series, facts, missing, source)
    values = facts.values
    if not facts.comparable:
        raise _unusable(series, "lists, dictionaries or pictures", source)
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        raise _unusable(series, "dates", source)
    task = task or _task(values, facts, source)
    return _regression(values, facts, source) if task == "regression" else _classification(values, source)


def _refuse_missing(series: pd.Series, facts: Facts, missing: str, source: str) -> None:
    absent = missing_positions(series)
    if len(absent) and len(absent) == len(series):
        raise DataError(
            f"The target {str(series.name)!r} is empty",
            sentence(source),
            "Name another target.",
            code="SAL-D021",
        )
    if len(absent) and missing == "error":
        raise no_target(series, absent, source)


def no_target(series: pd.Series, absent: np.ndarray, source: str) -> DataError:
    """Return the error that names the rows without a target."""
    return DataError(
        f"The target {str(series.name)!r} is missing in {len(absent):,} of {len(series):,} rows",
        sentence(source, rows(series.index, absent)),
        'Fill them in, or leave these rows out: missing_target="drop".',
        code="SAL-D021",
    )


def _task(values: pd.Series, facts: Facts, source: str) -> str:
    if pd.api.types.is_bool_dtype(values.dtype):
        return "classification"
    numbers, bad = to_numbers(values)
    if len(bad):
        few = len(bad) < (1 - NUMERIC_SHARE) * len(values)
        if few and not all(isinstance(values.iloc[i], bool) for i in bad):
            raise not_numbers(values, bad, source)
        return "classification"
    if numbers.isna().all():
        return "classification"
    whole = bool((numbers.dropna() == np.floor(numbers.dropna())).all())
    distinct = facts.distinct
    few = whole and distinct <= MAX_INTEGER_CLASSES and 2 * distinct <= len(values)
    return "classification" if few or distinct == 2 else "regression"


def _regression(values: pd.Series, facts: Facts, source: str) -> TargetGuess:
    numbers, bad = to_numbers(values)
    odd = [i for i in range(len(values)) if _written_missing(values.iloc[i])]
    if len(bad) or odd:
        raise not_numbers(values, np.asarray(sorted({*bad, *odd}), dtype=int), source)
    if numbers.nunique() < 2:
        raise _one_value(values, source)
    return TargetGuess("regression", None, f"numbers, {facts.distinct:,} distinct → regression")


def _written_missing(value: object) -> bool:
    return isinstance(value, str) and value.strip().lower() in MISSING_NUMBERS


def _classification(values: pd.Series, source: str) -> TargetGuess:
    labels = KINDS["category"].parse(values, source)
    classes = sort_classes(list(labels.unique()))
    if len(classes) < 2:
        raise _one_value(values, source)
    if len(classes) > MAX_CATEGORIES or (len(values) >= 20 and len(classes) > 0.5 * len(values)):
        raise _too_many(values, len(classes), source)
    shown = ", ".join(classes) if len(classes) <= 5 else f"{', '.join(classes[:4])}, …"
    return TargetGuess("classification", classes, f"{len(classes)} classes ({shown}) → classification")


def sort_classes(classes: list[str]) -> list[str]:
    """Return class names in order: by value where all are numbers, else by text."""
    try:
        return sorted(classes, key=lambda name: (float(name), name))
    except ValueError:
        return sorted(classes)


def _one_value(values: pd.Series, source: str) -> DataError:
    return DataError(
        f"The target {str(values.name)!r} has one value only",
        sentence(source, f"all {len(values):,} rows hold {str(values.iloc[0])!r}"),
        "Add rows with another value, or name another target.",
        code="SAL-D022",
    )


def _too_many(values: pd.Series, classes: int, source: str) -> DataError:
    numeric = not len(to_numbers(values)[1])
    cure = "Ask for regression (--task regression)" if numeric else "Group the values into fewer classes"
    return DataError(
        f"The target {str(values.name)!r} has too many classes",
        sentence(
            source,
            f"{classes:,} classes in {len(values):,} rows; the limit is {MAX_CATEGORIES:,}, and half the rows",
        ),
        f"{cure}, or name another target.",
        code="SAL-D023",
    )


def _unusable(series: pd.Series, held: str, source: str) -> DataError:
    return DataError(
        f"The column {str(series.name)!r} cannot be a target",
        sentence(source, f"it holds {held}"),
        "Name a column of numbers or of named values.",
        code="SAL-D024",
    )
