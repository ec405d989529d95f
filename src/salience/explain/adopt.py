"""Attributions that were computed elsewhere, measured against a model and shown like ours."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from salience.core.errors import ConfigError, nearest
from salience.core.unit import Unit
from salience.explain.engine import measured, predictions, target_column
from salience.explain.explanation import Explanation, kinds_of
from salience.explain.model import BlackBox
from salience.explain.rows import records
from salience.explain.target import resolve, score


def adopt(
    model: BlackBox,
    explanations: Sequence[Explanation | Mapping[str, Any]],
    *,
    seed: int = 0,
    memory_mb: int | float = 256,
    faithfulness: bool = True,
) -> list[Explanation]:
    """Take over attributions of a model that another tool computed.

    Their parts are matched with the units of the model: pieces of a word are summed up, a piece that covers several
    words is shared out by characters, and a word without a value says nothing (NaN). What the model answers is taken
    from the model; whether the attributions are true of it is measured as for any other explanation.

    Args:
        model: a model of :mod:`salience.explain.model`: ``predictor.model``, or what the adapters return.
        explanations: explanations, or data in one of the forms of ``explanation.schema.json``.
        seed: seed of the random control.
        memory_mb: memory for one pass of the model, in MiB.
        faithfulness: whether to measure if they are true.

    Raises:
        DataError: data that are no explanation (SAL-D060), or a cell that the model cannot read.
        ConfigError: a target that the model does not know.
    """
    given = [e if isinstance(e, Explanation) else Explanation.from_json(e) for e in explanations]
    if not given:
        return []
    names = [column.name for column in model.schema.inputs]
    cells = {name: pd.Series([_cell(e, name) for e in given], dtype=object) for name in names}
    frame = model.schema.parse(pd.DataFrame(cells), target=False)
    outputs = np.asarray(model.outputs(frame), dtype=np.float64)
    adopted = [
        _fitted(model, e, row, outputs[i : i + 1])
        for i, (e, row) in enumerate(zip(given, records(model, frame), strict=True))
    ]
    return measured(model, adopted, seed, memory_mb) if faithfulness else adopted


def _cell(explanation: Explanation, column: str) -> Any:
    if column not in explanation.inputs:
        raise ConfigError(
            f"The model reads a column {column!r} that the explanation of row {explanation.row!r} lacks",
            f"It has {', '.join(explanation.inputs)}.",
            nearest(column, explanation.inputs),
            code="SAL-D031",
        )
    return explanation.inputs[column]


def _fitted(
    model: BlackBox,
    explanation: Explanation,
    row: dict[str, Any],
    outputs: Float[np.ndarray, "1 output"],
) -> Explanation:
    names = model.schema.outputs
    spec: Any = explanation.target if len(names) > 1 else "predicted"
    if explanation.against_index is not None and len(names) > 1:
        spec = (names[explanation.target_index], names[explanation.against_index])
    target = resolve(model.schema, spec, outputs)[0]
    prediction, probability = predictions(model, outputs, [target])[0]
    units = model.units(row)
    return replace(
        explanation,
        units=units,
        values=tuple(match(explanation.units, explanation.values, units).tolist()),
        inputs=row,
        kinds=kinds_of(model.schema.inputs),
        target=target.name,
        quantity=target.quantity,
        target_index=target.index,
        against_index=target.against,
        prediction=prediction,
        probability=probability,
        output=float(score(outputs, [target])[0]),
        independent=target.independent,
        target_column=target_column(model, target),
        faithfulness=None,
    )


def match(
    parts: Sequence[Unit], values: Sequence[float], units: Sequence[Unit]
) -> Float[np.ndarray, " unit"]:
    """Return one number a unit from numbers of other parts of the same row; NaN where no part lies in it.

    A part gives each unit of its column the share of it that the unit covers, among what units cover of it; the sum
    of what is given is the part's value. A part that no unit covers gives nothing.
    """
    result = np.full(len(units), np.nan)
    for column in dict.fromkeys(part.column for part in parts):
        mine = [i for i, part in enumerate(parts) if part.column == column and np.isfinite(values[i])]
        theirs = np.array([i for i, unit in enumerate(units) if unit.column == column], dtype=int)
        if not mine or not len(theirs):
            continue
        shares = np.stack([_overlaps(parts[i], [units[j] for j in theirs]) for i in mine])
        total = shares.sum(axis=1, keepdims=True)
        shares = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
        sums = shares.T @ np.array([values[i] for i in mine])
        result[theirs] = np.where(shares.any(axis=0), sums, np.nan)
    return result


def _overlaps(part: Unit, units: Sequence[Unit]) -> Float[np.ndarray, " unit"]:
    """Return how much of a part each unit covers: characters, or area."""
    if not part.locator:
        return np.ones(len(units))
    ends = np.array([unit.locator for unit in units], dtype=float)
    if part.kind == "text":
        a, b = part.locator
        return np.clip(np.minimum(ends[:, 1], b) - np.maximum(ends[:, 0], a), 0, None)
    left, top, right, bottom = part.locator
    width = np.minimum(ends[:, 2], right) - np.maximum(ends[:, 0], left)
    height = np.minimum(ends[:, 3], bottom) - np.maximum(ends[:, 1], top)
    return np.clip(width, 0, None) * np.clip(height, 0, None)
