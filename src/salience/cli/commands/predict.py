"""``salience predict``."""

from pathlib import Path
from typing import Annotated

import typer

from salience.cli.answer import Answer
from salience.cli.options import Model, Rows
from salience.cli.tables import read_rows, write_rows

EXAMPLES = (
    "salience predict runs/clothing-reviews new.csv --out predictions.csv",
    "salience predict runs/clothing-reviews new.csv --probabilities --json",
)
SHOWN = 20


def command(
    model: Model,
    rows: Rows,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write .csv, .parquet or .jsonl instead of printing.")
    ] = None,
    probabilities: Annotated[bool, typer.Option(help="Add one probability a class or label.")] = False,
) -> Answer:
    """Predict every row of a file."""
    from salience.api import Predictor
    from salience.cli.views import records_table

    predictor = Predictor.load(model)
    frame = read_rows(rows)
    predicted = predictor.predict(frame)
    if predicted.ndim == 1:
        predicted = predicted.to_frame("prediction")
    else:
        predicted = predicted.add_prefix("prediction ")
    if probabilities:
        predicted = predicted.join(predictor.predict_proba(frame).add_prefix("probability "))
    if out is not None:
        write_rows(predicted, out)
        return Answer({"rows": len(predicted), "file": out}, [f"{len(predicted):,} predictions: {out}"])
    records = predicted.to_dict("records")
    table = records_table(f"{len(records):,} predictions", records[:SHOWN])
    more = [f"… {len(records) - SHOWN:,} more; write all with --out FILE"] if len(records) > SHOWN else []
    return Answer(records, [table, *more])
