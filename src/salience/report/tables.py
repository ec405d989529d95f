"""Tables and the pictures that go with them, as both the page and the Markdown file print them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from salience.explain import markup
from salience.report import svg
from salience.report.line_chart import line_chart
from salience.report.numbers import between, cell, is_number, number, percent, plural

MAX_ROWS, GAPS_SHOWN = 200, 20


@dataclass(frozen=True)
class Table:
    """Rows of text under headings.

    Attributes:
        caption: what the table holds, with split and unit.
        columns: headings.
        rows: one text a column.
        numeric: whether each column holds numbers (set right, sorted by value).
        note: what was left out; empty if nothing.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture and the same numbers as a table."""

    title: str
    description: str
    svg: svg.Svg
    table: Table
    kind: str = "bars"


def table(caption: str, records: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> Table:
    """Return a table of flat records; headings are the keys in the order of their first use."""
    keys = list(columns) or list(dict.fromkeys(key for record in records for key in record))
    shown = records[:MAX_ROWS]
    rows = tuple(tuple(cell(record.get(key)) for key in keys) for record in shown)
    numeric = tuple(
        any(is_number(r.get(k)) for r in shown)
        and all(is_number(r.get(k)) or r.get(k) is None for r in shown)
        for k in keys
    )
    left = len(records) - len(shown)
    note = f"{plural(left, 'more row')} in the JSON file." if left else ""
    return Table(caption, tuple(str(key).replace("_", " ") for key in keys), rows, numeric, note)


def figure(name: str, records: Sequence[dict[str, Any]], unit: str = "") -> Figure | None:
    """Return the picture that a table's columns ask for, or None if it is only a table."""
    keys = set().union(*records) if records else set()
    for wanted, draw in DRAWINGS:
        if wanted <= keys:
            return draw(name.replace("_", " ").capitalize(), records, unit)
    return None


def _reliability(title: str, records: Sequence[dict[str, Any]], unit: str) -> Figure:
    description = (
        "Each dot is a bin of rows with like predicted probability. On the dashed line, predicted and observed "
        "shares agree; below it the model is too sure. Lines are 95 % intervals."
    )
    return Figure(
        title, description, svg.reliability(title, description, records), table(title, records), "reliability"
    )


def _confusion(title: str, records: Sequence[dict[str, Any]], unit: str) -> Figure | None:
    """Draw a whole matrix; a list of some pairs stays a table."""
    pairs = [(str(r["true"]), str(r["predicted"]), int(r["rows"] or 0)) for r in records]
    classes = list(dict.fromkeys(name for pair in pairs for name in pair[:2]))
    if len(pairs) != len(classes) ** 2:
        return None
    description = "Lines are true classes, columns predicted ones in the same order. A darker tint is a larger share of the line."
    counts = {(true, predicted): rows for true, predicted, rows in pairs}
    mistakes = sorted(records, key=lambda r: (r["true"] == r["predicted"], -(r["rows"] or 0)))
    shown = mistakes if len(classes) > 8 else records
    return Figure(
        title,
        description,
        svg.confusion(title, description, classes, counts),
        table(title, shown),
        "confusion",
    )


def _gaps(title: str, records: Sequence[dict[str, Any]], unit: str) -> Figure:
    side, bad = ("above", "low") if "error" in unit.lower() else ("below", "high")
    sign = 1 if bad == "low" else -1
    rows = [
        svg.Row(
            str(r["slice"]),
            r["difference"],
            (r["low"], r["high"]),
            plural(int(r["rows"]), "row") if is_number(r.get("rows")) else "",
            "warn" if is_number(r[bad]) and sign * r[bad] > 0 else "accent",
        )
        for r in records[:GAPS_SHOWN]
    ]
    description = (
        f"Difference of each slice from the other rows{f' ({unit})' if unit else ''}, with its 95 % interval. "
        f"A slice whose interval lies wholly {side} zero is worse than the rest."
    )
    drawing = svg.row_chart(
        title, description, rows, bars=False, reference=0.0, reference_label="as the rest", show=markup.signed
    )
    return Figure(title, description, drawing, table(title, records), "gaps")


