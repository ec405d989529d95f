"""What encoders of numbers share: scaling, missing values, one token a column, the median as the neutral input."""

import re
from abc import abstractmethod
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.errors import ConfigError
from salience.core.unit import Unit
from salience.data.kinds import KINDS
from salience.data.numbers import NumberScaler
from salience.models.slots import Encoder, Tokens
from salience.nn.embeddings.nlinear import NLinear


class NumberEncoder(Encoder):
    """Encode all number columns of a table: scale them, then embed each one by :meth:`make_embedding`.

    Args:
        columns: names of the number columns.
        dim: size of a column's embedding.
        policies: ``scaling``, ``missing``, ``infinite`` and ``outside`` of
            :class:`~salience.data.numbers.NumberScaler`.

    Where a column had missing values in training, a missing one becomes a learned vector; elsewhere that vector
    would never be trained, and the median stands in. The vectors are built only if one of them is needed.
    """

    kind = "number"
    weight_decay = 0.0  # of its own parameters, the vectors of missing values
    embedding: nn.Module
    median: Tensor
    knows_missing: Tensor

    def __init__(self, columns: list[str], dim: int, **policies: Any) -> None:
        super().__init__(columns)
        self.scaler = NumberScaler(self.columns, **policies)
        self.token_dim, self.dim = dim, dim * len(columns)

    @abstractmethod
    def make_embedding(self, learned: dict[str, Any]) -> nn.Module:
        """Return the module (batch, column) → (batch, column, token_dim); it may set ``token_dim`` and ``dim``.

        Args:
            learned: what :meth:`learn` returned.
        """

    def learn(self, scaled: Float[np.ndarray, "row column"], target: np.ndarray) -> dict[str, Any]:
        """Return what else is learned from training rows, such as bins, as JSON-ready data; nothing by default.

        Args:
            scaled: scaled values in float64, NaN where missing.
            target: what is to be predicted.
        """
        return {}

    def fit(self, frame: pd.DataFrame, target: np.ndarray, generator: torch.Generator) -> None:
        """Learn scales from the finite training values of each column, then what the embedding needs."""
        seed = int(torch.randint(2**31, (), generator=generator))
        values = self._values(frame)
        self.scaler.fit(values, np.random.default_rng(seed))
        self._build(self.learn(self.scaler.transform(values), target))

    def _values(self, frame: pd.DataFrame) -> Float[np.ndarray, "row column"]:
        return frame[self.columns].to_numpy(np.float64)

    def _build(self, learned: dict[str, Any]) -> None:
        self.learned = learned
        self.embedding = self.make_embedding(learned)
        known = torch.as_tensor(self.scaler.knows_missing & (self.scaler.missing == "learned"))
        self.missing = nn.Parameter(torch.zeros(len(known), self.token_dim)) if known.any() else None
        self.register_buffer("knows_missing", known, persistent=False)
        median = torch.as_tensor(self.scaler.median, dtype=torch.float32)
        self.register_buffer("median", median, persistent=False)

    def state(self) -> dict[str, Any]:
        """Return the fitted scales and what else was learned."""
        return {"scaler": self.scaler.state(), **self.learned}

    def restore(self, state: dict[str, Any]) -> None:
        """Rebuild from :meth:`state`."""
        self.scaler.restore(state["scaler"])
        self._build({name: value for name, value in state.items() if name != "scaler"})

    def prepare(self, frame: pd.DataFrame) -> list[np.ndarray]:
        """Return one float32 vector a row, scaled in float64, NaN where missing."""
        return list(self.scaler.transform(self._values(frame)).astype(np.float32))

    def collate(self, examples: list[np.ndarray]) -> dict[str, Tensor]:
        """Stack the rows."""
        return {"values": torch.from_numpy(np.stack(examples))}

    def _tokens(self, embedded: Float[Tensor, "batch column dim"]) -> Tokens:
        batch, columns, _ = embedded.shape
        unit = torch.arange(columns, device=embedded.device).expand(batch, columns)
        return Tokens(embedded, torch.ones_like(unit, dtype=torch.bool), unit)

    def embed(self, batch: dict[str, Tensor]) -> Tokens:
        """Embed the values; a missing one becomes its column's learned vector, or acts like the median."""
        values = batch["values"]
        absent = values.isnan()
        embedded = self.embedding(torch.where(absent, self.median, values))
        if self.missing is None:
            return self._tokens(embedded)
        learned = (absent & self.knows_missing).unsqueeze(-1)
        return self._tokens(torch.where(learned, self.missing, embedded))

    def baseline(self, batch: dict[str, Tensor]) -> Tokens:
        """Embed the training median of every column."""
        return self._tokens(self.embedding(self.median.expand_as(batch["values"])))

    def encode(self, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        """Return the tokens as they are, and flattened."""
        return tokens, tokens.values.flatten(1)

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return one unit a column."""
        return tuple(unit for c in self.columns for unit in KINDS["number"].units(c, row[c]))


def stages(layers: str) -> list[bool]:
    """Return for each linear layer of a notation such as ``"LRL"`` whether a ReLU follows it.

    Raises:
        ConfigError: the notation holds other letters, or a ReLU without a linear layer before it (SAL-C002).
    """
    found = re.findall("LR?", layers)
    if "".join(found) != layers:
        raise ConfigError(
            f"Unknown layers {layers!r} of numbers",
            "",
            "Write L for a linear layer and R for a ReLU after it, such as LR, LRLR or L.",
            code="SAL-C002",
        )
    return [stage == "LR" for stage in found]


def further(active: list[bool], n_features: int, dim: int) -> list[nn.Module]:
    """Return the layers after the first one: a linear map of each feature, and a ReLU where ``active`` says so."""
    layers: list[nn.Module] = []
    for relu in active:
        layers += [NLinear(n_features, dim, dim), *([nn.ReLU()] if relu else [])]
    return layers
