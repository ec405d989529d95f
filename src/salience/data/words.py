"""Cut text into words and punctuation marks, and keep where each one was.

The rule, in full:

* A word is a run of letters, digits and their marks. An apostrophe between two of them stays inside
  (``don't``, ``5'4``), a decimal point between digits too (``3.5``), and a comma before three digits
  (``1,000``).
* A hyphen, a slash and an underscore separate, so that ``well-made`` shares ``made`` with other texts.
* Every ideograph and kana is a word of its own, since these scripts write no spaces.
* Any other character that is not white space is a mark of its own, with what modifies it
  (skin tones, variation selectors, joined emoji).
"""

import re
import unicodedata
from functools import lru_cache

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_JOINERS = "\u200c\u200d"
_SKIN_TONES = "\U0001f3fb-\U0001f3ff"
_PLANES_WITH_MARKS = ((0x300, 0x1F000), (0xE0100, 0xE01F0))


def _mark_ranges() -> str:
    """Return the combining marks as ranges of a character class; ``\\w`` of :mod:`re` leaves them out."""
    ranges: list[list[int]] = []
    for first, last in _PLANES_WITH_MARKS:
        for code in range(first, last):
            if unicodedata.category(chr(code))[0] != "M":
                continue
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    marks = _mark_ranges()
    letter = rf"[^\W_{_IDEOGRAPHS}]"
    run = rf"{letter}+(?:[{marks}{_JOINERS}]+{letter}*)*"
    inner = r"(?:['’ʼ]|(?<=\d)\.(?=\d)|(?<=\d),(?=\d{3}(?!\d)))"
    word = rf"{run}(?:{inner}{run})*"
    mark = rf"\S(?:[{marks}{_SKIN_TONES}]|\u200d\S)*"
    return re.compile(f"{word}|{mark}")


def cut(text: str) -> list[tuple[int, int]]:
    """Return the character offsets of words and punctuation marks, in order.

    The pieces do not overlap, hold no white space, and together cover every other character.

    Example:
        >>> [text[a:b] for text in ["It don't fit."] for a, b in cut(text)]
        ['It', "don't", 'fit', '.']
    """
    return [match.span() for match in _pattern().finditer(text)]


def words(text: str) -> list[str]:
    """Return the pieces themselves."""
    return _pattern().findall(text)
