"""Pictures of effects: a curve with its band and counts under it, and the joint effect of two columns."""

import math
from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from salience.explain import markup
from salience.report.numbers import between, plural, tick
from salience.report.svg import Svg, chart, tag, text, ticks

LEFT, RIGHT, TOP, BOTTOM = 13.0, 98.0, 30.0, 206.0  # percent across, pixels down
COUNTS, FOOT = 44.0, 262.0  # height of the tallest count, and where it stands
WIDE = 1000.0  # units across the part of the drawing that stretches
UNEVEN = 0.5  # a step wider than this share of the range would hide the others
TINTS = 5
WRITTEN = (6, 8)  # tiles beside each other with room for numbers on a phone, and on a desk
LETTERS = 48  # that stand beside each other above the tiles of a narrow heat map


def curve(title: str, description: str, line: dict[str, Any]) -> Svg:
    """Draw the effect of a number column with its 95 % band, and the rows of each step beneath.

    Args:
        title: name of the chart.
        description: what it shows.
        line: ``points, labels, effect, low, high, counts`` as in :class:`salience.explain.tables.Curve`, and
            ``spread`` of the rows' own curves or None.
    """
    place, even = positions(line["points"])
    x = lambda share: round(LEFT + (RIGHT - LEFT) * share, 2)  # noqa: E731 - a coordinate, as in the formula
    y, marks = _height(
        [*line["low"], *line["high"], *(v for part in line["spread"] or () for v in part), 0.0]
    )
    parts = [_grid(value, y(value), LEFT, RIGHT) for value in marks]
    parts.append(tag("line", x1=f"{LEFT}%", x2=f"{RIGHT}%", y1=y(0), y2=y(0), class_="axis"))
    parts.append(_stretched(place, line, y))
    parts += [_dot(line, i, x(share), y) for i, share in enumerate(place)]
    parts += _below(line, place, even, x)
    parts.append(text("effect, less its mean", f"{LEFT}%", 14, class_="muted"))
    return chart(title, description, FOOT + 42, *parts)


def positions(points: Sequence[float]) -> tuple[list[float], bool]:
    """Return where points lie between 0 and 1, and whether they stand evenly, out of scale.

    They do where one step is wider than half of the range: the others would not be seen.
    """
    span = points[-1] - points[0]
    even = max(b - a for a, b in pairwise(points)) > UNEVEN * span and len(points) > 2
    last = len(points) - 1
    return [i / last if even else (p - points[0]) / span for i, p in enumerate(points)], even


def _height(values: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    """Return the vertical place of a value, and the values of the axis."""
    low, high = min(values), max(values)
    pad = (high - low) * 0.04 or 1.0
    low, high = low - pad, high + pad
    return (lambda value: round(BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low), 1)), ticks(
        low, high, 4
    )


def _grid(value: float, y: float, left: float, right: float) -> str:
    line = tag("line", x1=f"{left}%", x2=f"{right}%", y1=y, y2=y, class_="grid")
    return line + text(tick(value), f"{left - 1}%", y + 4, text_anchor="end", class_="muted")


def _stretched(place: Sequence[float], line: dict[str, Any], y: Callable[[float], float]) -> str:
    """Return band and curve in a drawing of their own, since their corners cannot be percentages."""
    points = lambda values: [f"{WIDE * share:.1f},{y(v)}" for share, v in zip(place, values, strict=True)]  # noqa: E731
    band = " ".join([*points(line["low"]), *reversed(points(line["high"]))])
    parts = [tag("polygon", points=band, class_="band")]
    lines = [(values, "reference") for values in line["spread"] or ()] + [(line["effect"], "curve")]
    parts += [
        tag("polyline", points=" ".join(points(values)), class_=name, vector_effect="non-scaling-stroke")
        for values, name in lines
    ]
    return tag(
        "svg", *parts, x=f"{LEFT}%", y=0, width=f"{RIGHT - LEFT}%", height=BOTTOM + 8,
        viewBox=f"0 0 {WIDE:g} {BOTTOM + 8:g}", preserveAspectRatio="none",
    )  # fmt: skip


def _dot(line: dict[str, Any], i: int, x: float, y: Callable[[float], float]) -> str:
    span = between((line["low"][i], line["high"][i]), markup.signed)
    tip = f"{line['labels'][i]}: {markup.signed(line['effect'][i])} ({span})"
    return tag("circle", tag("title", escape(tip)), cx=f"{x}%", cy=y(line["effect"][i]), r=3, class_="accent")


