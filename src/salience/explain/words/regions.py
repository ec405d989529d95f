"""Where a part of a picture is, how large, and what it looks like, in words that are measured."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from salience.core.errors import SalienceError
from salience.core.unit import Unit

SMALL, LARGE, WHOLE = 0.1, 0.3, 0.9  # of the picture's area
DARK, BRIGHT = 0.25, 0.75  # mean brightness
BLACK, WHITE = 0.1, 0.9
COLOURED, COLOURLESS = 0.2, 0.08  # largest less smallest of red, green and blue
MOST = 0.6  # share of the pixels that a colour must hold
EVEN, BUSY = 0.03, 0.1  # spread of the brightness; mean step of brightness between neighbouring pixels
SAMPLE = 64  # pixels a side that are looked at
HUES = (  # degrees on the colour circle, up to which a name goes
    (20, "red"), (45, "orange"), (70, "yellow"), (160, "green"), (200, "turquoise"), (255, "blue"), (290, "purple"),
    (340, "pink"), (360, "red"),
)  # fmt: skip
PLACES = (
    ("upper left", "top", "upper right"),
    ("left", "centre", "right"),
    ("lower left", "bottom", "lower right"),
)


def located(unit: Unit) -> bool:
    """Tell whether a unit is a box within a picture."""
    box = unit.locator
    return unit.kind == "image" and len(box) == 4 and box[0] < box[2] and box[1] < box[3]


def touching(a: Unit, b: Unit) -> bool:
    """Tell whether two boxes share a part of an edge, or overlap."""
    if a.column != b.column:
        return False
    across = min(a.locator[2], b.locator[2]) - max(a.locator[0], b.locator[0])
    down = min(a.locator[3], b.locator[3]) - max(a.locator[1], b.locator[1])
    near = 1e-9
    return across > -near and down > -near and max(across, down) > near


def connected(units: Sequence[Unit]) -> bool:
    """Tell whether boxes form one area."""
    reached, waiting = {0}, [0]
    while waiting:
        i = waiting.pop()
        found = {j for j in range(len(units)) if j not in reached and touching(units[i], units[j])}
        reached |= found
        waiting += found
    return len(reached) == len(units)


def place(units: Sequence[Unit]) -> str:
    """Return where an area is: the third of the picture, across and down, that holds its centre of mass."""
    areas = np.array([_area(unit) for unit in units])
    if areas.sum() >= WHOLE:
        return "everywhere"
    boxes = np.array([unit.locator for unit in units], dtype=float)
    centre = ((boxes[:, :2] + boxes[:, 2:]) / 2 * areas[:, None]).sum(axis=0) / areas.sum()
    column, row = np.clip((centre * 3).astype(int), 0, 2)
    return PLACES[row][column]


def size(units: Sequence[Unit]) -> str:
    """Return ``"small"`` below a tenth of the picture, ``"large"`` from three tenths; else nothing."""
    area = sum(_area(unit) for unit in units)
    return "small" if area < SMALL else "large" if area >= LARGE else ""


def _area(unit: Unit) -> float:
    left, top, right, bottom = unit.locator
    return (right - left) * (bottom - top)


def look(picture: Any, units: Sequence[Unit]) -> tuple[str, str, str]:
    """Return brightness, colour and texture of an area; empty where the pixels do not show it clearly.

    Args:
        picture: as an image column holds it; None, or one that cannot be read, shows nothing.
        units: the boxes of the area.
    """
    pixels = _pixels(picture, units)
    if not pixels:
        return "", "", ""
    flat = np.concatenate([part.reshape(-1, 3) for part in pixels])
    light = _light(flat)
    colour = _colour(flat, float(light.mean()))
    told = colour in ("black", "white")
    mean = light.mean()
    brightness = "" if told else "dark" if mean < DARK else "bright" if mean > BRIGHT else ""
    return brightness, colour, _texture([_light(part) for part in pixels], light)


def _pixels(picture: Any, units: Sequence[Unit]) -> list[Float[np.ndarray, "height width 3"]]:
    from salience.data.images import load_image
    from salience.data.kinds import pixel_box

    if picture is None:
        return []
    try:
        image = load_image(picture)
    except SalienceError:
        return []
    boxes = [pixel_box(unit.locator, image.size) for unit in units]
    parts = [image.crop(box) for box in boxes if box[0] < box[2] and box[1] < box[3]]
    for part in parts:
        part.thumbnail((SAMPLE, SAMPLE))
    return [np.asarray(part, dtype=float)[..., :3] / 255 for part in parts]


def _light(pixels: np.ndarray) -> np.ndarray:
    return pixels @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def _colour(pixels: Float[np.ndarray, "pixel 3"], light: float) -> str:
    high, low = pixels.max(axis=1), pixels.min(axis=1)
    chroma = high - low
    if (chroma < COLOURLESS).mean() >= MOST:
        return "black" if light < BLACK else "white" if light > WHITE else "grey"
    names = _names(pixels[chroma > COLOURED])
    if not len(names):
        return ""
    found, counts = np.unique(names, return_counts=True)
    most = counts.argmax()
    return str(found[most]) if counts[most] >= MOST * len(pixels) else ""


def _names(pixels: Float[np.ndarray, "pixel 3"]) -> np.ndarray:
    """Return the name of the hue of each coloured pixel; a dark orange is brown."""
    if not len(pixels):
        return np.zeros(0, dtype=str)
    high, low = pixels.max(axis=1), pixels.min(axis=1)
    chroma = high - low
    red, green, blue = pixels.T
    sector = np.select(
        [high == red, high == green],
        [((green - blue) / chroma) % 6, (blue - red) / chroma + 2],
        (red - green) / chroma + 4,
    )
    limits = np.array([limit for limit, _ in HUES])
    names = np.array([name for _, name in HUES])[
        np.searchsorted(limits, 60 * sector, side="right").clip(0, 8)
    ]
    return np.where((names == "orange") & (high < 0.65), "brown", names)


def _texture(parts: Sequence[np.ndarray], light: np.ndarray) -> str:
    if light.std() < EVEN:
        return "even"
    steps = [np.abs(np.diff(part, axis=axis)).ravel() for part in parts for axis in (0, 1)]
    joined = np.concatenate(steps)
    return "busy" if joined.size and joined.mean() > BUSY else ""
