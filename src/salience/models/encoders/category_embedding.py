"""Category encoder: one learned vector a value, a shared bucket for rare and unseen values, one for missing."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from salience.models.category_columns import CategoryColumns

CARD = {
    "key": "category_embedding",
    "kind": "encoder",
    "title": "Category embedding with an unseen bucket",
    "entry": "CategoryEncoder",
    "summary": "A learned vector a value; values seen fewer than min_count times share the unseen bucket, which is thus trained.",
    "kinds": ["category"],
    "cost": "O(columns × dim) a row",
    "defaults": {"dim": 16, "min_count": 3},
    "tiny": {"dim": 4, "min_count": 1},
}


class CategoryEncoder(CategoryColumns):
    """Encode all category columns of a table.

    Args:
        columns: names of the category columns.
        dim: size of a value's vector.
        min_count: training rows that a value needs for a vector of its own.
        dropout: share of cells that training replaces by the missing or the unseen bucket, so
            that both come to mean "not known" even where the training rows have no such cell.
    """

    def __init__(self, columns: list[str], dim: int = 16, min_count: int = 3, dropout: float = 0.02) -> None:
        super().__init__(columns, min_count, dropout)
        self.token_dim, self.dim = dim, dim * len(columns)

    def build(self, sizes: list[int]) -> None:
        """Build the table of vectors."""
        self.embedding = nn.Embedding(sum(sizes), self.token_dim)
        nn.init.normal_(self.embedding.weight, std=self.token_dim**-0.5)

    def vectors(self, index: Int[Tensor, "batch column"]) -> Float[Tensor, "batch column dim"]:
        """Look the vectors up."""
        return self.embedding(index)
