"""Batches and loss of a table model, as the functions of this package take them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from salience.core.stats import generator
from salience.models.table_model import TableModel

BATCHES, LARGEST = 16, 256


def table_loss(model: TableModel, batch: tuple[Any, Tensor]) -> Float[Tensor, " batch"]:
    """Return the task's loss of each row, without what encoders add to it in training."""
    inputs, target = batch
    return model.head.row_losses(model(inputs), target)


def table_batches(
    model: TableModel,
    frame: pd.DataFrame,
    *,
    batch_rows: int | None = None,
    target: np.ndarray | None = None,
    seed: int = 0,
) -> Iterator[tuple[Any, Tensor]]:
    """Yield batches for :func:`table_loss`, rows in random order, so that every batch is a sample of all.

    Args:
        model: a fitted table model.
        frame: canonical rows with their target.
        batch_rows: rows of a batch; as many as give 16 batches if none, at most 256.
        target: another target, as ``schema.encode_target`` gives it (shuffled labels, as a control).
        seed: seed of the order; :func:`table_order` gives it.
    """
    encoded = model.schema.encode_target(frame) if target is None else target
    examples = model.prepare(frame)
    rows = batch_rows or max(1, min(LARGEST, -(-len(examples) // BATCHES)))
    order = table_order(len(examples), seed)
    device = next(model.parameters()).device
    for start in range(0, len(order), rows):
        part = order[start : start + rows]
        yield model.collate([examples[i] for i in part]), torch.as_tensor(encoded[part], device=device)


def table_order(rows: int, seed: int = 0) -> np.ndarray:
    """Return which row stands at each place of the batches; results an example are in this order."""
    return generator(seed, "coherence rows").permutation(rows)
