"""Read a path: choose the reader by name and content, unpack, resolve the paths of images."""

import hashlib
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path, PurePath

import pandas as pd

from salience.core import registry
from salience.core.errors import DataError, nearest
from salience.data.images import is_image_path
from salience.data.profile import NUMERIC_SHARE, SPLIT_NAMES, Facts
from salience.data.readers import image_folder
from salience.data.readers.compression import MAX_BYTES, inner_name, too_large, unpack
from salience.data.readers.frame import join_splits
from salience.data.readers.options import Options, Parsed
from salience.data.readers.text import empty_file

CURES = {
    ".xlsx": "Save the sheet as CSV.",
    ".xls": "Save the sheet as CSV.",
    ".ods": "Save the sheet as CSV.",
    ".pkl": "Pickles are never loaded, since they can run code. Write Parquet or CSV.",
    ".pickle": "Pickles are never loaded, since they can run code. Write Parquet or CSV.",
    ".npy": "Make a data frame of the array and pass it.",
    ".npz": "Make a data frame of the arrays and pass it.",
}


def read_path(source: str | Path, options: Options) -> tuple[Parsed, str, str] | None:
    """Return rows, name and SHA-256 of a file or folder; None if there is no such path.

    Raises:
        DataError: it cannot be opened (SAL-D001), or as its reader says.
    """
    path = _existing(source)
    if path is None:
        return None
    try:
        if path.is_dir():
            return _read_folder(path, options)
        if not path.is_file():
            raise _unreadable(path, "it is no regular file")
        return _read_file(path, options)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None


def _existing(source: str | Path) -> Path | None:
    if not str(source):
        return None
    try:
        path = Path(source).expanduser() if str(source).startswith("~") else Path(source)
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):
        return None  # a name that no path can have


def _unreadable(path: Path, why: str) -> DataError:
    return DataError("The source cannot be opened", f"{path}: {why}.", "Check the path.", code="SAL-D001")


def _read_file(path: Path, options: Options) -> tuple[Parsed, str, str]:
    if path.stat().st_size > MAX_BYTES:
        raise too_large(path.name)
    data = path.read_bytes()
    parsed = parse_bytes(data, path.name, options)
    frame = _resolve_images(parsed.frame, path.absolute().parent)
    return Parsed(frame, parsed.notes, parsed.target), path.name, hashlib.sha256(data).hexdigest()


def parse_bytes(data: bytes, name: str, options: Options) -> Parsed:
    """Return the rows of a file's content.

    Raises:
        DataError: an empty file (SAL-D002), a form that is not read (SAL-D015), or as the reader says.
    """
    _refuse_known_forms(name)
    if not data.strip():
        raise empty_file(name)
    data, name, compression = unpack(data, name, options.table)
    if not data.strip():
        raise empty_file(name)
    parsed = _reader(data, name)(data, name, options)
    if compression:
        parsed.notes.append(f"unpacked from {compression}")
    return parsed


def _reader(data: bytes, name: str) -> Callable[[bytes, str, Options], Parsed]:
    key = _by_content(data) or _extensions().get(PurePath(name).suffix.lower())
    card = registry.card("reader", key or "csv")
    return getattr(import_module(card.module), card.fields["entry"])


def _refuse_known_forms(name: str) -> None:
    ending = PurePath(inner_name(name)).suffix.lower()
    cure = CURES.get(ending) or (
        "Give a folder of images, or a table with their paths." if is_image_path(name) else ""
    )
    if cure:
        raise DataError(f"{ending} files are not read", f"{name}.", cure, code="SAL-D015")


def _by_content(data: bytes) -> str | None:
    if data[:4] == b"PAR1":
        return "parquet"
    return "arrow" if data[:6] == b"ARROW1" else None


def _extensions() -> dict[str, str]:
    return {ending: card.key for card in registry.cards("reader") for ending in card.get("extensions", [])}


def _resolve_images(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Make relative paths of images start at the table's folder."""
    resolved = {}
    for position, name in enumerate(frame.columns):
        series = frame.iloc[:, position]
        if pd.api.types.is_numeric_dtype(series.dtype) or pd.api.types.is_bool_dtype(series.dtype):
            continue
        texts = Facts(series).texts
        if texts and sum(map(is_image_path, texts)) >= NUMERIC_SHARE * len(texts):
            resolved[name] = series.astype(object).map(lambda value: _absolute(value, folder))
    return frame.assign(**resolved) if resolved else frame


def _absolute(value: object, folder: Path) -> object:
    if not isinstance(value, str) or not value.strip() or os.path.isabs(value):
        return value
    return str(folder / value)


def _read_folder(folder: Path, options: Options) -> tuple[Parsed, str, str]:
    name = folder.name or str(folder)
    tables = sorted(path for path in folder.iterdir() if path.is_file() and _is_table(path.name))
    if options.table != "auto":
        chosen = folder / options.table
        if not chosen.is_file():
            raise DataError(
                f"There is no {options.table!r} in the folder",
                f"{name}.",
                nearest(options.table, [path.name for path in tables]),
                code="SAL-D016",
            )
        return _read_file(chosen, options)
    named = [path for path in tables if _stem(path.name) in SPLIT_NAMES]
    splits = {_stem(path.name): path for path in sorted(named, key=_split_order)}
    if 1 < len(splits) == len(named):
        return _read_splits(splits, name, options)
    if len(tables) == 1:
        return _read_file(tables[0], options)
    if len(tables) > 1:
        raise DataError(
            "The folder holds several tables",
            f"{name}: {', '.join(path.name for path in tables[:5])}{', …' if len(tables) > 5 else ''}.",
            "Name one: table=NAME.",
            code="SAL-D016",
        )
    parsed = image_folder.read(folder.absolute(), name)
    listing = "".join(f"{path}\0{os.path.getsize(path)}\n" for path in parsed.frame["image"])
    return parsed, name, hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()


def _read_splits(splits: dict[str, Path], name: str, options: Options) -> tuple[Parsed, str, str]:
    read = {key: _read_file(path, options) for key, path in splits.items()}
    frame = join_splits({key: parsed.frame for key, (parsed, _, _) in read.items()}, name)
    notes = [f"{path.name} is the {SPLIT_NAMES[key]} split" for key, path in splits.items()]
    digest = hashlib.sha256("".join(found[2] for found in read.values()).encode()).hexdigest()
    return Parsed(frame, notes), name, digest


def _split_order(path: Path) -> int:
    return ("train", "validation", "test").index(SPLIT_NAMES[_stem(path.name)])


def _stem(name: str) -> str:
    return PurePath(inner_name(name)).stem.lower()


def _is_table(name: str) -> bool:
    return PurePath(inner_name(name)).suffix.lower() in _extensions() and not name.startswith(".")
