"""What each column is: kind, role, and why; inferred, shown, overridable, saved as JSON.

Policy for what is missing or unseen:

* inputs: a missing text is empty, a missing number is NaN, a missing category or image is None; the encoders
  give each its own representation. Infinity counts as missing.
* a category that training rows do not hold is left as it is; the encoder maps it to its bucket for the unseen.
  Of a column with more than 1,000 categories, :meth:`Schema.fitted` keeps the 1,000 most frequent of the
  training rows, and the others are read as :data:`RARE`.
* target: a missing value is an error that names the rows, or with ``missing_target="drop"`` the row is left out
  by :meth:`Schema.parse`, with several targets where any of them is missing. A class that was not there when the
  schema was inferred is an error.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from salience.core.errors import DataError, IntegrityError, nearest
from salience.core.io import read_json, write_json
from salience.data.kinds import KINDS
from salience.data.places import sentence
from salience.data.profile import (
    MAX_CATEGORIES,
    Facts,
    Guess,
    guess,
    present_positions,
)
from salience.data.target import TASKS, guess_targets, parse_target, target_names

ROLES = ("input", "target", "ignored", "group", "time", "split")
ROLES_ON_REQUEST = ("ignored", "group", "time", "split")
RARE = "(rare)"


@dataclass(frozen=True)
class Column:
    """Describe one column.

    Attributes:
        name: name in the table.
        kind: ``text``, ``image``, ``number`` or ``category``; ``time`` or ``other`` for columns that are no input.
        role: ``input``, ``target``, ``ignored``, ``group``, ``time`` or ``split``.
        reason: why, in words.
        missing: rows without a value, when inferred.
        distinct: distinct values, when inferred.
        examples: up to three values, short.
        baseline: the neutral value, from training rows (None before :meth:`Schema.fitted`).
        categories: the categories that are kept; empty where all are.
    """

    name: str
    kind: str
    role: str
    reason: str = ""
    missing: int = 0
    distinct: int = 0
    examples: tuple[str, ...] = ()
    baseline: Any = None
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Schema:
    """Describe a table: its columns and what is asked of it.

    Attributes:
        columns: all columns, in the order of the table.
        task: ``"classification"`` or ``"regression"`` of one target, ``"multi-label"`` or ``"multi-regression"`` of
            several; None without a target.
        classes: names of the classes, sorted; the last of two is the positive one. None but for classification.
        source: name of the table, for messages.
        missing_target: ``"error"`` or ``"drop"``.
    """

    columns: tuple[Column, ...]
    task: str | None = None
    classes: list[str] | None = None
    source: str = ""
    missing_target: str = "error"

    @property
    def inputs(self) -> list[Column]:
        """The columns that a model reads."""
        return self.having("input")

    @property
    def targets(self) -> list[Column]:
        """The columns to predict."""
        return self.having("target")

    @property
    def target(self) -> Column | None:
        """The column to predict; the first of several."""
        return next(iter(self.targets), None)

    @property
    def target_name(self) -> str | tuple[str, ...]:
        """The name of the target, or the names of several, as options take them."""
        names = tuple(column.name for column in self.targets)
        return names if len(names) > 1 else names[0]

    @property
    def target_title(self) -> str:
        """The targets as a person reads them: three names, or how many there are."""
        names = [column.name for column in self.targets]
        if len(names) > 3:
            return f"{len(names)} targets ({names[0]}, …, {names[-1]})"
        return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)

    @property
    def outputs(self) -> list[str]:
        """What a model's outputs are called: the classes, else the targets."""
        return list(self.classes) if self.classes else [column.name for column in self.targets]

    def having(self, role: str) -> list[Column]:
        """Return the columns of a role."""
        return [column for column in self.columns if column.role == role]

    def column(self, name: str) -> Column:
        """Return a column by name.

        Raises:
            DataError: no such column (SAL-D026).
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise _unknown_column(name, [column.name for column in self.columns], self.source)

    def parse(self, frame: pd.DataFrame, *, target: bool | None = None) -> pd.DataFrame:
        """Return canonical values of the input columns, and of the target.

        Args:
            frame: raw rows.
            target: True needs the targets, False leaves them out, None takes them where the frame has them all.

        Returns:
            One column an input (see :mod:`salience.data.kinds`), and the targets as class name, float64, or label of
            0 and 1. The index is kept; rows without a target are left out where ``missing_target`` is ``"drop"``.

        Raises:
            DataError: an absent column (SAL-D031), a value that does not fit its kind (SAL-D030, SAL-D032,
                SAL-D040), a missing target (SAL-D021), an unseen class (SAL-D025), no label (SAL-D029).
        """
        wanted = self._with_targets(frame, target)
        if self.missing_target == "drop":
            for column in wanted:
                frame = frame.iloc[present_positions(frame[column.name])]
        parsed = {c.name: self._parse_input(self._get(frame, c.name), c) for c in self.inputs}
        return pd.DataFrame(
            parsed | {c.name: self._parse_target(frame, c) for c in wanted}, index=frame.index
        )

    def _with_targets(self, frame: pd.DataFrame, target: bool | None) -> list[Column]:
        """Return the targets that are to be parsed: all of them, or none."""
        columns = [] if target is False else self.targets
        if target is None and not all(column.name in frame.columns for column in columns):
            return []
        for column in columns:
            self._get(frame, column.name)
        return columns

    def _get(self, frame: pd.DataFrame, name: str) -> pd.Series:
        if name not in frame.columns:
            names = [str(column) for column in frame.columns]
            raise DataError(
                f"Column {name!r} is missing from the data",
                sentence(self.source, f"{len(names)} columns"),
                nearest(name, names),
                code="SAL-D031",
            )
        return frame[name]

    def _parse_input(self, series: pd.Series, column: Column) -> pd.Series:
        values = KINDS[column.kind].parse(series, self.source)
        if column.categories:
            values = values.where(values.isin(column.categories) | values.isna(), RARE)
        return values

    def _parse_target(self, frame: pd.DataFrame, column: Column) -> pd.Series:
        return parse_target(self._get(frame, column.name), self.task, self.classes, self.source)

    def encode_target(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the target of raw or parsed rows.

        Returns:
            int64 class indices, or float64 values, one a row; of several targets ``(row, target)``, float64 values or
            int64 labels of 0 and 1.

        Raises:
            DataError: as :meth:`parse`; no target in the schema (SAL-D020).
        """
        if self.target is None:
            raise DataError(
                "The schema has no target", sentence(self.source), "Name a target.", code="SAL-D020"
            )
        values = [self._parse_target(frame, column) for column in self.targets]
        if self.task == "classification":
            index = {name: i for i, name in enumerate(self.classes or [])}
            return np.asarray([index[label] for label in values[0]], dtype=np.int64)
        found = [v.to_numpy(dtype=np.int64 if self.task == "multi-label" else np.float64) for v in values]
        return found[0] if self.task == "regression" else np.stack(found, axis=1)

    def fitted(self, train: pd.DataFrame) -> "Schema":
        """Return the schema with neutral values and kept categories, from training rows only.

        Args:
            train: raw or parsed training rows.
        """
        columns = [self._fitted(train, c) if c.role == "input" else c for c in self.columns]
        return replace(self, columns=tuple(columns))

    def _fitted(self, train: pd.DataFrame, column: Column) -> Column:
        kind = KINDS[column.kind]
        values = kind.parse(self._get(train, column.name), self.source)
        kept: tuple[str, ...] = ()
        if column.kind == "category":
            counts = values.value_counts()
            kept = tuple(counts.index[:MAX_CATEGORIES]) if len(counts) > MAX_CATEGORIES else ()
        return replace(column, baseline=kind.baseline(values), categories=kept)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a column: role, kind, missing, distinct, examples, reason."""
        names = ("name", "role", "kind", "missing", "distinct", "examples", "reason")
        rows = [{**asdict(c), "examples": ", ".join(c.examples)} for c in self.columns]
        return pd.DataFrame(rows, columns=list(names)).rename(columns={"name": "column"})

    def to_json(self) -> dict[str, Any]:
        """Return the schema as JSON-ready data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Schema":
        """Rebuild a schema from :meth:`to_json`.

        Raises:
            IntegrityError: the data are no schema.
        """
        try:
            columns = tuple(_column_from_json(column) for column in data["columns"])
            return cls(**{**data, "columns": columns})
        except (TypeError, KeyError) as error:
            raise IntegrityError("The schema cannot be read", str(error), "Infer it again.") from None

    def save(self, path: Path | str) -> Path:
        """Write the schema as JSON."""
        return write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path | str) -> "Schema":
        """Read a schema that :meth:`save` wrote."""
        return cls.from_json(read_json(path))

    def __str__(self) -> str:
        return self.to_frame().to_string(index=False)


