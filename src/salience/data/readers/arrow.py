"""Read Arrow (Feather) files and streams."""

from typing import Any

from salience.core.errors import DataError
from salience.data.readers.options import Options, Parsed
from salience.data.readers.parquet import damaged, to_frame

CARD = {
    "key": "arrow",
    "kind": "reader",
    "title": "Arrow and Feather",
    "entry": "read",
    "extensions": [".arrow", ".feather", ".ipc"],
    "summary": "Files and streams.",
}


def read(data: bytes, name: str, options: Options) -> Parsed:
    """Return the rows of an Arrow file or stream.

    Raises:
        DataError: not Arrow or damaged (SAL-D014).
    """
    try:
        return Parsed(to_frame(_table(data)))
    except DataError:
        raise
    except Exception as error:
        raise damaged("Arrow", name, error) from None


def _table(data: bytes) -> Any:
    import pyarrow as pa

    source = pa.BufferReader(data)
    opener = pa.ipc.open_file if data.startswith(b"ARROW1") else pa.ipc.open_stream
    with opener(source) as reader:
        return reader.read_all()
