"""AutoDis: a number chooses softly among learned vectors; a baseline of ablations."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from salience.nn.embeddings.nlinear import NLinear


class AutoDis(nn.Module):
    """Embed each number as a mixture of ``n_meta`` vectors of its feature.

    The weights of the mixture are ``softmax(W · leaky_relu(w · x) / temperature)``.

    Shape:
        input ``(..., feature)``, output ``(..., feature, dim)``; any batch axes.

    Args:
        n_features: number of features.
        dim: size of the embedding.
        n_meta: vectors to choose from.
        temperature: of the softmax; the smaller, the harder the choice.

    Source:
        Guo et al., second version (arXiv 2012.08986v2), in the reading of the code of Gorishniy et al. 2022. That code
        starts the vectors by ``uniform_(weight, 0.01)``, which is uniform between 0.01 and 1, not within ± 0.01; so
        does this class, since the published ablation is that code's.
    """

    def __init__(self, n_features: int, dim: int, n_meta: int = 16, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.first = _Direction(n_features, n_meta)
        self.second = NLinear(n_features, n_meta, n_meta, bias=False)
        self.meta = NLinear(n_features, n_meta, dim, bias=False)
        nn.init.uniform_(self.meta.weight, 0.01, 1.0)

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature dim"]:
        """Embed the numbers."""
        logits = self.second(F.leaky_relu(self.first(x)))
        return self.meta((logits / self.temperature).softmax(dim=-1))


class _Direction(nn.Module):
    """A linear embedding without a start; it does not decay, as the first layer of a table."""

    weight_decay = 0.0

    def __init__(self, n_features: int, dim: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(dim)
        self.weight = nn.Parameter(torch.empty(n_features, dim).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature dim"]:
        """Embed the numbers."""
        return x.unsqueeze(-1) * self.weight
