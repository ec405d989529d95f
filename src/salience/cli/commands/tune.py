"""``salience tune``."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from salience.cli.answer import Answer
from salience.cli.options import Config, Drop, Kind, Preset, Seed, Set, Source, Target, parse_kinds

EXAMPLES = (
    "salience tune my.csv --target price --space mlp-plr --trials 30",
    "salience tune my.csv --target price --space tabm-mini --time-limit 60 --set training.batch_size=256",
    "salience run my.csv --config runs/tune/my-mlp-plr/best.yaml --seeds 5",
)
SHOWN = 10


def command(
    source: Source,
    target: Target = None,
    space: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="What is searched: mlp, mlp-plr, mlp-q-lr, mlp-t-lr, resnet, ft-transformer, tabm-mini (as published), or a"
            " YAML file of your own.",
        ),
    ] = "mlp-plr",
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Trials in all, those of earlier calls included. Default: 100."
        ),
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(metavar="MINUTES", min=0.01, help="Stop searching after this long.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the search. Default: runs/tune/NAME-SPACE."),
    ] = None,
    pruning: Annotated[
        Literal["median", "none"],
        typer.Option(
            metavar="[median|none]", help="End trials that are behind the median of earlier ones, or none."
        ),
    ] = "median",
    drop: Drop = None,
    kind: Kind = None,
    preset: Preset = "good",
    seed: Seed = None,
    config: Config = None,
    assignments: Set = None,
) -> Answer:
    """Search for the options with which a model is best on validation rows.

    The rows are split as 'salience run' splits them, and the test rows are put aside: only validation rows decide. Options
    that you set with --set or --config are not searched. Every trial is kept, also the failed ones with the reason; give
    the same command again to go on, or with more --trials to add some. The best options are in best.yaml, for 'salience
    run --config'; their validation score is the best of many and flatters, so that only the test rows of that run say how
    good they are.
    """
    kinds = parse_kinds(kind)
    from salience.tuning import tune

    tuned = tune(
        source,
        target,
        space=space,
        trials=trials,
        time_limit=time_limit,
        folder=out or Path("runs/tune") / f"{Path(source).stem}-{Path(space).stem}",
        seed=seed,
        pruning=pruning,
        preset=preset,
        kinds=kinds,
        drop=tuple(drop or ()),
        config=config,
        overrides=list(assignments or ()),
    )
    return Answer({"folder": tuned.folder, **tuned.to_json()}, _view(tuned, source))


def _view(tuned: Any, source: str) -> list[Any]:
    from salience.cli.views import number, records_table, table

    chosen = ["trial", "state", tuned.metric, "epochs", "seconds"]
    best = tuned.ranked.head(SHOWN)
    title = f"Trials, best first ({len(best)} of {len(tuned.trials)}; the others are in {tuned.folder / 'trials.md'})"
    options = [[name, str(value)] for name, value in tuned.options.items()]
    view: list[Any] = [
        records_table(title, best[chosen].to_dict("records")),
        "",
        table("Best options", ("option", "value"), options),
        "",
    ]
    if tuned.importance:
        shares = [[name, number(share)] for name, share in tuned.importance.items()]
        view += [
            table("What decides whether a trial is among the best tenth", ("parameter", "share"), shares),
            "",
        ]
    best_file = tuned.folder / "best.yaml"
    return [*view, tuned.summary(), "", f"Use them: salience run {source} --config {best_file}"]
