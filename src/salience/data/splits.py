"""Divide rows into train, validation and test: given, stratified, grouped, by time, or at random.

The division depends on the order of the rows, their values and the seed, never on the index of the frame.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from salience.core.errors import DataError, nearest
from salience.core.stats import generator
from salience.data.kinds import KINDS
from salience.data.places import cells, rows, sentence
from salience.data.profile import SPLIT_NAMES
from salience.data.schema import Schema
from salience.data.target import to_labels
from salience.data.times import to_times

NAMES = ("train", "validation", "test")
MIN_ROWS = 10


def split(
    frame: pd.DataFrame,
    schema: Schema,
    *,
    how: str = "auto",
    test: float = 0.2,
    validation: float = 0.1,
    seed: int = 0,
    column: str | None = None,
) -> pd.Series:
    """Say for each row to which split it belongs.

    ``auto`` takes a given split if the table has one, keeps groups together if the schema names a group column, and
    else stratifies by class (classification) or by set of labels (multi-label), or draws at random (regression). A
    class of one row goes to training, one of two to training and test.

    Args:
        frame: raw rows, with the columns that the way of splitting needs.
        schema: names target, task, group, time and split columns.
        how: ``auto given stratified random grouped time``.
        test: share of the rows for the test, in (0, 1).
        validation: share of the rows for validation, in [0, 1).
        seed: seed of the draw.
        column: the column of groups, times or given splits, where the schema does not say it.

    Returns:
        ``"train"``, ``"validation"`` or ``"test"`` a row, on the index of ``frame``; ``attrs["how"]`` and
        ``attrs["reason"]`` say how it was divided and why.

    Raises:
        DataError: fewer than ten rows or an empty split (SAL-D050), shares that leave nothing to train on
            (SAL-D051), a column that cannot divide rows (SAL-D052), an unknown way (SAL-D051).
    """
    if how not in ("auto", *WAYS):
        raise DataError(f"Unknown way to split {how!r}", "", nearest(how, ["auto", *WAYS]), code="SAL-D051")
    _check_shares(test, validation)
    way, column, reason = _choose(frame, schema, how, column)
    if len(frame) < MIN_ROWS:
        raise _too_few(frame, f"{len(frame)} rows, at least {MIN_ROWS} are needed", schema.source)
    names, remark = WAYS[way](frame, schema, test, validation, seed, column)
    empty = [name for name in NAMES if not (names == name).any() and (name != "validation" or validation)]
    if empty:
        raise _too_few(frame, f"{len(frame)} rows leave none for {empty[0]}", schema.source)
    result = pd.Series(names, index=frame.index, name="split", dtype=object)
    result.attrs = {"how": way, "reason": "; ".join(part for part in (reason, remark) if part)}
    return result


def _check_shares(test: float, validation: float) -> None:
    if not (0 < test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise DataError(
            "The shares of test and validation leave nothing to train on",
            f"test={test}, validation={validation}.",
            "Choose shares above 0 that sum to less than 1, such as test=0.2, validation=0.1.",
            code="SAL-D051",
        )


def _choose(frame: pd.DataFrame, schema: Schema, how: str, column: str | None) -> tuple[str, str | None, str]:
    """Return the way, the column that it needs, and why."""
    role = {"given": "split", "grouped": "group", "time": "time"}
    if how == "auto":
        for way in ("given", "grouped"):
            named = [c.name for c in schema.having(role[way]) if c.name in frame.columns]
            if named:
                return way, named[0], f"the table has the {role[way]} column {named[0]!r}"
        return ("stratified" if schema.task in STRATA else "random"), None, ""
    if how not in role:
        return how, None, "asked for"
    named = [column] if column else [c.name for c in schema.having(role[how])]
    if not named:
        raise DataError(
            f"A {how} split needs a column",
            sentence(schema.source, "the table has no such column by its names and values"),
            "Name it: column=NAME.",
            code="SAL-D052",
        )
    if named[0] not in frame.columns:
        raise DataError(
            f"There is no column {named[0]!r} to split by",
            sentence(schema.source),
            nearest(named[0], map(str, frame.columns)),
            code="SAL-D052",
        )
    return how, named[0], "asked for"


def _too_few(frame: pd.DataFrame, what: str, source: str) -> DataError:
    return DataError(
        "There are too few rows to split",
        sentence(source, what),
        "Add rows, change the shares, or give a split column with train, validation and test.",
        code="SAL-D050",
    )


def _take(order: np.ndarray, test: float, validation: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions for test and validation from the end of an order."""
    tests = max(1, round(test * len(order)))
    validations = max(1, round(validation * len(order))) if validation else 0
    cut = len(order) - tests
    return order[cut:], order[max(cut - validations, 0) : cut]


