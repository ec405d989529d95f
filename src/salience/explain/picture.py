"""Draw an explanation as a PNG picture, for slides and documents.

The same signs as on the page: evidence for the answer is blue over a solid line, evidence against it orange over a
dashed line. Letters are Latin ones (the font that Pillow brings); use HTML for other scripts.
"""

import io
import math
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageColor, ImageDraw, ImageFont

from salience.core.unit import Unit
from salience.explain import markup
from salience.explain.phrasing import clean

WIDTH, MARGIN, SIZE, SMALL = 960, 32, 20, 15
LINE = 1.55  # height of a line, in heights of its letters
BAR = 220  # length of the longest bar, in pixels
INK, NOTE, PAPER = "#1b1b1b", "#555555", "#ffffff"
LONGEST_TEXT = 1500  # characters of a column that are drawn
MOST_CELLS = 40
MINUS = str.maketrans("−", "–")  # the font has no minus sign
Piece = tuple[str, float]  # a word, and its value (NaN: not marked)


def draw(explanation: Any) -> bytes:
    """Return an explanation as the bytes of a PNG picture, 960 pixels wide.

    Args:
        explanation: a :class:`~salience.explain.explanation.Explanation`.
    """
    page = _Page(markup.scale_of(explanation.values))
    page.text(str(explanation.words()))
    for column, kind in explanation.kinds.items():
        units, values = explanation.units_of(column)
        if kind == "text":
            page.marked(column, _pieces(str(explanation.inputs[column] or ""), units, values))
        elif kind == "image" and explanation.inputs[column] is not None:
            page.image(column, explanation.inputs[column], units, values)
    cells = [
        pair
        for pair in zip(explanation.units, explanation.values, strict=True)
        if pair[0].kind in ("number", "category")
    ]
    page.cells(cells)
    page.legend(*explanation.legend())
    page.text(explanation.footer(), size=SMALL, colour=NOTE)
    return page.png()


def _pieces(text: str, units: list[Unit], values: list[float]) -> Iterator[Piece]:
    """Yield the text in pieces: what is between units, word by word, and the units with their values."""
    start = 0
    for unit, value in sorted(zip(units, values, strict=True), key=lambda pair: pair[0].locator):
        begin, stop = (int(offset) for offset in unit.locator)
        if stop > LONGEST_TEXT:
            yield " …", math.nan
            return
        yield text[start:begin], math.nan
        yield text[begin:stop], value
        start = stop
    yield text[start:LONGEST_TEXT], math.nan


