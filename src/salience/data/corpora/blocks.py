"""Streams of tokens, their division into training and validation, and blocks of equal length."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from salience.core.stats import generator
from salience.data.corpora.token_file import TOKENS, TokenArray

IGNORED = -100
FEW_DOCUMENTS = 20
MOST_VALIDATION_BYTES = 2_000_000
PIECE = 1 << 20
MOST_PIECES = 200


@dataclass(frozen=True)
class Stream:
    """Read ranges of a token array as if they stood one after the other.

    Attributes:
        tokens: the array.
        spans: int64 (span, 2): starts and stops in the array.
    """

    tokens: TokenArray
    spans: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", np.cumsum(self.spans[:, 1] - self.spans[:, 0]))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the tokens ``[start, stop)`` of the stream; fewer at its end."""
        parts = []
        number = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop and number < len(self.spans):
            first = int(self.spans[number, 1] - (self._ends[number] - start))
            taken = min(stop - start, int(self._ends[number]) - start)
            parts.append(self.tokens.ids[first : first + taken])
            start, number = start + taken, number + 1
        return np.concatenate(parts) if parts else self.tokens.ids[:0]

    def first(self, count: int) -> "Stream":
        """Return the first tokens of the stream."""
        before = self._ends - (self.spans[:, 1] - self.spans[:, 0])
        spans = self.spans[before < count].copy()
        spans[-1, 1] = min(spans[-1, 1], spans[-1, 0] + count - before[len(spans) - 1])
        return Stream(self.tokens, spans)

    def digest(self) -> str:
        """Return a digest of what the stream reads, without reading it."""
        found = hashlib.sha256(self.tokens.digest.encode())
        found.update(np.ascontiguousarray(self.spans, np.int64))
        return found.hexdigest()


@dataclass(frozen=True)
class Division:
    """Say which part of a corpus is for validation: some documents, or the bytes from a place on.

    Attributes:
        held: bool, one a document; True for validation.
        cut: byte of the whole corpus from which on all is for validation; none where documents are held out.
    """

    held: np.ndarray
    cut: int | None = None


def divide(document_bytes: np.ndarray, share: float, seed: int) -> Division:
    """Choose what is held out for validation.

    Documents are drawn at random, among those that are no larger than the share, until they hold about the share of
    the bytes. Where there are fewer than 20 such documents, the last share of the text is held out instead.

    Args:
        document_bytes: size of each document.
        share: share of the corpus, at most 2 million bytes.
        seed: seed of the draw.
    """
    total = int(document_bytes.sum())
    wanted = min(round(share * total), MOST_VALIDATION_BYTES)
    held = np.zeros(len(document_bytes), dtype=bool)
    if wanted <= 0:
        return Division(held)
    small = np.flatnonzero(document_bytes <= wanted)
    if len(small) < FEW_DOCUMENTS:
        return Division(held, total - wanted)
    order = generator(seed, "validation").permutation(small)
    reached = np.cumsum(document_bytes[order])
    held[order[: int(np.abs(reached - wanted).argmin()) + 1]] = True
    return Division(held)


def texts(stream: Stream, seed: int) -> Iterator[str]:
    """Yield the text of a stream of bytes in pieces, of a long one a sample of about 200 million bytes.

    Args:
        stream: tokens of :class:`salience.data.tokenizers.ByteTokenizer`.
        seed: seed of the sample.
    """
    starts = np.arange(0, len(stream), PIECE)
    if len(starts) > MOST_PIECES:
        starts = np.sort(generator(seed, "sample").choice(starts, MOST_PIECES, replace=False))
    end = bytes([stream.tokens.end_id])
    for start in starts:
        for part in stream.read(int(start), int(start) + PIECE).tobytes().split(end):
            yield part.decode("utf-8", errors="ignore")  # a character may be cut at the edges


def whole(tokens: TokenArray) -> Stream:
    """Return the stream of a whole corpus."""
    return Stream(tokens, np.array([[0, len(tokens.ids)]], np.int64))


def streams(tokens: TokenArray, division: Division, byte_lengths: np.ndarray) -> tuple[Stream, Stream]:
    """Return the training and the validation stream of a corpus.

    Args:
        tokens: the corpus.
        division: what is held out.
        byte_lengths: bytes of each token id.
    """
    last = len(tokens.ids)
    if division.cut is not None:
        at = _token_of_byte(tokens.ids, division.cut, byte_lengths)
        return Stream(tokens, np.array([[0, at]], np.int64)), Stream(
            tokens, np.array([[last - 1, last], [at, last]], np.int64)
        )
    return _of_documents(tokens, ~division.held), _of_documents(tokens, division.held)


def _token_of_byte(ids: np.ndarray, cut: int, byte_lengths: np.ndarray) -> int:
    """Return the first token that starts at a byte of the corpus or after it."""
    seen, step = 0, 1 << 22
    for start in range(0, len(ids), step):
        ends = seen + np.cumsum(byte_lengths[ids[start : start + step]])
        found = int(np.searchsorted(ends, cut, side="left"))
        if found < len(ends):
            return start + found + 1
        seen = int(ends[-1])
    return len(ids)


def _of_documents(tokens: TokenArray, chosen: np.ndarray) -> Stream:
    """Return the chosen documents, each after an end token, and the last end; neighbours are one span."""
    if not chosen.any():
        return Stream(tokens, np.zeros((0, 2), np.int64))
    starts = tokens.starts - 1
    stops = starts + tokens.documents[:, TOKENS] + 1
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    runs = np.stack([starts[edges[::2]], stops[edges[1::2] - 1]], axis=1)
    last = len(tokens.ids)
    return Stream(tokens, np.concatenate([runs, [[last - 1, last]]]).astype(np.int64))


class Blocks:
    """Cut a stream into blocks: the inputs of training rows, read when they are asked for.

    A block has ``context`` inputs; its targets are the tokens that follow each. The last block is filled up with
    end-of-document tokens that are not predicted.

    Attributes:
        lengths: tokens of each block, all ``context``.
        targets: the targets, by row numbers.
        digest: of what is read, without reading it.

    Args:
        stream: the tokens.
        context: tokens of a block.
    """

    def __init__(self, stream: Stream, context: int) -> None:
        self.stream, self.context = stream, context
        self.count = max(0, -(-(len(stream) - 1) // context))
        self.lengths = np.broadcast_to(np.int64(context), self.count)
        self.digest = f"{stream.digest()} {context}"
        self.targets = Targets(self)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> np.ndarray:
        if not 0 <= row < self.count:
            raise IndexError(row)
        return self._row(int(row), 0, self.stream.tokens.end_id)

    def _row(self, row: int, shift: int, fill: int) -> np.ndarray:
        start = row * self.context + shift
        stop = min(start + self.context, len(self.stream) - 1 + shift)
        result = np.full(self.context, fill, np.int64)
        result[: stop - start] = self.stream.read(start, stop)
        return result


class Targets:
    """Give the targets of blocks by their numbers, as an array would: int64 (row, token), −100 where there is none."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks, self.digest = blocks, f"targets of {blocks.digest}"

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        found = [self.blocks._row(int(row), 1, IGNORED) for row in rows]
        return np.stack(found) if found else np.zeros((0, self.blocks.context), np.int64)
