"""Read a corpus of text from disk as a stream: text files, JSON lines, Parquet, folders of them.

Nothing is held whole: a file of any size is read in pieces of 64 kilobytes.
"""

import codecs
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from salience.core.errors import ConfigError, DataError, nearest
from salience.data.kinds import SURROGATES
from salience.data.places import brief
from salience.data.readers.compression import DAMAGE, damaged, inner_name, open_stream
from salience.data.readers.parquet import damaged as damaged_table
from salience.data.readers.text import empty_file, marked_encoding

PIECE = 1 << 16  # bytes read at a time, and most characters of a piece
ROWS = 256  # of a Parquet file, read at a time
TEXT_ENDINGS = (".txt", ".text", ".md", ".rst", ".tex")
JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
PARQUET_ENDINGS = (".parquet", ".pq", ".parq")
USUAL_COLUMNS = ("text", "content", "document")
LINE_BREAKS = " \n\t"

Source = str | Path | Sequence[str] | Sequence[Path]


@dataclass(frozen=True)
class Reading:
    """Say how a corpus is read.

    Attributes:
        column: where the text is in JSON lines and Parquet; none for ``text``, ``content`` or ``document``.
        separator: what stands between the documents of a text file, such as ``"\\n"`` or ``"<|endoftext|>"``; none
            where a file is one document.
        encoding: of text files and JSON lines, where it is neither UTF-8 nor marked.
    """

    column: str | None = None
    separator: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.separator == "":
            raise ConfigError("The separator is empty", "", r"Give one, such as '\n', or leave it out.")
        if self.encoding is not None:
            _check_encoding(self.encoding)


AS_FOUND = Reading()


@dataclass(frozen=True)
class Piece:
    """Hold a part of a document.

    Attributes:
        text: the characters.
        ends: whether the document ends with them.
        file: name of the file; ``""`` for text in memory.
    """

    text: str
    ends: bool
    file: str = ""


@dataclass(frozen=True)
class Document:
    """Hold a whole document: its text, its file, and its number in that file, from 1."""

    text: str
    file: str
    number: int


def documents(source: Source, reading: Reading = AS_FOUND) -> Iterator[Document]:
    """Yield the documents of a corpus, one whole document at a time.

    Raises:
        DataError: as :func:`pieces`.
    """
    file, number, parts = "", 0, []
    for piece in pieces(source, reading):
        number = number if piece.file == file else 0
        file = piece.file
        parts.append(piece.text)
        if piece.ends:
            number += 1
            yield Document("".join(parts), file, number)
            parts = []


def pieces(source: Source, reading: Reading = AS_FOUND) -> Iterator[Piece]:
    """Yield a corpus piece by piece, in the order of the files' paths.

    A long document comes in several pieces, cut before white space where there is some. Documents of white space
    alone are left out. Half surrogate pairs, which no encoder accepts, become U+FFFD.

    Args:
        source: a file, a folder, several paths, or the documents themselves as a list of strings.
        reading: how it is read.

    Raises:
        ConfigError: a column is named, and the corpus is plain text.
        DataError: the source cannot be opened (SAL-D001), holds no text (SAL-D002), is not of the encoding
            (SAL-D008), is binary (SAL-D009), damaged (SAL-D011, SAL-D014), no JSON (SAL-D013), a folder without
            text (SAL-D016), lacks the column (SAL-D026), or a cell of it is no text (SAL-D032).
    """
    if reading.column is not None and not has_rows(source):
        raise ConfigError(
            "The corpus has no columns",
            f"{describe(source)}, column {reading.column!r}.",
            "Only JSON lines and Parquet have; leave the column out, or write a table as one of them.",
        )
    found = False
    for piece in _written(_in_memory(source) if _is_text(source) else _of_files(source, reading)):
        found = True
        yield piece
    if not found:
        raise empty_file(describe(source))


def files(source: Source) -> list[Path]:
    """Return the files of a corpus; none for documents in memory.

    Raises:
        DataError: a path does not exist (SAL-D001), or a folder holds no text (SAL-D016).
    """
    if _is_text(source):
        return []
    paths = [source] if isinstance(source, str | Path) else source
    return [file for path in paths for file in _expanded(Path(path).expanduser())]


