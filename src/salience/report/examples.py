"""Explained rows as a reader sees them: highlighted words, chips for cells, sentences, a faithfulness line."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salience.core.errors import SalienceError
from salience.core.io import to_plain
from salience.explain import markup
from salience.report.numbers import between, cell, is_number, number, percent, shorten
from salience.report.svg import Svg
from salience.report.tables import Table, table

if TYPE_CHECKING:
    from salience.explain.explanation import Explanation, Faithfulness

MAX_EXAMPLES, MAX_CHARACTERS, MAX_UNITS, UNSURE = 60, 4000, 25, 0.7
STATUSES = {
    "correct": "Correct",
    "wrong": "Wrong",
    "unsure": "Unsure",
    "close": "Close",
    "off": "Off",
    "unknown": "Truth unknown",
}
TRUTH_CLAIMS = ("truth", "unmeasured")
TONES = {"supported": "pass", "doubtful": "warn", "not supported": "fail", "not measured": "not measured"}


@dataclass(frozen=True)
class Field:
    """One text or image column of a row.

    Attributes:
        column: its name.
        html: the content with its parts marked.
        text: the content as plain text; empty for an image.
        marked: index of the unit of each mark, in order.
        total: sum over its units, with a sign.
        cut: characters that are not shown.
    """

    column: str
    html: Svg
    text: str
    marked: tuple[int, ...]
    total: str
    cut: int = 0


@dataclass(frozen=True)
class Chip:
    """One cell of a row with its contribution; ``width`` is 0 to 100, relative to the largest unit of the row."""

    column: str
    label: str
    value: str
    unit: int
    side: str
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
    fields: tuple[Field, ...]
    chips: tuple[Chip, ...]
    sentences: tuple[tuple[str, tuple[int, ...]], ...]
    faithfulness: tuple[str, ...]
    verdict: str
    facts: tuple[tuple[str, str], ...]
    units: Table


def examples(
    explanations: Sequence["Explanation"], errors: Mapping[str, float] | None = None
) -> list[Example]:
    """Return views of the first sixty explanations.

    Args:
        explanations: explained rows.
        errors: typical error (RMSE) of each target that is a number, by its column, which splits close from off.
    """
    shown = explanations[:MAX_EXAMPLES]
    return [view(e, k, (errors or {}).get(e.target_column)) for k, e in enumerate(shown, start=1)]


def view(explanation: "Explanation", position: int, error: float | None) -> Example:
    """Return the view of one explanation."""
    truth = to_plain(explanation.truth)
    sentences, truth_line = _sentences(explanation)
    return Example(
        number=position,
        name=f"row {explanation.row}",
        preview=_preview(explanation),
        statuses=statuses(explanation.prediction, explanation.probability, truth, error),
        prediction=_prediction(explanation),
        truth=cell(truth) if truth is not None else "unknown",
        fields=tuple(_fields(explanation)),
        chips=tuple(_chips(explanation)),
        sentences=tuple(sentences),
        faithfulness=truth_line,
        verdict=explanation.faithfulness.verdict if explanation.faithfulness else "not measured",
        facts=tuple(_facts(explanation)),
        units=_units(explanation),
    )


def statuses(
    prediction: Any, probability: float | None, truth: Any, error: float | None = None
) -> tuple[str, ...]:
    """Return the groups that a row belongs to: correct or wrong, unsure, close or off.

    A classification is unsure where the predicted class has a probability below 0.7. A regression is close where
    it errs by no more than ``error``.
    """
    groups = []
    if truth is None:
        groups.append("unknown")
    elif is_number(probability):
        groups.append("correct" if _same(prediction, truth) else "wrong")
    elif is_number(error) and is_number(prediction) and is_number(truth):
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


def _prediction(e: "Explanation") -> str:
    label = (f"{e.target_column}: " if e.independent else "") + cell(to_plain(e.prediction))
    return f"{label} ({percent(e.probability)})" if is_number(e.probability) else label


def _preview(e: "Explanation") -> str:
    longest = max(
        (str(e.inputs[c] or "") for c, kind in e.kinds.items() if kind == "text"), key=len, default=""
    )
    labels = [unit.label for unit in e.units if unit.kind != "text"]
    return shorten(longest or ", ".join(labels) or "no content", 90)


def _of(e: "Explanation", column: str) -> tuple[list[int], list[Any], list[float]]:
    """Return index, unit and value of a column's units, in reading order."""
    found = [k for k, unit in enumerate(e.units) if unit.column == column]
    found.sort(key=lambda k: e.units[k].locator)
    return found, [e.units[k] for k in found], [e.values[k] for k in found]


