"""``salience reproduce``."""

from pathlib import Path
from typing import Annotated

import typer

from salience.cli.answer import Answer
from salience.cli.commands.bench import Out, Quick, measured
from salience.cli.options import Seed
from salience.core.registry import load

EXAMPLES = ("salience reproduce disan --data ../shared/data --quick",)


def command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of an experiment (salience list reproductions).")
    ],
    data: Annotated[Path | None, typer.Option(metavar="PATH", help="Folder with the paper's data.")] = None,
    quick: Quick = False,
    seed: Seed = None,
    out: Out = None,
) -> Answer:
    """Repeat a paper's experiment at a stated scale, and put the measured numbers beside the published ones."""
    result = load("reproduction", name)(data=data, quick=quick, seed=seed or 0)
    return measured(name, result, out)