def _labelled(size: int, test: np.ndarray, validation: np.ndarray) -> np.ndarray:
    names = np.full(size, "train", dtype=object)
    names[validation] = "validation"
    names[test] = "test"
    return names


def _random(
    frame: pd.DataFrame, schema: Schema, test: float, validation: float, seed: int, column: str | None
) -> tuple[np.ndarray, str]:
    order = generator(seed, "split").permutation(len(frame))
    return _labelled(len(frame), *_take(order, test, validation)), "drawn at random"


def _stratified(
    frame: pd.DataFrame, schema: Schema, test: float, validation: float, seed: int, column: str | None
) -> tuple[np.ndarray, str]:
    if schema.task not in STRATA:
        names, remark = _random(frame, schema, test, validation, seed, column)
        return names, f"{remark}: there are no classes to stratify by"
    codes, classes = pd.factorize(STRATA[schema.task](frame, schema), sort=False, use_na_sentinel=False)
    order = generator(seed, "split").permutation(len(frame))
    by_class = [order[codes[order] == code] for code in range(len(classes))]
    counts = np.asarray([len(positions) for positions in by_class])
    tests = _quota(counts, test, counts > 1)
    if validation:  # a class with three rows keeps one for each split
        tests = np.minimum(tests, np.maximum(counts - 2, 1))
        tests[counts < 2] = 0
    validations = _quota(counts, validation, counts > 2) if validation else np.zeros_like(counts)
    validations = np.minimum(validations, np.maximum(counts - tests - 1, 0))
    chosen_test = [p[:t] for p, t in zip(by_class, tests, strict=True)]
    chosen_validation = [p[t : t + v] for p, t, v in zip(by_class, tests, validations, strict=True)]
    names = _labelled(len(frame), np.concatenate(chosen_test), np.concatenate(chosen_validation))
    what = "class" if schema.task == "classification" else "set of labels, a rare set by its rarest label"
    return names, _rare(what, list(classes), counts)


def _classes(frame: pd.DataFrame, schema: Schema) -> np.ndarray:
    return KINDS["category"].parse(frame[schema.target.name], schema.source).to_numpy(dtype=object)


def _label_sets(frame: pd.DataFrame, schema: Schema) -> np.ndarray:
    """Return the set of labels of each row; where fewer than ten rows have it, its rarest label in its place."""
    known = [
        frame[c.name].notna().to_numpy() for c in schema.targets
    ]  # rows without a target are left out later
    labels = np.stack(
        [to_labels(frame[c.name].where(known[i], 0))[0] for i, c in enumerate(schema.targets)], axis=1
    )
    sets, number, counts = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(labels.sum(axis=0), kind="stable")
    rarest = order[sets[:, order].argmax(axis=1)]
    names = [
        ", ".join(c.name for c, held in zip(schema.targets, row, strict=True) if held) or "no label"
        if count >= MIN_ROWS or not row.any()
        else f"with {schema.targets[label].name}"
        for row, count, label in zip(sets, counts, rarest, strict=True)
    ]
    return np.asarray(names, dtype=object)[number.ravel()]


STRATA = {"classification": _classes, "multi-label": _label_sets}


def _quota(counts: np.ndarray, share: float, allowed: np.ndarray) -> np.ndarray:
    """Return how many rows of each class to take: by largest remainder, at least one where allowed, never all."""
    exact = counts * share
    taken = np.floor(exact).astype(int)
    short = round(counts.sum() * share) - taken.sum()
    remainders = np.argsort(-(exact - taken), kind="stable")
    taken[remainders[: max(short, 0)]] += 1
    taken = np.maximum(taken, 1)
    return np.where(allowed, np.minimum(taken, counts - 1), 0)


def _rare(what: str, classes: list[object], counts: np.ndarray) -> str:
    rare = [str(name) for name, count in zip(classes, counts, strict=True) if count < len(NAMES)]
    if not rare:
        return f"stratified by {what}"
    return f"stratified by {what}; too rare to be in every split: {', '.join(rare[:5])}"


