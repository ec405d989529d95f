"""Linear embedding of numbers: a direction and a start of its own for each feature."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LinearEmbedding(nn.Module):
    """Embed each number as ``x · weight + bias``, with or without a ReLU.

    Shape:
        input ``(..., feature)``, output ``(..., feature, dim)``; any batch axes.

    Args:
        n_features: number of features.
        dim: size of the embedding.
        activation: whether a ReLU follows.

    Weight and bias start uniform within ± 1 / √dim. As the first layer of a table they do not decay.

    Source:
        Gorishniy et al. 2021 and 2022 (arXiv 2203.05556): ``LinearEmbeddings`` and ``LinearReLUEmbeddings`` of
        ``rtdl_num_embeddings`` 0.0.12.
    """

    weight_decay = 0.0

    def __init__(self, n_features: int, dim: int, activation: bool = False) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.empty(n_features, dim))
        self.bias = nn.Parameter(torch.empty(n_features, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases anew."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature dim"]:
        """Embed the numbers."""
        embedded = torch.addcmul(self.bias, self.weight, x.unsqueeze(-1))
        return embedded.relu() if self.activation else embedded
