"""Perplexity and bits a byte of scored text, with intervals, beside what needs no model."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from salience.core.stats import bootstrap
from salience.data.corpora.blocks import Stream
from salience.data.tokenizers import Tokenizer

MANY_DOCUMENTS = 30
CONTINUATION = 0x80  # the two highest bits of a byte inside a character: 10


@dataclass(frozen=True)
class Units:
    """Hold sums over the units that are resampled for an interval: documents, or parts of documents.

    Attributes:
        tokens, bytes, characters: int64 (unit,).
        nats: float64 (unit,), negative log-probability by the model.
        unigram_nats: likewise by the token frequencies of the training text.
    """

    tokens: np.ndarray
    bytes: np.ndarray
    characters: np.ndarray
    nats: np.ndarray
    unigram_nats: np.ndarray

    @classmethod
    def join(cls, parts: Iterable["Units"]) -> "Units":
        """Return the units of all parts."""
        names = ("tokens", "bytes", "characters", "nats", "unigram_nats")
        found = list(parts)
        return cls(*(np.concatenate([getattr(part, name) for part in found]) for name in names))


def token_counts(stream: Stream, vocab_size: int) -> np.ndarray:
    """Return how often each token occurs in a stream, read in pieces: int64 (token,)."""
    total, step = np.zeros(vocab_size, np.int64), 1 << 22
    for start in range(0, len(stream), step):
        total += np.bincount(stream.read(start, start + step), minlength=vocab_size)
    return total


class Meter:
    """Sum up log-probabilities by unit.

    Args:
        tokenizer: for the bytes and characters of tokens.
        counts: how often each token occurs in the training text; one is added to each.
        part: tokens of a unit; none where a unit is a document.
    """

    def __init__(self, tokenizer: Tokenizer, counts: np.ndarray, part: int | None) -> None:
        self.bytes, self.part = tokenizer.byte_lengths, part
        self.characters = np.array(
            [_characters(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)]
        )
        self.unigram = np.log((counts + 1.0).sum()) - np.log(counts + 1.0)

    def units(self, documents: Sequence[np.ndarray], log_probabilities: Sequence[np.ndarray]) -> Units:
        """Return the sums of documents whose tokens have these natural log-probabilities."""
        lengths = [len(document) for document in documents]
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        if self.part:
            starts = np.concatenate(
                [np.arange(s, s + n, self.part) for s, n in zip(starts, lengths, strict=True)]
            )
        tokens = np.concatenate(documents)
        nats = -np.concatenate(log_probabilities).astype(np.float64)
        ones = np.ones(len(tokens), np.int64)
        values = (ones, self.bytes[tokens], self.characters[tokens], nats, self.unigram[tokens])
        return Units(*(np.add.reduceat(value, starts) for value in values))


def _characters(data: bytes) -> int:
    return sum(byte & 0xC0 != CONTINUATION for byte in data)


def zlib_bytes(texts: Iterable[bytes]) -> int:
    """Return the size of texts, one after the other, packed by zlib at its highest level."""
    packer = zlib.compressobj(9)
    return sum(len(packer.compress(text)) for text in texts) + len(packer.flush())


def summary(units: Units, packed: int, seed: int) -> dict[str, Any]:
    """Return perplexity, bits a byte and bits a character of the model and of the controls.

    Args:
        units: sums by unit.
        packed: size of the text packed by zlib.
        seed: seed of the resampling.
    """
    size, letters = int(units.bytes.sum()), int(units.characters.sum())
    zlib_scores = {
        "bits_per_byte": {"value": 8 * packed / size, "interval": None},
        "bits_per_character": {"value": 8 * packed / letters, "interval": None},
    }
    return {
        **_scores(units, units.nats, seed),
        "baselines": {"unigram": _scores(units, units.unigram_nats, seed), "zlib": zlib_scores},
        "tokens": int(units.tokens.sum()),
        "bytes": size,
        "characters": letters,
    }


def _scores(units: Units, nats: np.ndarray, seed: int) -> dict[str, Any]:
    bits = nats / np.log(2)
    return {
        "perplexity": _ratio(nats, units.tokens, seed, np.exp),
        "bits_per_byte": _ratio(bits, units.bytes, seed),
        "bits_per_character": _ratio(bits, units.characters, seed),
    }


def _ratio(above: np.ndarray, below: np.ndarray, seed: int, finish: Any = float) -> dict[str, Any]:
    """Return a ratio of sums with its 95 % interval; none where there are fewer than two units."""

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        return float(finish(a.sum() / b.sum())) if b.sum() else float("nan")

    interval = bootstrap(statistic, above, below, seed=seed) if len(above) > 1 else None
    return {"value": statistic(above, below), "interval": interval}
