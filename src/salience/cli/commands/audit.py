"""``salience audit``."""

from pathlib import Path
from typing import Annotated

import typer

from salience.cli.answer import Answer
from salience.cli.options import Model, Rows, parse_pairs
from salience.cli.tables import read_rows

EXAMPLES = ("salience audit runs/clothing-reviews labelled.csv --out report.html",)


def command(
    model: Model,
    rows: Rows,
    direction: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=DIRECTION",
            help="Check that the answer only rises (increasing) or falls (decreasing) with a column. May be repeated.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("report.html"),
) -> Answer:
    """Ask every check about a saved model on labelled rows, and write a page with the findings."""
    from salience.api import Predictor
    from salience.cli.views import findings_table

    directions = parse_pairs(direction, "--direction", "COLUMN=DIRECTION", "Age=increasing")
    report = Predictor.load(model).audit(read_rows(rows), directions=directions)
    report.save(out)
    findings = [finding.to_json() for finding in report.findings]
    return Answer(
        {"report": out, "findings": findings}, [findings_table(report.findings), "", f"Report: {out}"]
    )
