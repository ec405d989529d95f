"""Text encoder: Fast-DiSA, the quick form of DiSAN by two matrix products a head."""

from torch import nn

from salience.models.word_encoder import WordEncoder
from salience.nn.attention.self_attention.fast_disa import FastDiSAN

CARD = {
    "key": "fast_disan",
    "kind": "encoder",
    "title": "Fast-DiSA: directional self-attention by matrix products",
    "entry": "FastDiSANEncoder",
    "summary": "Pair scores by dot product times feature-wise word scores: the idea of DiSAN at the cost of ordinary attention.",
    "paper": "Fast Directional Self-Attention Mechanism (Shen et al., 2018)",
    "year": 2018,
    "url": "https://arxiv.org/abs/1805.00912",
    "source": "taoshen58/DiSAN, Fast-DiSA (facts)",
    "licence": "Apache-2.0",
    "faithful": "Masking by multiplication, combined pair and feature scores, half of the heads in each direction.",
    "deviates": "A word without a legal partner gets zero; a vector a column is added where there are several text columns. With ngram_dim > 0 n-gram vectors are summed beside the network.",
    "kinds": ["text"],
    "cost": "O(words² + words × dim) memory a row",
    "defaults": {"dim": 100, "embedding_dim": 100, "dropout": 0.25},
    "tiny": {"dim": 8, "embedding_dim": 5, "min_count": 1},
}


class FastDiSANEncoder(WordEncoder):
    """Encode text columns with Fast-DiSA.

    Args:
        columns: names of the text columns.
        dim: half the width of a text's vector.
        dropout: share of inputs dropped before every linear map in training.
        words: arguments of :class:`~salience.models.word_encoder.WordEncoder`.
    """

    def __init__(self, columns: list[str], dim: int = 100, dropout: float = 0.25, **words: object) -> None:
        super().__init__(columns, **words)
        self.width, self.dropout, self.dim = dim, dropout, 2 * dim + self.ngram_dim

    def build_network(self, dim_in: int) -> nn.Module:
        """Return a Fast-DiSA network."""
        return FastDiSAN(dim_in, self.width, dropout=self.dropout)
