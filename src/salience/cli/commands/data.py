"""``salience data``."""

from pathlib import Path
from typing import Annotated

import typer

from salience.cli.answer import Answer
from salience.cli.options import Drop, Kind, Source, Target, parse_kinds
from salience.cli.tables import write_rows
from salience.core.registry import cards, load

EXAMPLES = (
    "salience data list",
    "salience data inspect my.csv --target y",
    "salience data download clothing-reviews",
)
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write it as .csv, .parquet or .jsonl.")]


def list_sets() -> Answer:
    """List the data sets that have a name."""
    from salience.cli.views import table

    found = cards("dataset")
    names = ("name", "title", "rows", "target", "columns", "licence")
    rows = [
        (card.key, card.get("title"), f"{card.get('rows', 0):,}", _target(card.get("target", "")),
         ", ".join(card.get("kinds") or ()), card.get("licence"))
        for card in found
    ]  # fmt: skip
    return Answer([card.fields for card in found], [table("Data sets", names, rows, right=("rows",))])


def _target(target: str | list[str]) -> str:
    return target if isinstance(target, str) else f"{len(target)} targets"


def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a data set (salience data list).")],
    rows: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only N rows, chosen at random with a fixed seed.")
    ] = None,
    out: Out = None,
) -> Answer:
    """Fetch a data set into the cache, check its sha256, and say what is in it."""
    frame = load("dataset", name)()
    if rows is not None and rows < len(frame):
        frame = frame.sample(rows, random_state=0)
    view = [
        f"{name}: {len(frame):,} rows, {len(frame.columns)} columns ({', '.join(map(str, frame.columns))})"
    ]
    if out is not None:
        write_rows(frame, out)
        view.append(f"Written: {out}")
    return Answer({"name": name, "rows": len(frame), "columns": list(frame.columns), "file": out}, view)


def inspect(source: Source, target: Target = None, drop: Drop = None, kind: Kind = None) -> Answer:
    """Show what each column is taken for and why, before training on it."""
    from salience.cli.views import schema_table
    from salience.data.readers import read
    from salience.data.schema import infer

    table = read(source, target=target)
    schema = infer(table.frame, target, kinds=parse_kinds(kind), drop=tuple(drop or ()), source=table.name)
    data = {
        "name": table.name,
        "rows": len(table.frame),
        "notes": list(table.notes),
        "schema": schema.to_json(),
    }
    title = f"{table.name}: {len(table.frame):,} rows"
    return Answer(data, [schema_table(schema.to_json()["columns"], title), *table.notes])


commands = {"list": list_sets, "download": download, "inspect": inspect}
