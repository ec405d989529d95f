"""Read and write rows for the commands that work on a file of rows."""

from pathlib import Path
from typing import TYPE_CHECKING

from salience.core.errors import ConfigError
from salience.core.io import atomic_write_bytes

if TYPE_CHECKING:
    import pandas as pd

WRITERS = {
    ".csv": lambda frame: frame.to_csv(index=False).encode("utf-8"),
    ".jsonl": lambda frame: frame.to_json(orient="records", lines=True, force_ascii=False).encode("utf-8"),
    ".parquet": lambda frame: frame.to_parquet(index=False),
}


def read_rows(source: str) -> "pd.DataFrame":
    """Read a file or a named data set."""
    from salience.data.readers import read

    return read(source).frame


def write_rows(frame: "pd.DataFrame", path: Path) -> Path:
    """Write rows atomically, in the format that the file's ending names."""
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        endings = ", ".join(WRITERS)
        raise ConfigError(f"Cannot write {path.name}", f"Ending {path.suffix!r}.", f"Use one of {endings}.")
    return atomic_write_bytes(path, writer(frame))
