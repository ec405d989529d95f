"""Fast-DiSA: directional feature-wise attention as two matrix products a head, with DiSAN's interface."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from salience.core.errors import ConfigError
from salience.nn.attention.self_attention.activations import activation_function
from salience.nn.attention.self_attention.disa import evaluating
from salience.nn.attention.self_attention.source2token import Source2Token
from salience.nn.watch import show, watched
from salience.ops.fast_disa import fast, naive

CARD = {
    "key": "fast_disa",
    "kind": "attention",
    "title": "Fast directional self-attention (Fast-DiSA)",
    "entry": "FastDiSAN",
    "summary": "A score a pair times a score a key and feature: DiSAN's idea as two matrix products.",
    "paper": "Shen et al., Fast Directional Self-Attention Mechanism",
    "year": 2018,
    "url": "https://arxiv.org/abs/1805.00912",
    "source": "github.com/taoshen58/DiSAN (Fast-DiSA)",
    "licence": "Apache-2.0 (facts read, own code)",
    "faithful": "Published settings of a single layer: sigmoid score, fusion gate, scores from the values.",
    "deviates": "Exponentials are shifted and cannot overflow. No attention dropout (published default)",
    "category": "self",
    "defaults": {"dropout": 0.25, "activation": "elu", "num_heads": 2, "score": "sigmoid"},
    "tiny": {"dim_in": 6, "dim": 4},
}


class HeadLinear(nn.Module):
    """Apply a linear map of its own to every head.

    Weight (head, dim_in, dim_out), Glorot uniform for each head; bias (head, dim_out), zero, or none.
    """

    def __init__(self, num_heads: int, dim_in: int, dim_out: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_heads, dim_in, dim_out))
        self.bias = nn.Parameter(torch.zeros(num_heads, dim_out)) if bias else None
        bound = math.sqrt(6 / (dim_in + dim_out))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(
        self, x: Float[Tensor, "batch head token dim_in"]
    ) -> Float[Tensor, "batch head token dim_out"]:
        """Map the tokens of every head."""
        y = x @ self.weight
        return y if self.bias is None else y + self.bias[:, None, :]


class FastDiSABlock(nn.Module):
    """Let half of the heads attend to earlier tokens, half to later ones, by two matrix products a head.

    Args:
        dim_in: features of the input tokens.
        dim: features of the result, divisible by the number of heads.
        dropout: probability of dropping an input of a linear map, in [0, 1); drawn for each head.
        activation: ``"elu"``, ``"relu"`` or ``"selu"``.
        num_heads: an even number.
        score: ``"sigmoid"`` or ``"exp"`` of the scaled dot product.

    Source: arXiv 1805.00912 and the table of settings published with the code.
    """

    def __init__(
        self,
        dim_in: int,
        dim: int,
        dropout: float = 0.25,
        activation: str = "elu",
        *,
        num_heads: int = 2,
        score: str = "sigmoid",
    ) -> None:
        super().__init__()
        naive.check_score(score)
        if num_heads < 2 or num_heads % 2 or dim % num_heads:
            raise ConfigError(
                "Fast-DiSA cannot split its features over the heads",
                f"dim={dim}, num_heads={num_heads}.",
                "Use an even number of heads that divides dim.",
            )
        head_dim = dim // num_heads
        self.num_heads, self.score = num_heads, score
        self.v_transform = HeadLinear(num_heads, dim_in, head_dim)
        self.q_transform = HeadLinear(num_heads, head_dim, head_dim, bias=False)
        self.k_transform = HeadLinear(num_heads, head_dim, head_dim, bias=False)
        self.tensor4multi = HeadLinear(num_heads, head_dim, head_dim)
        self.multi_logits = HeadLinear(num_heads, head_dim, head_dim)
        self.linear_fusion_gate = HeadLinear(num_heads, 2 * head_dim, head_dim)
        self.dropout = nn.Dropout(dropout)
        self.activation = activation_function(activation)

    def scores(self, x: Float[Tensor, "batch token dim_in"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return query, key, feature logits and values, each (batch, head, token, head_dim)."""
        tiled = x[:, None].expand(-1, self.num_heads, -1, -1)
        values = self.activation(self.v_transform(self.dropout(tiled)))
        query, key = self.q_transform(self.dropout(values)), self.k_transform(self.dropout(values))
        feature = self.activation(self.tensor4multi(self.dropout(values)))
        return query, key, self.multi_logits(self.dropout(feature)), values

    def gate(
        self, values: Float[Tensor, "batch head token dim"], context: Float[Tensor, "batch head token dim"]
    ) -> Float[Tensor, "batch head token dim"]:
        """Return the share of the token itself, in (0, 1); the rest is its context."""
        return torch.sigmoid(self.linear_fusion_gate(self.dropout(torch.cat([values, context], dim=-1))))

    def forward(
        self, x: Float[Tensor, "batch token dim_in"], mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token dim"]:
        """Return tokens in context: forward heads, then backward heads; zero at padding."""
        query, key, feature, values = self.scores(x)
        if watched():  # the quick form never holds its weights
            context, weights = naive.fast_disa(
                query, key, feature, values, mask, score=self.score, return_attention=True
            )
            show("token2token", weights, _features_last)
        else:
            context = fast.fast_disa(query, key, feature, values, mask, score=self.score)
        gate = self.gate(values, context)
        joined = (gate * values + (1 - gate) * context).transpose(1, 2).flatten(2)
        return joined.masked_fill(~mask[..., None], 0.0)

    def attention(
        self, x: Float[Tensor, "batch token dim_in"], mask: Bool[Tensor, "batch token"]
    ) -> tuple[Float[Tensor, "batch query key dim"], Float[Tensor, "batch token dim"]]:
        """Return the map from queries to keys and the gate over the joined features of all heads."""
        query, key, feature, values = self.scores(x)
        context, weights = naive.fast_disa(
            query, key, feature, values, mask, score=self.score, return_attention=True
        )
        gate = self.gate(values, context).transpose(1, 2).flatten(2).masked_fill(~mask[..., None], 0.0)
        return _features_last(weights), gate

    def decayed_parameters(self) -> list[nn.Parameter]:
        """Return the weights that the published code offers for L2 regularisation: every matrix, no bias."""
        return [m.weight for m in self.modules() if isinstance(m, HeadLinear)]


def _features_last(weights: Float[Tensor, "batch head query key dim"]) -> Float[Tensor, "batch query key _"]:
    return weights.permute(0, 2, 3, 1, 4).flatten(3)


class FastDiSAN(nn.Module):
    """Encode a sequence as `DiSAN` does, with Fast-DiSA in place of the exact token-to-token attention.

    Args:
        dim_in: features of the input tokens.
        dim: features for each direction; results have 2 dim.
        dropout: probability of dropping an input of a linear map, in [0, 1).
        activation: ``"elu"``, ``"relu"`` or ``"selu"``.
        num_heads: an even number that divides 2 dim; half of the heads look at earlier tokens, half at later
            ones.
        score: ``"sigmoid"`` (published for a single layer) or ``"exp"``.
    """

    def __init__(
        self,
        dim_in: int,
        dim: int,
        dropout: float = 0.25,
        activation: str = "elu",
        *,
        num_heads: int = 2,
        score: str = "sigmoid",
    ) -> None:
        super().__init__()
        self.fast_disa = FastDiSABlock(dim_in, 2 * dim, dropout, activation, num_heads=num_heads, score=score)
        self.sent_enc_attn = Source2Token(2 * dim, dropout, activation)

    def forward(
        self, x: Float[Tensor, "batch token dim_in"], mask: Bool[Tensor, "batch token"]
    ) -> tuple[Float[Tensor, "batch token two_dim"], Float[Tensor, "batch two_dim"]]:
        """Return tokens in context (forward, then backward; zero at padding) and the pooled vector."""
        context = self.fast_disa(x, mask)
        return context, self.sent_enc_attn(context, mask)

    def attention(
        self, x: Float[Tensor, "batch token dim_in"], mask: Bool[Tensor, "batch token"]
    ) -> dict[str, Float[Tensor, "batch token *rest"]]:
        """Return the maps used in evaluation, under the keys and in the shapes of `DiSAN.attention`."""
        with evaluating(self):
            weights, gate = self.fast_disa.attention(x, mask)
            pooled = self.sent_enc_attn.weights(self.fast_disa(x, mask), mask)
        forward, backward = weights.chunk(2, dim=-1)
        gate_forward, gate_backward = gate.chunk(2, dim=-1)
        return {
            "token2token_forward": forward,
            "token2token_backward": backward,
            "gate_forward": gate_forward,
            "gate_backward": gate_backward,
            "source2token": pooled,
        }

    def decayed_parameters(self) -> list[nn.Parameter]:
        """Return the weights that are regularised by L2."""
        return self.fast_disa.decayed_parameters() + self.sent_enc_attn.decayed_parameters()