class _Page:
    """A picture that grows downward."""

    def __init__(self, scale: float) -> None:
        self.scale, self.y = scale, MARGIN
        self.canvas = Image.new("RGB", (WIDTH, 400), PAPER)
        self.pen = ImageDraw.Draw(self.canvas)

    def png(self) -> bytes:
        buffer = io.BytesIO()
        self.canvas.crop((0, 0, WIDTH, self.y + MARGIN)).save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()

    def _need(self, height: int) -> None:
        if self.y + height + MARGIN <= self.canvas.height:
            return
        grown = Image.new("RGB", (WIDTH, 2 * self.canvas.height + height), PAPER)
        grown.paste(self.canvas)
        self.canvas, self.pen = grown, ImageDraw.Draw(grown)

    def text(self, text: str, *, size: int = SIZE, colour: str = INK) -> None:
        self._flow([(text, math.nan)], size, colour)

    def marked(self, column: str, pieces: Iterator[Piece]) -> None:
        self.text(column, size=SMALL, colour=NOTE)
        self._flow(pieces, SIZE, INK)

    def _flow(self, pieces: Any, size: int, colour: str) -> None:
        """Write words from left to right and on the next line where one is full."""
        font, step = ImageFont.load_default(size), round(size * LINE)
        x = MARGIN
        self._need(step)
        for text, value in pieces:
            for word in _words(text):
                width = self.pen.textlength(word, font=font)
                if x + width > WIDTH - MARGIN and x > MARGIN:
                    x, self.y = MARGIN, self.y + step
                    self._need(step)
                shown = word if x > MARGIN else word.lstrip()
                width = self.pen.textlength(shown, font=font)
                self._mark(x, width, size, value)
                self.pen.text((x, self.y), shown, font=font, fill=colour)
                x += width
        self.y += step + size // 2

    def _mark(self, x: float, width: float, size: int, value: float) -> None:
        share = markup.strength(value, self.scale)
        if not share:
            return
        below = self.y + size + 4
        self.pen.rectangle((x, self.y - 1, x + width, below), fill=tint(value, share))
        self._line(x, below, width, value)

    def _line(self, x: float, y: float, width: float, value: float) -> None:
        if value >= 0:
            self.pen.line((x, y, x + width, y), fill=full(value), width=2)
            return
        for start in range(round(x), round(x + width), 7):
            self.pen.line((start, y, min(start + 4, x + width), y), fill=full(value), width=2)

    def image(self, column: str, image: Any, units: list[Unit], values: list[float]) -> None:
        uri, width, height = markup.thumbnail(image)
        times = max(1, markup.THUMBNAIL // max(width, height))
        picture = Image.open(io.BytesIO(markup.from_data_uri(uri))).convert("RGB")
        picture = picture.resize((width * times, height * times), Image.Resampling.NEAREST)
        self.text(column, size=SMALL, colour=NOTE)
        self._need(picture.height + SIZE)
        layer = Image.new("RGBA", picture.size, (0, 0, 0, 0))
        for unit, value in zip(units, values, strict=True):
            _region(ImageDraw.Draw(layer), unit, value, markup.strength(value, self.scale), picture.size)
        picture.paste(layer, mask=layer)
        self.canvas.paste(picture, (MARGIN, self.y))
        self.y += picture.height + SIZE

    def cells(self, cells: list[tuple[Unit, float]]) -> None:
        font, step = ImageFont.load_default(SIZE), round(SIZE * LINE)
        for unit, value in cells[:MOST_CELLS]:
            self._need(step)
            self.pen.text((MARGIN, self.y), _fitting(self.pen, unit.label, font, 400), font=font, fill=INK)
            signed = markup.signed(value).translate(MINUS)
            self.pen.text((MARGIN + 510, self.y), signed, font=font, fill=INK, anchor="ra")
            share = markup.strength(value, self.scale)
            if share:
                left, length = MARGIN + 530, BAR * share / 100
                self.pen.rectangle((left, self.y + 2, left + length, self.y + SIZE), fill=tint(value, 100))
                self._line(left, self.y + SIZE, length, value)
            self.y += step
        if len(cells) > MOST_CELLS:
            self.text(f"{len(cells) - MOST_CELLS} more cells are not drawn.", size=SMALL, colour=NOTE)

    def legend(self, positive: str, negative: str) -> None:
        parts = [("solid line", self.scale or 1.0), (f" {positive}    ", math.nan)]
        if negative:
            parts += [("dashed line", -(self.scale or 1.0)), (f" {negative}", math.nan)]
        self.scale, self.y = self.scale or 1.0, self.y + SMALL
        self._flow(parts, SMALL, NOTE)


def full(value: float) -> str:
    """Return the colour of a sign."""
    return markup.COLOURS["light"]["negative" if value < 0 else "positive"]


def tint(value: float, share: int) -> tuple[int, ...]:
    """Return the colour of a value on white paper; ``share`` is 1 to 100."""
    part = markup.TINT / 100 * share / 100
    return tuple(round(255 + part * (channel - 255)) for channel in ImageColor.getrgb(full(value)))


def _words(text: str) -> list[str]:
    """Return words, each with the white space before it, on one line and without control characters."""
    before = " " if text[:1].isspace() else ""
    after = " " if text[-1:].isspace() and text.strip() else ""
    words = clean(text).translate(MINUS).split(" ")
    spaced = [word if i == 0 else f" {word}" for i, word in enumerate(words)]
    return [part for part in (before, *spaced, after) if part]


def _fitting(pen: ImageDraw.ImageDraw, text: str, font: Any, width: int) -> str:
    shown = clean(text)
    while pen.textlength(shown, font=font) > width:
        shown = shown[:-2].rstrip("…") + "…"
    return shown


def _region(pen: ImageDraw.ImageDraw, unit: Unit, value: float, share: int, size: tuple[int, int]) -> None:
    if not share:
        return
    left, top, right, bottom = (round(place * size[i % 2]) for i, place in enumerate(unit.locator))
    colour = ImageColor.getrgb(full(value))
    pen.rectangle((left, top, right - 1, bottom - 1), fill=(*colour, round(110 * share / 100)))
    inside = (left + 1, top + 1, right - 2, bottom - 2)
    if value >= 0:
        pen.rectangle(inside, outline=(*colour, 255), width=2)
        return
    x0, y0, x1, y1 = inside
    for start in range(x0, x1, 8):
        for y in (y0, y1):
            pen.line((start, y, min(start + 4, x1), y), fill=(*colour, 255), width=2)
    for start in range(y0, y1, 8):
        for x in (x0, x1):
            pen.line((x, start, x, min(start + 4, y1)), fill=(*colour, 255), width=2)
