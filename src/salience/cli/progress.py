"""Draw the progress of long work on standard error: bars in a terminal, one line a stage elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from salience.cli.answer import console
from salience.core.progress import listening

if TYPE_CHECKING:
    from rich.console import Console

QUIET_SECONDS = 1.0  # a stage shorter than this is not worth a line in a log


class BarListener:
    """Draw one bar a stage, with the time left and the latest note."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("[dim]{task.fields[note]}"),
            console=console(sys.stderr),
            transient=True,
        )

    def start(self, stage: str, total: int | None) -> Any:
        """Add a bar."""
        return self.progress.add_task(stage, total=total, note="")

    def advance(self, handle: Any, note: str) -> None:
        """Move a bar by one step."""
        self.progress.advance(handle)
        if note:
            self.progress.update(handle, note=note)

    def finish(self, handle: Any) -> None:
        """Take the bar away, so that only running stages are shown."""
        self.progress.remove_task(handle)

    def tell(self, topic: str, value: Any) -> None:
        """Print above the bars."""
        _print(self.progress.console, topic, value)


@dataclass
class _Running:
    stage: str
    started: float = field(default_factory=time.monotonic)
    note: str = ""


class LineListener:
    """Write one line for each stage that took a second or more."""

    def start(self, stage: str, total: int | None) -> _Running:
        """Remember when the stage began."""
        return _Running(stage)

    def advance(self, handle: _Running, note: str) -> None:
        """Remember the latest note."""
        handle.note = note or handle.note

    def finish(self, handle: _Running) -> None:
        """Write the line."""
        seconds = time.monotonic() - handle.started
        if seconds >= QUIET_SECONDS:
            note = f"  {handle.note}" if handle.note else ""
            print(f"{handle.stage}: {seconds:.1f} s{note}", file=sys.stderr)

    def tell(self, topic: str, value: Any) -> None:
        """Print at once."""
        _print(console(sys.stderr), topic, value)


def _print(where: "Console", topic: str, value: Any) -> None:
    if topic == "schema":
        from salience.cli.views import schema_table

        where.print(schema_table(value.to_json()["columns"], "Columns (change one with --kind or --drop)"))
        where.print()
    else:
        where.print(str(value), style="dim", markup=False)


@contextmanager
def shown() -> Iterator[None]:
    """Show progress inside the block."""
    if not sys.stderr.isatty():
        with listening(LineListener()):
            yield
        return
    listener = BarListener()
    with listener.progress, listening(listener):
        yield
