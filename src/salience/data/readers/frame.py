"""Take tables that are already in memory: pandas, Arrow, polars, Hugging Face, columns, records."""

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from salience.core.errors import DataError
from salience.data.kinds import SURROGATES
from salience.data.places import brief, sentence
from salience.data.profile import SPLIT_NAMES
from salience.data.readers.options import Parsed
from salience.data.readers.parquet import to_frame
from salience.data.times import without_zone

CARD = {
    "key": "frame",
    "kind": "reader",
    "title": "A table in memory",
    "entry": "read",
    "extensions": [],
    "summary": "pandas, Arrow, polars, Hugging Face datasets, a dictionary of columns, a list of dictionaries.",
}


def read(source: Any, name: str = "table") -> Parsed:
    """Return the rows of a table in memory.

    Args:
        source: a data frame; anything with ``__arrow_c_stream__`` or ``to_pandas``; a dictionary of columns or,
            with the names of splits as keys, of tables; a list of dictionaries.
        name: for messages.

    Raises:
        DataError: none of these (SAL-D015), columns of unequal length (SAL-D005), a row that is no dictionary
            (SAL-D013).
    """
    if isinstance(source, pd.DataFrame):
        return Parsed(source)
    if isinstance(source, Mapping):
        return _from_mapping(source, name)
    if isinstance(source, list | tuple):
        return Parsed(_from_records(source, name))
    if hasattr(source, "features") and hasattr(source, "to_pandas"):
        return Parsed(_with_class_names(source.to_pandas(), source.features))
    if hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__"):
        return Parsed(_from_arrow(source, name))
    if hasattr(source, "to_pandas"):
        return read(source.to_pandas(), name)
    raise _unknown(source)


def _unknown(source: Any) -> DataError:
    return DataError(
        "The data are no table",
        f"Got {type(source).__name__}.",
        "Give a path, the name of a data set, a data frame, an Arrow table, a dictionary of columns or a list of "
        "dictionaries.",
        code="SAL-D015",
    )


def _from_arrow(source: Any, name: str) -> pd.DataFrame:
    import pyarrow as pa

    try:
        return to_frame(pa.table(source))
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(
            "The Arrow data cannot be read", f"{name}: {error}.", "Give a table of columns.", code="SAL-D014"
        ) from None


