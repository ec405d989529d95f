"""``salience compare``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from salience.cli.answer import Answer, note
from salience.cli.options import Model, Rows, Seed
from salience.cli.tables import read_rows
from salience.core.errors import ConfigError

if TYPE_CHECKING:
    from salience.explain.board import Leaderboard

EXAMPLES = (
    "salience compare runs/clothing-reviews new.csv",
    "salience compare runs/clothing-reviews new.csv --method lime --method attention --metric naopc --out board.md",
)
ROWS = 20


def command(
    model: Model,
    rows: Rows,
    method: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="An explainer (salience list explainers). May be repeated."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A metric (salience list metrics). May be repeated."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--rows", metavar="N", min=2, help="Rows to explain, drawn at random.")
    ] = ROWS,
    target: Annotated[
        str, typer.Option(metavar="CLASS", help="Class to explain. Default: the predicted one.")
    ] = "predicted",
    seed: Seed = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table: .json, .md or .csv.")
    ] = None,
) -> Answer:
    """Compare ways of explaining on this model and these rows: which one is truest, and what does it cost?

    Every score stands beside those of random, uniform and inverse explanations, with a 95 % interval. ▲ is better and ▼
    worse than random, shown by a test that allows for the number of tests.
    """
    from salience.api import Predictor
    from salience.cli.views import leaderboard_view

    predictor = Predictor.load(model)
    frame = read_rows(rows)
    if len(frame) > limit:
        note(f"Comparing on {limit} of {len(frame):,} rows, drawn at random; --rows changes that.")
    board = predictor.compare(
        predictor.sample(frame, limit), methods=method, metrics=metric, target=target, seed=seed
    )
    view = leaderboard_view(board)
    if out is not None:
        _write(board, out)
        view.append(f"Written: {out}")
    return Answer(board.to_json(), view)


def _write(board: "Leaderboard", out: Path) -> None:
    from salience.core.io import atomic_write_text, write_json

    forms = {
        ".json": lambda: write_json(out, board.to_json()),
        ".md": lambda: atomic_write_text(out, board.to_markdown()),
        ".csv": lambda: atomic_write_text(out, board.to_frame().to_csv(index=False)),
    }
    form = forms.get(out.suffix.lower())
    if form is None:
        raise ConfigError(f"Cannot write {out.name}", f"Ending {out.suffix!r}.", "Use .json, .md or .csv.")
    form()
