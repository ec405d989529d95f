"""Unpack a compressed file in memory, with a limit, by its content and not by its name."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import IO, Any

from salience.core.errors import DataError, nearest

MAX_BYTES = 2 << 30
SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip", ".brotli")
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)


def _zstd(file: IO[bytes]) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")


def _gzip(file: IO[bytes]) -> Any:
    return gzip.GzipFile(fileobj=file)


_OPENERS: tuple[tuple[bytes, str, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", "gzip", _gzip),
    (b"BZh", "bzip2", bz2.BZ2File),
    (b"\xfd7zXZ\0", "xz", lzma.LZMAFile),
    (b"\x28\xb5\x2f\xfd", "zstandard", _zstd),
)


def unpack(data: bytes, name: str, table: str = "auto") -> tuple[bytes, str, str]:
    """Return content, inner name and the name of the compression (``""`` for none).

    Args:
        data: bytes of the file.
        name: name of the file.
        table: which member of a zip file; ``"auto"`` for the only one.

    Raises:
        DataError: damaged (SAL-D011), larger than :data:`MAX_BYTES` when unpacked (SAL-D012), or a zip file
            with no or several tables (SAL-D016).
    """
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return (*_unzip(data, name, table), "zip")
    for magic, compression, opener in _OPENERS:
        if data.startswith(magic):
            return _inflate(data, name, compression, opener), inner_name(name), compression
    return data, name, ""


@contextmanager
def open_stream(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading from the start to the end, unpacked if it is compressed (not zip).

    What a damaged file raises is one of :data:`DAMAGE`.
    """
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(0)
        opener = next((opener for magic, _, opener in _OPENERS if head.startswith(magic)), None)
        if opener is None:
            yield file
        else:
            with opener(file) as unpacked:
                yield unpacked


def inner_name(name: str) -> str:
    """Return ``"a.csv"`` for ``"a.csv.gz"``."""
    path = PurePath(name)
    return path.stem if path.suffix.lower() in SUFFIXES else name


def _inflate(data: bytes, name: str, compression: str, opener: Callable[[IO[bytes]], Any]) -> bytes:
    try:
        with opener(io.BytesIO(data)) as file:
            content = file.read(MAX_BYTES + 1)
    except DAMAGE as error:
        raise damaged(name, compression, error) from None
    return _limited(content, name)


def _limited(content: bytes, name: str) -> bytes:
    if len(content) > MAX_BYTES:
        raise too_large(name)
    return content


def too_large(name: str) -> DataError:
    """Return the error for a file above the limit."""
    return DataError(
        "The file is too large",
        f"{name}: more than {MAX_BYTES:,} bytes when unpacked.",
        "Read a part of it, or pass a data frame.",
        code="SAL-D012",
    )


def damaged(name: str, compression: str, error: Exception) -> DataError:
    """Return the error for a file that does not unpack."""
    return DataError(
        f"The {compression} file is damaged",
        f"{name}: {error or type(error).__name__}.",
        "Copy or download it again.",
        code="SAL-D011",
    )


def _unzip(data: bytes, name: str, table: str) -> tuple[bytes, str]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            member = _choose(file, name, table)
            if file.getinfo(member).file_size > MAX_BYTES:
                raise too_large(name)
            with file.open(member) as content:
                return _limited(content.read(MAX_BYTES + 1), name), PurePath(member).name
    except (zipfile.BadZipFile, *DAMAGE) as error:
        raise damaged(name, "zip", error) from None
    except (RuntimeError, NotImplementedError) as error:
        raise DataError(
            "The zip file cannot be opened",
            f"{name}: {error}.",
            "Unpack it and give the folder.",
            code="SAL-D011",
        ) from None


def _choose(file: zipfile.ZipFile, name: str, table: str) -> str:
    members = [n for n in file.namelist() if not n.endswith("/") and not _hidden(n)]
    if table != "auto":
        found = [n for n in members if table in (n, PurePath(n).name)]
        if len(found) != 1:
            raise DataError(
                f"There is no {table!r} in the zip file", f"{name}.", nearest(table, members), code="SAL-D016"
            )
        return found[0]
    if len(members) != 1:
        shown = ", ".join(members[:4])
        raise DataError(
            "The zip file does not hold one table",
            f"{name}: {len(members)} files{': ' if members else ''}{shown}.",
            "Name one: table=NAME; or unpack it and give the folder.",
            code="SAL-D016",
        )
    return members[0]


def _hidden(name: str) -> bool:
    return name.startswith("__MACOSX/") or PurePath(name).name.startswith(".")
