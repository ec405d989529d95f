"""Pieces of HTML that show numbers on words, cells and image regions; the report is built from the same ones.

Evidence for the answer is blue with a solid line, evidence against it orange with a dashed line, so that the sign
does not hang on colour alone. Tints are see-through: they lie on the page's own colours, light or dark.
"""

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from typing import Any

from salience.core.unit import Unit
from salience.explain.phrasing import with_sign

SMALLEST_SHARE = 0.05  # of the largest value; below it a unit is not marked
THUMBNAIL = 224  # longest side of a stored picture, in pixels
TINT = 45  # share of colour in the strongest tint, in %
COLOURS = {
    "light": {"positive": "#1d6fd1", "negative": "#cf6a0a"},
    "dark": {"positive": "#63a9f7", "negative": "#f59a45"},
}

STYLE = f"""
.sal{{--sal-pos:{COLOURS["light"]["positive"]};--sal-neg:{COLOURS["light"]["negative"]};
line-height:1.6;font-family:system-ui,sans-serif;overflow-wrap:anywhere}}
@media (prefers-color-scheme:dark){{.sal{{--sal-pos:{COLOURS["dark"]["positive"]};--sal-neg:{COLOURS["dark"]["negative"]}}}}}
[data-theme="light"] .sal{{--sal-pos:{COLOURS["light"]["positive"]};--sal-neg:{COLOURS["light"]["negative"]}}}
[data-theme="dark"] .sal{{--sal-pos:{COLOURS["dark"]["positive"]};--sal-neg:{COLOURS["dark"]["negative"]}}}
.sal mark{{color:inherit;border-radius:.2em;padding:0 .12em;-webkit-print-color-adjust:exact;print-color-adjust:exact}}
.sal mark.sal-p{{background:color-mix(in srgb,var(--sal-pos) calc(var(--s)*{TINT / 100:g}%),transparent);border-bottom:2px solid var(--sal-pos)}}
.sal mark.sal-n{{background:color-mix(in srgb,var(--sal-neg) calc(var(--s)*{TINT / 100:g}%),transparent);border-bottom:2px dashed var(--sal-neg)}}
.sal-name{{font-weight:600;margin-right:.5em}}
.sal-cells{{border-collapse:collapse;margin:.3em 0}}
.sal-cells th{{text-align:left;font-weight:400;padding:.1em .8em .1em 0}}
.sal-cells td{{padding:.1em .4em;font-variant-numeric:tabular-nums}}
.sal-bar{{display:inline-block;height:.8em;width:calc(var(--s)*.06em);min-width:1px;vertical-align:middle;
-webkit-print-color-adjust:exact;print-color-adjust:exact}}
.sal-bar.sal-p{{background:var(--sal-pos)}}
.sal-bar.sal-n{{background:repeating-linear-gradient(90deg,var(--sal-neg) 0 4px,transparent 4px 6px);outline:1px solid var(--sal-neg)}}
.sal-image{{margin:.3em 0;max-width:{THUMBNAIL}px}}
.sal-image svg{{width:100%;height:auto;display:block}}
.sal-image rect.sal-p{{fill:var(--sal-pos);stroke:var(--sal-pos)}}
.sal-image rect.sal-n{{fill:var(--sal-neg);stroke:var(--sal-neg);stroke-dasharray:4 3}}
.sal-note{{font-size:.85em;opacity:.85}}
"""


def scale_of(values: Sequence[float]) -> float:
    """Return the largest absolute value that is finite; 0 if there is none."""
    return max((abs(v) for v in values if math.isfinite(v)), default=0.0)


def strength(value: float, scale: float) -> int:
    """Return how strongly a value is shown, 0 to 100; 0 means not at all."""
    if not math.isfinite(value) or scale <= 0 or abs(value) < SMALLEST_SHARE * scale:
        return 0
    return max(1, min(100, round(100 * abs(value) / scale)))


def signed(value: float) -> str:
    """Return a number with its sign, for people: ``"+0.41"``, ``"−12.30"``, ``"not measured"``."""
    return with_sign(value) if math.isfinite(value) else "not measured"


def side(value: float) -> str:
    """Return the style class of a sign."""
    return "sal-n" if value < 0 else "sal-p"


