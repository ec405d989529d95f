"""Piecewise linear encoding and embedding of numbers.

A value becomes one ramp a bin: 0 below the bin, 1 above it, linear inside. The first ramp is not clamped
below and the last not above, so that values outside the training range extrapolate linearly.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.errors import ConfigError
from salience.nn.embeddings.binned import BinnedModule
from salience.nn.embeddings.linear import LinearEmbedding
from salience.ops.piecewise_linear.fast import piecewise_linear
from salience.ops.piecewise_linear.naive import ramps
from salience.ops.precision import full_precision


class _Clipped(BinnedModule):
    """Bins whose numbers may be clipped to the outer edges."""

    def __init__(self, edges: Sequence[Float[np.ndarray, " edge"]], clip: bool) -> None:
        super().__init__(edges)
        self.clip = clip

    def relative(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """Return the numbers relative to their feature's offset, clipped if wished."""
        moved = super().relative(x)
        if not self.clip:
            return moved
        last = self.edges.where(self.edges.isfinite(), -torch.inf).amax(dim=1)
        return moved.clamp(self.edges[:, 0], last)


class PiecewiseLinearEncoding(_Clipped):
    """Encode each number by the ramps of its bins, all in one row: what a flat network takes without an embedding.

    Shape:
        input ``(..., feature)``, output ``(..., bin)``: the bins of the first feature, those of the second, ….

    Args:
        edges: strictly increasing bin edges of each feature, at least two.
        clip: whether values outside the edges count as the edge; if not, they extrapolate.

    NaN stays NaN, in the ramps of its feature. It has no parameters; the edges are part of the state dict.

    Source: Gorishniy et al. 2022 (arXiv 2203.05556), ``rtdl_num_embeddings`` 0.0.12.
    """

    def __init__(self, edges: Sequence[Float[np.ndarray, " edge"]], clip: bool = False) -> None:
        super().__init__(edges, clip)
        self.dim = sum(len(edge) - 1 for edge in edges)

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch bin"]:
        """Encode the numbers."""
        return ramps(self.relative(x), self.bins)[..., self.used]


class PiecewiseLinearEmbedding(_Clipped):
    """Embed each number as ``ramps(x) @ weight``, a matrix a feature, plus what the version adds.

    Shape:
        input ``(..., feature)``, output ``(..., feature, dim)``; any batch axes.

    Args:
        edges: strictly increasing bin edges of each feature, at least two.
        dim: size of the embedding.
        version: ``"A"`` adds a bias, and starts like a linear layer (the paper); ``"B"`` adds a linear embedding, and starts
            the ramps' weights at zero, so that it begins as a linear embedding (TabM; recommended).
        activation: whether a ReLU follows the ramps' part (in version B the linear part is added after it).
        clip: whether values outside the edges count as the edge; if not, they extrapolate.

    NaN gives NaN in its feature's vector: missing values are the encoder's matter. Computed in float32 at least. The
    linear part does not decay; the ramps' weights do.

    Raises:
        ConfigError: an unknown version, or edges that do not rise.

    Source:
        Gorishniy et al. 2022 (arXiv 2203.05556) for the ramps and version A; TabM (arXiv 2410.24210) for version B. As
        ``rtdl_num_embeddings`` 0.0.12, except that ramps are computed as ``(x − edge) · scale``, which keeps its digits
        where ``x · scale + offset`` loses them (large offsets, narrow bins), and that slot t of ``weight`` is bin t, also
        where features have different numbers of bins.
    """

    def __init__(
        self,
        edges: Sequence[Float[np.ndarray, " edge"]],
        dim: int,
        version: Literal["A", "B"] = "B",
        activation: bool = False,
        clip: bool = False,
    ) -> None:
        super().__init__(edges, clip)
        if version not in ("A", "B"):
            raise ConfigError(
                "A piecewise linear embedding has no such version", f"version={version!r}.", 'Use "A" or "B".'
            )
        n_features, n_bins = self.left.shape
        self.activation = activation
        self.weight = nn.Parameter(torch.zeros(n_features, n_bins, dim))
        self.linear = LinearEmbedding(n_features, dim) if version == "B" else None
        self.bias = None
        if version == "A":
            bound = 1 / math.sqrt(n_bins)
            nn.init.uniform_(self.weight, -bound, bound)
            self.bias = nn.Parameter(torch.empty(n_features, dim).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature dim"]:
        """Embed the numbers."""
        with full_precision(x.device):
            near = self.relative(x)
            if self.linear is None:
                embedded = piecewise_linear(near, self.bins, self.weight, bias=self.bias)
                return embedded.relu() if self.activation else embedded
            slope = self.linear.weight
            start = torch.addcmul(self.linear.bias, slope, self.offset.unsqueeze(-1))
            if not self.activation:
                return piecewise_linear(near, self.bins, self.weight, slope, start)
            bent = piecewise_linear(near, self.bins, self.weight).relu()
            return bent + torch.addcmul(start, slope, near.unsqueeze(-1))
