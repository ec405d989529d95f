"""A linear layer of its own for each feature."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class NLinear(nn.Module):
    """Map the vector of each feature by that feature's own matrix: ``y[f] = x[f] @ weight[f] + bias[f]``.

    Shape:
        input ``(..., feature, dim_in)``, output ``(..., feature, dim_out)``; any batch axes.

    Args:
        n_features: number of features (or members of an ensemble).
        dim_in: size of a vector that comes in.
        dim_out: size of a vector that goes out.
        bias: whether a bias is added.

    It starts as ``n_features`` times ``torch.nn.Linear`` does: uniform within ± 1 / √dim_in.

    Source: Gorishniy et al. 2022 (arXiv 2203.05556); ``rtdl_num_embeddings`` 0.0.12, which takes one batch axis.
    """

    def __init__(self, n_features: int, dim_in: int, dim_out: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_features, dim_in, dim_out))
        self.bias = nn.Parameter(torch.empty(n_features, dim_out)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases anew."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Float[Tensor, "*batch feature dim_in"]) -> Float[Tensor, "*batch feature dim_out"]:
        """Map the vectors."""
        rows = x.reshape(-1, *x.shape[-2:]).transpose(0, 1)
        if self.bias is None:
            mapped = torch.bmm(rows, self.weight)
        else:
            mapped = torch.baddbmm(self.bias.unsqueeze(1), rows, self.weight)
        return mapped.transpose(0, 1).reshape(*x.shape[:-1], self.weight.shape[2])
