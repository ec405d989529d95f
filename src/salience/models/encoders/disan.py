"""Text encoder: directional, feature-wise self-attention (DiSAN), exactly as published."""

from torch import nn

from salience.models.word_encoder import WordEncoder
from salience.nn.attention.self_attention.disa import DiSAN

CARD = {
    "key": "disan",
    "kind": "encoder",
    "title": "DiSAN: directional self-attention network",
    "entry": "DiSANEncoder",
    "summary": "Every word attends to earlier and to later words, separately for each feature; then words are pooled feature by feature.",
    "paper": "DiSAN: Directional Self-Attention Network for RNN/CNN-Free Language Understanding (Shen et al., AAAI 2018)",
    "year": 2018,
    "url": "https://arxiv.org/abs/1709.04696",
    "source": "taoshen58/DiSAN, disan.py (facts, tensors for the parity test)",
    "licence": "Apache-2.0",
    "faithful": "The op list of disan.py, output and attention to 1e-5; streamed token-to-token attention gives the same numbers.",
    "deviates": "A fully padded text pools to zero; a vector a column is added to the words where there are several text columns. With ngram_dim > 0 (presets good and best; 0 is the default here) n-gram vectors are summed beside the network.",
    "kinds": ["text"],
    "cost": "O(words² × dim) time, O(words × dim) memory a row",
    "defaults": {"dim": 100, "embedding_dim": 100, "dropout": 0.25},
    "tiny": {"dim": 6, "embedding_dim": 5, "min_count": 1},
}


class DiSANEncoder(WordEncoder):
    """Encode text columns with DiSAN.

    Args:
        columns: names of the text columns.
        dim: width of each direction; a text becomes ``2 · dim`` numbers.
        dropout: share of inputs dropped before every linear map in training.
        words: arguments of :class:`~salience.models.word_encoder.WordEncoder`.
    """

    def __init__(self, columns: list[str], dim: int = 100, dropout: float = 0.25, **words: object) -> None:
        super().__init__(columns, **words)
        self.width, self.dropout, self.dim = dim, dropout, 2 * dim + self.ngram_dim

    def build_network(self, dim_in: int) -> nn.Module:
        """Return a DiSAN."""
        return DiSAN(dim_in, self.width, dropout=self.dropout)
