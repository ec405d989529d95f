"""Category encoder: one column a value, one for rare and unseen values, one for missing."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from salience.models.category_columns import CategoryColumns
from salience.models.slots import Tokens

CARD = {
    "key": "one_hot",
    "kind": "encoder",
    "title": "One-hot categories with an unseen and a missing column",
    "entry": "OneHotEncoder",
    "summary": "One column a value; nothing is learned. Values seen fewer than min_count times share the unseen column.",
    "paper": "On Embeddings for Numerical Features in Tabular Deep Learning (Gorishniy, Rubachev, Babenko, NeurIPS 2022)",
    "year": 2022,
    "url": "https://arxiv.org/abs/2203.05556",
    "faithful": "The authors' categories for flat models.",
    "deviates": "Unseen and missing values have columns of their own; in training a small share of cells is put there.",
    "kinds": ["category"],
    "cost": "O(values) a row",
    "defaults": {"min_count": 3},
    "tiny": {"min_count": 1},
}


class OneHotEncoder(CategoryColumns):
    """Encode all category columns of a table, one token a column, padded to the most values of a column.

    Args:
        columns: names of the category columns.
        min_count: training rows that a value needs for a column of its own.
        dropout: share of cells that training puts into the missing or the unseen column, so that both are trained.
    """

    places: Tensor

    def __init__(self, columns: list[str], min_count: int = 3, dropout: float = 0.02) -> None:
        super().__init__(columns, min_count, dropout)

    def build(self, sizes: list[int]) -> None:
        """Note which places of the padded tokens are values."""
        self._column_dims = sizes
        self.token_dim, self.dim = max(sizes), sum(sizes)
        places = torch.cat([i * self.token_dim + torch.arange(size) for i, size in enumerate(sizes)])
        self.register_buffer("places", places, persistent=False)

    def column_dims(self) -> list[int]:
        """Return how many places of the row vector each column takes, in order."""
        return self._column_dims

    def vectors(self, index: Int[Tensor, "batch column"]) -> Float[Tensor, "batch column dim"]:
        """Return a one at the place of each value."""
        return F.one_hot(index - self.starts, self.token_dim).float()

    def encode(self, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        """Return the tokens as they are, and flattened, without padding."""
        return tokens, tokens.values.flatten(1)[:, self.places]
