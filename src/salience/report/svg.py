"""Small charts as hand-written SVG.

Horizontal positions are percentages of the width and vertical ones pixels, so a chart fills a phone or a desk
without distortion and its text keeps its size. Colours come from classes of the page's style sheet, so that
charts follow light, dark and print. Every chart names itself with ``<title>`` and ``<desc>``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count, pairwise

from salience.report.numbers import between, is_number, number, percent, shorten, tick

ROW, TOP, AXIS = 46, 8, 26
Formatter = Callable[[float], str]


class Svg(str):
    """Markup that is already escaped: templates print it as it is."""

    def __html__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Row:
    """One line of a chart: a value with its 95 % interval."""

    label: str
    value: float | None
    interval: Sequence[float] | None = None
    note: str = ""
    tone: str = "accent"


def tag(name: str, *children: str, **attributes: object) -> str:
    """Return an element; attribute values are escaped, children are markup."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{pairs}>{''.join(children)}</{name}>" if children else f"<{name}{pairs}/>"


def text(content: str, x: object, y: float, **attributes: object) -> str:
    """Return a text element."""
    return tag("text", escape(content), x=x, y=y, **attributes)


def chart(title: str, description: str, height: float, *children: str, kind: str = "") -> Svg:
    """Return a whole drawing with its title and description."""
    head = tag("title", escape(title)) + tag("desc", escape(description))
    body = tag(
        "svg", head, *children, width="100%", height=f"{height:g}", role="img", class_=f"chart {kind}".strip()
    )
    return Svg(body)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round numbers between two ends: steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _domain(rows: Sequence[Row], extra: Sequence[float | None], zero: bool) -> tuple[float, float]:
    values = [v for row in rows for v in (row.value, *(row.interval or ())) if is_number(v)]
    values += [v for v in extra if is_number(v)] + ([0.0] if zero else [])
    low, high = (min(values), max(values)) if any(values) else (0.0, 1.0)
    pad = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return (low if zero and low == 0 else low - pad), (high if zero and high == 0 else high + pad)


def _scale(low: float, high: float, left: float = 1, right: float = 99) -> Callable[[float], float]:
    return lambda value: round(left + (right - left) * (value - low) / (high - low), 2)


def _mark(row: Row, at: Callable[[float], float], y: float, zero: bool) -> list[str]:
    if not is_number(row.value):
        return [text("not defined", "1%", y + 4, class_="muted")]
    parts = []
    if zero:
        start, stop = sorted((at(0.0), at(row.value)))
        size = max(round(stop - start, 2), 0.3)
        parts.append(tag("rect", x=f"{start}%", y=y - 5, width=f"{size}%", height=10, rx=2, class_=row.tone))
    else:
        parts.append(tag("circle", cx=f"{at(row.value)}%", cy=y, r=5.5, class_=row.tone))
    if between(row.interval):
        left, right = (f"{at(end)}%" for end in row.interval or ())
        parts += [
            tag("line", x1=left, x2=right, y1=y, y2=y, class_="interval"),
            tag("line", x1=left, x2=left, y1=y - 4, y2=y + 4, class_="interval"),
            tag("line", x1=right, x2=right, y1=y - 4, y2=y + 4, class_="interval"),
        ]
    return parts


def row_chart(
    title: str,
    description: str,
    rows: Sequence[Row],
    *,
    bars: bool,
    reference: float | None = None,
    reference_label: str = "",
    show: Formatter = number,
    axis: Formatter = tick,
) -> Svg:
    """Draw one line a row: bars from zero, or dots, with intervals and a dashed reference.

    Args:
        title: name of the chart.
        description: what it shows, for people who cannot see it.
        rows: the lines, top to bottom.
        bars: bars that start at zero; dots on an axis of their own otherwise.
        reference: value of a control or a neutral answer, drawn over all rows.
        reference_label: name of that control.
        show: how values are written.
        axis: how the numbers of the axis are written.
    """
    low, high = _domain(rows, [reference], bars)
    at = _scale(low, high)
    head = TOP + (18 if is_number(reference) else 0)
    bottom = head + ROW * len(rows)
    parts = []
    for value in ticks(low, high):
        x = at(value)
        anchor = "start" if x < 6 else "end" if x > 94 else "middle"
        parts.append(tag("line", x1=f"{x}%", x2=f"{x}%", y1=head, y2=bottom, class_="grid"))
        parts.append(text(axis(value), f"{x}%", bottom + 16, text_anchor=anchor, class_="muted"))
    if bars and low < 0 < high:
        parts.append(tag("line", x1=f"{at(0)}%", x2=f"{at(0)}%", y1=head, y2=bottom, class_="axis"))
    if is_number(reference):
        x = at(reference or 0.0)
        anchor = "start" if x < 50 else "end"
        parts.append(tag("line", x1=f"{x}%", x2=f"{x}%", y1=head - 6, y2=bottom, class_="reference"))
        parts.append(text(reference_label, f"{x}%", 14, text_anchor=anchor, class_="muted"))
    for index, row in enumerate(rows):
        parts.append(_line(row, at, head + ROW * index, bars, show))
    return chart(title, description, bottom + AXIS, *parts, kind="rows")


def _line(row: Row, at: Callable[[float], float], y: float, bars: bool, show: Formatter) -> str:
    span = between(row.interval, show)
    full = f"{row.label}: {show(row.value) if is_number(row.value) else 'not defined'}"
    value = tag("tspan", escape(show(row.value)), class_="value") if is_number(row.value) else ""
    extra = f" ({span})" if span else ""
    detail = tag("tspan", escape(f"{extra}{' · ' if row.note else ''}{row.note}"), class_="wide")
    return tag(
        "g",
        tag(
            "title",
            escape(
                full + (f", 95 % interval {span}" if span else "") + (f", {row.note}" if row.note else "")
            ),
        ),
        text(shorten(row.label, 34), "1%", y + 16, class_="label"),
        tag("text", value, detail, x="99%", y=y + 16, text_anchor="end", class_="amount"),
        *_mark(row, at, y + 32, bars),
    )


