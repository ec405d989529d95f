"""Read CSV and TSV files, strictly: every row has as many cells as the header.

Numbers become int64 or float64; codes with leading zeros stay text. A cell of :data:`MISSING` counts as missing;
in a column of numbers also ``?``, ``-``, ``.``, ``none``, ``missing`` and ``unknown``.
"""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd

from salience.core.errors import DataError
from salience.data.kinds import MISSING_NUMBERS
from salience.data.places import sentence
from salience.data.readers.delimiter import find_delimiter
from salience.data.readers.options import Options, Parsed
from salience.data.readers.text import decode

CARD = {
    "key": "csv",
    "kind": "reader",
    "title": "CSV, TSV and other delimited text",
    "entry": "read",
    "extensions": [".csv", ".tsv", ".tab", ".txt", ".data", ".dat"],
    "summary": "Delimiter found by itself; also compressed.",
}
MISSING = frozenset({"", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "#N/A", "<NA>"})
MAX_CELL = 10_000_000
_WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*")
_DECIMAL = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_PLAIN = re.compile(r"[0-9.eE+\-\n ]*")
_PLAIN_CODE = re.compile(r"^ *[+-]?0[0-9]+ *$", re.MULTILINE)
_CODE = re.compile(r"\s*[+-]?0[0-9]+\s*")


def read(data: bytes, name: str, options: Options) -> Parsed:
    """Return the rows of a delimited text file.

    Raises:
        DataError: see ``docs/errors.md``, SAL-D002 to SAL-D010; the message names file, row and line.
    """
    text = decode(data, name, options.encoding)
    delimiter = find_delimiter(text, name, options.delimiter)
    with _cell_limit():
        header, columns, notes = _parse(text, name, delimiter, options)
    if delimiter not in ",\t":
        notes.append(f"cells are separated by {delimiter!r}")
    frame = pd.DataFrame({column: typed(cells) for column, cells in zip(header, columns, strict=True)})
    return Parsed(frame, notes)


def _parse(
    text: str, name: str, delimiter: str, options: Options
) -> tuple[list[str], list[tuple[str, ...]], list[str]]:
    """Return names, columns and notes. Tab-separated files often do not quote: then quotes are plain characters."""
    try:
        return _parse_as(text, name, delimiter, options, csv.QUOTE_MINIMAL)
    except DataError:
        if delimiter != "\t" or '"' not in text:
            raise
        try:
            header, columns, notes = _parse_as(text, name, delimiter, options, csv.QUOTE_NONE)
            return header, columns, [*notes, "quotes are read as plain characters"]
        except DataError:
            pass
        raise


def _parse_as(
    text: str, name: str, delimiter: str, options: Options, quoting: int
) -> tuple[list[str], list[tuple[str, ...]], list[str]]:
    rows = _rows(text, name, delimiter, quoting)
    header, notes = _header(rows, name, options)
    return header, _columns(rows, header, name, delimiter), notes


