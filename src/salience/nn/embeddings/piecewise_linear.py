"""Piecewise linear embedding of numbers, version B of the follow-up (TabM).

A value becomes one ramp a bin: 0 below the bin, 1 above it, linear inside; the first ramp is not clamped
below and the last not above, so values outside the training range extrapolate linearly. Version B adds a
linear branch and starts the ramps' weights at zero, so that it begins as a linear embedding.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn


def quantile_edges(column: np.ndarray, n_bins: int) -> np.ndarray:
    """Return the distinct quantiles of a column, which bound its bins.

    Args:
        column: finite values of the training rows, at least two of them distinct.
        n_bins: highest number of bins; fewer if quantiles coincide.

    Returns:
        Strictly increasing edges in float64, between 2 and ``n_bins + 1`` of them; one edge for a constant
        column.

    Source:
        ``rtdl_num_embeddings`` 0.0.12 ``compute_bins``, bit for bit: its quantile levels are rounded to float32.
    """
    levels = torch.linspace(0, 1, n_bins + 1, dtype=torch.float32).double().numpy()
    return np.unique(np.quantile(np.asarray(column, dtype=np.float64), levels))


class PiecewiseLinearEmbedding(nn.Module):
    """Embed each of ``feature`` numbers in ``dim`` dimensions: ``linear(x) + ramps(x) @ weight``.

    Shape:
        input ``(batch, feature)``, output ``(batch, feature, dim)``.

    Args:
        edges: strictly increasing bin edges of each feature, at least two.
        dim: size of the embedding.

    Edges and parameters have the default dtype of the moment. Edges are not part of the ``state_dict``: they are
    given again when the module is rebuilt.

    Source:
        Gorishniy et al. 2022 (arXiv 2203.05556) for the ramps; TabM (ICLR 2025) for version B. As in
        ``rtdl_num_embeddings`` 0.0.12, except that ramps are computed as ``(x − edge) · scale``, which keeps
        its digits where ``x · scale + offset`` loses them (large offsets, narrow bins).
    """

    left: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, edges: list[np.ndarray], dim: int) -> None:
        super().__init__()
        n_features, n_bins = len(edges), max(len(e) - 1 for e in edges)
        left, scale = np.zeros((n_features, n_bins)), np.zeros((n_features, n_bins))
        low, high = np.zeros((n_features, n_bins)), np.ones((n_features, n_bins))
        for i, edge in enumerate(edges):
            slots = [*range(len(edge) - 2), n_bins - 1]  # the last bin always sits in the last slot
            left[i, slots], scale[i, slots] = edge[:-1], 1.0 / np.diff(edge)
            low[i, slots[0]], high[i, slots[-1]] = -np.inf, np.inf
        for name, value in (("left", left), ("scale", scale), ("low", low), ("high", high)):
            self.register_buffer(
                name, torch.as_tensor(value, dtype=torch.get_default_dtype()), persistent=False
            )
        self.linear_weight = nn.Parameter(torch.empty(n_features, dim))
        self.linear_bias = nn.Parameter(torch.empty(n_features, dim))
        self.weight = nn.Parameter(torch.zeros(n_features, n_bins, dim))
        bound = 1 / math.sqrt(dim)
        nn.init.uniform_(self.linear_weight, -bound, bound)
        nn.init.uniform_(self.linear_bias, -bound, bound)

    def ramps(self, x: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch feature bin"]:
        """Return the piecewise linear encoding; slots that a feature does not use are zero."""
        z = (x.unsqueeze(-1) - self.left) * self.scale
        return torch.minimum(torch.maximum(z, self.low), self.high)

    def forward(self, x: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch feature dim"]:
        """Embed the numbers."""
        linear = torch.addcmul(self.linear_bias, self.linear_weight, x.unsqueeze(-1))
        return linear + torch.einsum("bft,ftd->bfd", self.ramps(x), self.weight)
