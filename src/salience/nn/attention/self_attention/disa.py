"""DiSAN: directional, feature-wise self-attention in two directions, pooled into one vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from salience.core.errors import ConfigError, nearest
from salience.nn.attention.self_attention.activations import activation_function
from salience.nn.attention.self_attention.source2token import Source2Token
from salience.nn.watch import show, watched
from salience.ops.token2token import fast, naive

CARD = {
    "key": "disa",
    "kind": "attention",
    "title": "Directional self-attention (DiSAN)",
    "entry": "DiSAN",
    "summary": "Tokens attend to earlier and, separately, to later tokens, one softmax for each feature.",
    "paper": "Shen et al., DiSAN: Directional Self-Attention Network for RNN/CNN-Free Language Understanding",
    "year": 2018,
    "url": "https://arxiv.org/abs/1709.04696",
    "source": "github.com/taoshen58/DiSAN",
    "licence": "Apache-2.0 (facts read, own code)",
    "faithful": "Operations, biases, dropout places and initial weights of the published disan.py.",
    "deviates": "An all-padding sequence gives zeros. Input and hidden width may differ.",
    "category": "self",
    "defaults": {"dropout": 0.25, "activation": "elu", "op": "fast"},
    "tiny": {"dim_in": 6, "dim": 4},
}

OPS: dict[str, Callable[..., Tensor]] = {"fast": fast.token2token, "naive": naive.token2token}
BOUND = 5.0  # c of the paper: logits are 5 tanh(z / 5)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch a module to evaluation without gradients; restore every submodule's mode afterwards."""
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m, training in modes.items():
            m.training = training


