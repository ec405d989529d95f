"""Explained rows as a reader sees them: highlighted words, chips for cells, sentences, a faithfulness line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from salience.core.io import to_plain
from salience.report.numbers import between, cell, is_number, number, percent, shorten, signed
from salience.report.pictures import Picture, picture
from salience.report.tables import Table, table

MAX_EXAMPLES, MAX_CHARACTERS, MAX_UNITS, UNSURE = 60, 4000, 25, 0.7
STATUSES = {
    "correct": "Correct",
    "wrong": "Wrong",
    "unsure": "Unsure",
    "close": "Close",
    "off": "Off",
    "unknown": "Truth unknown",
}
TONES = {
    "supported": "pass",
    "trusted": "pass",
    "doubtful": "warn",
    "not supported": "fail",
    "not measured": "not measured",
}


@dataclass(frozen=True)
class Segment:
    """A run of text; ``strength`` 0 is plain, 1 to 5 highlighted, ``sign`` +1 or −1."""

    text: str
    unit: int | None = None
    strength: int = 0
    sign: int = 1
    tip: str = ""


@dataclass(frozen=True)
class Field:
    """One text column of a row, cut into segments."""

    column: str
    segments: tuple[Segment, ...]
    total: str
    cut: int = 0


@dataclass(frozen=True)
class Chip:
    """One cell of a row with its contribution; ``width`` is 0 to 100, relative to the largest unit of the row."""

    column: str
    label: str
    value: str
    unit: int
    sign: int
    width: int


@dataclass(frozen=True)
class Example:
    """Everything the page says about one explained row."""

    number: int
    name: str
    preview: str
    statuses: tuple[str, ...]
    prediction: str
    truth: str
    target: str
    quantity: str
    fields: tuple[Field, ...]
    chips: tuple[Chip, ...]
    pictures: tuple[Picture, ...]
    sentences: tuple[tuple[str, tuple[int, ...]], ...]
    faithfulness: str
    verdict: str
    facts: tuple[tuple[str, str], ...]
    units: Table
    signed: bool


def examples(explanations: Sequence[Any], run: dict[str, Any], error: float | None = None) -> list[Example]:
    """Return views of the first sixty explanations.

    Args:
        explanations: objects of :class:`salience.explain.explanation.Explanation`.
        run: the report's run, for the target and its task.
        error: typical error of a regression (its RMSE), which splits close from off.
    """
    return [view(e, k, run, error) for k, e in enumerate(explanations[:MAX_EXAMPLES], start=1)]


def view(explanation: Any, position: int, run: dict[str, Any], error: float | None = None) -> Example:
    """Return the view of one explanation."""
    truth = _truth(explanation, run)
    values = to_plain(explanation.values)
    top = max(map(size, values), default=0.0) or 1.0
    target = str(getattr(explanation.target, "name", explanation.target))
    fields = tuple(_fields(explanation, values, top, run))
    return Example(
        number=position,
        name=f"row {explanation.row}",
        preview=_preview(explanation, run),
        statuses=statuses(explanation.prediction, explanation.probability, truth, error),
        prediction=_prediction(explanation),
        truth=cell(truth),
        target=target,
        quantity=str(explanation.quantity),
        fields=fields,
        chips=tuple(_chips(explanation, values, top)),
        pictures=tuple(_pictures(explanation, values, top)),
        sentences=tuple(_sentences(explanation)),
        faithfulness=faithfulness_line(explanation.faithfulness, str(explanation.quantity)),
        verdict=str(getattr(explanation.faithfulness, "verdict", "not measured")),
        facts=tuple(_facts(explanation, target)),
        units=_units(explanation, values),
        signed=any(is_number(v) and v < 0 for v in values),
    )


def statuses(prediction: Any, probability: Any, truth: Any, error: float | None = None) -> tuple[str, ...]:
    """Return the groups that a row belongs to: correct or wrong, unsure, close or off.

    A classification is unsure where the predicted class has a probability below 0.7. A regression is close where
    it errs by no more than ``error``.
    """
    groups = []
    if truth is None or truth == "":
        groups.append("unknown")
    elif is_number(probability):
        groups.append("correct" if _same(prediction, truth) else "wrong")
    elif is_number(error) and is_number(to_plain(prediction)) and is_number(to_plain(truth)):
        groups.append("close" if abs(prediction - truth) <= error else "off")
    if is_number(probability) and probability < UNSURE:
        groups.append("unsure")
    return tuple(groups)


def _same(a: Any, b: Any) -> bool:
    if str(a) == str(b):
        return True
    try:
        return float(a) == float(b)
    except (TypeError, ValueError):
        return False


def _truth(explanation: Any, run: dict[str, Any]) -> Any:
    known = getattr(explanation, "truth", None)
    return to_plain(known if known is not None else explanation.inputs.get(run.get("target")))


def _prediction(explanation: Any) -> str:
    label = cell(to_plain(explanation.prediction))
    return f"{label} ({percent(explanation.probability)})" if is_number(explanation.probability) else label


def _preview(explanation: Any, run: dict[str, Any]) -> str:
    texts = [str(explanation.inputs.get(column) or "") for column in _text_columns(explanation, run)]
    longest = max(texts, key=len, default="")
    labels = [unit.label for unit in explanation.units if unit.kind != "text"]
    return shorten(longest or ", ".join(labels) or "no content", 90)


def _text_columns(explanation: Any, run: dict[str, Any]) -> list[str]:
    named = [
        c["name"] for c in run.get("schema") or [] if c.get("kind") == "text" and c.get("role") == "input"
    ]
    used = [unit.column for unit in explanation.units if unit.kind == "text"]
    return [c for c in dict.fromkeys([*named, *used]) if c in explanation.inputs]


def _fields(explanation: Any, values: Sequence[float | None], top: float, run: dict[str, Any]) -> list[Field]:
    fields = []
    for column in _text_columns(explanation, run):
        text = str(explanation.inputs[column] or "")
        units = [(k, u) for k, u in enumerate(explanation.units) if u.column == column and u.kind == "text"]
        total = float(sum(values[k] or 0.0 for k, _ in units))
        shown = text[:MAX_CHARACTERS]
        segments = _segments(shown, units, values, top)
        fields.append(Field(column, tuple(segments), signed(total), len(text) - len(shown)))
    return fields


def size(value: float | None) -> float:
    """Return the size of a contribution; 0 where the method says nothing."""
    return abs(value) if is_number(value) else 0.0


def strength(value: float | None, top: float) -> int:
    """Return 0 to 5: how strongly a unit is tinted, relative to the largest of its row (below 6 % not at all)."""
    share = size(value) / top
    return 0 if share < 0.06 else min(5, 1 + int(share * 5))


def sign(value: float | None) -> int:
    """Return −1 for a contribution against the explained answer, else 1."""
    return -1 if is_number(value) and value < 0 else 1


def _segments(
    text: str, units: Sequence[tuple[int, Any]], values: Sequence[float | None], top: float
) -> list[Segment]:
    segments, end = [], 0
    for k, unit in sorted(units, key=lambda pair: pair[1].locator[0]):
        start, stop = int(unit.locator[0]), int(unit.locator[1])
        level = strength(values[k], top)
        if level == 0 or start < end or stop > len(text):
            continue
        if start > end:
            segments.append(Segment(text[end:start]))
        segments.append(Segment(text[start:stop], k, level, sign(values[k]), signed(values[k])))
        end = stop
    if end < len(text):
        segments.append(Segment(text[end:]))
    return segments


def _chips(explanation: Any, values: Sequence[float | None], top: float) -> list[Chip]:
    return [
        Chip(
            unit.column,
            _without_column(unit.label, unit.column),
            signed(values[k]),
            k,
            sign(values[k]),
            round(100 * size(values[k]) / top),
        )
        for k, unit in enumerate(explanation.units)
        if unit.kind in ("number", "category")
    ]


def _without_column(label: str, column: str) -> str:
    prefix = f"{column} = "
    return label[len(prefix) :] if label.startswith(prefix) else label


def _pictures(explanation: Any, values: Sequence[float | None], top: float) -> list[Picture]:
    columns = dict.fromkeys(unit.column for unit in explanation.units if unit.kind == "image")
    found = []
    for column in columns:
        regions = [
            (unit, values[k], strength(values[k], top))
            for k, unit in enumerate(explanation.units)
            if unit.column == column and unit.kind == "image"
        ]
        found.append(picture(column, explanation.inputs.get(column), regions))
    return found


def _sentences(explanation: Any) -> list[tuple[str, tuple[int, ...]]]:
    words = explanation.words()
    found = []
    for sentence in getattr(words, "sentences", ()):
        named = [k for claim in sentence.claims for k in getattr(claim, "units", ())]
        found.append((sentence.text, tuple(dict.fromkeys(named))))
    return found


def faithfulness_line(measured: Any, quantity: str) -> str:
    """Return one plain sentence about whether an explanation is true, with its control and interval."""
    if measured is None:
        return "Whether this explanation is true was not measured."
    own, control = measured.comprehensiveness, measured.random_comprehensiveness
    gap = own - control if is_number(own) and is_number(control) else None
    span = between(measured.interval)
    return (
        f"Removing the parts ranked highest lowers the {quantity} by {number(own)} on average, removing random parts by "
        f"{number(control)}: a difference of {signed(gap)}{f' (95 % interval {span})' if span else ''}. "
        f"Keeping only them loses {number(measured.sufficiency)}, keeping random parts {number(measured.random_sufficiency)}."
    )


def _facts(explanation: Any, target: str) -> list[tuple[str, str]]:
    measured = explanation.faithfulness
    facts = [
        ("Method", str(explanation.method)),
        ("Explains", f"{explanation.quantity} of {target}"),
        ("Model output", number(to_plain(explanation.output))),
        ("Compared with", f"{explanation.baseline} ({number(to_plain(explanation.baseline_output))})"),
        ("Completeness gap", number(to_plain(explanation.completeness_gap))),
        ("Measured as", str(getattr(measured, "convention", "") or "not measured")),
        ("Cost", f"{explanation.forwards} forwards, {number(explanation.seconds)} s"),
        ("Seed", str(explanation.seed)),
    ]
    return [(name, value) for name, value in facts if value and value != "not defined"]


def _units(explanation: Any, values: Sequence[float | None]) -> Table:
    order = sorted(range(len(values)), key=lambda k: -size(values[k]))
    shown, rest = order[:MAX_UNITS], order[MAX_UNITS:]
    records = [
        {
            "part": explanation.units[k].label,
            "column": explanation.units[k].column,
            "contribution": signed(values[k]),
        }
        for k in shown
    ]
    if rest:
        total = signed(float(sum(values[k] or 0.0 for k in rest)))
        records.append({"part": f"{len(rest)} other parts together", "column": "", "contribution": total})
    caption = f"Parts of {f'row {explanation.row}'} by contribution ({explanation.quantity})"
    return table(caption, records, ("part", "column", "contribution"))
