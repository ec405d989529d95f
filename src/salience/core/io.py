"""Read and write files so that a half-written file is never mistaken for a whole one."""

import hashlib
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from salience.core.errors import IntegrityError


def atomic_write_bytes(path: Path | str, data: bytes) -> Path:
    """Write to a temporary name beside ``path``, flush to disk, and move it into place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def atomic_write_text(path: Path | str, text: str) -> Path:
    """Write UTF-8 text atomically."""
    return atomic_write_bytes(path, text.encode("utf-8"))


def to_plain(value: Any) -> Any:
    """Return JSON-ready data: arrays become lists, numpy scalars numbers, NaN and infinity None."""
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return to_plain(value.to_json()) if hasattr(value, "to_json") else str(value)


def dumps(value: Any, *, indent: int | None = 2) -> str:
    """Return strict JSON text (no NaN)."""
    return json.dumps(to_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def write_json(path: Path | str, value: Any) -> Path:
    """Write JSON atomically."""
    return atomic_write_text(path, dumps(value) + "\n")


def write_json_lines(path: Path | str, values: Iterable[Any]) -> Path:
    """Write one JSON document a line, atomically."""
    return atomic_write_text(path, "".join(dumps(value, indent=None) + "\n" for value in values))


def read_json(path: Path | str) -> Any:
    """Read JSON.

    Raises:
        IntegrityError: the file is absent or not whole JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IntegrityError(
            f"{path.name} is missing", str(path), "The folder is not a complete run."
        ) from None
    except (ValueError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"{path.name} is damaged", f"{path}: {error}", "Run again, or restore it."
        ) from None


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
