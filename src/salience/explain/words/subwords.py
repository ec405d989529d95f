"""Put the pieces of words back together: a saliency map of a tokenizer's pieces becomes one of words.

A person reads words, so the searches must not return half of one. The value of a word is the sum of the values of its
pieces, which keeps what adds up adding up (Feldhus et al., 2023, left the pieces apart). Three ways of marking
pieces are known: ``##`` before what goes on (WordPiece), ``Ġ`` before what begins (byte-level BPE) and ``▁`` before
what begins (SentencePiece).
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

from salience.core.errors import ConfigError

SPECIAL = re.compile(r"\[(?:CLS|SEP|PAD|BOS|EOS)\]|</?s>|<(?:pad|bos|eos|cls|sep)>|<\|[^|]*\|>")
CONTINUES, BYTES, PIECES = "##", "Ġ", "▁"
SCHEMES = ("wordpiece", "bytes", "sentencepiece", "words")
BREAK = "Ċ"  # how byte-level BPE writes a line break
APOSTROPHES = "'’"
CLOSING, OPENING = ".,;:!?)]}%…’”»", "([{“«$#"


@dataclass(frozen=True)
class Merged:
    """Words that were made of pieces.

    Attributes:
        words: the words and marks as a person writes them; special tokens as they are.
        values: one number a word, the sum over its pieces.
        pieces: the positions of the pieces of each word.
        special: True for special tokens, which belong to no text.
    """

    words: tuple[str, ...]
    values: Float[np.ndarray, " word"]
    pieces: tuple[tuple[int, ...], ...]
    special: Bool[np.ndarray, " word"]

    def tokens_of(self, words: Iterable[int]) -> tuple[int, ...]:
        """Return the positions of all pieces of some words, ascending."""
        return tuple(sorted(piece for word in words for piece in self.pieces[word]))

    def text_of(self, words: Iterable[int]) -> str:
        """Return some words as a person writes them, special tokens left out, with a sign where others are."""
        chosen = sorted(i for i in words if not self.special[i])
        runs: list[list[str]] = []
        for before, i in zip([-2, *chosen], chosen, strict=False):
            if before == i - 1:
                runs[-1].append(self.words[i])
            else:
                runs.append([self.words[i]])
        return " … ".join(map(detokenise, runs))


def merge(tokens: Sequence[str], values: Sequence[float], scheme: str | None = None) -> Merged:
    """Join the pieces of words, and add up their values.

    A punctuation mark is a word of its own in every scheme, except an apostrophe within a word.

    Args:
        tokens: pieces, as the tokenizer names them.
        values: one number a piece; NaN makes its word NaN.
        scheme: ``"wordpiece"``, ``"bytes"``, ``"sentencepiece"``, ``"words"`` (each token is a word); None to tell it
            from the tokens.

    Raises:
        ConfigError: as many values as tokens are needed; an unknown scheme.
    """
    if len(tokens) != len(values):
        raise ConfigError(
            "A map needs one value a token",
            f"{len(values)} values for {len(tokens)} tokens.",
            "Give one number for each token.",
        )
    scheme = scheme or _scheme(tokens)
    if scheme not in SCHEMES:
        raise ConfigError(f"Unknown scheme {scheme!r}", "", f"Use one of {', '.join(SCHEMES)}.")
    groups: list[list[int]] = []
    for i, token in enumerate(tokens):
        if groups and _goes_on(tokens[groups[-1][-1]], token, scheme):
            groups[-1].append(i)
        else:
            groups.append([i])
    special = np.array([bool(SPECIAL.fullmatch(tokens[g[0]])) for g in groups], dtype=bool)
    words = tuple(_written([tokens[i] for i in g], scheme) for g in groups)
    sums = np.array([math.fsum(values[i] for i in g) for g in groups], dtype=np.float64)
    return Merged(words, sums, tuple(map(tuple, groups)), special)


def detokenise(words: Sequence[str]) -> str:
    """Return words and marks as one text: no space before a closing mark, nor after an opening one."""
    text = ""
    for word in words:
        closes = word[:1] in CLOSING or word[:1] in APOSTROPHES or word == "n't"
        text += word if not text or closes or text[-1] in OPENING else f" {word}"
    return text


def _scheme(tokens: Sequence[str]) -> str:
    if any(token.startswith(CONTINUES) and len(token) > 2 for token in tokens):
        return "wordpiece"
    if any(BYTES in token or BREAK in token for token in tokens):
        return "bytes"
    return "sentencepiece" if any(PIECES in token for token in tokens) else "words"


def _goes_on(before: str, token: str, scheme: str) -> bool:
    """Tell whether a piece goes on with the word of the piece before it."""
    if scheme == "words" or SPECIAL.fullmatch(before) or SPECIAL.fullmatch(token):
        return False
    if scheme == "wordpiece":
        return token.startswith(CONTINUES) and len(token) > 2
    starts = BYTES if scheme == "bytes" else PIECES
    if token.startswith((starts, BREAK)) or before in (starts, BREAK):
        return before == starts and not token.startswith((starts, BREAK))
    first, last = _outer(token, scheme)[:1], _outer(before, scheme)[-1:]
    return (_joins(first) and (_joins(last) or last in APOSTROPHES)) or (
        first in APOSTROPHES and len(token) > 1
    )


def _joins(character: str) -> bool:
    """Tell whether a character stands within words; a part of one that is cut in two counts as well."""
    return character.isalnum() or character == "\ufffd"


def _outer(token: str, scheme: str) -> str:
    return _written([token], scheme)


def _written(tokens: Sequence[str], scheme: str) -> str:
    if SPECIAL.fullmatch(tokens[0]) or scheme == "words":
        return "".join(tokens)
    if scheme == "wordpiece":
        return tokens[0] + "".join(token.removeprefix(CONTINUES) for token in tokens[1:])
    joined = "".join(tokens)
    if scheme == "sentencepiece":
        return joined.replace(PIECES, " ").strip()
    table = _byte_table()
    raw = b"".join(bytes([table[c]]) if c in table else c.encode() for c in joined)
    return raw.decode("utf-8", errors="replace").strip()


@lru_cache(maxsize=1)
def _byte_table() -> dict[str, int]:
    """Return which byte each character of byte-level BPE stands for.

    Printable characters of Latin-1 stand for themselves; the other bytes, in order, for the characters from 256 on.
    """
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in shown]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(others)}