def _fields(e: "Explanation") -> list[Field]:
    draw = {"text": _text, "image": _image}
    return [draw[kind](e, column) for column, kind in e.kinds.items() if kind in draw]


def _text(e: "Explanation", column: str) -> Field:
    text = str(e.inputs[column] or "")
    shown, scale = text[:MAX_CHARACTERS], markup.scale_of(e.values)
    index, units, values = _of(e, column)
    kept = [k for k, unit in enumerate(units) if unit.locator[1] <= len(shown)]
    html = markup.text_html(shown, [units[k] for k in kept], [values[k] for k in kept], scale)
    marked = tuple(index[k] for k in kept if markup.strength(values[k], scale))
    return Field(column, Svg(html), shown, marked, markup.signed(_sum(values)), len(text) - len(shown))


def _image(e: "Explanation", column: str) -> Field:
    index, units, values = _of(e, column)
    scale = markup.scale_of(e.values)
    try:
        html = markup.image_html(e.inputs[column], units, values, scale, f"{column}, with its regions marked")
    except SalienceError:
        html = "<p>The image could not be read.</p>"
    marked = tuple(k for k, value in zip(index, values, strict=True) if markup.strength(value, scale))
    return Field(column, Svg(html), "", marked, markup.signed(_sum(values)))


def _sum(values: Sequence[float]) -> float:
    return math.fsum(value for value in values if math.isfinite(value))


def _chips(e: "Explanation") -> list[Chip]:
    scale = markup.scale_of(e.values)
    return [
        Chip(
            unit.column,
            unit.label.removeprefix(f"{unit.column} = "),
            markup.signed(value),
            k,
            markup.side(value),
            markup.strength(value, scale),
        )
        for k, (unit, value) in enumerate(zip(e.units, e.values, strict=True))
        if unit.kind in ("number", "category")
    ]


def _sentences(e: "Explanation") -> tuple[list[tuple[str, tuple[int, ...]]], tuple[str, ...]]:
    """Return the sentences with the units they speak of, and apart from them what says whether they are true."""
    told, truth = [], []
    for sentence in e.words().sentences:
        if any(claim.kind in TRUTH_CLAIMS for claim in sentence.claims):
            truth.append(sentence.text)
        else:
            units = dict.fromkeys(k for claim in sentence.claims for k in claim.units)
            told.append((sentence.text, tuple(units)))
    return told, (*truth, *against_random(e.faithfulness))


def against_random(measured: "Faithfulness | None") -> tuple[str, ...]:
    """Return how an explanation compares with random orders of the same parts, with the interval."""
    if measured is None:
        return ()
    line = (
        f"Removal and keeping together, beside random: {markup.signed(measured.difference)} "
        f"({measured.scale}; 95 % interval {between(measured.interval)}); "
        f"{percent(measured.better_orders)} of {measured.orders} random orders do better."
    )
    return (line,)


def _facts(e: "Explanation") -> list[tuple[str, str]]:
    facts = [
        ("Method", e.method),
        ("Explains", f"{e.quantity} of {e.target}"),
        ("At this row", number(e.output)),
        (
            "At the neutral input",
            f"{number(e.baseline_output)} ({e.baseline})" if e.baseline_output is not None else "",
        ),
        ("Completeness gap", number(e.completeness_gap)),
        ("Measured as", e.faithfulness.convention if e.faithfulness else ""),
        ("Cost", f"{e.forwards:,} model evaluations, {number(e.seconds)} s"),
        ("Seed", str(e.seed)),
    ]
    return [(name, value) for name, value in facts if value and value != "not defined"]


def _units(e: "Explanation") -> Table:
    order = sorted(
        range(len(e.values)), key=lambda k: -abs(e.values[k]) if math.isfinite(e.values[k]) else 1.0
    )
    shown, rest = order[:MAX_UNITS], order[MAX_UNITS:]
    records = [
        {"part": e.units[k].label, "column": e.units[k].column, "contribution": markup.signed(e.values[k])}
        for k in shown
    ]
    if rest:
        total = markup.signed(_sum([e.values[k] for k in rest]))
        records.append({"part": f"{len(rest)} other parts together", "column": "", "contribution": total})
    caption = f"Parts of row {e.row} by contribution ({e.quantity} of {e.target})"
    return table(caption, records, ("part", "column", "contribution"))