@contextmanager
def _cell_limit() -> Iterator[None]:
    """Allow long cells while this file is read; the limit is global in :mod:`csv`."""
    before = csv.field_size_limit(MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _rows(text: str, name: str, delimiter: str, quoting: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (line of its end, cells) of each row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _broken(name, start, reader.line_num, error) from None
        if cells:
            yield reader.line_num, cells


def _broken(name: str, start: int, line: int, error: csv.Error) -> DataError:
    said = str(error)
    if "field larger" in said:
        what, cure = f"A cell is longer than {MAX_CELL:,} characters", "Is a closing quote missing?"
    elif "unexpected end" in said:
        what, cure = "A quoted cell is not closed", 'Close the quote (") that opens there, or double it ("").'
    else:
        what, cure = "A quoted cell is followed by other text", 'Double the quotes inside a quoted cell ("").'
    at = f"line {start}" if start >= line else f"lines {start} to {line}"
    return DataError(what, f"{name}, {at}.", cure, code="SAL-D010")


def _header(
    rows: Iterator[tuple[int, list[str]]], name: str, options: Options
) -> tuple[list[str], list[str]]:
    if options.names is not None:
        names = list(options.names)
        return _checked_names(names, name), []
    _, cells = next(rows, (0, []))
    names = [cell.strip() for cell in cells]
    if all(_DECIMAL.fullmatch(cell) or not cell for cell in names):
        raise _no_header(names, name)
    unnamed = [i for i, cell in enumerate(names) if not cell]
    for i in unnamed:
        names[i] = f"Unnamed: {i}"
    notes = [f"column {i + 1} has no name and is called {names[i]!r}" for i in unnamed]
    numbers = [cell for cell in names if _DECIMAL.fullmatch(cell)]
    if numbers:
        notes.append(f"a column is called {numbers[0]!r}: if the file has no header line, give names=[…]")
    return _checked_names(names, name), notes


def _no_header(names: list[str], file: str) -> DataError:
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return DataError(
        f"The first row holds {'numbers, not column names' if any(names) else 'no column names'}",
        sentence(file, shown if any(names) else ""),
        "Add a header line, or give the names: names=[…].",
        code="SAL-D007",
    )


def _checked_names(names: list[str], file: str) -> list[str]:
    seen: dict[str, int] = {}
    for position, name in enumerate(names, start=1):
        if name in seen:
            raise DataError(
                f"Column {name!r} occurs twice in the header",
                f"{file}: columns {seen[name]} and {position}.",
                "Rename one of them; if the file has no header line, give the names: names=[…].",
                code="SAL-D006",
            )
        seen[name] = position
    return names


def _columns(
    rows: Iterator[tuple[int, list[str]]], header: list[str], name: str, delimiter: str
) -> list[tuple[str, ...]]:
    found: list[list[str]] = []
    for line, cells in rows:
        if len(cells) != len(header):
            raise _ragged(name, len(found) + 1, line, len(cells), len(header), delimiter)
        found.append(cells)
    if not found:
        raise DataError("The file has a header but no rows", f"{name}.", "Add rows.", code="SAL-D003")
    return list(zip(*found, strict=True))


def _ragged(name: str, row: int, line: int, got: int, wanted: int, delimiter: str) -> DataError:
    cure = (
        f"Put quotes around cells that hold {delimiter!r}."
        if got > wanted
        else "Fill in the missing cells (an empty cell still needs its separator), or close an open quote."
    )
    return DataError(
        f"Row {row} has {got} cells, the header has {wanted}",
        f"{name}, row {row}, line {line}.",
        cure,
        code="SAL-D005",
    )


def typed(cells: tuple[str, ...]) -> pd.Series:
    """Return a column of text cells as int64, float64 or text with None where missing."""
    numbers = _numbers(cells)
    if numbers is not None:
        return pd.Series(numbers)
    return pd.Series([None if cell in MISSING else cell for cell in cells])


def _numbers(cells: tuple[str, ...]) -> np.ndarray | None:
    """Return the cells as numbers, or None if one is none, or is a code with leading zeros."""
    joined = "\n".join(cells)
    if _PLAIN.fullmatch(joined) and "." in joined and not _PLAIN_CODE.search(joined):
        try:
            return np.asarray(list(map(float, cells)))
        except ValueError:
            pass  # an empty cell, or a date: look at each
    return _numbers_one_by_one(cells)


def _numbers_one_by_one(cells: tuple[str, ...]) -> np.ndarray | None:
    values: list[str | None] = []
    whole = True
    for cell in cells:
        if _WHOLE.fullmatch(cell):
            if _CODE.fullmatch(cell):
                return None
            values.append(cell)
        elif _DECIMAL.fullmatch(cell):
            whole = False
            values.append(cell)
        elif cell.strip().lower() in MISSING_NUMBERS:
            values.append(None)
        else:
            return None
    if not any(value is not None for value in values):
        return None
    if whole and None not in values:
        return _whole_numbers(values)
    return np.asarray([np.nan if value is None else float(value) for value in values])


def _whole_numbers(values: list[str | None]) -> np.ndarray | None:
    """Return int64, or None where a number has more digits than that holds (an identifier)."""
    if any(len(value or "") > 4000 for value in values):
        return None
    numbers = [int(value or 0) for value in values]
    if max(numbers) >= 1 << 63 or min(numbers) < -(1 << 63):
        return None
    return np.asarray(numbers, dtype=np.int64)
