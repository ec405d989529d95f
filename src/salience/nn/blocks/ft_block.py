"""A block of FT-Transformer: attention and a gated feed-forward layer, normalised first."""

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from salience.nn.dropout import Dropout
from salience.nn.watch import watched

See = Callable[[Float[Tensor, "batch head query token"]], Tensor]


class ColumnAttention(nn.Module):
    """Attend from some columns to all, with several heads.

    Args:
        dim: size of a column's vector, a multiple of ``heads``.
        heads: number of heads.
        dropout: share of weights dropped in training, in [0, 1).
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Float[Tensor, "batch query dim"],
        to: Float[Tensor, "batch token dim"],
        see: See | None = None,
    ) -> Float[Tensor, "batch query dim"]:
        """Attend from ``x`` to ``to``.

        Args:
            x: columns that ask.
            to: columns that are looked at.
            see: is given the weights, and returns those to go on with, while someone watches.
        """
        q, k, v = (
            rearrange(y, "b t (h d) -> b h t d", h=self.heads)
            for y in (self.query(x), self.key(to), self.value(to))
        )
        dropout = self.dropout if self.training else 0.0
        if see is not None and watched():
            weights = see((q @ k.mT * q.shape[-1] ** -0.5).softmax(-1))
            mixed = F.dropout(weights, dropout) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out(rearrange(mixed, "b h t d -> b t (h d)"))


class FTBlock(nn.Module):
    """``x + attention(norm(x))``, then ``x + linear(reglu(linear(norm(x))))``.

    Args:
        dim: size of a column's vector.
        heads: heads of the attention.
        hidden: size inside the feed-forward layer.
        attention_dropout, hidden_dropout, residual_dropout: shares dropped in training, in [0, 1).
        first: leave the attention's normalisation out, as FT-Transformer's first block does.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        attention_dropout: float,
        hidden_dropout: float,
        residual_dropout: float,
        first: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.Identity() if first else nn.LayerNorm(dim)
        self.attention = ColumnAttention(dim, heads, attention_dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, 2 * hidden)
        self.linear = nn.Linear(hidden, dim)
        self.hidden_dropout, self.residual_dropout = Dropout(hidden_dropout), Dropout(residual_dropout)

    def forward(
        self, x: Float[Tensor, "batch token dim"], queries: int | None = None, see: See | None = None
    ) -> Float[Tensor, "batch query dim"]:
        """Return the first ``queries`` columns in context; all if none.

        Args:
            x: vectors of all columns.
            queries: how many of them are asked for.
            see: see :class:`ColumnAttention`.
        """
        normed = self.norm1(x)
        x = x[:, :queries] + self.residual_dropout(self.attention(normed[:, :queries], normed, see))
        value, gate = self.gate(self.norm2(x)).chunk(2, dim=-1)
        return x + self.residual_dropout(self.linear(self.hidden_dropout(value * torch.relu(gate))))
