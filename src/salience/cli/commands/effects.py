"""``salience effects``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from salience.cli.answer import Answer
from salience.cli.options import Model, Rows, Seed
from salience.cli.tables import read_rows
from salience.cli.views import number, table

if TYPE_CHECKING:
    from salience.explain.tables import Effects

EXAMPLES = (
    "salience effects runs/adult new.csv --out effects.html",
    "salience effects runs/adult new.csv --column age --column hours-per-week --method partial_dependence",
)
BINS_SHOWN = 40


def command(
    model: Model,
    rows: Rows,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Column to look at. May be repeated. Default: all numbers and categories."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS", help="Class to follow. Default: the second of two, or the most frequent."
        ),
    ] = None,
    method: Annotated[
        Literal["ale", "partial_dependence"],
        typer.Option(
            help="ale: right where columns are correlated; partial_dependence: with the spread of rows."
        ),
    ] = "ale",
    explain_rows: Annotated[
        int, typer.Option(metavar="N", min=0, help="Rows explained for contributions by bin; 0 for none.")
    ] = 100,
    quick: Annotated[bool, typer.Option("--quick", help="Look at fewer rows, steps and pairs.")] = False,
    seed: Seed = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page (.html) or .json.")] = None,
) -> Answer:
    """Say how each column of a table moves the answer, alone and in pairs, and which way.

    Every effect has an interval, and a control that tells what the same rows would show by chance.
    """
    from salience.api import Predictor
    from salience.explain.tables import QUICK, Settings
    from salience.report.effects import save

    predictor = Predictor.load(model)
    found = predictor.effects(
        read_rows(rows),
        column or None,
        target=target,
        method=method,
        settings=QUICK if quick else Settings(),
        explain_rows=explain_rows,
        seed=seed,
    )
    written = [f"Written: {save(found, out, str(model))}"] if out is not None else []
    return Answer(found.to_json(), [*_view(found), *written])


def _view(found: "Effects") -> list[Any]:
    directions = {m.column: m.direction for m in found.monotone}
    lines = [
        (c.column, _strength(c), number(c.control), number(c.p_value), directions.get(c.column, ""))
        for c in found.curves
    ]
    heads = ("column", "strength (95 % interval)", "chance", "adjusted p", "direction")
    title = f"Effects on {found.target} ({found.quantity}), {found.rows} rows"
    parts: list[Any] = [table(title, heads, lines, right=heads[1:4]), ""]
    bins = [
        (c.column, b.label, number(b.mean), f"{number(b.interval[0])} to {number(b.interval[1])}", b.rows,
         "" if b.supported is None else f"{b.supported:.0%}")
        for c in found.contributions
        for b in c.bins
    ]  # fmt: skip
    if bins:
        names = ("column", "bin", "mean", "95 % interval", "rows", "beat random")
        more = f"; the first {BINS_SHOWN} of {len(bins)}" if len(bins) > BINS_SHOWN else ""
        parts += [table(f"Contributions by bin{more}", names, bins[:BINS_SHOWN], right=names[2:]), ""]
    return [*parts, *found.words()]


def _strength(curve: Any) -> str:
    low, high = curve.interval
    return f"{number(curve.strength)} ({number(low)} to {number(high)})"
