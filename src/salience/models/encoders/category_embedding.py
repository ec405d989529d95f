"""Category encoder: one learned vector a value, a shared bucket for rare and unseen values, one for missing."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.unit import Unit
from salience.data.kinds import KINDS
from salience.models.slots import Encoder, Tokens

CARD = {
    "key": "category_embedding",
    "kind": "encoder",
    "title": "Category embedding with an unseen bucket",
    "entry": "CategoryEncoder",
    "summary": "A learned vector a value; values seen fewer than min_count times share the unseen bucket, which is thus trained.",
    "kinds": ["category"],
    "cost": "O(columns × dim) a row",
    "defaults": {"dim": 16, "min_count": 3},
    "tiny": {"dim": 4, "min_count": 1},
}
MISSING, UNSEEN = 0, 1


class CategoryEncoder(Encoder):
    """Encode all category columns of a table.

    Args:
        columns: names of the category columns.
        dim: size of a value's vector.
        min_count: training rows that a value needs for a vector of its own.
        dropout: share of cells that training replaces by the missing or the unseen bucket, so
            that both come to mean "not known" even where the training rows have no such cell.
    """

    kind = "category"

    def __init__(self, columns: list[str], dim: int = 16, min_count: int = 3, dropout: float = 0.02) -> None:
        super().__init__(columns)
        self.token_dim, self.min_count, self.dim = dim, min_count, dim * len(columns)
        self.cell_dropout = dropout

    def fit(self, frame: pd.DataFrame, target: np.ndarray, generator: torch.Generator) -> None:
        """Learn the values of each column that occur at least ``min_count`` times."""
        values = []
        for column in self.columns:
            counts = frame[column].dropna().value_counts()
            values.append(sorted(counts.index[counts >= self.min_count].astype(str)))
        self._build(values)

    def _build(self, values: list[list[str]]) -> None:
        self._index_values(values)
        self.embedding = nn.Embedding(sum(len(known) + 2 for known in values), self.token_dim)
        nn.init.normal_(self.embedding.weight, std=self.token_dim**-0.5)

    def _index_values(self, values: list[list[str]]) -> None:
        """Number the values of all columns, after each column's missing and unseen bucket."""
        self._values = values
        sizes = [len(known) + 2 for known in values]
        starts = self._starts = np.cumsum([0, *sizes[:-1]])
        self._index = [
            {value: int(start) + 2 + i for i, value in enumerate(known)}
            for start, known in zip(starts, values, strict=True)
        ]
        self.register_buffer("starts", torch.as_tensor(starts, dtype=torch.long), persistent=False)

    def state(self) -> dict[str, Any]:
        """Return the known values."""
        return {"values": self._values}

    def restore(self, state: dict[str, Any]) -> None:
        """Rebuild from :meth:`state`."""
        self._build(state["values"])

    def prepare(self, frame: pd.DataFrame) -> list[np.ndarray]:
        """Return one index a column and row."""
        coded = np.empty((len(frame), len(self.columns)), dtype=np.int64)
        for position, column in enumerate(self.columns):
            start, index = int(self._starts[position]), self._index[position]
            codes, distinct = pd.factorize(frame[column].astype(object), use_na_sentinel=True)
            table = [index.get(str(value), start + UNSEEN) for value in distinct]
            coded[:, position] = np.array([*table, start + MISSING])[codes]  # code −1 is missing
        return list(coded)

    def collate(self, examples: list[np.ndarray]) -> dict[str, Tensor]:
        """Stack the rows."""
        return {"index": torch.from_numpy(np.stack(examples))}

    def _tokens(self, index: Tensor) -> Tokens:
        unit = torch.arange(len(self.columns), device=index.device).expand_as(index)
        return Tokens(self._vectors(index), torch.ones_like(index, dtype=torch.bool), unit)

    def _vectors(self, index: Tensor) -> Float[Tensor, "batch column dim"]:
        return self.embedding(index)

    def embed(self, batch: dict[str, Tensor]) -> Tokens:
        """Look the vectors up; in training a small share of cells becomes missing or unseen."""
        index = batch["index"]
        if self.training and self.cell_dropout:
            hidden = torch.rand(index.shape, device=index.device) < self.cell_dropout
            bucket = torch.randint(0, 2, index.shape, device=index.device)  # missing or unseen
            index = torch.where(hidden, self.starts + bucket, index)
        return self._tokens(index)

    def baseline(self, batch: dict[str, Tensor]) -> Tokens:
        """Return the missing bucket of every column."""
        return self._tokens((self.starts + MISSING).expand_as(batch["index"]))

    def encode(self, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        """Return the tokens as they are, and flattened."""
        return tokens, tokens.values.flatten(1)

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return one unit a column."""
        return tuple(unit for c in self.columns for unit in KINDS["category"].units(c, row[c]))
