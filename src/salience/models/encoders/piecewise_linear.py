"""Number encoder: standardise, embed piecewise linearly (version B), one token a column."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.unit import Unit
from salience.data.kinds import KINDS
from salience.models.slots import Encoder, Tokens
from salience.nn.embeddings.piecewise_linear import PiecewiseLinearEmbedding, quantile_edges

CARD = {
    "key": "piecewise_linear",
    "kind": "encoder",
    "title": "Piecewise linear embedding of numbers (version B)",
    "entry": "PiecewiseLinearEncoder",
    "summary": "One ramp a quantile bin plus a linear branch; a learned vector for a missing value.",
    "paper": "On Embeddings for Numerical Features in Tabular Deep Learning (Gorishniy, Rubachev, Babenko, NeurIPS 2022)",
    "year": 2022,
    "url": "https://arxiv.org/abs/2203.05556",
    "source": "rtdl_num_embeddings 0.0.12 (facts)",
    "licence": "MIT",
    "faithful": "Version B of the authors' package: linear branch, zero-initialised ramps, quantile bins.",
    "deviates": "Missing values have a learned vector; constant columns are kept with one bin.",
    "kinds": ["number"],
    "cost": "O(columns × bins × dim) a row",
    "defaults": {"dim": 16, "n_bins": 32},
    "tiny": {"dim": 4, "n_bins": 3},
}


class PiecewiseLinearEncoder(Encoder):
    """Encode all number columns of a table.

    Args:
        columns: names of the number columns.
        dim: size of a column's embedding.
        n_bins: highest number of quantile bins a column.
    """

    kind = "number"

    def __init__(self, columns: list[str], dim: int = 16, n_bins: int = 32) -> None:
        super().__init__(columns)
        self.token_dim, self.n_bins, self.dim = dim, n_bins, dim * len(columns)

    def fit(self, frame: pd.DataFrame, generator: torch.Generator) -> None:
        """Learn mean, spread, median and quantile bins of each column from its finite training values."""
        stats, edges = [], []
        for column in self.columns:
            cells = frame[column].to_numpy(np.float64)
            finite = np.isfinite(cells)
            values = cells[finite] if finite.any() else np.zeros(1)
            mean, std = float(values.mean()), float(values.std()) or 1.0
            stats.append([mean, std, (float(np.median(values)) - mean) / std, float(not finite.all())])
            edge = quantile_edges((values - mean) / std, self.n_bins)
            edges.append(edge if len(edge) > 1 else np.array([edge[0] - 0.5, edge[0] + 0.5]))
        self._build(stats, [e.tolist() for e in edges])

    def _build(self, stats: list[list[float]], edges: list[list[float]]) -> None:
        self._stats, self._edges = np.array(stats), edges
        self.embedding = PiecewiseLinearEmbedding([np.array(e) for e in edges], self.token_dim)
        self.missing = nn.Parameter(torch.zeros(len(self.columns), self.token_dim))
        self.register_buffer("median", torch.as_tensor(self._stats[:, 2], dtype=torch.float32))
        self.register_buffer("knows_missing", torch.as_tensor(self._stats[:, 3] > 0))

    def state(self) -> dict[str, Any]:
        """Return the fitted statistics and edges."""
        return {"stats": self._stats.tolist(), "edges": self._edges}

    def restore(self, state: dict[str, Any]) -> None:
        """Rebuild from :meth:`state`."""
        self._build(state["stats"], state["edges"])

    def prepare(self, frame: pd.DataFrame) -> list[np.ndarray]:
        """Return one float32 vector a row, standardised in float64; infinities count as missing."""
        values = frame[self.columns].to_numpy(np.float64)
        values = (np.where(np.isfinite(values), values, np.nan) - self._stats[:, 0]) / self._stats[:, 1]
        return list(values.astype(np.float32))

    def collate(self, examples: list[np.ndarray]) -> dict[str, Tensor]:
        """Stack the rows."""
        return {"values": torch.from_numpy(np.stack(examples))}

    def _tokens(self, embedded: Float[Tensor, "batch column dim"]) -> Tokens:
        batch, columns, _ = embedded.shape
        unit = torch.arange(columns, device=embedded.device).expand(batch, columns)
        return Tokens(embedded, torch.ones_like(unit, dtype=torch.bool), unit)

    def embed(self, batch: dict[str, Tensor]) -> Tokens:
        """Embed the values; a missing one becomes its column's learned vector.

        Where the training rows had no missing value, that vector was never trained: the median stands in.
        """
        values = batch["values"]
        absent = values.isnan()
        embedded = self.embedding(torch.where(absent, self.median, values))
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
