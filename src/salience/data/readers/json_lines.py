"""Read JSON: one object a line, a list of objects, or an object of columns."""

import json
import re
from typing import Any

import pandas as pd

from salience.core.errors import DataError
from salience.data.kinds import SURROGATES
from salience.data.places import brief
from salience.data.readers.options import Options, Parsed
from salience.data.readers.text import decode

CARD = {
    "key": "json-lines",
    "kind": "reader",
    "title": "JSON lines, or a JSON list of objects",
    "entry": "read",
    "extensions": [".jsonl", ".ndjson", ".json"],
    "summary": "One object a row; also compressed.",
}
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read(data: bytes, name: str, options: Options) -> Parsed:
    """Return the rows of a JSON file.

    Raises:
        DataError: text that is no JSON (SAL-D013), rows that are no objects (SAL-D013), a name twice in an
            object (SAL-D006); the message names file and line, or file and row.
    """
    text = decode(data, name, options.encoding)
    whole = None if _is_lines(text, name) else _parse(text, name, "")
    if isinstance(whole, dict):
        frame = _from_columns(whole, name)
    elif isinstance(whole, list):
        frame = _from_records(whole, name)
    else:
        frame = _from_records(_lines(text, name), name)
    return Parsed(frame)


def _is_lines(text: str, name: str) -> bool:
    """Tell whether each line is a document of its own: by the name, or because the first line is a whole object."""
    if not name.lower().endswith(".json"):
        return not text.lstrip().startswith("[")
    first = text.lstrip().split("\n", 1)
    if len(first) == 1 or not first[1].strip():
        return False
    try:
        return isinstance(json.loads(first[0]), dict)
    except (ValueError, RecursionError):
        return False


def _lines(text: str, name: str) -> list[Any]:
    return [
        _parse(line, name, f", line {number}")
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]


def _parse(text: str, name: str, at: str) -> Any:
    try:
        found = json.loads(text, object_pairs_hook=_object)
        return _whole_characters(found) if _ESCAPED_SURROGATE.search(text) else found
    except _DoubleName as error:
        raise DataError(
            f"The name {error} occurs twice in an object", f"{name}{at}.", "Rename one.", code="SAL-D006"
        ) from None
    except json.JSONDecodeError as error:
        where = at or f", line {error.lineno}"
        raise _not_json(name, f"{where}, character {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise _not_json(name, f"{at}: {type(error).__name__}") from None


def _whole_characters(value: Any) -> Any:
    """Replace half surrogate pairs, which no encoder of text accepts."""
    if isinstance(value, str):
        return SURROGATES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {_whole_characters(key): _whole_characters(item) for key, item in value.items()}
    return value


class _DoubleName(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _DoubleName(brief(next(name for name in names if names.count(name) > 1)))
    return found


def _not_json(name: str, where: str) -> DataError:
    return DataError(
        "The file is not JSON", f"{name}{where}.", "Mend that line, or write the rows again.", code="SAL-D013"
    )


def _from_records(records: list[Any], name: str) -> pd.DataFrame:
    for row, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise DataError(
                "A row is no JSON object",
                f"{name}, row {row}: {brief(record)}.",
                'Write rows as {"column": value, …}.',
                code="SAL-D013",
            )
    return _no_rows(pd.DataFrame(records), name)


def _from_columns(columns: dict[str, Any], name: str) -> pd.DataFrame:
    if not columns or not all(isinstance(values, list) for values in columns.values()):
        return _from_records([columns] if columns else [], name)
    lengths = {column: len(values) for column, values in columns.items()}
    if len(set(lengths.values())) > 1:
        short = min(lengths, key=lengths.__getitem__)
        raise DataError(
            "The columns have unequal lengths",
            f"{name}: {brief(short)} has {lengths[short]} values, another {max(lengths.values())}.",
            "Give every column one value a row.",
            code="SAL-D005",
        )
    return _no_rows(pd.DataFrame(columns), name)


def _no_rows(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    if len(frame) == 0 or len(frame.columns) == 0:
        raise DataError("The file has no rows", f"{name}.", "Add rows.", code="SAL-D003")
    return frame
