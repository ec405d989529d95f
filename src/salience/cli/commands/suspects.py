"""``salience suspects``."""

from pathlib import Path
from typing import Annotated

import typer

from salience.cli.answer import Answer
from salience.cli.options import Config, Drop, Kind, Preset, Seed, Set, Source, Target, parse_kinds

EXAMPLES = ("salience suspects my.csv --target y --preset fast --out suspects.csv",)


def command(
    source: Source,
    target: Target = None,
    drop: Drop = None,
    kind: Kind = None,
    preset: Preset = "fast",
    folds: Annotated[
        int, typer.Option(metavar="N", min=3, help="Models to train; each leaves out a part.")
    ] = 5,
    control: Annotated[
        bool,
        typer.Option(help="Change 5 % of the labels on purpose, and say how many are found; twice the time."),
    ] = True,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Rows to show.")] = 10,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all rows to a CSV file.")] = None,
    seed: Seed = None,
    config: Config = None,
    assignments: Set = None,
) -> Answer:
    """Find labels that look wrong: rows whose label the other rows speak against, with reasons and a control."""
    kinds = parse_kinds(kind)
    from salience.api import Predictor
    from salience.cli.views import table
    from salience.core.io import atomic_write_text

    predictor = Predictor(
        target,
        preset=preset,
        drop=tuple(drop or ()),
        kinds=kinds,
        seed=seed,
        config=config,
        overrides=list(assignments or ()),
    )
    found = predictor.suspect_labels(source, folds=folds, control=control)
    if out:
        atomic_write_text(out, found.table.to_csv(index=False))
    shown = [
        (str(line.row), str(line.label), str(line.suggested), line.reason)
        for line in found.table.head(top).itertuples()
    ]
    title = f"The {len(shown)} most suspicious of {len(found.table):,} labels"
    view = [found.words(), "", table(title, ("row", "label", "suggested", "why"), shown)]
    return Answer(found.to_json(), [*view, *([f"All rows: {out}"] if out else [])])
