"""``salience coherence``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from salience.cli.answer import Answer, note
from salience.cli.options import Model, Rows, Seed
from salience.cli.tables import read_rows
from salience.cli.views import number, table

if TYPE_CHECKING:
    from salience.training.coherence import Coherence

EXAMPLES = (
    "salience coherence runs/clothing-reviews train.csv",
    "salience coherence runs/clothing-reviews train.csv --method signs --json",
)
ROWS = 2000


def command(
    model: Model,
    rows: Rows,
    method: Annotated[
        Literal["exact", "per_example", "signs"],
        typer.Option(help="exact: one backward pass a batch; per_example: one a row; signs: an estimate."),
    ] = "exact",
    limit: Annotated[
        int, typer.Option("--rows", metavar="N", min=2, help="Rows to measure, drawn at random.")
    ] = ROWS,
    seed: Seed = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the result as .json.")] = None,
) -> Answer:
    """Say how much the gradients of labelled rows agree, for the whole model and each of its layers.

    Compare numbers of samples of the same size, or the unbiased one. Low late in training is normal: what is fitted has
    no gradient left.
    """
    from salience.api import Predictor
    from salience.core.io import write_json

    predictor, frame = Predictor.load(model), read_rows(rows)
    if len(frame) > limit:
        note(f"Measuring {limit:,} of {len(frame):,} rows, drawn at random; --rows changes that.")
    found = predictor.coherence(predictor.sample(frame, limit), method=method, seed=seed)
    written = [f"Written: {write_json(out, found.to_json())}"] if out is not None else []
    return Answer(found.to_json(), [*_view(found), *written])


def _view(found: "Coherence") -> list[Any]:
    layers = [("the whole model", found.alpha, found.m_coherence, found.unbiased, 1.0)]
    layers += [
        (name or "(outermost)", s.alpha, s.m_coherence, s.unbiased, s.share)
        for name, s in found.by_layer.items()
    ]
    lines = [(name, *(number(value) for value in values)) for name, *values in layers]
    head = ("layer", "α", "mα", "unbiased", "share of norms")
    view: list[Any] = [table(f"Gradient coherence of {found.m:,} rows", head, lines, right=head[1:]), ""]
    notes = [f"Note: {text}." for text in (*found.notes, found.reason.rstrip(".")) if text]
    return [*view, found.words(), *notes]