def reliability(title: str, description: str, bins: Sequence[dict]) -> Svg:
    """Draw observed shares against predicted probabilities, with intervals, and the rows in each bin beneath.

    Args:
        title: name of the chart.
        description: what it shows.
        bins: ``confidence``, ``observed``, ``low``, ``high`` in [0, 1] and ``rows`` of each bin.
    """
    x = _scale(0, 1, 12, 97)
    y = lambda share: round(214 - 200 * share, 1)  # noqa: E731 - a coordinate, as in the formula
    parts = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        parts.append(tag("line", x1="12%", x2="97%", y1=y(value), y2=y(value), class_="grid"))
        parts.append(text(percent(value), "11%", y(value) + 4, text_anchor="end", class_="muted"))
        parts.append(text(percent(value), f"{x(value)}%", 292, text_anchor="middle", class_="muted"))
    parts.append(tag("line", x1="12%", x2="97%", y1=y(0), y2=y(1), class_="reference"))
    drawn = [b for b in bins if is_number(b.get("confidence")) and is_number(b.get("observed"))]
    for a, b in pairwise(drawn):
        ends = {"x1": f"{x(a['confidence'])}%", "x2": f"{x(b['confidence'])}%"}
        parts.append(tag("line", **ends, y1=y(a["observed"]), y2=y(b["observed"]), class_="curve"))
    most = max((b.get("rows") or 0 for b in drawn), default=0) or 1
    parts += [_bin(b, x, y, most) for b in drawn]
    parts.append(text("rows in each bin", "12%", 236, class_="muted"))
    parts.append(text("predicted probability", "97%", 310, text_anchor="end", class_="muted"))
    parts.append(text("observed share", "13%", 26, class_="muted"))
    return chart(title, description, 316, *parts, kind="square")


def _bin(b: dict, x: Callable[[float], float], y: Callable[[float], float], most: int) -> str:
    place = f"{x(b['confidence'])}%"
    rows = b.get("rows") or 0
    height = round(36 * rows / most, 1)
    span = between((b.get("low"), b.get("high")), percent)  # type: ignore[arg-type]
    tip = f"predicted {percent(b['confidence'])}, observed {percent(b['observed'])}"
    parts = [tag("title", escape(f"{tip}{f' ({span})' if span else ''}, {rows:,} rows"))]
    if span:
        parts.append(tag("line", x1=place, x2=place, y1=y(b["low"]), y2=y(b["high"]), class_="interval"))
    parts.append(tag("circle", cx=place, cy=y(b["observed"]), r=5, class_="accent"))
    parts.append(tag("line", x1=place, x2=place, y1=276 - height, y2=276, class_="count"))
    return tag("g", *parts)


def confusion(
    title: str, description: str, classes: Sequence[str], counts: dict[tuple[str, str], int]
) -> Svg:
    """Draw true classes as lines and predicted classes as columns; the tint is the share of the line.

    Args:
        title: name of the chart.
        description: what it shows.
        classes: class names in order; names are written beside the lines and, up to eight, above the columns.
        counts: rows of each (true, predicted) pair.
    """
    few = len(classes) <= 8
    left, cell_height = 26.0, (64 if len(classes) < 4 else 48) if few else 18
    width = (99 - left) / max(len(classes), 1)
    parts = [text("true ↓   predicted →", 0, 16, class_="muted small")]
    for i, true in enumerate(classes):
        total = sum(counts.get((true, other), 0) for other in classes)
        y = 26 + i * cell_height
        parts.append(_clipped(true, 0, left - 1, y, cell_height, "start"))
        if few:
            parts.append(_clipped(true, left + width * i, width, 0, 24, "middle"))
        for j, predicted in zip(count(), classes, strict=False):
            rows = counts.get((true, predicted), 0)
            box = (left + width * j, y, width, cell_height)
            parts.append(_confusion_cell(true, predicted, rows, total, box, few))
    return chart(title, description, 34 + cell_height * len(classes), *parts, kind="matrix")


def _clipped(label: str, x: float, width: float, y: float, height: float, anchor: str) -> str:
    """Return a label that is cut where its box ends."""
    place = {"start": 0, "middle": "50%"}[anchor]
    inner = text(shorten(label, 40), place, height / 2 + 4, text_anchor=anchor, class_="label")
    return tag("svg", inner, x=f"{x:.2f}%", y=y, width=f"{width:.2f}%", height=height)


def _confusion_cell(
    true: str, predicted: str, rows: int, total: int, box: tuple[float, float, float, float], few: bool
) -> str:
    x, y, width, height = box
    share = rows / total if total else 0.0
    tint = f"tint t{math.ceil(share * 5)}" + (" hit" if true == predicted else " miss")
    parts = [
        tag(
            "title",
            escape(f"true {true}, predicted {predicted}: {rows:,} rows, {percent(share)} of the line"),
        ),
        tag(
            "rect",
            x=f"{x + 0.2:.2f}%",
            y=y + 1,
            width=f"{width - 0.4:.2f}%",
            height=height - 2,
            rx=3,
            class_=tint,
        ),
    ]
    if few:
        middle = f"{x + width / 2:.2f}%"
        parts.append(text(f"{rows:,}", middle, y + height / 2 - 3, text_anchor="middle", class_="value"))
        parts.append(
            text(percent(share), middle, y + height / 2 + 13, text_anchor="middle", class_="muted small")
        )
    return tag("g", *parts)
