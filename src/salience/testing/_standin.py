"""Temporary kinds and schema, until the data layer lands."""

from dataclasses import dataclass
from typing import Any

from salience.core.unit import Unit
from salience.data.words import cut


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    kind: str
    role: str
    reason: str
    missing: int
    distinct: int
    examples: tuple
    baseline: Any


@dataclass(frozen=True)
class Schema:
    """All columns."""

    columns: tuple[Column, ...]
    task: str
    classes: list[str] | None = None

    @property
    def inputs(self) -> list[Column]:
        """Return the inputs."""
        return [c for c in self.columns if c.role == "input"]

    @property
    def target(self) -> Column | None:
        """Return the target."""
        return next((c for c in self.columns if c.role == "target"), None)

    def parse(self, frame):
        """Return the frame."""
        return frame


class _Text:
    def units(self, column, value):
        return tuple(Unit(column, "text", value[a:b], (a, b)) for a, b in cut(value))

    def remove(self, value, units, baseline):
        for unit in sorted(units, key=lambda u: -u.locator[0]):
            a, b = (int(x) for x in unit.locator)
            value = value[:a] + " " + value[b:]
        return " ".join(value.split())


class _Cell:
    def __init__(self, kind):
        self.kind = kind

    def units(self, column, value):
        return (Unit(column, self.kind, f"{column} = {value}"),)

    def remove(self, value, units, baseline):
        return baseline if units else value


KINDS = {"text": _Text(), "number": _Cell("number"), "category": _Cell("category")}