def text_html(text: str, units: Sequence[Unit], values: Sequence[float], scale: float) -> str:
    """Return a text with its units marked.

    Args:
        text: the raw text that the units' offsets refer to.
        units: words, in any order, not overlapping.
        values: one a unit.
        scale: the value that is shown most strongly.
    """
    if not text.strip():
        return '<span class="sal-note">(empty)</span>'
    parts, start = [], 0
    for unit, value in sorted(zip(units, values, strict=True), key=lambda pair: pair[0].locator):
        begin, stop = (int(offset) for offset in unit.locator)
        word = text[begin:stop]
        parts += [escape(text[start:begin]), _mark(word if word.strip() else unit.label, value, scale)]
        parts.append("" if word.strip() else "<br>" * word.count("\n"))
        start = stop
    return "".join(parts) + escape(text[start:])


def _mark(word: str, value: float, scale: float) -> str:
    share = strength(value, scale)
    if not share:
        return escape(word)
    return f'<mark class="{side(value)}" style="--s:{share}" title="{signed(value)}">{escape(word)}</mark>'


def cells_html(units: Sequence[Unit], values: Sequence[float], scale: float) -> str:
    """Return table cells as rows with a bar and a number each."""
    rows = []
    for unit, value in zip(units, values, strict=True):
        share = strength(value, scale)
        bar = f'<span class="sal-bar {side(value)}" style="--s:{share}"></span>' if share else ""
        rows.append(
            f'<tr><th scope="row">{escape(unit.label)}</th><td>{signed(value)}</td><td>{bar}</td></tr>'
        )
    return f'<table class="sal-cells">{"".join(rows)}</table>' if rows else ""


def image_html(image: Any, units: Sequence[Unit], values: Sequence[float], scale: float, name: str) -> str:
    """Return a picture with its regions outlined.

    Args:
        image: a path, bytes, PIL image, array or data URI; None for a missing picture.
        units: regions, located in fractions of width and height.
        values: one a region.
        scale: the value that is shown most strongly.
        name: name of the column, for the text alternative.
    """
    if image is None:
        return '<span class="sal-note">(no picture)</span>'
    uri, width, height = thumbnail(image)
    boxes = "".join(_region(u, v, scale, width, height) for u, v in zip(units, values, strict=True))
    return (
        f'<figure class="sal-image"><svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(name)}">'
        f'<image href="{uri}" width="{width}" height="{height}"/>{boxes}</svg></figure>'
    )


def _region(unit: Unit, value: float, scale: float, width: int, height: int) -> str:
    share = strength(value, scale)
    if not share:
        return ""
    left, top, right, bottom = unit.locator
    box = f'x="{left * width + 1:.1f}" y="{top * height + 1:.1f}"'
    size = (
        f'width="{max((right - left) * width - 2, 0):.1f}" height="{max((bottom - top) * height - 2, 0):.1f}"'
    )
    opacity = f'fill-opacity="{0.5 * share / 100:.2f}" stroke-opacity="{0.3 + 0.7 * share / 100:.2f}"'
    title = f"<title>{escape(unit.label)} {signed(value)}</title>"
    return f'<rect class="{side(value)}" {box} {size} {opacity} stroke-width="2">{title}</rect>'


def thumbnail(image: Any) -> tuple[str, int, int]:
    """Return a picture as a PNG data URI of at most :data:`THUMBNAIL` pixels a side, its width and its height."""
    from salience.data.images import load_image

    picture = load_image(from_data_uri(image) if is_data_uri(image) else image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/png;base64,{encoded}", picture.width, picture.height


def is_data_uri(value: Any) -> bool:
    """Tell whether a value is a picture as :func:`thumbnail` stores it."""
    return isinstance(value, str) and value.startswith("data:image/png;base64,")


def from_data_uri(value: str) -> bytes:
    """Return the bytes of a picture stored by :func:`thumbnail`."""
    return base64.b64decode(value.partition(",")[2])


def legend_html(positive: str, negative: str) -> str:
    """Return the key to the marks.

    Args:
        positive: what a solid line means, such as ``"speaks for yes"``.
        negative: what a dashed line means; empty where no value can be negative.
    """
    parts = [f'<mark class="sal-p" style="--s:60">solid line</mark> {escape(positive)}']
    if negative:
        parts.append(f'<mark class="sal-n" style="--s:60">dashed line</mark> {escape(negative)}')
    return f'<p class="sal-note">{" · ".join(parts)}</p>'
