"""A finding is the answer of one check: a value, its interval, its control, a verdict."""

from dataclasses import asdict, dataclass, field
from typing import Any

VERDICTS = ("pass", "warn", "fail", "info", "not measured")


@dataclass(frozen=True)
class Control:
    """State what a random or trivial answer scores on the same rows."""

    name: str
    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Cost:
    """State what a result cost."""

    seconds: float = 0.0
    forwards: int = 0


@dataclass(frozen=True)
class Finding:
    """Answer one question about a model or an explanation.

    Attributes:
        check: key of the check that produced it.
        question: the question in plain words.
        answer: one plain sentence with the numbers in it.
        verdict: one of :data:`VERDICTS`; ``"info"`` where no threshold applies.
        value: the measured value, None if not measured.
        unit: unit of the value (``"AUROC"``, ``"log-odds"``, ``"s"``).
        interval: 95 % interval of the value.
        control: what a random or trivial answer scores.
        split: rows that were measured (``"test"``).
        rows: number of those rows.
        advice: what to do about it; empty if nothing.
        tables: named evidence tables, each a list of flat dictionaries.
        cost: seconds and model forwards spent.
    """

    check: str
    question: str
    answer: str
    verdict: str
    value: float | None = None
    unit: str = ""
    interval: tuple[float, float] | None = None
    control: Control | None = None
    split: str = "test"
    rows: int = 0
    advice: str = ""
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    cost: Cost = Cost()

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict must be one of {VERDICTS}, got {self.verdict!r}")

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON-ready data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Finding":
        """Rebuild a finding from :meth:`to_json`."""
        fields = dict(data)
        fields["interval"] = tuple(fields["interval"]) if fields.get("interval") else None
        if fields.get("control"):
            control = dict(fields["control"])
            control["interval"] = tuple(control["interval"]) if control.get("interval") else None
            fields["control"] = Control(**control)
        fields["cost"] = Cost(**(fields.get("cost") or {}))
        return cls(**fields)

    def __str__(self) -> str:
        return f"[{self.verdict}] {self.question} {self.answer}"
