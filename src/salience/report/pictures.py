"""Images of explained rows: a small embedded copy with its regions marked."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

from salience.report.numbers import shorten, signed
from salience.report.svg import Svg, tag

SIDE = 224


@dataclass(frozen=True)
class Picture:
    """An image of a row; ``drawing`` is empty where the image could not be read."""

    column: str
    drawing: Svg
    regions: tuple[tuple[str, str], ...]


def picture(column: str, value: Any, regions: Sequence[tuple[Any, float | None, int]]) -> Picture:
    """Return an image with its regions tinted by contribution.

    Args:
        column: the image's column.
        value: a path, encoded bytes or a PIL image.
        regions: unit, contribution and strength (0 to 5) of each region.
    """
    named = tuple((unit.label, signed(v)) for unit, v, _ in sorted(regions, key=lambda r: -abs(r[1] or 0.0)))
    small = _thumbnail(value)
    return Picture(column, _drawing(column, *small, regions) if small else Svg(""), named)


def _thumbnail(value: Any) -> tuple[str, int, int] | None:
    from PIL import Image, UnidentifiedImageError

    try:
        source = BytesIO(value) if isinstance(value, bytes) else value
        image = (
            source
            if hasattr(source, "convert")
            else Image.open(Path(source) if isinstance(source, str) else source)
        )
        image = image.convert("RGB")
    except (OSError, UnidentifiedImageError, AttributeError, TypeError, ValueError):
        return None
    scale = SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = image.resize(size, Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BICUBIC)
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", *size


def _drawing(
    column: str, uri: str, width: int, height: int, regions: Sequence[tuple[Any, float | None, int]]
) -> Svg:
    boxes = []
    for unit, value, level in regions:
        if level == 0:
            continue
        left, top, right, bottom = unit.locator
        boxes.append(
            tag(
                "rect",
                tag("title", escape(f"{unit.label}: {signed(value)}")),
                x=round(left * width, 1),
                y=round(top * height, 1),
                width=round((right - left) * width, 1),
                height=round((bottom - top) * height, 1),
                class_=f"region {'neg' if value < 0 else 'pos'} s{level}",
            )
        )
    title = tag("title", escape(f"{shorten(column, 60)}: image with the regions that weighed most"))
    image = tag("image", href=uri, width=width, height=height)
    label = {"role": "img", "class_": "picture", "viewBox": f"0 0 {width} {height}"}
    return Svg(tag("svg", title, image, *boxes, width=width, height=height, **label))
