"""Values over time: one line a name, each point with its 95 % interval."""

from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from salience.report.numbers import between, is_number, number, tick
from salience.report.svg import Svg, chart, tag, text, ticks

LEFT, RIGHT, TOP, BOTTOM = 12.0, 97.0, 34.0, 230.0  # percent across, pixels down
TONES = ("accent", "other", "positive", "negative")
APART = 0.4  # percent by which the intervals of two lines stand apart

Place = Callable[[float], float]


def line_chart(
    title: str, description: str, records: Sequence[dict[str, Any]], axis: str, reference: float | None = None
) -> Svg:
    """Draw values over time.

    Args:
        title: name of the chart.
        description: what it shows, for people who cannot see it.
        records: ``line`` (a name), the place under the name ``axis``, ``value``, ``low`` and ``high``; in order.
        axis: name of the horizontal axis.
        reference: a value that is drawn across, dashed.
    """
    shown = [r for r in records if is_number(r[axis]) and is_number(r["value"])]
    names = list(dict.fromkeys(str(r["line"]) for r in shown))
    x, across = _scale([r[axis] for r in shown], LEFT, RIGHT)
    heights = [v for r in shown for v in (r["value"], r["low"], r["high"]) if is_number(v)]
    y, up = _scale([*heights, *([] if reference is None else [reference])], BOTTOM, TOP)
    parts = [_level(value, y(value)) for value in up]
    parts += [
        text(tick(value), f"{x(value)}%", BOTTOM + 16, text_anchor="middle", class_="muted")
        for value in across
    ]
    if reference is not None:
        height = y(reference)
        parts.append(tag("line", x1=f"{LEFT}%", x2=f"{RIGHT}%", y1=height, y2=height, class_="reference"))
    for position, name in enumerate(names[: len(TONES)]):
        own = [r for r in shown if str(r["line"]) == name]
        parts.append(_line(name, own, axis, position, x, y))
    parts.append(text(axis, f"{RIGHT}%", BOTTOM + 32, text_anchor="end", class_="muted"))
    return chart(title, description, BOTTOM + 38, *parts)


def _scale(values: Sequence[float], start: float, stop: float) -> tuple[Place, list[float]]:
    """Return the place of a value, and round values of the axis."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    high = high if high > low else low + 1.0
    return lambda value: round(start + (stop - start) * (value - low) / (high - low), 2), ticks(low, high, 5)


def _level(value: float, y: float) -> str:
    line = tag("line", x1=f"{LEFT}%", x2=f"{RIGHT}%", y1=y, y2=y, class_="grid")
    return line + text(tick(value), f"{LEFT - 1}%", y + 4, text_anchor="end", class_="muted")


def _line(name: str, records: Sequence[dict[str, Any]], axis: str, position: int, x: Place, y: Place) -> str:
    tone = TONES[position]
    parts = [tag("title", escape(name))]
    for a, b in pairwise(records):
        ends = {"x1": f"{x(a[axis])}%", "x2": f"{x(b[axis])}%", "y1": y(a["value"]), "y2": y(b["value"])}
        parts.append(tag("line", **ends, class_=f"curve {tone}"))
    for record in records:
        parts.append(_point(name, record, axis, tone, x(record[axis]) + APART * position, x, y))
    left = LEFT + 22 * position
    parts.append(tag("circle", cx=f"{left + 1}%", cy=12, r=5, class_=tone))
    parts.append(text(name, f"{left + 2.5}%", 16, class_="label"))
    return tag("g", *parts)


def _point(name: str, record: dict[str, Any], axis: str, tone: str, place: float, x: Place, y: Place) -> str:
    span = between((record["low"], record["high"]))
    tip = f"{name}, {axis} {number(record[axis])}: {number(record['value'])}{f' ({span})' if span else ''}"
    dot = tag("circle", cx=f"{x(record[axis])}%", cy=y(record["value"]), r=4, class_=tone)
    if not span:
        return tag("g", tag("title", escape(tip)), dot)
    whisker = {"x1": f"{place:.2f}%", "x2": f"{place:.2f}%", "y1": y(record["low"]), "y2": y(record["high"])}
    return tag("g", tag("title", escape(tip)), tag("line", **whisker, class_="interval"), dot)
