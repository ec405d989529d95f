"""What each column is: kind, role, and why; inferred, shown, overridable, saved as JSON.

Policy for what is missing or unseen:

* inputs: a missing text is empty, a missing number is NaN, a missing category or image is None; the encoders
  give each its own representation. Infinity counts as missing.
* a category that training rows do not hold is left as it is; the encoder maps it to its bucket for the unseen.
  Of a column with more than 1,000 categories, :meth:`Schema.fitted` keeps the 1,000 most frequent of the
  training rows, and the others are read as :data:`RARE`.
* target: a missing value is an error that names the rows, or with ``missing_target="drop"`` the row is left out
  by :meth:`Schema.parse`. A class that was not there when the schema was inferred is an error.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from salience.core.errors import DataError, IntegrityError, nearest
from salience.core.io import read_json, write_json
from salience.data.kinds import KINDS
from salience.data.places import cells, sentence
from salience.data.profile import (
    MAX_CATEGORIES,
    Facts,
    Guess,
    guess,
    missing_positions,
    present_positions,
)
from salience.data.target import TASKS, guess_target, no_target

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
        task: ``"classification"`` or ``"regression"``; None without a target.
        classes: names of the classes, sorted; the last of two is the positive one. None for regression.
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
    def target(self) -> Column | None:
        """The column to predict."""
        return next(iter(self.having("target")), None)

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
            target: True needs the target, False leaves it out, None takes it where the frame has it.

        Returns:
            One column an input (see :mod:`salience.data.kinds`), and the target as class name or float64. The
            index is kept; rows without a target are left out where ``missing_target`` is ``"drop"``.

        Raises:
            DataError: an absent column (SAL-D031), a value that does not fit its kind (SAL-D030, SAL-D032,
                SAL-D040), a missing target (SAL-D021), an unseen class (SAL-D025).
        """
        wanted = self._with_target(frame, target)
        if wanted and self.missing_target == "drop":
            frame = frame.iloc[present_positions(frame[wanted.name])]
        parsed = {c.name: self._parse_input(self._get(frame, c.name), c) for c in self.inputs}
        if wanted:
            parsed[wanted.name] = self._parse_target(self._get(frame, wanted.name))
        return pd.DataFrame(parsed, index=frame.index)

    def _with_target(self, frame: pd.DataFrame, target: bool | None) -> Column | None:
        column = self.target
        if column is None or target is False:
            return None
        if column.name not in frame.columns and target is None:
            return None
        self._get(frame, column.name)
        return column

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

    def _parse_target(self, series: pd.Series) -> pd.Series:
        absent = missing_positions(series)
        if len(absent):
            raise no_target(series, absent, self.source)
        if self.task == "regression":
            return KINDS["number"].parse(series, self.source)
        labels = KINDS["category"].parse(series, self.source)
        unseen = np.flatnonzero(~labels.isin(self.classes or []).to_numpy())
        if len(unseen):
            raise DataError(
                f"The target {str(series.name)!r} holds a class that was not there before",
                sentence(self.source, cells(labels, unseen)),
                nearest(str(labels.iloc[unseen[0]]), self.classes or []),
                code="SAL-D025",
            )
        return labels

    def encode_target(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the target of raw or parsed rows: int64 class indices, or float64 values.

        Raises:
            DataError: as :meth:`parse`; no target in the schema (SAL-D020).
        """
        if self.target is None:
            raise DataError(
                "The schema has no target", sentence(self.source), "Name a target.", code="SAL-D020"
            )
        values = self._parse_target(self._get(frame, self.target.name))
        if self.task == "regression":
            return values.to_numpy(dtype=np.float64)
        index = {name: i for i, name in enumerate(self.classes or [])}
        return np.asarray([index[label] for label in values], dtype=np.int64)

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
    target: str | None,
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
        target: the column to predict; None for inputs only.
        kinds: kinds that override the guess; also ``"ignored"``, ``"group"``, ``"time"`` and ``"split"``.
            A target of kind ``number`` asks for regression, of kind ``category`` for classification.
        drop: columns to leave out.
        task: ``"classification"`` or ``"regression"`` to decide the task from outside.
        source: name of the table, for messages.
        missing_target: ``"error"``, or ``"drop"`` to leave out rows without a target.

    Raises:
        DataError: see ``docs/errors.md``; the message names the table, rows and column.
    """
    kinds, drop = dict(kinds or {}), list(drop)
    _check_frame(frame, source)
    _check_options(frame, target, kinds, drop, task, missing_target, source)
    columns, classes = [], None
    for name in frame.columns:
        facts = Facts(frame[name], source)
        if name == target:
            asked = guess_target(
                frame[name], task=_asked_task(task, kinds.get(name)), missing=missing_target, source=source
            )
            task, classes = asked.task, asked.classes
            found = Guess("category" if classes else "number", "target", asked.reason)
        else:
            found = _decide(facts, kinds.get(name), name in drop)
        columns.append(
            Column(name, found.kind, found.role, found.reason, facts.missing, facts.distinct, facts.examples)
        )
    schema = Schema(tuple(columns), task if target else None, classes, source, missing_target)
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


def _asked_task(task: str | None, kind: str | None) -> str | None:
    return task or {"number": "regression", "category": "classification"}.get(kind or "")


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
    target: str | None,
    kinds: dict[str, str],
    drop: list[str],
    task: str | None,
    missing_target: str,
    source: str,
) -> None:
    names = list(frame.columns)
    if target is not None and target not in names:
        raise absent_target(target, names, source)
    for name in [*kinds, *drop]:
        if name not in names:
            raise _unknown_column(name, names, source)
    if target in drop:
        raise DataError(
            f"The target {target!r} cannot be dropped", sentence(source), "Drop another.", code="SAL-D026"
        )
    for name, kind in kinds.items():
        allowed = ["number", "category"] if name == target else [*KINDS, *ROLES_ON_REQUEST]
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
