"""``salience explain``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from salience.cli.answer import Answer, note
from salience.cli.options import Model, Rows, Seed
from salience.cli.tables import read_rows
from salience.core.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = (
    "salience explain runs/clothing-reviews new.csv --row 1 --row 7",
    "salience explain runs/clothing-reviews new.csv --method leave_one_out --out explanations.jsonl",
)
DEFAULT_ROWS = 3


def command(
    model: Model,
    rows: Rows,
    row: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N", min=1, help="Row to explain, counted from 1. May be repeated. Default: first 3."
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="How (salience list explainers).")
    ] = "integrated_gradients",
    target: Annotated[
        str, typer.Option(metavar="CLASS", help="Class to explain. Default: the predicted one.")
    ] = "predicted",
    seed: Seed = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write JSON lines (.jsonl) or a page (.html).")
    ] = None,
) -> Answer:
    """Explain predictions: what spoke for the answer, what against it, and whether the explanation is true.

    Every explanation is tested: its units are removed and kept, and compared with random units.
    """
    from salience.api import Predictor
    from salience.cli.views import explanation_view

    predictor = Predictor.load(model)
    frame = _chosen(read_rows(rows), row)
    explanations = predictor.explain(frame, method=method, target=target, seed=seed)
    if out is not None:
        _write(explanations, out)
        return Answer({"rows": len(explanations), "file": out}, [f"{len(explanations)} explanations: {out}"])
    view = []
    for explanation in explanations:
        view += [f"Row {explanation.row}", *explanation_view(explanation), ""]
    return Answer([explanation.to_json() for explanation in explanations], view)


def _chosen(frame: "pd.DataFrame", row: list[int] | None) -> "pd.DataFrame":
    if row is None:
        if len(frame) > DEFAULT_ROWS:
            note(f"Explaining the first {DEFAULT_ROWS} of {len(frame):,} rows; choose others with --row.")
        return frame.iloc[:DEFAULT_ROWS]
    beyond = [n for n in row if n > len(frame)]
    if beyond:
        raise ConfigError(
            f"There is no row {beyond[0]}", f"The file has {len(frame):,} rows.", "Rows are counted from 1."
        )
    return frame.iloc[[n - 1 for n in row]]


def _write(explanations: list, out: Path) -> None:
    from salience.core.io import atomic_write_text, write_json_lines

    if out.suffix.lower() == ".jsonl":
        write_json_lines(out, [explanation.to_json() for explanation in explanations])
    elif out.suffix.lower() == ".html":
        parts = [e.to_html(style=i == 0) for i, e in enumerate(explanations)]
        head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Explanations</title>'
        atomic_write_text(out, f"{head}<body>{'<hr>'.join(parts)}</body></html>\n")
    else:
        raise ConfigError(f"Cannot write {out.name}", f"Ending {out.suffix!r}.", "Use .jsonl or .html.")
