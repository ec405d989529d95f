"""Tokens of a text, and the words that they belong to."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from salience.core.errors import ConfigError
from salience.core.unit import Unit
from salience.data.words import cut

NONE = -1  # unit of a token that belongs to no word
OPEN, CLOSE = "\ufdd0", "\ufdd1"
MARKED = re.compile(f"{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}")
Piece = tuple[int, int, int]  # id, start, stop


def hide(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return a text in which some words stand between marks: a model that reads tokens sees neutral tokens there.

    The words stay, so that no other token moves. The marks are code points that no text holds (Unicode calls them
    noncharacters); a plain text with marks survives every table, where a type of its own would be lost.

    Args:
        text: a text, perhaps with marks already.
        spans: character offsets of words in the text without marks.
    """
    plain, hidden = shown(text)
    parts, start = [], 0
    for a, b in sorted({*hidden, *spans}):
        parts += [plain[start:a], OPEN, plain[a:b], CLOSE]
        start = b
    return "".join([*parts, plain[start:]])


def shown(text: str) -> tuple[str, frozenset[tuple[int, int]]]:
    """Return the text without the marks of :func:`hide`, and the offsets of the words between them."""
    if OPEN not in text:
        return text, frozenset()
    spans = [(m.start() - 2 * i, m.end() - 2 * i - 2) for i, m in enumerate(MARKED.finditer(text))]
    return MARKED.sub(r"\1", text), frozenset(spans)


@dataclass(frozen=True)
class Reading:
    """Tokens of a row.

    Attributes:
        ids: what the model reads.
        unit: index of each token's unit; of a token without one ``−2 − id``, so that the id is not lost.
        units: words of the row.
    """

    ids: Int[np.ndarray, " token"]
    unit: Int[np.ndarray, " token"]
    units: tuple[Unit, ...]

    def hidden(self, spans: dict[str, frozenset[tuple[int, int]]], neutral: int) -> "Reading":
        """Return the reading with a neutral token in place of each token of hidden words."""
        gone = np.array([u.locator in spans.get(u.column, ()) for u in self.units] + [False])
        position = np.append(np.cumsum(~gone[:-1]) - 1, 0)  # of each unit among those that are left
        lost = gone[np.maximum(self.unit, -1)]
        unit = np.where(self.unit >= 0, position[np.maximum(self.unit, -1)], self.unit)
        units = tuple(u for u, g in zip(self.units, gone, strict=False) if not g)
        return Reading(np.where(lost, neutral, self.ids), np.where(lost, -2 - neutral, unit), units)


def words_of(column: str, text: str, spans: Sequence[tuple[int, int]]) -> tuple[list[int], tuple[Unit, ...]]:
    """Return the unit of each token, and the units: words that at least one token covers.

    Words that share a token are one unit: they can only be removed together. A token that covers no word has
    :data:`NONE`.

    Args:
        column: name of the text's column.
        text: the text.
        spans: character offsets of the tokens; empty ones for tokens that stand for no part of the text.
    """
    words = np.array(cut(text), dtype=int).reshape(-1, 2)
    offsets = np.array(spans, dtype=int).reshape(-1, 2)
    first = np.searchsorted(words[:, 1], offsets[:, 0], side="right")
    last = np.searchsorted(words[:, 0], offsets[:, 1], side="left") - 1
    covered = (first <= last) & (offsets[:, 0] < offsets[:, 1])
    begins, read = np.ones(len(words), dtype=bool), np.zeros(len(words), dtype=bool)
    for a, b in zip(first[covered], last[covered], strict=True):
        begins[a + 1 : b + 1] = False
        read[a : b + 1] = True
    group = np.cumsum(begins) - 1
    kept = np.unique(group[read])
    index = np.full(len(words) + 1, NONE)
    index[:-1][read] = np.searchsorted(kept, group[read])
    unit = np.where(covered, index[np.minimum(first, len(words))], NONE)
    return unit.tolist(), tuple(_unit(column, text, words[group == g]) for g in kept)


def _unit(column: str, text: str, words: Int[np.ndarray, "word 2"]) -> Unit:
    start, stop = int(words[0, 0]), int(words[-1, 1])
    return Unit(column, "text", text[start:stop], (start, stop))


def join(column: str, text: str, pieces: Sequence[Piece]) -> Reading:
    """Return the tokens of one text with their units."""
    ids = np.array([piece[0] for piece in pieces], dtype=np.int64)
    local, units = words_of(column, text, [piece[1:] for piece in pieces])
    unit = np.array(local, dtype=np.int64)
    return Reading(ids, np.where(unit >= 0, unit, -2 - ids), units)


def cutter(encode: Mapping[str, int] | Callable[[str], Any], neutral: int) -> Callable[[str], list[Piece]]:
    """Return a function from a text to its tokens with offsets.

    Args:
        encode: a vocabulary of words and punctuation marks, or a function that returns ``(id, start, stop)`` for
            each token.
        neutral: id of words that the vocabulary does not hold.
    """
    if isinstance(encode, Mapping):
        return lambda text: [(encode.get(text[a:b], neutral), a, b) for a, b in cut(text)]
    return lambda text: [_piece(piece, text) for piece in encode(text)]


def _piece(piece: Any, text: str) -> Piece:
    try:
        token, start, stop = (int(part) for part in piece)
    except (TypeError, ValueError):
        token, start, stop = -1, -1, -1
    if token < 0 or not 0 <= start <= stop <= len(text):
        raise ConfigError(
            "A tokenizer must return (id, start, stop) for each token",
            f"{piece!r} for a text of {len(text)} characters.",
            "start and stop are offsets in the text; give start == stop to tokens that stand for no part of it.",
        )
    return token, start, stop
