"""``salience reproduce``."""

from inspect import signature
from pathlib import Path
from typing import Annotated

import typer

from salience.cli.answer import Answer
from salience.cli.commands.bench import Out, Quick, measured
from salience.cli.options import Seed
from salience.core.errors import ConfigError
from salience.core.registry import load

EXAMPLES = (
    "salience reproduce number-embeddings --data ../shared/data --seeds 1",
    "salience reproduce disan --data ../shared/data --quick",
    "salience reproduce smv --data ../shared/data --endpoint http://127.0.0.1:8000/v1 --model NAME",
)


def command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of an experiment (salience list reproductions).")
    ],
    data: Annotated[Path | None, typer.Option(metavar="PATH", help="Folder with the paper's data.")] = None,
    quick: Quick = False,
    seed: Seed = None,
    out: Out = None,
    endpoint: Annotated[
        str,
        typer.Option(metavar="URL", help="Server of the OpenAI chat protocol, for experiments that ask one."),
    ] = "",
    model: Annotated[str, typer.Option(metavar="NAME", help="Name of the model on that server.")] = "",
    seeds: Annotated[
        int | None, typer.Option(metavar="N", help="Number of seeds, for experiments that take several.")
    ] = None,
) -> Answer:
    """Repeat a paper's experiment at a stated scale, and put the measured numbers beside the published ones."""
    run = load("reproduction", name)
    options = (("endpoint", endpoint), ("model", model), ("seeds", seeds))
    asked = {key: value for key, value in options if value not in ("", None)}
    foreign = sorted(set(asked) - set(signature(run).parameters))
    if foreign:
        raise ConfigError(
            f"The experiment {name!r} does not take --{foreign[0]}", f"{asked[foreign[0]]}", "Leave it out."
        )
    return measured(name, run(data=data, quick=quick, seed=seed or 0, **asked), out)
