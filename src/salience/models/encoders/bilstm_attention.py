"""Text encoder: a two-way LSTM pooled by additive attention, the classic attention classifier."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from salience.models.word_encoder import WordEncoder
from salience.nn.attention.self_attention.additive import AdditiveAttention
from salience.nn.attention.self_attention.disa import evaluating
from salience.nn.blocks.bilstm import BiLSTM

CARD = {
    "key": "bilstm_attention",
    "kind": "encoder",
    "title": "BiLSTM with additive attention",
    "entry": "BiLSTMAttentionEncoder",
    "summary": "Reads words in both directions and pools them by one learned weight a word, which can be looked at.",
    "paper": "Do Feature Attribution Methods Correctly Attribute Features? (Zhou et al., AAAI 2022): its attention model",
    "year": 2022,
    "url": "https://arxiv.org/abs/2104.14403",
    "source": "YilunZhou/feature-attribution-evaluation (facts)",
    "licence": "MIT (facts read, own code)",
    "faithful": "BiLSTM; tanh(linear), linear without bias, softmax over the real words, weighted sum of the states. Published sizes: dim=200, embedding_dim=200.",
    "deviates": "Words pass dropout before the LSTM; the head is that of the table model; a text without words gives zeros. The published training is Adam at 1e-3 with weight decay 1e-5, 250 rows a batch, clip 5.",
    "kinds": ["text"],
    "cost": "O(words × dim²) time, one word after the other",
    "defaults": {"dim": 100, "embedding_dim": 100, "dropout": 0.2},
    "tiny": {"dim": 6, "embedding_dim": 5, "min_count": 1},
}


class AttentiveBiLSTM(nn.Module):
    """Run the LSTM and pool its states.

    Args:
        dim_in: features of a word.
        dim: width of each direction.
        dropout: share of the words' features dropped in training.
    """

    def __init__(self, dim_in: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.lstm = BiLSTM(dim_in, dim)
        self.pool = AdditiveAttention(2 * dim, dim)

    def forward(
        self, x: Float[Tensor, "batch token dim_in"], mask: Bool[Tensor, "batch token"]
    ) -> tuple[Float[Tensor, "batch token dim2"], Float[Tensor, "batch dim2"]]:
        """Return words in context and the pooled vector."""
        context, _ = self.lstm(self.dropout(x), mask)
        return context, self.pool(context, mask)

    def attention(
        self, x: Float[Tensor, "batch token dim_in"], mask: Bool[Tensor, "batch token"]
    ) -> dict[str, Tensor]:
        """Return the pooling weights, one a word."""
        with evaluating(self):
            context, _ = self.lstm(x, mask)
            return {"source2token": self.pool.weights(context, mask)}


class BiLSTMAttentionEncoder(WordEncoder):
    """Encode text columns with a BiLSTM and additive attention.

    Args:
        columns: names of the text columns.
        dim: width of each direction; a text becomes ``2 · dim`` numbers.
        dropout: share of the words' features dropped in training, in [0, 1).
        words: arguments of :class:`~salience.models.word_encoder.WordEncoder`.
    """

    def __init__(self, columns: list[str], dim: int = 100, dropout: float = 0.2, **words: object) -> None:
        super().__init__(columns, **words)
        self.width, self.dropout, self.dim = dim, dropout, 2 * dim + self.ngram_dim

    def build_network(self, dim_in: int) -> nn.Module:
        """Return the LSTM and its pooling."""
        return AttentiveBiLSTM(dim_in, self.width, self.dropout)