def _from_mapping(source: Mapping[Any, Any], name: str) -> Parsed:
    tables = {key: value for key, value in source.items() if hasattr(value, "to_pandas")}
    if tables and len(tables) == len(source) and all(not isinstance(v, pd.Series) for v in tables.values()):
        return Parsed(join_splits({str(key): read(value, name).frame for key, value in tables.items()}, name))
    scalars = [key for key, value in source.items() if not _is_column(value)]
    if scalars:
        raise DataError(
            "A column is no list",
            f"{name}: {brief(scalars[0])} holds {type(source[scalars[0]]).__name__}.",
            "Give every column a list with one value a row.",
            code="SAL-D015",
        )
    lengths = {key: len(value) for key, value in source.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(
            "The columns have unequal lengths",
            f"{name}: {', '.join(f'{brief(k)} has {v}' for k, v in list(lengths.items())[:4])}.",
            "Give every column a list with one value a row.",
            code="SAL-D005",
        )
    return Parsed(_named(list(source), [_column(values) for values in source.values()]))


def _is_column(value: Any) -> bool:
    return (
        hasattr(value, "__len__") and hasattr(value, "__iter__") and not isinstance(value, str | bytes | dict)
    )


def _column(values: Any) -> Any:
    """Return values that pandas takes as one column, also where they are arrays or half surrogates."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return values
    if isinstance(values, pd.Series | pd.Index):
        return values.array
    found = [SURROGATES.sub("\ufffd", value) if isinstance(value, str) else value for value in values]
    plain = all(isinstance(v, bool | int | float | np.generic) or v is None for v in found)
    return pd.Series(found, dtype=None if plain else object).infer_objects()


def _from_records(source: Any, name: str) -> pd.DataFrame:
    for row, record in enumerate(source, start=1):
        if not isinstance(record, Mapping):
            raise DataError(
                "A row is no dictionary",
                f"{name}, row {row}: {type(record).__name__}.",
                'Write rows as {"column": value, …}.',
                code="SAL-D013",
            )
    names = list(dict.fromkeys(key for record in source for key in record))
    return _named(names, [_column([record.get(key) for record in source]) for key in names])


def _named(names: list[Any], columns: list[Any]) -> pd.DataFrame:
    """Return a table; names that become the same text stay two columns, for :func:`tidy` to refuse."""
    frame = pd.DataFrame(dict(enumerate(columns)))
    frame.columns = [column_name(name) for name in names]
    return frame


def column_name(name: Any) -> str:
    """Return a column's name as text that every encoder accepts."""
    return SURROGATES.sub("\ufffd", str(name)).strip()


def _with_class_names(frame: pd.DataFrame, features: Any) -> pd.DataFrame:
    """Replace the indices of class labels (features with ``names``) by names; −1 is missing."""
    named = {}
    for column in frame.columns:
        names = getattr(features[column], "names", None) if column in features else None
        if names:
            table = dict(enumerate(names))
            named[column] = frame[column].map(lambda index, table=table: table.get(index))
    return frame.assign(**named)


def join_splits(frames: dict[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """Return the tables of given splits as one, with the column ``split``.

    Raises:
        DataError: a name that is no split (SAL-D016), or other columns in one of them (SAL-D017).
    """
    columns: list[Any] | None = None
    parts = []
    for key, frame in frames.items():
        split = SPLIT_NAMES.get(key.strip().lower())
        if split is None:
            raise DataError(f"{key!r} is no split", name, "Use train, validation and test.", code="SAL-D016")
        columns = columns or list(frame.columns)
        if set(columns) != set(frame.columns):
            odd = sorted(map(str, set(columns) ^ set(frame.columns)))
            raise DataError(
                "The splits have different columns",
                f"{name}, {key}: {', '.join(odd[:5])}.",
                "Give all splits the same columns, or read one file only: table=NAME.",
                code="SAL-D017",
            )
        parts.append(frame[columns].assign(split=split))
    return pd.concat(parts, ignore_index=True)


def tidy(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the table with text column names and plain cells.

    Raises:
        DataError: no columns or rows (SAL-D002, SAL-D003), a name twice (SAL-D006), columns of several levels
            (SAL-D015).
    """
    if isinstance(frame.columns, pd.MultiIndex):
        raise DataError(
            "The columns have several levels",
            sentence(name),
            "Join the levels into one name.",
            code="SAL-D015",
        )
    if len(frame.columns) == 0:
        raise DataError("The table has no columns", sentence(name), "Add columns.", code="SAL-D002")
    if len(frame) == 0:
        raise DataError("The table has no rows", sentence(name), "Add rows.", code="SAL-D003")
    names = [column_name(column) or f"Unnamed: {i}" for i, column in enumerate(frame.columns)]
    doubled = next((column for column in names if names.count(column) > 1), None)
    if doubled is not None:
        raise DataError(
            f"Column {brief(doubled)} occurs {names.count(doubled)} times",
            sentence(name),
            "Rename one of them.",
            code="SAL-D006",
        )
    columns = {column: _plain(frame.iloc[:, i]) for i, column in enumerate(names)}
    return pd.DataFrame(columns, index=frame.index, copy=False)


def _plain(series: pd.Series) -> pd.Series:
    if isinstance(series.dtype, pd.SparseDtype):
        return series.sparse.to_dense()
    if series.dtype != object:
        return without_zone(series)
    first = next((value for value in series if value is not None), None)
    if isinstance(first, Decimal):
        return series.map(lambda value: float(value) if isinstance(value, Decimal) else value)
    return series


def fingerprint(frame: pd.DataFrame) -> str:
    """Return the SHA-256 of names and cells, without the index."""
    digest = hashlib.sha256(repr([str(column) for column in frame.columns]).encode())
    for position in range(len(frame.columns)):
        series = frame.iloc[:, position]
        try:
            digest.update(pd.util.hash_pandas_object(series, index=False).to_numpy().tobytes())
        except (TypeError, ValueError):
            for value in series:
                digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if hasattr(value, "tobytes"):
        return value.tobytes()
    return repr(value).encode("utf-8", "replace")
