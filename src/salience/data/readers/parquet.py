"""Read Parquet files."""

from typing import Any

import pandas as pd

from salience.core.errors import DataError
from salience.data.readers.compression import MAX_BYTES, too_large
from salience.data.readers.options import Options, Parsed

CARD = {
    "key": "parquet",
    "kind": "reader",
    "title": "Parquet",
    "entry": "read",
    "extensions": [".parquet", ".pq", ".parq"],
    "summary": "With any of its inner compressions.",
}


def read(data: bytes, name: str, options: Options) -> Parsed:
    """Return the rows of a Parquet file.

    Raises:
        DataError: not Parquet or damaged (SAL-D014), too large when unpacked (SAL-D012), no rows (SAL-D003).
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(pa.BufferReader(data))
        groups = range(file.metadata.num_row_groups)
        if sum(file.metadata.row_group(i).total_byte_size for i in groups) > MAX_BYTES:
            raise too_large(name)
        frame = to_frame(file.read())
    except DataError:
        raise
    except Exception as error:
        raise damaged("Parquet", name, error) from None
    return Parsed(frame)


def to_frame(table: Any) -> pd.DataFrame:
    """Return an Arrow table, once it is whole, as a data frame; notes of pandas beside it do not change the index."""
    table.validate(full=True)
    return table.to_pandas(ignore_metadata=True)


def damaged(form: str, name: str, error: Exception) -> DataError:
    """Return the error for a file that its library cannot read."""
    said = (str(error) or type(error).__name__)[:160].rstrip(". ")
    return DataError(
        f"The file is no whole {form} file",
        f"{name}: {said}.",
        "Write or copy it again; for another format, give the file its extension.",
        code="SAL-D014",
    )
