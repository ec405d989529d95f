"""Fine-tune a table model on rows from which random units are taken away, so that such rows are nothing new to it."""

from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd

from salience.core.errors import UnsupportedError
from salience.core.stats import generator
from salience.explain.options import within
from salience.explain.rows import records, to_frame
from salience.models.table_model import TableModel


def fine_tune_on_masks(
    model: TableModel,
    frame: pd.DataFrame,
    *,
    rate: float = 0.2,
    copies: int = 4,
    epochs: int = 2,
    learning_rate: float = 2e-4,
    seed: int = 0,
) -> TableModel:
    """Return a copy of a model that was trained on with random units of its training rows taken away.

    Of every row there are ``copies`` variants; each loses a share of its units that is uniform in [0, rate], at
    random, without a look at any explanation. Give the result to :class:`salience.explain.metrics.f_fidelity.FFidelity`.

    Args:
        model: the explained model; it is left as it is.
        frame: training rows with the target.
        rate: highest share of the units that is taken away.
        copies: variants of every row.
        epochs: passes over all variants.
        learning_rate: peak rate of AdamW.
        seed: seed of masks and batches.

    Raises:
        UnsupportedError: the model is no TableModel; train a model of your own and give it to the metric.
        ConfigError: the rate is not in [0, 1].
    """
    from salience.training.loop import Trainer, TrainingConfig

    if not isinstance(model, TableModel):
        raise UnsupportedError(
            "Only a table model can be fine-tuned here",
            type(model).__name__,
            "Fine-tune it yourself on rows of model.remove(row, random units), and give it to FFidelity(finetuned=…).",
        )
    within("rate", rate, 0, 1)
    tuned = deepcopy(model)
    masked = to_frame(model, _masked(model, frame, rate, copies, seed))
    target = np.tile(model.schema.encode_target(frame), copies)
    config = TrainingConfig(epochs=epochs, learning_rate=learning_rate, patience=max(epochs, 1))
    trainer = Trainer(tuned, config, seed=seed)
    # the last weights count: nothing is chosen by looking at held rows
    trainer.fit(tuned.prepare(masked), target, lambda _: {"epoch": trainer.progress.epoch}, "epoch")
    return tuned


def _masked(model: Any, frame: pd.DataFrame, rate: float, copies: int, seed: int) -> list[dict[str, Any]]:
    rng, rows = generator(seed, "masks"), records(model, frame)
    units = [model.units(row) for row in rows]
    result = []
    for _ in range(copies):
        for row, found in zip(rows, units, strict=True):
            gone = rng.permutation(len(found))[: round(rng.uniform(0, rate) * len(found))]
            result.append(model.remove(row, tuple(found[i] for i in sorted(gone))))
    return result
