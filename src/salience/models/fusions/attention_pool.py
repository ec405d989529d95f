"""Fusion: attend over columns, each a vector of one size."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.models.slots import Fusion, Tokens

CARD = {
    "key": "attention_pool",
    "kind": "fusion",
    "title": "Attention pooling over columns",
    "entry": "AttentionPool",
    "summary": "Every column becomes a vector of one size; a learned score decides how much of each enters the sum.",
    "cost": "O(columns × dim) a row",
    "defaults": {"dim": 128},
    "tiny": {"dim": 8},
}


class AttentionPool(Fusion):
    """Pool columns by additive attention, as source-to-token attention with one score a column.

    Numbers and categories enter as one vector a column; a text or image encoder as its row vector.

    Args:
        dims: size of each encoder's row vector, by name.
        token_dims: size of each encoder's tokens, for encoders with one token a column.
        dim: size of the common vectors.
    """

    def __init__(self, dims: dict[str, int], token_dims: dict[str, int], dim: int = 128) -> None:
        super().__init__()
        self.dim, self.tabular = dim, set(token_dims)
        sizes = {name: token_dims.get(name, size) for name, size in dims.items()}
        self.project = nn.ModuleDict({name: nn.Linear(size, dim) for name, size in sizes.items()})
        self.score = nn.Sequential(nn.Linear(dim, dim), nn.ELU(), nn.Linear(dim, 1))

    def columns(
        self, vectors: dict[str, Tensor], tokens: dict[str, Tokens]
    ) -> Float[Tensor, "batch column dim"]:
        """Return one vector a column."""
        parts = [
            self.project[name](tokens[name].values if name in self.tabular else vector.unsqueeze(1))
            for name, vector in vectors.items()
        ]
        return torch.cat(parts, dim=1)

    def weights(self, vectors: dict[str, Tensor], tokens: dict[str, Tokens]) -> Float[Tensor, "batch column"]:
        """Return the share of each column; rows sum to one."""
        return self.score(self.columns(vectors, tokens)).squeeze(-1).float().softmax(dim=1)

    def forward(self, vectors: dict[str, Tensor], tokens: dict[str, Tokens]) -> Float[Tensor, "batch dim"]:
        """Return the weighted sum of the columns' vectors."""
        columns = self.columns(vectors, tokens)
        weights = self.score(columns).squeeze(-1).float().softmax(dim=1).to(columns.dtype)
        return torch.einsum("bc,bcd->bd", weights, columns)