def _below(
    line: dict[str, Any], place: Sequence[float], even: bool, x: Callable[[float], float]
) -> list[str]:
    """Return the rows of each step, as dense as they lie, and the values under them."""
    widths = [b - a for a, b in pairwise(place)]
    dense = [rows / width for rows, width in zip(line["counts"], widths, strict=True)]
    most, parts = max(dense) or 1.0, []
    for i, (rows, found) in enumerate(zip(line["counts"], dense, strict=True)):
        tall, left = round(COUNTS * found / most, 1), x(place[i])
        tip = f"{line['labels'][i]} to {line['labels'][i + 1]}: {plural(rows, 'row')}"
        wide = f"{max(x(place[i + 1]) - left - 0.15, 0.2):.2f}%"
        box = {"x": f"{left}%", "width": wide, "y": FOOT - tall, "height": tall}
        parts.append(tag("rect", tag("title", escape(tip)), **box, class_="other"))
    for share, label in _values(line, place, even):
        anchor = "start" if share < 0.05 else "end" if share > 0.95 else "middle"
        parts.append(text(label, f"{x(share)}%", FOOT + 16, text_anchor=anchor, class_="muted"))
    scale = "rows (points stand evenly, not to scale)" if even else "rows"
    return [*parts, text(scale, f"{LEFT}%", FOOT + 34, class_="muted")]


def _values(line: dict[str, Any], place: Sequence[float], even: bool) -> list[tuple[float, str]]:
    """Return places and labels of the axis: round numbers, or some of the points where these stand evenly."""
    low, high = line["points"][0], line["points"][-1]
    if not even:
        return [((value - low) / (high - low), _plain(value, line)) for value in ticks(low, high, 5)]
    every = max(1, math.ceil((len(place) - 1) / 4))
    chosen = [*range(0, len(place) - every, every), len(place) - 1]
    return [(place[i], line["labels"][i]) for i in chosen]


def _plain(value: float, line: dict[str, Any]) -> str:
    """Return a number of the axis; years have no comma."""
    return tick(value) if max(map(abs, line["points"])) >= 10_000 else tick(value).replace(",", "")


def heat_map(title: str, description: str, pair: dict[str, Any]) -> Svg:
    """Draw the joint effect of two columns: one tile a pair of points, blue where it adds, orange where it takes away.

    Args:
        title: name of the chart.
        description: what it shows.
        pair: ``columns, labels, effect, counts`` as in :class:`salience.explain.tables.Interaction`.
    """
    across, down = pair["labels"]
    left, width = 22.0, 77.0 / len(across)
    tall, top = 34.0, 46.0
    scale = max(abs(value) for tiles in pair["effect"] for value in tiles) or 1.0
    parts = [text(f"{pair['columns'][1]} ↓   {pair['columns'][0]} →", 0, 14, class_="muted small")]
    every = 1 if len(across) <= 6 else 2
    room = max(4, LETTERS * every // len(across))
    for i, label in enumerate(across[::every]):
        place = f"{left + width * (i * every + 0.5):.2f}%"
        parts.append(text(_short(label, room), place, top - 10, text_anchor="middle", class_="muted"))
    for j, label in enumerate(reversed(down)):
        row = len(down) - 1 - j
        parts.append(
            text(_short(label), f"{left - 1}%", top + tall * (j + 0.5) + 4, text_anchor="end", class_="muted")
        )
        for i in range(len(across)):
            box = (left + width * i, top + tall * j, width, tall)
            parts.append(_tile(pair, i, row, scale, box))
    return chart(title, description, top + tall * len(down) + 6, *parts, kind="matrix")


def _short(label: str, limit: int = 12) -> str:
    return label if len(label) <= limit else label[: limit - 1] + "…"


def _tile(pair: dict[str, Any], i: int, j: int, scale: float, box: tuple[float, float, float, float]) -> str:
    value, (x, y, width, tall) = pair["effect"][i][j], box
    rows = sum(
        pair["counts"][a][b] for a in _beside(i, pair["counts"]) for b in _beside(j, pair["counts"][0])
    )
    tint = f"tint t{math.ceil(TINTS * abs(value) / scale) if rows else 0} {'hit' if value > 0 else 'miss'}"
    (first, second), (across, down) = pair["columns"], pair["labels"]
    tip = f"{first} {across[i]}, {second} {down[j]}: {markup.signed(value)}" + (
        "" if rows else ", no row near it"
    )
    frame = {"x": f"{x + 0.2:.2f}%", "y": y + 1, "width": f"{width - 0.4:.2f}%", "height": tall - 2}
    shown = _rounded(value, scale) if rows else "–"
    middle = f"{x + width / 2:.2f}%"
    parts = [tag("title", escape(tip)), tag("rect", **frame, rx=3, class_=tint)]
    if len(across) <= WRITTEN[1]:
        size = "small" if len(across) <= WRITTEN[0] else "small wide"
        parts.append(text(shown, middle, y + tall / 2 + 4, text_anchor="middle", class_=size))
    return tag("g", *parts)


def _rounded(value: float, scale: float) -> str:
    """Return a number with two digits more than the largest of its kind has before the point."""
    digits = max(0, 2 - math.floor(math.log10(scale)))
    written = f"{value:+,.{digits}f}"
    return written.replace("-", "−") if float(written.replace(",", "")) else "0"


def _beside(point: int, steps: Sequence[Any]) -> list[int]:
    """Return the steps that a point is an end of."""
    return [step for step in (point - 1, point) if 0 <= step < len(steps)]


def direction_words(line: dict[str, Any]) -> str:
    """Return a direction in a word or two."""
    words = {"increasing": "never falls", "decreasing": "never rises", "constant": "never moves"}
    return words.get(line["direction"], "rises and falls")