def _column_from_json(data: Mapping[str, Any]) -> Column:
    column = Column(**{**data, "examples": tuple(data["examples"]), "categories": tuple(data["categories"])})
    if column.role not in ROLES or (column.role == "input" and column.kind not in KINDS):
        raise KeyError(f"column {column.name!r} has role {column.role!r} and kind {column.kind!r}")
    return column


def infer(
    frame: pd.DataFrame,
    target: str | Sequence[str] | None,
    *,
    kinds: Mapping[str, str] | None = None,
    drop: Iterable[str] = (),
    task: str | None = None,
    source: str = "",
    missing_target: str = "error",
) -> Schema:
    """Infer what each column is.

    Args:
        frame: raw rows.
        target: the column to predict, or several; see :func:`salience.data.target.target_names`. None for inputs only.
        kinds: kinds that override the guess; also ``"ignored"``, ``"group"``, ``"time"`` and ``"split"``.
            A target of kind ``number`` asks for regression, of kind ``category`` for classification.
        drop: columns to leave out.
        task: one of :data:`salience.data.target.TASKS`, to decide it from outside.
        source: name of the table, for messages.
        missing_target: ``"error"``, or ``"drop"`` to leave out rows without a target.

    Raises:
        DataError: see ``docs/errors.md``; the message names the table, rows and column.
    """
    kinds, drop = dict(kinds or {}), list(drop)
    _check_frame(frame, source)
    targets = target_names(target, list(frame.columns))
    _check_options(frame, targets, kinds, drop, task, missing_target, source)
    wanted = _asked_task(task, [kinds[name] for name in targets if name in kinds])
    asked = guess_targets(frame, targets, task=wanted, missing=missing_target, source=source)
    columns = []
    for name in frame.columns:
        facts, target_guess = Facts(frame[name], source), asked.get(name)
        if target_guess:
            kind = "number" if target_guess.task.endswith("regression") else "category"
            found = Guess(kind, "target", target_guess.reason)
        else:
            found = _decide(facts, kinds.get(name), name in drop)
        columns.append(
            Column(name, found.kind, found.role, found.reason, facts.missing, facts.distinct, facts.examples)
        )
    first = next(iter(asked.values()), None)
    task, classes = (first.task, first.classes) if first else (None, None)
    schema = Schema(tuple(columns), task, classes, source, missing_target)
    _check_inputs(schema)
    return schema


