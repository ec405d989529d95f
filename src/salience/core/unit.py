"""A unit is what a person can point at: a word, an image region, a table cell."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unit:
    """Name one part of one row.

    Attributes:
        column: name of the column that holds the unit.
        kind: ``"text"``, ``"image"``, ``"number"`` or ``"category"``.
        label: what a person reads: the word, ``"Age = 34"``, ``"upper left"``.
        locator: where it is. Text: ``(start, stop)`` character offsets. Image: ``(left, top, right, bottom)``
            as fractions of width and height in [0, 1]. Number and category: ``()``, the whole cell.
    """

    column: str
    kind: str
    label: str
    locator: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the unit as a dictionary."""
        return {"column": self.column, "kind": self.kind, "label": self.label, "locator": list(self.locator)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Unit":
        """Rebuild a unit from :meth:`to_json`."""
        return cls(data["column"], data["kind"], data["label"], tuple(data["locator"]))
