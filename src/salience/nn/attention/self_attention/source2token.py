"""Source-to-token attention: pool a sequence into one vector, one softmax over tokens for each feature."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, finfo, nn

from salience.nn.attention.self_attention.activations import activation_function
from salience.nn.watch import show

CARD = {
    "key": "source2token",
    "kind": "attention",
    "title": "Source-to-token multi-dimensional attention",
    "entry": "Source2Token",
    "summary": "A two-layer score for each token and feature pools a sequence into one vector.",
    "paper": "Shen et al., DiSAN: Directional Self-Attention Network for RNN/CNN-Free Language Understanding",
    "year": 2018,
    "url": "https://arxiv.org/abs/1709.04696",
    "source": "github.com/taoshen58/DiSAN",
    "licence": "Apache-2.0 (facts read, own code)",
    "faithful": "Two linear maps with bias, dropout before each, softmax over tokens for each feature.",
    "deviates": "An all-padding sequence gives zeros; the published code gives a uniform average of padding.",
    "category": "self",
    "defaults": {"dropout": 0.25, "activation": "elu"},
    "tiny": {"dim": 8},
}


class Source2Token(nn.Module):
    """Pool a sequence into one vector by feature-wise attention without a query.

    Args:
        dim: features of the tokens and of the result.
        dropout: probability of dropping an input of either linear map, in [0, 1).
        activation: ``"elu"``, ``"relu"`` or ``"selu"``, between the two maps.

    Holds 2 (dim² + dim) parameters. Source: DiSAN (AAAI 2018), section 3.2.
    """

    def __init__(self, dim: int, dropout: float = 0.25, activation: str = "elu") -> None:
        super().__init__()
        self.dense_map1 = nn.Linear(dim, dim)
        self.dense_map2 = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.activation = activation_function(activation)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights from the Glorot uniform distribution; set biases to zero."""
        for linear in (self.dense_map1, self.dense_map2):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def weights(
        self, x: Float[Tensor, "batch token dim"], mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token dim"]:
        """Return for each feature weights of the real tokens that add up to one (zero if there are none)."""
        logits = self.dense_map2(self.dropout(self.activation(self.dense_map1(self.dropout(x)))))
        real = mask[..., None]
        return logits.masked_fill(~real, finfo(logits.dtype).min).softmax(dim=1) * real

    def forward(
        self, x: Float[Tensor, "batch token dim"], mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the weighted sum of the tokens; zeros for a sequence without real tokens."""
        return (show("source2token", self.weights(x, mask)) * x).sum(dim=1)

    def decayed_parameters(self) -> list[nn.Parameter]:
        """Return the weights that the paper regularises by L2: both matrices, no bias."""
        return [self.dense_map1.weight, self.dense_map2.weight]