def _decide(facts: Facts, kind: str | None, dropped: bool) -> Guess:
    if dropped:
        return Guess("other", "ignored", "left out on request")
    if kind in KINDS:
        KINDS[kind].parse(facts.series, facts.source)
        return Guess(kind, "input", "named on request")
    if kind:
        return Guess("time" if kind == "time" else "other", kind, "named on request")
    found = guess(facts)
    if found.kind == "image" and found.role == "input":
        KINDS["image"].parse(facts.series, facts.source)
    return found


def _asked_task(task: str | None, kinds: list[str]) -> str | None:
    """Return the task that was asked for, by its name or by the kinds that targets were said to be of."""
    named = {{"number": "regression", "category": "classification"}[kind] for kind in kinds}
    return task or (named.pop() if len(named) == 1 else None)


def _check_frame(frame: pd.DataFrame, source: str) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            "A schema is inferred from a table",
            f"{type(frame).__name__}.",
            "Read it with salience.data.readers.read.",
            code="SAL-D015",
        )
    names = list(frame.columns)
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise DataError(
            f"Column {str(doubled)!r} occurs {names.count(doubled)} times",
            sentence(source),
            "Rename one of them.",
            code="SAL-D006",
        )
    if len(frame) == 0:
        raise DataError("The table has no rows", sentence(source), "Add rows.", code="SAL-D003")


def _check_options(
    frame: pd.DataFrame,
    targets: list[str],
    kinds: dict[str, str],
    drop: list[str],
    task: str | None,
    missing_target: str,
    source: str,
) -> None:
    names = list(frame.columns)
    for target in targets:
        if target not in names:
            raise absent_target(target, names, source)
    for name in [*kinds, *drop]:
        if name not in names:
            raise _unknown_column(name, names, source)
    for target in targets:
        if target in drop:
            raise DataError(
                f"The target {target!r} cannot be dropped", sentence(source), "Drop another.", code="SAL-D026"
            )
    for name, kind in kinds.items():
        allowed = ["number", "category"] if name in targets else [*KINDS, *ROLES_ON_REQUEST]
        _check_choice(kind, allowed, f"kind of column {name!r}")
    _check_choice(task, [*TASKS, None], "task")
    _check_choice(missing_target, ["error", "drop"], "missing_target")


def _check_choice(value: Any, allowed: list[Any], name: str) -> None:
    if value not in allowed:
        valid = [item for item in allowed if item]
        raise DataError(f"Unknown {name}: {value!r}", "", nearest(str(value), valid), code="SAL-D027")


def absent_target(target: str, names: list[Any], source: str) -> DataError:
    """Return the error that says that the target is no column of the table."""
    return DataError(
        f"The target {target!r} is no column of the data",
        sentence(source, f"{len(names)} columns"),
        nearest(target, [str(name) for name in names]),
        code="SAL-D020",
    )


def _unknown_column(name: str, names: list[Any], source: str) -> DataError:
    return DataError(
        f"There is no column {name!r}",
        sentence(source),
        nearest(name, [str(n) for n in names]),
        code="SAL-D026",
    )


def _check_inputs(schema: Schema) -> None:
    if schema.inputs:
        return
    why = "; ".join(f"{c.name!r} {c.reason}" for c in schema.columns[:4] if c.role != "target")
    raise DataError(
        "No column is left to learn from",
        sentence(schema.source, why),
        "Add a column, or name the kind of one: --kind COLUMN=category.",
        code="SAL-D028",
    )
