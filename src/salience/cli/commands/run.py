"""``salience run``: the main job."""

import json
from pathlib import Path
from typing import Annotated, Any

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
from salience.core.processes import is_main_process

EXAMPLES = (
    "salience run clothing-reviews --drop Rating",
    "salience run my.csv --target price --kind zip=category --time-limit 5",
    "salience run my.csv --target price --set training.epochs=3 --json > result.json",
)


def command(
    source: Source,
    target: Target = None,
    drop: Drop = None,
    kind: Kind = None,
    preset: Preset = "good",
    time_limit: TimeLimit = None,
    seed: Seed = None,
    seeds: Seeds = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run. Default: runs/NAME.")
    ] = None,
    config: Config = None,
    assignments: Set = None,
    resume: Annotated[bool, typer.Option(help="Go on with an unfinished run in the same folder.")] = True,
) -> Answer:
    """Train a model on a table, score it beside baselines, explain it, audit it, and write one page about it.

    What each column is (text, image, number, category) is found out, shown, and can be set with --kind.
    A run that was interrupted goes on where it stopped when the same command is given again.
    """
    kinds = parse_kinds(kind)
    from salience.pipeline import run

    result = run(
        source,
        target=target,
        drop=tuple(drop or ()),
        kinds=kinds,
        preset=preset,
        time_limit=time_limit,
        seed=seed,
        seeds=seeds,
        out=out,
        config=config,
        overrides=list(assignments or ()),
        resume=resume,
    )
    if not is_main_process():
        raise typer.Exit
    return Answer(_data(result), _view(result))


def _data(result: Any) -> dict[str, Any]:
    return {
        "folder": result.folder,
        "report": result.report,
        "metrics": result.metrics,
        "findings": [finding.to_json() for finding in result.findings],
    }


def _view(result: Any) -> list[Any]:
    from salience.cli.views import explanation_view, findings_table, metrics_table
    from salience.explain.explanation import Explanation

    with (result.folder / "explanations.jsonl").open(encoding="utf-8") as lines:
        first = next(iter(lines), None)
    example = [] if first is None else explanation_view(Explanation.from_json(json.loads(first)))
    return [
        metrics_table(result.metrics),
        "",
        findings_table(result.findings),
        "",
        *(["One prediction, explained", *example, ""] if example else []),
        f"Report: {result.report}",
    ]
