"""Decide what target columns ask for: which task, which classes; and read their values.

One target is a class or a number. Several targets are all numbers (``multi-regression``), or all labels
(``multi-label``): columns of 0 and 1, false and true, or no and yes, each of which is predicted on its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from salience.core.errors import DataError, nearest
from salience.data.kinds import KINDS, MISSING_NUMBERS, not_numbers, to_numbers
from salience.data.places import cells, rows, sentence
from salience.data.profile import MAX_CATEGORIES, NUMERIC_SHARE, Facts, missing_positions

SEVERAL = {
    "classification": "multi-label",
    "regression": "multi-regression",
}  # what several targets make of it
TASKS = (*SEVERAL, *SEVERAL.values())
LABELS = {"0": 0, "1": 1, "false": 0, "true": 1, "no": 0, "yes": 1}
MAX_INTEGER_CLASSES = 20


@dataclass(frozen=True)
class TargetGuess:
    """The task that a target column asks for, its classes (sorted; the last of two is the positive one), and why."""

    task: str
    classes: list[str] | None
    reason: str


def target_names(target: Any, columns: Sequence[Any]) -> list[Any]:
    """Return the target columns that are asked for.

    Args:
        target: a name, a list of names, several names with commas between them, or None for no target. A column whose
            own name holds a comma is found first.
        columns: names of the table's columns.
    """
    if target is None:
        return []
    if isinstance(target, list | tuple):
        return list(dict.fromkeys(target))
    if not isinstance(target, str) or target in columns or "," not in target:
        return [target]
    return list(dict.fromkeys(part.strip() for part in target.split(",") if part.strip()))


def guess_targets(
    frame: pd.DataFrame,
    names: Sequence[Any],
    *,
    task: str | None = None,
    missing: str = "error",
    source: str = "",
) -> dict[Any, TargetGuess]:
    """Decide the task of one or several target columns; all of them get the same.

    Args:
        frame: the raw table.
        names: the target columns.
        task: to decide it from outside; ``"classification"`` and ``"regression"`` mean labels and numbers where there
            are several targets.
        missing: as for :func:`guess_target`.
        source: name of the table, for messages.

    Raises:
        DataError: as :func:`guess_target`; several targets that are neither all numbers nor all labels, or one target
            for a task of several (SAL-D029).
    """
    if len(names) > 1:
        task = SEVERAL.get(task or "", task)
        found = {name: _one_of_several(frame[name], task, missing, source) for name in names}
        if len({guess.task for guess in found.values()}) > 1:
            raise _mixture({name: guess.reason for name, guess in found.items()}, source)
        return found
    if task in SEVERAL.values():
        raise DataError(
            f"The task {task!r} needs several targets",
            sentence(source, f"{', '.join(map(repr, names))} only"),
            "Name more columns (--target a,b), or leave the task out.",
            code="SAL-D029",
        )
    return {name: guess_target(frame[name], task=task, missing=missing, source=source) for name in names}


def _one_of_several(series: pd.Series, task: str | None, missing: str, source: str) -> TargetGuess:
    """Return what one of several targets is; the reason says why, or what stands against it."""
    facts = Facts(series, source)
    _refuse_missing(series, facts, missing, source)
    values = facts.values
    if not facts.comparable or pd.api.types.is_datetime64_any_dtype(series.dtype):
        raise _unusable(series, "dates, lists, dictionaries or pictures", source)
    labels, bad = to_labels(values)
    if not len(bad) and task != "multi-regression":
        if len(np.unique(labels)) < 2:
            raise _one_value(values, source)
        return TargetGuess("multi-label", None, f"0 and 1, {100 * labels.mean():.1f} % are 1 → multi-label")
    if task == "multi-label":
        raise no_label(values, bad, source)
    if len(to_numbers(values)[1]) == len(values):
        return TargetGuess("neither", None, f"{facts.distinct:,} named values")
    return _regression(values, facts, source, "multi-regression")


def to_labels(series: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return 0 or 1 for each value, and the positions that are neither (0 stands there)."""
    written = [LABELS.get(str(name).lower()) for name in KINDS["category"].parse(series)]
    bad = [i for i, label in enumerate(written) if label is None]
    return np.asarray([label or 0 for label in written], dtype=np.int64), np.asarray(bad, dtype=int)


def no_label(series: pd.Series, bad: np.ndarray, source: str) -> DataError:
    """Return the error that names the cells of a label that are neither 0 nor 1."""
    return DataError(
        f"The label {str(series.name)!r} holds values that are neither 0 nor 1",
        sentence(source, cells(series, bad)),
        "Write 0 and 1, false and true, or no and yes; make a column of 0 and 1 for each class of a longer list.",
        code="SAL-D029",
    )


def _mixture(reasons: dict[Any, str], source: str) -> DataError:
    told = "; ".join(f"{str(name)!r}: {reason}" for name, reason in list(reasons.items())[:4])
    return DataError(
        "The targets are neither all numbers nor all labels",
        sentence(source, told),
        "Train one model for the numbers and one for the labels (columns of 0 and 1); or read 0 and 1 as numbers: "
        "task=multi-regression.",
        code="SAL-D029",
    )


def parse_target(
    series: pd.Series, task: str | None, classes: list[str] | None, source: str = ""
) -> pd.Series:
    """Return canonical values of a target: class names, float64 numbers, or 0 and 1 as int64.

    Raises:
        DataError: a missing value (SAL-D021), an unseen class (SAL-D025), no label (SAL-D029), no number (SAL-D030).
    """
    absent = missing_positions(series)
    if len(absent):
        raise no_target(series, absent, source)
    if task in ("regression", "multi-regression"):
        return KINDS["number"].parse(series, source)
    if task == "multi-label":
        labels, bad = to_labels(series)
        if len(bad):
            raise no_label(series, bad, source)
        return pd.Series(labels, index=series.index, name=series.name)
    names, known = KINDS["category"].parse(series, source), classes or []
    unseen = np.flatnonzero(~names.isin(known).to_numpy())
    if len(unseen):
        raise DataError(
            f"The target {str(series.name)!r} holds a class that was not there before",
            sentence(source, cells(names, unseen)),
            nearest(str(names.iloc[unseen[0]]), known),
            code="SAL-D025",
        )
    return names


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


def _regression(values: pd.Series, facts: Facts, source: str, task: str = "regression") -> TargetGuess:
    numbers, bad = to_numbers(values)
    odd = [i for i in range(len(values)) if _written_missing(values.iloc[i])]
    if len(bad) or odd:
        raise not_numbers(values, np.asarray(sorted({*bad, *odd}), dtype=int), source)
    if numbers.nunique() < 2:
        raise _one_value(values, source)
    return TargetGuess(task, None, f"numbers, {facts.distinct:,} distinct → {task}")


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
    cure = "Ask for regression (--set task=regression)" if numeric else "Group the values into fewer classes"
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
