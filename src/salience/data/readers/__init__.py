"""Read any source of rows into one table.

>>> from salience.data.readers import read
>>> read({"text": ["good", "bad"], "label": [1, 0]}).frame.shape
(2, 2)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from salience.core.errors import DataError
from salience.data.places import brief
from salience.data.readers import frame as frames
from salience.data.readers.files import read_path
from salience.data.readers.frame import fingerprint, tidy
from salience.data.readers.locate import load_named
from salience.data.readers.options import Options
from salience.data.schema import absent_target
from salience.data.target import target_names

__all__ = ["Table", "read"]


@dataclass(frozen=True)
class Table:
    """Hold the rows of a source.

    Attributes:
        frame: raw rows; paths of images are absolute.
        name: name of the file, folder or data set.
        sha256: of the file, or of the cells of a table in memory.
        notes: what a reader found worth saying, such as another delimiter.
        target: the usual target or targets, where the source names them.
    """

    frame: pd.DataFrame
    name: str
    sha256: str
    notes: tuple[str, ...] = ()
    target: str | Sequence[str] | None = None


def read(
    source: Any,
    *,
    target: str | Sequence[str] | None = None,
    table: str = "auto",
    encoding: str | None = None,
    delimiter: str | None = None,
    names: Sequence[str] | None = None,
) -> Table:
    """Read rows from a path, a folder, a table in memory, or the name of a data set.

    Files: CSV, TSV, JSON lines, JSON, Parquet, Arrow; compressed by gzip, bzip2, xz, zstandard or zip. Folders: one
    table, tables named by split (``train.csv``, ``test.csv``), or class-named folders of images. A path that exists
    comes before a data set of the same name; ``hf:owner/name`` asks the Hugging Face hub.

    Args:
        source: what to read.
        target: a column that must be there, or several.
        table: which file of a folder, or member of a zip file.
        encoding: of a text file, where it is neither UTF-8 nor marked.
        delimiter: between cells of a text table, where it should not be found.
        names: column names of a text table without a header line.

    Raises:
        DataError: see ``docs/errors.md``; one line that names file, row, column and cure.
        IntegrityError: a data set cannot be fetched or is not the pinned one.
    """
    options = Options(encoding, delimiter, tuple(names) if names is not None else None, table)
    if isinstance(source, str | Path):
        found = read_path(source, options) or load_named(str(source))
        parsed, name, digest = found
    else:
        parsed, name, digest = frames.read(source), "", ""
    frame = tidy(parsed.frame, name or "table")
    _check_target(frame, target, name)
    return Table(frame, name or "table", digest or fingerprint(frame), tuple(parsed.notes), parsed.target)


def _check_target(frame: pd.DataFrame, target: str | Sequence[str] | None, name: str) -> None:
    columns = list(frame.columns)
    absent = [wanted for wanted in target_names(target, columns) if wanted not in columns]
    if not absent:
        return
    if len(columns) == 1:
        raise DataError(
            f"The target {absent[0]!r} is no column of the data",
            f"{name}: there is one column only, {brief(columns[0])}.",
            "Are cells separated by an unusual character? Give it: delimiter=CHARACTER.",
            code="SAL-D004",
        )
    raise absent_target(absent[0], columns, name)
