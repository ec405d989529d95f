"""``salience evaluate``."""

from salience.cli.answer import Answer
from salience.cli.options import Model, Rows
from salience.cli.tables import read_rows

EXAMPLES = ("salience evaluate runs/clothing-reviews labelled.csv",)


def command(model: Model, rows: Rows) -> Answer:
    """Score a saved model on rows that have the target column; every score comes with a 95 % interval."""
    from salience.api import Predictor
    from salience.cli.views import metrics_table

    frame = read_rows(rows)
    metrics = Predictor.load(model).evaluate(frame)
    title = f"Scores on {len(frame):,} rows (95 % interval)"
    return Answer(metrics, [metrics_table({"test": metrics}, title)])
