"""What encoders of categories share: numbered values, a bucket for rare and unseen ones, one for missing, one token a column."""

from abc import abstractmethod
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salience.core.unit import Unit
from salience.data.kinds import KINDS
from salience.models.slots import Encoder, Tokens

MISSING, UNSEEN = 0, 1


class CategoryColumns(Encoder):
    """Encode all category columns of a table: number their values, then give each one a vector by :meth:`vectors`.

    Args:
        columns: names of the category columns.
        min_count: training rows that a value needs for a number of its own; the rest share the unseen bucket.
        dropout: share of cells that training replaces by the missing or the unseen bucket, so
            that both come to mean "not known" even where the training rows have no such cell.
    """

    kind = "category"
    starts: Tensor

    def __init__(self, columns: list[str], min_count: int, dropout: float) -> None:
        super().__init__(columns)
        self.min_count, self.cell_dropout = min_count, dropout

    @abstractmethod
    def build(self, sizes: list[int]) -> None:
        """Build what :meth:`vectors` needs, and set ``token_dim`` and ``dim``.

        Args:
            sizes: values of each column, the missing and the unseen bucket among them.
        """

    @abstractmethod
    def vectors(self, index: Int[Tensor, "batch column"]) -> Float[Tensor, "batch column dim"]:
        """Return the vectors of values, which are numbered through all columns."""

    def fit(self, frame: pd.DataFrame, target: np.ndarray, generator: torch.Generator) -> None:
        """Learn the values of each column that occur at least ``min_count`` times."""
        values = []
        for column in self.columns:
            counts = frame[column].dropna().value_counts()
            values.append(sorted(counts.index[counts >= self.min_count].astype(str)))
        self._build(values)

    def _build(self, values: list[list[str]]) -> None:
        self._values = values
        sizes = [len(known) + 2 for known in values]
        starts = self._starts = np.cumsum([0, *sizes[:-1]])
        self._index = [
            {value: int(start) + 2 + i for i, value in enumerate(known)}
            for start, known in zip(starts, values, strict=True)
        ]
        self.register_buffer("starts", torch.as_tensor(starts, dtype=torch.long), persistent=False)
        self.build(sizes)

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
        return Tokens(self.vectors(index), torch.ones_like(index, dtype=torch.bool), unit)

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