def has_rows(source: Source) -> bool:
    """Say whether a corpus has JSON lines or Parquet, whose text is in a column."""
    return any(_reader(path) is not _text for path in files(source))


def describe(source: Source) -> str:
    """Return the name of a corpus, for messages."""
    if _is_text(source):
        return "the given texts"
    return ", ".join(
        PurePath(p).name or str(p) for p in ([source] if isinstance(source, str | Path) else source)
    )


def _is_text(source: Source) -> bool:
    """Say whether the source is a list of documents; a single string is a path."""
    return not isinstance(source, str | Path) and all(isinstance(item, str) for item in source)


def _in_memory(texts: Iterable[str]) -> Iterator[Piece]:
    for text in texts:
        yield from _cut([text], None, "")


def _written(found: Iterable[Piece]) -> Iterator[Piece]:
    """Leave out documents of white space alone, and mend half surrogate pairs."""
    started = False
    for piece in found:
        if started or piece.text.strip():
            text = SURROGATES.sub("\ufffd", piece.text)
            yield piece if text == piece.text else Piece(text, piece.ends, piece.file)
            started = not piece.ends


def _expanded(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise _unreadable(path, "no such file")
    endings = (*TEXT_ENDINGS, *JSON_ENDINGS, *PARQUET_ENDINGS)
    everything = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p, path))
    chosen = [p for p in everything if _ending(p.name) in endings]
    if not chosen:
        raise DataError(
            "The folder holds no text",
            f"{path}: {len(everything)} files, none that ends in {', '.join(endings)} (also compressed).",
            "Give the files themselves; any file is read as text.",
            code="SAL-D016",
        )
    return chosen


def _unreadable(path: Path, why: str) -> DataError:
    return DataError("The corpus cannot be opened", f"{path}: {why}.", "Check the path.", code="SAL-D001")


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _ending(name: str) -> str:
    return PurePath(inner_name(name)).suffix.lower()


def _of_files(source: Source, reading: Reading) -> Iterator[Piece]:
    for path in files(source):
        try:
            yield from _reader(path)(path, reading)
        except DAMAGE as error:
            if getattr(error, "errno", None):
                raise _unreadable(path, str(error.strerror)) from None
            raise damaged(path.name, "compressed", error) from None


def _reader(path: Path) -> Callable[[Path, Reading], Iterator[Piece]]:
    ending = _ending(path.name)
    if ending in PARQUET_ENDINGS:
        return _parquet
    return _json_lines if ending in JSON_ENDINGS else _text


# text


def _text(path: Path, reading: Reading) -> Iterator[Piece]:
    yield from _cut(_decoded(path, reading.encoding), reading.separator, path.name)


def _cut(chunks: Iterable[str], separator: str | None, file: str) -> Iterator[Piece]:
    """Cut text at separators, and long documents at white space."""
    rest, is_open = "", False
    for chunk in chunks:
        rest += chunk
        if separator:
            *whole, rest = rest.split(separator)
            for text in whole:
                yield from _pieces_of(text, file)
                is_open = False
        while len(rest) > PIECE:
            at = _safe_cut(rest, PIECE, len(separator or ""))
            yield Piece(rest[:at], False, file)
            rest, is_open = rest[at:], True
    if rest or is_open:
        yield Piece(rest, True, file)


def _pieces_of(text: str, file: str) -> Iterator[Piece]:
    while len(text) > PIECE:
        at = _safe_cut(text, PIECE, 0)
        yield Piece(text[:at], False, file)
        text = text[at:]
    yield Piece(text, True, file)