class DiSABlock(nn.Module):
    """Let every token attend to earlier or later tokens, feature by feature, and gate the result.

    Args:
        dim_in: features of the input tokens.
        dim: features of the result.
        direction: ``"forward"`` looks at earlier tokens, ``"backward"`` at later ones, ``"diagonal"`` at all
            others.
        dropout: probability of dropping an input of a linear map, in [0, 1).
        activation: ``"elu"``, ``"relu"`` or ``"selu"``, of the first map.
        op: ``"fast"`` streams over pairs in memory linear in the tokens; ``"naive"`` is the plain reference.

    Holds dim·dim_in + 4 dim² + 5 dim parameters.
    Source: DiSAN (AAAI 2018), section 4.1; where paper and published code differ (three gate biases), the
        code.
    """

    def __init__(
        self,
        dim_in: int,
        dim: int,
        direction: str,
        dropout: float = 0.25,
        activation: str = "elu",
        *,
        op: str = "fast",
    ) -> None:
        super().__init__()
        naive.check_direction(direction)
        if op not in OPS:
            raise ConfigError("DiSABlock got an unknown op", f"op={op!r}.", nearest(op, OPS))
        self.direction, self.op = direction, op
        self.dense_map = nn.Linear(dim_in, dim)
        self.linear_dependent = nn.Linear(dim, dim, bias=False)
        self.linear_head = nn.Linear(dim, dim, bias=False)
        self.f_bias = nn.Parameter(torch.zeros(dim))
        self.linear_fusion_i = nn.Linear(dim, dim)
        self.linear_fusion_a = nn.Linear(dim, dim)
        self.o_bias = nn.Parameter(torch.zeros(dim))
        self.dropout = nn.Dropout(dropout)
        self.activation = activation_function(activation)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw matrices from the Glorot uniform distribution; set biases to zero."""
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)

    def hidden(
        self, x: Float[Tensor, "batch token dim_in"]
    ) -> tuple[
        Float[Tensor, "batch token dim"], Float[Tensor, "batch token dim"], Float[Tensor, "batch token dim"]
    ]:
        """Return hidden tokens, their key part and their query part (with the bias) of the logits."""
        h = self.activation(self.dense_map(self.dropout(x)))
        dropped = self.dropout(h)  # the logits see dropout, the values do not
        return h, self.linear_dependent(dropped), self.linear_head(dropped) + self.f_bias

    def gate(
        self, h: Float[Tensor, "batch token dim"], context: Float[Tensor, "batch token dim"]
    ) -> Float[Tensor, "batch token dim"]:
        """Return the share of the token itself, in (0, 1); the rest is its context."""
        own, other = self.linear_fusion_i(self.dropout(h)), self.linear_fusion_a(self.dropout(context))
        return torch.sigmoid(own + other + self.o_bias)

    def forward(
        self, x: Float[Tensor, "batch token dim_in"], mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token dim"]:
        """Return tokens in context, zero at padding."""
        h, dependent, head = self.hidden(x)
        if watched():  # the streamed form never holds its weights
            context, weights = naive.token2token(
                dependent, head, h, mask, self.direction, c=BOUND, return_attention=True
            )
            show(f"token2token_{self.direction}", weights)
        else:
            context = OPS[self.op](dependent, head, h, mask, self.direction, c=BOUND)
        gate = self.gate(h, context)
        return (gate * h + (1 - gate) * context).masked_fill(~mask[..., None], 0.0)

    def attention(
        self, x: Float[Tensor, "batch token dim_in"], mask: Bool[Tensor, "batch token"]
    ) -> tuple[Float[Tensor, "batch query key dim"], Float[Tensor, "batch token dim"]]:
        """Return the map from queries to keys and the gate, for explanation: batch × token² × dim numbers."""
        h, dependent, head = self.hidden(x)
        context, weights = naive.token2token(
            dependent, head, h, mask, self.direction, c=BOUND, return_attention=True
        )
        return weights, self.gate(h, context).masked_fill(~mask[..., None], 0.0)

    def decayed_parameters(self) -> list[nn.Parameter]:
        """Return the weights that the paper regularises by L2: not those of the logits, and no bias."""
        return [self.dense_map.weight, self.linear_fusion_i.weight, self.linear_fusion_a.weight]


class DiSAN(nn.Module):
    """Encode a sequence by directional self-attention: tokens in context and one vector of the whole.

    Args:
        dim_in: features of the input tokens.
        dim: features for each direction; results have 2 dim.
        dropout: probability of dropping an input of a linear map, in [0, 1).
        activation: ``"elu"`` (published for sentence pairs), ``"relu"`` (for sentiment) or ``"selu"``.
        op: ``"fast"`` or ``"naive"``, see `DiSABlock`.

    There is no positional encoding: order enters by the directions alone.
    Source: DiSAN (AAAI 2018), section 4.

    Example:
        >>> import torch
        >>> encoder = DiSAN(dim_in=6, dim=4)
        >>> context, sentence = encoder(torch.randn(2, 3, 6), torch.ones(2, 3, dtype=torch.bool))
        >>> context.shape, sentence.shape
        (torch.Size([2, 3, 8]), torch.Size([2, 8]))
    """

    def __init__(
        self, dim_in: int, dim: int, dropout: float = 0.25, activation: str = "elu", *, op: str = "fast"
    ) -> None:
        super().__init__()
        self.dir_attn_fw = DiSABlock(dim_in, dim, "forward", dropout, activation, op=op)
        self.dir_attn_bw = DiSABlock(dim_in, dim, "backward", dropout, activation, op=op)
        self.sent_enc_attn = Source2Token(2 * dim, dropout, activation)

    def forward(
        self, x: Float[Tensor, "batch token dim_in"], mask: Bool[Tensor, "batch token"]
    ) -> tuple[Float[Tensor, "batch token two_dim"], Float[Tensor, "batch two_dim"]]:
        """Return tokens in context (forward, then backward; zero at padding) and the pooled vector."""
        context = torch.cat([self.dir_attn_fw(x, mask), self.dir_attn_bw(x, mask)], dim=-1)
        return context, self.sent_enc_attn(context, mask)

    def attention(
        self, x: Float[Tensor, "batch token dim_in"], mask: Bool[Tensor, "batch token"]
    ) -> dict[str, Float[Tensor, "batch token *rest"]]:
        """Return the maps used in evaluation: batch × token² × dim numbers, so ask for few rows at a time.

        Keys: ``token2token_forward`` and ``token2token_backward`` (batch, query, key, dim), ``gate_forward``
            and
        ``gate_backward`` (batch, token, dim; the token's own share), ``source2token`` (batch, token, 2 dim).
        """
        with evaluating(self):
            forward, gate_forward = self.dir_attn_fw.attention(x, mask)
            backward, gate_backward = self.dir_attn_bw.attention(x, mask)
            context, _ = self(x, mask)
            pooled = self.sent_enc_attn.weights(context, mask)
        return {
            "token2token_forward": forward,
            "token2token_backward": backward,
            "gate_forward": gate_forward,
            "gate_backward": gate_backward,
            "source2token": pooled,
        }

    def decayed_parameters(self) -> list[nn.Parameter]:
        """Return the weights that the paper regularises by L2."""
        parts = (self.dir_attn_fw, self.dir_attn_bw, self.sent_enc_attn)
        return [parameter for part in parts for parameter in part.decayed_parameters()]
