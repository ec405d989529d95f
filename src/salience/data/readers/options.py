"""What a caller may say about a file, and what a reader gives back."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Options:
    """Say how a file is written, where it does not say so itself.

    Attributes:
        encoding: of a text file; None for UTF-8 or what a byte order mark says.
        delimiter: one character between the cells of a CSV file; None to find it.
        names: column names of a CSV file that has no header line.
        table: name of a file in a folder, or of a member of a zip file; ``"auto"`` for the only one.
    """

    encoding: str | None = None
    delimiter: str | None = None
    names: tuple[str, ...] | None = None
    table: str = "auto"


@dataclass
class Parsed:
    """Hold what a reader found: the rows, remarks, and the usual target where the source names one."""

    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    target: str | Sequence[str] | None = None
