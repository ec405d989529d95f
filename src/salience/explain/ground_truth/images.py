"""Five changes of pictures with exact masks (Zhou et al., AAAI 2022), at any size.

Lengths are in pixels of a picture of 224 × 224, as published, and are scaled to the picture at hand. A disc holds the
pixels whose centre is at most the radius away from the middle; the published code uses this rule for brightness and a
drawn ellipse for blur, which differ by at most a ring of one pixel. Nothing outside a mask changes, not by rounding
either. Changed pictures are arrays, so that no lossy file blurs the border.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, UInt8

from salience.core.errors import ConfigError
from salience.data.images import load_image
from salience.explain.ground_truth.design import Areas, Row

REFERENCE = 224  # pixels a side of the pictures whose lengths the parameters are in
Pixels = UInt8[np.ndarray, "height width 3"]
Mask = Bool[np.ndarray, "height width"]


@dataclass(frozen=True)
class ImageManipulation(ABC):
    """What the five changes share: which column, and that pixels outside the mask stay as they are.

    Attributes:
        column: column of the pictures.
    """

    column: str
    limits: ClassVar[dict[str, tuple[float, float]]] = {}

    def __post_init__(self) -> None:
        for name, (low, high) in self.limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                title = f"{type(self).__name__}.{name}"
                raise ConfigError(
                    f"{title} is out of range", f"Got {value}.", f"Use {low:g} to {high:g}.", code="SAL-C005"
                )
        if getattr(self, "top", 0) >= getattr(self, "bottom", REFERENCE):
            raise ConfigError(
                "The rows are none", f"top={self.top}, bottom={self.bottom}.", "Let bottom exceed top."
            )

    def fits(self, row: Row) -> bool:
        """Tell whether there is a picture."""
        return row[self.column] is not None

    def apply(self, row: Row, rng: np.random.Generator) -> Row:
        """Return the row with the changed picture."""
        pixels = pixels_of(row[self.column])
        changed, mask = self.change(pixels, rng), self.mask(*pixels.shape[:2])
        return {**row, self.column: np.where(mask[..., None], changed, pixels)}

    def area(self, row: Row) -> Areas:
        """Return the mask at the picture's size."""
        return {self.column: self.mask(*pixels_of(row[self.column]).shape[:2])}

    @abstractmethod
    def mask(self, height: int, width: int) -> Mask:
        """Return where a change can fall; the same for every picture of a size."""

    @abstractmethod
    def change(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Return the picture changed everywhere; what lies outside the mask is not used."""


def pixels_of(picture: Any) -> Pixels:
    """Return a picture as bytes (height, width, 3)."""
    if isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] == 3:
        return picture
    return np.asarray(load_image(picture), dtype=np.uint8)


def _distance(height: int, width: int) -> Float[np.ndarray, "height width"]:
    """Return the distance of each pixel's centre from the middle; the picture reaches from −1 to 1 on both axes."""
    down, across = ((2 * np.arange(n) + 1) / n - 1 for n in (height, width))
    return np.hypot(down[:, None], across[None])


def _rows(height: int, width: int, top: float, bottom: float) -> Mask:
    first, last = (round(edge * height / REFERENCE) for edge in (top, bottom))
    mask = np.zeros((height, width), dtype=bool)
    mask[first : max(last, first + 1)] = True
    return mask


def _disc(height: int, width: int, radius: float) -> Mask:
    return _distance(height, width) <= 2 * radius / REFERENCE


@dataclass(frozen=True)
class PeripheralBlurring(ImageManipulation):
    """Blur what lies outside a disc around the middle.

    Attributes:
        radius: of the disc.
        sigma: spread of the Gaussian.
    """

    radius: float = 130.0
    sigma: float = 1.0
    limits = {"radius": (1, 158), "sigma": (0, REFERENCE)}

    def mask(self, height: int, width: int) -> Mask:
        """Return all but the disc."""
        return ~_disc(height, width, self.radius)

    def change(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Return the blurred picture."""
        from PIL import Image, ImageFilter

        spread = self.sigma * min(pixels.shape[:2]) / REFERENCE
        return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(spread)))


@dataclass(frozen=True)
class CentreBrightnessShift(ImageManipulation):
    """Make a disc around the middle brighter or darker, most in the middle and not at all at its border.

    The brightness (the value of HSV) moves by ``shift · cos²(π ρ / 2)``, where ρ is the distance in radii.

    Attributes:
        radius: of the disc.
        shift: change of brightness in the middle, in [−1, 1].
    """

    radius: float = 50.0
    shift: float = -0.2
    limits = {"radius": (1, 158), "shift": (-1, 1)}

    def mask(self, height: int, width: int) -> Mask:
        """Return the disc."""
        return _disc(height, width, self.radius)

    def change(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Scale every colour to its new value; hue and saturation stay."""
        value = pixels.max(axis=2) / 255
        radii = (_distance(*value.shape) * REFERENCE / (2 * self.radius)).clip(0, 1)
        moved = (value + self.shift * np.cos(np.pi * radii / 2) ** 2).clip(0, 1)
        grey = value == 0  # black has no hue: it becomes grey
        scale = np.where(grey, 0, moved / np.where(grey, 1, value))
        return np.rint(pixels * scale[..., None] + np.where(grey, 255 * moved, 0)[..., None]).astype(np.uint8)


@dataclass(frozen=True)
class StripedHueShift(ImageManipulation):
    """Turn the hue of some rows one way and of others the other way.

    The hue, in [0, 1], moves by ``shift · sign(sin φ) sin² φ`` with φ = 2π (row − 112) / (bottom − top). Grey pixels have
    no hue and do not change.

    Attributes:
        top, bottom: first row, and the row after the last.
        shift: largest change of the hue, in [−0.5, 0.5].
    """

    top: float = 62.0
    bottom: float = 162.0
    shift: float = 0.04
    limits = {"top": (0, REFERENCE), "bottom": (0, REFERENCE), "shift": (-0.5, 0.5)}

    def mask(self, height: int, width: int) -> Mask:
        """Return the rows."""
        return _rows(height, width, self.top, self.bottom)

    def change(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Return the picture with turned hues."""
        row = (np.arange(len(pixels)) + 0.5) * REFERENCE / len(pixels)
        wave = np.sin(2 * np.pi * (row - REFERENCE / 2) / (self.bottom - self.top))
        return turn_hue(pixels, (self.shift * np.sign(wave) * wave**2)[:, None])


def turn_hue(pixels: Pixels, turn: Float[np.ndarray, "#height #width"]) -> Pixels:
    """Return the picture with hues turned by a share of the circle; saturation and value stay."""
    colour = pixels / 255
    value, low = colour.max(axis=2), colour.min(axis=2)
    spread = value - low
    red, green, blue = np.moveaxis(colour, 2, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        sextant = np.select(
            [spread == 0, value == red, value == green],
            [0 * red, (green - blue) / spread, 2 + (blue - red) / spread],
            4 + (red - green) / spread,
        )
    hue = sextant + 6 * turn
    # each channel is the value less the spread times a tooth that the hue moves along
    tooth = [(start + hue) % 6 for start in (5, 3, 1)]
    turned = np.stack([value - spread * np.clip(np.minimum(t, 4 - t), 0, 1) for t in tooth], axis=2)
    return np.rint(255 * turned.clip(0, 1)).astype(np.uint8)


@dataclass(frozen=True)
class StripedNoise(ImageManipulation):
    """Give some pixels of a band of rows a random colour.

    Attributes:
        top, bottom: first row, and the row after the last.
        share: probability that a pixel of the band is replaced, in [0, 1].
    """

    top: float = 102.0
    bottom: float = 122.0
    share: float = 0.02
    limits = {"top": (0, REFERENCE), "bottom": (0, REFERENCE), "share": (0, 1)}

    def mask(self, height: int, width: int) -> Mask:
        """Return the band."""
        return _rows(height, width, self.top, self.bottom)

    def change(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Return the picture with noise."""
        hit = rng.random(pixels.shape[:2]) < self.share
        return np.where(hit[..., None], rng.integers(0, 256, pixels.shape, dtype=np.uint8), pixels)


@dataclass(frozen=True)
class Watermark(ImageManipulation):
    """Write ``IMG`` in black and four random hexadecimal digits in white at a random place of a box.

    The place where the two parts meet is drawn at least 40 from the left and right edge of the box and 10 from the
    upper and lower one, or in its middle where it is narrower. What would stand over the box is cut off. The font is
    the one that Pillow carries; the published one is Open Sans.

    Attributes:
        top, bottom, left, right: the box.
        size: of the font.
    """

    top: float = 200.0
    bottom: float = 220.0
    left: float = 20.0
    right: float = 204.0
    size: float = 13.0
    limits = dict.fromkeys(("top", "bottom", "left", "right"), (0, REFERENCE)) | {"size": (1, REFERENCE)}

    def mask(self, height: int, width: int) -> Mask:
        """Return the box."""
        return _rows(height, width, self.top, self.bottom) & _rows(width, height, self.left, self.right).T

    def change(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Return the picture with the mark."""
        from PIL import Image, ImageDraw, ImageFont

        height, width = pixels.shape[:2]
        across = _place(self.left, self.right, 40.0, rng) * width / REFERENCE
        down = _place(self.top, self.bottom, 10.0, rng) * height / REFERENCE
        digits = "".join(rng.choice(list("0123456789ABCDEF"), 4))
        picture = Image.fromarray(pixels)
        draw = ImageDraw.Draw(picture)
        font = ImageFont.load_default(self.size * min(height, width) / REFERENCE)
        draw.text((across, down), "IMG", fill="black", font=font, anchor="rm")
        draw.text((across, down), digits, fill="white", font=font, anchor="lm")
        return np.asarray(picture)


def _place(start: float, end: float, margin: float, rng: np.random.Generator) -> float:
    room = max(0.0, end - start - 2 * margin)
    return (start + end - room) / 2 + room * rng.random()
