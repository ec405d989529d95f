"""``salience train``."""

from pathlib import Path
from typing import Annotated

import typer

from salience.cli.answer import Answer
from salience.cli.options import (
    Config,
    Drop,
    Kind,
    Preset,
    Seed,
    Seeds,
    Set,
    Source,
    Target,
    TimeLimit,
    parse_kinds,
)

EXAMPLES = ("salience train my.csv --target y --out models/y",)


def command(
    source: Source,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the model.")],
    target: Target = None,
    drop: Drop = None,
    kind: Kind = None,
    preset: Preset = "good",
    time_limit: TimeLimit = None,
    seed: Seed = None,
    seeds: Seeds = None,
    config: Config = None,
    assignments: Set = None,
) -> Answer:
    """Train a model and save it, without the audit and the report of 'salience run'."""
    kinds = parse_kinds(kind)
    from salience.api import Predictor
    from salience.cli.views import schema_table

    predictor = Predictor(
        target,
        preset=preset,
        drop=tuple(drop or ()),
        kinds=kinds,
        time_limit=time_limit,
        seed=seed,
        seeds=seeds,
        config=config,
        overrides=list(assignments or ()),
    )
    predictor.fit(source)
    predictor.save(out)
    schema = predictor.schema.to_json()
    view = [schema_table(schema["columns"]), "", f"Model: {out}", f"Use it: salience predict {out} FILE"]
    return Answer({"model": out, "schema": schema}, view)
