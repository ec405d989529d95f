"""What a command returns: data for ``--json`` and the same thing for a reader."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console

WIDTH_WITHOUT_TERMINAL = 120


@dataclass(frozen=True)
class Answer:
    """Hold the result of a command.

    Attributes:
        data: what ``--json`` prints.
        view: rich renderables or plain strings, printed one after the other otherwise, each as soon as it is there.
        exit_code: 0, or 1 if the command answered that something is wrong.
    """

    data: Any
    view: Iterable[Any] = ()
    exit_code: int = 0


def console(file: TextIO) -> Console:
    """Return a console that is wide enough for tables when the output is not a terminal."""
    width = None if file.isatty() or "COLUMNS" in os.environ else WIDTH_WITHOUT_TERMINAL
    return Console(file=file, width=width, highlight=False, soft_wrap=False)


def note(text: str) -> None:
    """Tell the reader something that is not the result (standard error)."""
    console(sys.stderr).print(text, style="dim", markup=False)


def show(answer: Answer, *, as_json: bool, file: TextIO) -> None:
    """Print an answer: JSON alone, or its view."""
    if as_json:
        from salience.core.io import dumps

        file.write(dumps(answer.data) + "\n")
        return
    out = console(file)
    for part in answer.view:
        out.print(part, markup=False) if isinstance(part, str) else out.print(part)
