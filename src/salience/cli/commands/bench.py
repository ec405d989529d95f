"""``salience bench``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from salience.cli.answer import Answer
from salience.cli.options import Seed
from salience.core.registry import load

EXAMPLES = ("salience bench disan --quick", "salience bench startup --out startup.json")
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the result as JSON.")]
Quick = Annotated[bool, typer.Option("--quick", help="Smaller sizes, for a look.")]


def command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of a benchmark (salience list benchmarks).")
    ],
    quick: Quick = False,
    seed: Seed = None,
    out: Out = None,
) -> Answer:
    """Measure on this machine, ours and others in the same run, and print one table."""
    result = load("benchmark", name)(quick=quick, seed=seed or 0)
    return measured(name, result, out)


def measured(name: str, result: dict, out: Path | None) -> Answer:
    """Return rows and summary of a measurement as an answer; write them as JSON if a file is given.

    A measurement with too many columns for a terminal brings shorter rows, ``shown``, which are not written.
    """
    from salience.core.io import write_json

    shown = result.pop("shown", result["rows"])
    result = {"name": name, **result}
    view = [*_tables(name, shown), *_lines(result["summary"])]
    if out is not None:
        write_json(out, result)
        view.append(f"Written: {out}")
    return Answer(result, view)


def _tables(name: str, rows: list[dict]) -> Iterator[Any]:
    """Yield one table for each part of a measurement, with the columns of that part alone."""
    from salience.cli.views import records_table

    for part in dict.fromkeys(row.get("part") for row in rows):
        of_part = [{k: v for k, v in row.items() if k != "part"} for row in rows if row.get("part") == part]
        yield records_table(f"{name}: {part}" if part else name, of_part)
        yield ""


def _lines(summary: str | dict) -> list[str]:
    if isinstance(summary, str):
        return [summary]
    from salience.cli.views import number

    return [f"{key}: {number(v) if isinstance(v, float) else v}" for key, v in summary.items()]
