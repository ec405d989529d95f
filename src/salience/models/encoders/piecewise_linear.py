"""Number encoder: standardise, embed piecewise linearly (version B), one token a column."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.unit import Unit
from salience.data.bins import quantile_edges
from salience.data.kinds import KINDS
from salience.models.slots import Encoder, Tokens
from salience.nn.embeddings.piecewise_linear import PiecewiseLinearEmbedding

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
    "deviates": "Missing values have a learned vector; a constant column is kept, all its values alike.",
    "kinds": ["number"],
    "cost": "O(columns × bins × dim) a row",
    "defaults": {"dim": 16, "n_bins": 32},
    "tiny": {"dim": 4, "n_bins": 3},
}
FARTHEST, NARROWEST = 1e6, 1e-6  # standard deviations


def _column_state(cells: np.ndarray, n_bins: int) -> dict[str, Any]:
    """Return what is learned from one column; a constant column has scale 0, so that all its values are alike."""
    finite = np.isfinite(cells)
    values = cells[finite] if finite.any() else np.zeros(1)
    power = np.frexp(np.abs(values).max())[1] - 1
    unit = float(np.ldexp(1.0, power))  # a power of two: sums cannot overflow, no digit is lost
    scaled = values / unit
    mean, std = float(scaled.mean()), float(scaled.std())
    constant = values.min() == values.max() or std <= 4 * np.finfo(np.float64).eps
    with np.errstate(over="ignore"):
        scale = 0.0 if constant else float(np.nan_to_num(1.0 / (np.float64(std) * unit), posinf=0.0))
    standard = (scaled - mean) / std if scale else np.zeros(len(values))
    edges = _resolved(quantile_edges(standard, n_bins)) if scale else np.array([-0.5, 0.5])
    return {
        "mean": mean * unit,
        "scale": scale,
        "median": float(np.median(standard)),
        "edges": edges.tolist(),
        "known": bool(finite.any()),
        "some_missing": not bool(finite.all()),
    }


def _resolved(edges: np.ndarray) -> np.ndarray:
    """Leave out edges that float32 cannot tell apart from the one before; the outer ones stay."""
    inner = edges[1:-1][np.diff(edges[:-1]) > NARROWEST]
    return np.array([edges[0], *inner[inner < edges[-1] - NARROWEST], edges[-1]])


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

    def fit(self, frame: pd.DataFrame, target: np.ndarray, generator: torch.Generator) -> None:
        """Learn mean, spread, median and quantile bins of each column from its finite training values."""
        self._build([_column_state(frame[c].to_numpy(np.float64), self.n_bins) for c in self.columns])

    def _build(self, columns: list[dict[str, Any]]) -> None:
        self._state = columns
        self._mean = np.array([c["mean"] for c in columns])
        self._scale = np.array([c["scale"] for c in columns])
        self._known = np.array([c["known"] for c in columns])
        self.embedding = PiecewiseLinearEmbedding([np.array(c["edges"]) for c in columns], self.token_dim)
        self.missing = nn.Parameter(torch.zeros(len(self.columns), self.token_dim))
        median = torch.tensor([c["median"] for c in columns], dtype=torch.float32)
        self.register_buffer("median", median, persistent=False)
        learned = torch.tensor([c["some_missing"] for c in columns])
        self.register_buffer("knows_missing", learned, persistent=False)

    def state(self) -> dict[str, Any]:
        """Return the fitted statistics and edges of each column."""
        return {"columns": self._state}

    def restore(self, state: dict[str, Any]) -> None:
        """Rebuild from :meth:`state`."""
        self._build(state["columns"])

    def prepare(self, frame: pd.DataFrame) -> list[np.ndarray]:
        """Return one float32 vector a row, standardised in float64, NaN where missing.

        Infinities count as missing, and so does every value of a column that had none in training. Values are
        cut at a million standard deviations, so that a stray sentinel cannot overflow.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            values = (frame[self.columns].to_numpy(np.float64) - self._mean) * self._scale
        finite = np.isfinite(frame[self.columns].to_numpy(np.float64)) & self._known
        return list(np.where(finite, np.clip(values, -FARTHEST, FARTHEST), np.nan).astype(np.float32))

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
