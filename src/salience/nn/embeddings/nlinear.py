"""One linear layer a feature, or a member: a batched matrix product."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class NLinear(nn.Module):
    """Apply a linear layer of its own to each feature: as ``n_features`` times ``nn.Linear`` with its usual start.

    Args:
        n_features: number of layers.
        dim_in: size of a feature's input.
        dim_out: size of its output.
        bias: whether the layers add one.

    Source:
        ``rtdl_num_embeddings`` 0.0.12 ``_NLinear`` (facts): ``weight`` (feature, dim_in, dim_out) and ``bias``
        (feature, dim_out) start uniform within ± dim_in^-1/2. Any number of batch dimensions.
    """

    def __init__(self, n_features: int, dim_in: int, dim_out: int, bias: bool = True) -> None:
        super().__init__()
        bound = dim_in**-0.5
        self.weight = nn.Parameter(torch.empty(n_features, dim_in, dim_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_features, dim_out).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Float[Tensor, "*batch feature dim_in"]) -> Float[Tensor, "*batch feature dim_out"]:
        """Apply each feature's layer."""
        rows = x.flatten(0, -3).transpose(0, 1)  # (feature, batch, dim_in)
        found = rows @ self.weight if self.bias is None else torch.baddbmm(self.bias[:, None], rows, self.weight)
        return found.transpose(0, 1).reshape(*x.shape[:-1], self.weight.shape[-1])