def _bars(title: str, records: Sequence[dict[str, Any]], unit: str) -> Figure:
    name = next(iter(records[0]))
    controls = {r.get("control") for r in records}
    reference = next(iter(controls)) if len(controls) == 1 else None
    rows = [
        svg.Row(
            str(r[name]),
            r["value"],
            (r["low"], r["high"]),
            ""
            if reference is not None or not is_number(r.get("control"))
            else f"control {number(r['control'])}",
        )
        for r in records[:20]
    ]
    description = (
        f"Value of each {name.replace('_', ' ')}{f' ({unit})' if unit else ''} with its 95 % interval."
    )
    drawing = svg.row_chart(
        title,
        description,
        rows,
        bars=_from_zero(rows),
        reference=reference,
        reference_label=f"control {number(reference)}",
    )
    return Figure(title, description, drawing, table(title, records))


def _over_time(title: str, records: Sequence[dict[str, Any]], unit: str) -> Figure:
    axis = "epoch" if "epoch" in records[0] else "step"
    references = {r.get("reference") for r in records}
    reference = next(iter(references)) if len(references) == 1 else None
    names = " and ".join(dict.fromkeys(str(r["line"]) for r in records))
    at = "" if reference is None else f" The dashed line is at {number(reference)}."
    description = f"{names}{f' ({unit})' if unit else ''} by {axis}. Whiskers are 95 % intervals.{at}"
    return Figure(
        title, description, line_chart(title, description, records, axis, reference), table(title, records), "lines"
    )  # fmt: skip


def _from_zero(rows: Sequence[svg.Row]) -> bool:
    """Return whether bars from zero tell the values apart; large values close together need dots."""
    sizes = [abs(row.value) for row in rows if is_number(row.value)]
    return not sizes or min(sizes) < 0.5 * max(sizes) or len(sizes) == 1


Drawing = Callable[[str, Sequence[dict[str, Any]], str], Figure | None]
DRAWINGS: tuple[tuple[set[str], Drawing], ...] = (
    ({"confidence", "observed", "low", "high", "rows"}, _reliability),
    ({"true", "predicted", "rows"}, _confusion),
    ({"slice", "difference", "low", "high"}, _gaps),
    ({"line", "epoch", "value", "low", "high"}, _over_time),
    ({"line", "step", "value", "low", "high"}, _over_time),
    ({"value", "low", "high"}, _bars),
)


def share_chart(title: str, description: str, records: Sequence[dict[str, Any]]) -> Figure:
    """Return bars of shares of contribution by column, with the equal share as reference."""
    rows = [svg.Row(str(r["column"]), r["share"], r.get("interval")) for r in records]
    drawing = svg.row_chart(
        title, description, rows, bars=True, reference=1 / len(rows),
        reference_label="equal shares", show=percent, axis=percent,
    )  # fmt: skip
    numbers = [
        {
            "column": r["column"],
            "share": percent(r["share"]),
            "95 % interval": between(r.get("interval"), percent),
        }
        for r in records
    ]
    return Figure(title, description, drawing, table(title, numbers))


def word_chart(title: str, description: str, records: Sequence[dict[str, Any]]) -> Figure:
    """Return bars of the words' mean contributions, left of zero where they speak against."""
    several = len({r.get("column") for r in records}) > 1
    rows = [
        svg.Row(
            f"{r['word']} ({r['column']})" if several else str(r["word"]),
            r["mean"],
            r.get("interval"),
            f"{r['count']:,}×" if is_number(r.get("count")) else "",
            "positive" if r["mean"] >= 0 else "negative",
        )
        for r in records
    ]
    drawing = svg.row_chart(title, description, rows, bars=True, show=markup.signed)
    return Figure(title, description, drawing, table(title, records))
