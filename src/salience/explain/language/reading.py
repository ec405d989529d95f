"""How a context is read: its tokens, and the words or tokens that a person can point at."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from salience.core.errors import ConfigError, nearest
from salience.core.unit import Unit
from salience.data.words import cut
from salience.explain.phrasing import clean

CONTEXT = "context"  # the one column of a language model's table
BREAK, SPACE = "⏎", "␣"  # what a person reads for a line break and for other white space
UNITS = ("words", "tokens")
Span = tuple[int, int]


@dataclass(frozen=True)
class Reading:
    """Hold one context as the model reads it.

    Attributes:
        ids: its tokens.
        units: words or tokens with the characters that a person sees, in order.
        spans: the characters of each unit with the white space that belongs to it; together they are the context.
        unit: for each token, the position of its unit; −1 for a token that stands for no character.
    """

    ids: tuple[int, ...]
    units: tuple[Unit, ...]
    spans: tuple[Span, ...]
    unit: tuple[int, ...]


def check_units(units: str) -> None:
    """Refuse an unknown kind of unit.

    Raises:
        ConfigError: it is neither ``"words"`` nor ``"tokens"``.
    """
    if units not in UNITS:
        raise ConfigError(f"Unknown units {units!r}", "", nearest(units, UNITS), code="SAL-C002")


def read(text: str, tokenizer: Any, units: str) -> Reading:
    """Cut a context to tokens and units.

    A token counts to the unit that holds its last character. White space counts to the word after it; a line
    break, and white space at the end, is a unit of its own.

    Args:
        text: the context.
        tokenizer: with ``encode`` and ``offsets``, one pair of character positions a token.
        units: ``"words"`` (words and marks) or ``"tokens"`` (tokens inside one character are one unit).

    Raises:
        ConfigError: the tokenizer gives another number of offsets than tokens.
    """
    ids, offsets = tokenizer.encode(text), tokenizer.offsets(text)
    if len(ids) != len(offsets):
        raise ConfigError(
            "The tokenizer does not say where its tokens are",
            f"{len(ids)} tokens, {len(offsets)} offsets.",
            "offsets(text) must return one (start, stop) for each token of encode(text).",
            code="SAL-C005",
        )
    spans = word_spans(text) if units == "words" else token_spans(offsets)
    stops = np.array([stop for _, stop in spans], dtype=int)
    unit = [int(np.searchsorted(stops, stop)) if stop > start else -1 for start, stop in offsets]
    return Reading(tuple(ids), tuple(_unit(text, span) for span in spans), tuple(spans), tuple(unit))


def word_spans(text: str) -> list[Span]:
    """Return the characters of each word and mark with the white space before it; see :func:`read`."""
    spans, start = [], 0
    for word, stop in [*cut(text), (len(text), len(text))]:
        line_break = text.rfind("\n", start, word) + 1
        if line_break:
            spans.append((start, line_break))
            start = line_break
        if stop > start:
            spans.append((start, stop))
        start = stop
    return spans


def token_spans(offsets: list[Span]) -> list[Span]:
    """Return the characters of each token; tokens that share a character become one."""
    spans: list[Span] = []
    for start, stop in offsets:
        if spans and start < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(stop, spans[-1][1]))
        elif stop > start:
            spans.append((start, stop))
    return spans


def _unit(text: str, span: Span) -> Unit:
    piece = text[span[0] : span[1]]
    shown = piece.strip()
    start = span[0] + (piece.index(shown) if shown else 0)
    stop = start + len(shown) if shown else span[1]
    return Unit(CONTEXT, "text", shown or visible(piece), (start, stop))


def without(text: str, spans: list[Span], filler: str, joint: str = "") -> str:
    """Return a text with a filler in place of every character of some spans.

    Args:
        text: the context.
        spans: what is taken away.
        filler: ``""`` to close the gap, ``" "`` to leave it as wide as it was.
        joint: what is put where two words would grow together.
    """
    result, start = "", 0
    for first, stop in [*sorted(spans), (len(text), len(text))]:
        kept = text[start:first]
        grown = result[-1:].isalnum() and kept[:1].isalnum()
        result += (joint if grown else "") + kept + filler * (stop - first)
        start = stop
    return result


def visible(text: str) -> str:
    """Return a text as a person can read it: on one line, with signs where there is white space only."""
    shown = clean(text)
    if shown:
        return shown
    return BREAK if "\n" in text else SPACE if text.isspace() else repr(text)[1:-1]
