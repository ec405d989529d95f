"""A corpus as one long array of tokens, kept on disk and mapped into memory.

The array is ``end d1 end d2 end … dn end``: an end-of-document token before, between and after the documents, so that
the first token of a document has something to be predicted from, and its end is predicted too.
"""

import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from salience.core.io import dumps, read_json, write_json
from salience.core.progress import Stage
from salience.data import corpus
from salience.data.corpus import AS_FOUND, Piece, Reading, Source
from salience.data.tokenizers import Tokenizer

FORMAT = 1
GROUP, MOST_PIECES = 1 << 20, 1 << 14  # characters and pieces that are encoded together
SMALL = 64 << 20  # bytes of files whose tokens are not kept on disk
TOKENS, BYTES = 0, 1


@dataclass(frozen=True)
class TokenArray:
    """Hold the tokens of a corpus.

    Attributes:
        ids: all tokens, with an end-of-document token before, between and after the documents; mapped from disk
            where the corpus comes from files.
        documents: int64 (document, 2): tokens and bytes of each document, without its end.
        end_id: the token between documents.
        digest: of the tokens.
    """

    ids: np.ndarray
    documents: np.ndarray
    end_id: int
    digest: str

    @property
    def starts(self) -> np.ndarray:
        """Return where each document's tokens start, after the end-of-document token."""
        lengths = self.documents[:, TOKENS] + 1
        return np.cumsum(lengths) - lengths + 1


def token_type(vocab_size: int) -> np.dtype:
    """Return the smallest unsigned type that holds every id."""
    return np.min_scalar_type(vocab_size - 1)


def tokenize(
    source: Source, tokenizer: Tokenizer, reading: Reading = AS_FOUND, cache: Path | str | None = None
) -> TokenArray:
    """Turn a corpus into tokens, document by document.

    Large files are tokenised once: the tokens go to a folder of the cache and are found there the next time, as long
    as paths, sizes, times of change, tokenizer and reading are the same. Up to 64 MB stays in memory.

    Args:
        source: see :func:`salience.data.corpus.pieces`.
        tokenizer: the tokenizer.
        reading: how the source is read.
        cache: folder of token files; none to hold everything in memory.

    Raises:
        DataError: see :func:`salience.data.corpus.pieces`.
    """
    paths = corpus.files(source)
    if cache is None or sum(path.stat().st_size for path in paths) <= SMALL:
        ids, documents = io.BytesIO(), io.BytesIO()
        digest = _write(corpus.pieces(source, reading), tokenizer, ids, documents)
        kind = token_type(tokenizer.vocab_size)
        table = np.frombuffer(documents.getbuffer(), np.int64).reshape(-1, 2)
        return TokenArray(np.frombuffer(ids.getbuffer(), kind), table, tokenizer.end_id, digest)
    folder = Path(cache) / _key(paths, tokenizer, reading)
    if not (folder / "meta.json").is_file():
        with _new_folder(folder) as temporary:
            _write_folder(corpus.pieces(source, reading), tokenizer, temporary)
    return _open(folder, tokenizer)


def _key(paths: list[Path], tokenizer: Tokenizer, reading: Reading) -> str:
    facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    text = dumps([FORMAT, facts, tokenizer.to_json(), vars(reading)], indent=None)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to fill; it gets its name when it is full, unless another process was faster."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / "meta.json").is_file():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_folder(found: Iterator[Piece], tokenizer: Tokenizer, folder: Path) -> None:
    with (folder / "ids.bin").open("wb") as ids, (folder / "documents.bin").open("wb") as documents:
        digest = _write(found, tokenizer, ids, documents)
        for file in (ids, documents):
            file.flush()
            os.fsync(file.fileno())
    write_json(folder / "meta.json", {"format": FORMAT, "digest": digest})


def _write(found: Iterator[Piece], tokenizer: Tokenizer, ids: IO[bytes], documents: IO[bytes]) -> str:
    """Write tokens and counts as they come; return the digest of the tokens."""
    kind = token_type(tokenizer.vocab_size)
    end = np.array([tokenizer.end_id], kind)
    digest, counts, written = hashlib.sha256(kind.str.encode()), _Counts(), 0
    parts = [end]
    with Stage("tokenise") as stage:
        for group in _groups(found):
            encoded = tokenizer.encode_batch([piece.text for piece in group])
            for piece, tokens in zip(group, encoded, strict=True):
                parts += [tokens, end] if piece.ends else [tokens]
            data = np.concatenate(parts).astype(kind, copy=False).tobytes()
            ids.write(data)
            digest.update(data)
            documents.write(counts.rows(group, encoded, tokenizer.byte_lengths))
            written, parts = written + len(data) // kind.itemsize, []
            stage.step(f"{written:,} tokens")
    return digest.hexdigest()


def _groups(found: Iterator[Piece]) -> Iterator[list[Piece]]:
    """Yield pieces to encode together."""
    group, size = [], 0
    for piece in found:
        group.append(piece)
        size += len(piece.text)
        if size > GROUP or len(group) == MOST_PIECES:
            yield group
            group, size = [], 0
    if group:
        yield group


class _Counts:
    """Count the tokens and bytes of documents whose pieces come one after the other."""

    def __init__(self) -> None:
        self.tokens = self.bytes = 0

    def rows(self, group: list[Piece], encoded: list[np.ndarray], byte_lengths: np.ndarray) -> bytes:
        """Return the rows of the documents that end in a group of pieces."""
        stops = np.cumsum([len(tokens) for tokens in encoded])
        sums = np.concatenate([[0], np.cumsum(byte_lengths[np.concatenate(encoded)])])
        found, tokens, size = [], -self.tokens, -self.bytes  # where the document began, in tokens and bytes
        for piece, stop in zip(group, stops.tolist(), strict=True):
            if piece.ends:
                total = int(sums[stop])
                found.append((stop - tokens, total - size))
                tokens, size = stop, total
        self.tokens, self.bytes = int(stops[-1]) - tokens, int(sums[-1]) - size
        return np.array(found, np.int64).tobytes()


def _open(folder: Path, tokenizer: Tokenizer) -> TokenArray:
    meta = read_json(folder / "meta.json")
    ids = np.memmap(folder / "ids.bin", token_type(tokenizer.vocab_size), mode="r")
    documents = np.memmap(folder / "documents.bin", np.int64, mode="r").reshape(-1, 2)
    return TokenArray(ids, documents, tokenizer.end_id, meta["digest"])