def _grouped(
    frame: pd.DataFrame, schema: Schema, test: float, validation: float, seed: int, column: str | None
) -> tuple[np.ndarray, str]:
    found = KINDS["category"].parse(frame[column], schema.source)
    labels = [f"row {i}" if label is None else f"= {label}" for i, label in enumerate(found)]
    codes, groups = pd.factorize(np.asarray(labels, dtype=object))
    wanted = 3 if validation else 2
    if len(groups) < wanted:
        raise _cannot(column, f"it has {len(groups)} groups, at least {wanted} are needed", schema.source)
    order = generator(seed, "groups").permutation(len(groups))
    sizes = np.bincount(codes)
    tests = _fill(order, sizes, test * len(frame), len(groups) - wanted + 1)
    rest = order[len(tests) :]
    validations = _fill(rest, sizes, validation * len(frame), len(rest) - 1) if validation else rest[:0]
    names = _labelled(
        len(frame), np.flatnonzero(np.isin(codes, tests)), np.flatnonzero(np.isin(codes, validations))
    )
    return names, f"groups of {column!r} stay together ({len(groups):,} groups)"


def _fill(order: np.ndarray, sizes: np.ndarray, wanted: float, most: int) -> np.ndarray:
    """Return the first groups of an order whose sizes come nearest to a number of rows: at least one, at most ``most``."""
    reached = np.cumsum(sizes[order])
    count = int(np.argmin(np.abs(reached - wanted))) + 1
    return order[: min(max(count, 1), most)]


def _by_time(
    frame: pd.DataFrame, schema: Schema, test: float, validation: float, seed: int, column: str | None
) -> tuple[np.ndarray, str]:
    times = to_times(frame[column])
    unread = np.flatnonzero(times.isna().to_numpy())
    if len(unread):
        raise _cannot(column, f"no date or number: {cells(frame[column], unread)}", schema.source)
    moments = np.unique(times.to_numpy(), return_inverse=True)[1]
    order = np.argsort(moments, kind="stable")
    first_test = _boundary(moments[order], len(frame) - max(1, round(test * len(frame))))
    first_validation = first_test
    if validation:
        wanted = first_test - max(1, round(validation * len(frame)))
        first_validation = _boundary(moments[order][:first_test], wanted)
    names = _labelled(len(frame), order[first_test:], order[first_validation:first_test])
    return names, f"the latest rows by {column!r} are the test; equal times stay together"


def _boundary(moments: np.ndarray, position: int) -> int:
    """Move a boundary to where the time changes: forward, or back where there is no later change."""
    changes = np.flatnonzero(np.diff(moments)) + 1
    later = changes[changes >= position]
    if len(later):
        return int(later[0])
    return int(changes[-1]) if len(changes) else 0


def _given(
    frame: pd.DataFrame, schema: Schema, test: float, validation: float, seed: int, column: str | None
) -> tuple[np.ndarray, str]:
    names = np.full(len(frame), None, dtype=object)
    names[:] = [SPLIT_NAMES.get(str(value).strip().lower()) for value in frame[column]]
    unknown = np.flatnonzero(pd.isna(names))
    if len(unknown):
        raise _cannot(
            column, f"{rows(frame.index, unknown)} are not train, validation or test", schema.source
        )
    remark = f"as column {column!r} says"
    for absent, share in (("test", test), ("validation", validation)):
        if share and not (names == absent).any():
            names = _carve(frame, schema, names, absent, share, seed)
            remark += f"; {absent} taken from the training rows"
    return names, remark


def _carve(
    frame: pd.DataFrame, schema: Schema, names: np.ndarray, wanted: str, share: float, seed: int
) -> np.ndarray:
    """Take a split that was not given from the training rows."""
    train = np.flatnonzero(names == "train")
    if len(train) < 2:
        raise _too_few(frame, f"{len(train)} training rows", schema.source)
    inner = min(share * len(frame) / len(train), 0.5)
    parts, _ = _stratified(frame.iloc[train], schema, inner, 0.0, seed, None)
    names = names.copy()
    names[train[parts == "test"]] = wanted
    return names


def _cannot(column: str | None, why: str, source: str) -> DataError:
    return DataError(
        f"Column {column!r} cannot divide the rows",
        sentence(source, why),
        "Name another column, or another way to split (stratified, random, grouped, time, given).",
        code="SAL-D052",
    )


Way = Callable[[pd.DataFrame, Schema, float, float, int, str | None], tuple[np.ndarray, str]]
WAYS: dict[str, Way] = {
    "given": _given,
    "stratified": _stratified,
    "random": _random,
    "grouped": _grouped,
    "time": _by_time,
}