def _safe_cut(text: str, most: int, keep: int) -> int:
    """Return where to cut: before white space that follows a word, so that tokens stay what they are.

    Where there is none in the last half, as in Chinese, the cut is between two characters.

    Args:
        text: longer than ``most``.
        most: highest length of the first part.
        keep: length of a separator, of which no part may be cut off.
    """
    end = max(1, min(most, len(text) - keep))
    for at in range(end, end // 2, -1):
        if text[at] in LINE_BREAKS and not text[at - 1].isspace():
            return at
    return end


def _check_encoding(encoding: str) -> None:
    try:
        codecs.getincrementaldecoder(encoding)
        "".encode(encoding)
    except (LookupError, TypeError):
        raise DataError(
            f"Unknown encoding {encoding!r}", "", "For example utf-8 or cp1252.", code="SAL-D008"
        ) from None


def _decoded(path: Path, encoding: str | None) -> Iterator[str]:
    """Yield the characters of a file, and say file and byte where that fails."""
    with open_stream(path) as file:
        data = file.read(PIECE)
        encoding = encoding or marked_encoding(data)
        decoder = codecs.getincrementaldecoder(encoding)()
        offset = 0  # of the bytes that the decoder still holds, then of the new ones
        while True:
            held = len(decoder.getstate()[0])
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                raise _undecodable(path.name, encoding, offset - held + error.start, error) from None
            offset += len(data)
            _refuse_nul(text, path.name)
            yield text
            if not data:
                return
            data = file.read(PIECE)


def _undecodable(name: str, encoding: str, offset: int, error: UnicodeDecodeError) -> DataError:
    return DataError(
        f"The file is not {encoding.upper()} text",
        f"{name}: byte 0x{error.object[error.start]:02x} at offset {offset:,}.",
        'Save the file as UTF-8, or name its encoding: --encoding cp1252 (in Python encoding="cp1252").',
        code="SAL-D008",
    )


def _refuse_nul(text: str, name: str) -> None:
    if "\0" in text:
        raise DataError(
            "The file holds NUL bytes",
            f"{name}.",
            "It is a binary file, or UTF-16 text without its mark (--encoding utf-16-le), or damaged.",
            code="SAL-D009",
        )


# rows


def _json_lines(path: Path, reading: Reading) -> Iterator[Piece]:
    column, number = reading.column, 0
    for piece in _lines(path, reading.encoding):
        number += 1
        if not piece.strip():
            continue
        row = _parsed(piece, f"{path.name}, line {number}")
        column = column or _usual_column(list(row), path.name)
        if column not in row:
            raise _absent(column, list(row), f"{path.name}, line {number}")
        yield from _cell(row[column], f"{path.name}, line {number}, column {column!r}", path.name)


def _lines(path: Path, encoding: str | None) -> Iterator[str]:
    rest: list[str] = []
    for chunk in _decoded(path, encoding):
        first, *others = chunk.split("\n")
        rest.append(first)
        for line in others:
            yield "".join(rest)
            rest = [line]
    yield "".join(rest)


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            "The line is not JSON", f"{where}: {error}.", "Write one object a line.", code="SAL-D013"
        ) from None
    if not isinstance(row, dict):
        raise DataError(
            "The line is no JSON object",
            f"{where}: {brief(row)}.",
            'Write one object a line: {"text": "…"}.',
            code="SAL-D013",
        )
    return row


def _parquet(path: Path, reading: Reading) -> Iterator[Piece]:
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            column = reading.column or _usual_column(names, path.name)
            if column not in names:
                raise _absent(column, names, path.name)
            row = 0
            for batch in file.iter_batches(ROWS, columns=[column]):
                for value in batch.column(0).to_pylist():
                    row += 1
                    yield from _cell(value, f"{path.name}, row {row}, column {column!r}", path.name)
    except (ArrowException, OSError) as error:
        raise damaged_table("Parquet", path.name, error) from None


def _usual_column(names: list[str], name: str) -> str:
    found = next((usual for usual in USUAL_COLUMNS if usual in names), None)
    if found is None and len(names) == 1:
        found = names[0]
    if found is None:
        raise DataError(
            "Which column holds the text?",
            f"{name} has {', '.join(map(repr, names[:8]))}.",
            "Name it: --column NAME (in Python column=NAME).",
            code="SAL-D026",
        )
    return found


def _absent(column: str, names: list[str], where: str) -> DataError:
    return DataError(f"There is no column {column!r}", f"{where}.", nearest(column, names), code="SAL-D026")


def _cell(value: Any, where: str, file: str) -> Iterator[Piece]:
    if value is None:
        return
    if not isinstance(value, str):
        raise DataError(
            "A cell is no text",
            f"{where} holds {brief(value)}.",
            "Name another column, or mend the cell.",
            code="SAL-D032",
        )
    yield from _pieces_of(value, file)
