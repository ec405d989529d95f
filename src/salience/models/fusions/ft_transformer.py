"""Fusion: a transformer over columns, read at a learned token."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.errors import ConfigError
from salience.models.backbone import Columns
from salience.models.slots import Fusion, Tokens
from salience.nn.blocks.ft_block import FTBlock
from salience.nn.embeddings.nlinear import NLinear
from salience.nn.watch import show, within

CARD = {
    "key": "ft_transformer",
    "kind": "fusion",
    "title": "FT-Transformer",
    "entry": "FTTransformer",
    "summary": "Every column is a token; a transformer mixes them, and a learned token reads the answer.",
    "paper": "Revisiting Deep Learning Models for Tabular Data (Gorishniy, Rubachev, Khrulkov, Babenko, NeurIPS 2021)",
    "year": 2021,
    "url": "https://arxiv.org/abs/2106.11959",
    "source": "rtdl_revisiting_models 0.0.2 (facts)",
    "licence": "Apache-2.0",
    "faithful": "Normalisation first, but not before the first attention; ReGLU; the last block asks for the learned token alone; sizes and dropouts by the number of blocks as published.",
    "deviates": "A column whose vector has another size is brought to that of the blocks by a linear layer of its own; a text or an image enters as one token. No Linformer compression.",
    "cost": "O(blocks × columns × (columns + dim) × dim) a row",
    "defaults": {"blocks": 3},
    "tiny": {"blocks": 2, "dim": 8, "heads": 2, "attention_dropout": 0.0, "ffn_dropout": 0.0},
}
DIM = (96, 128, 192, 256, 320, 384)
ATTENTION_DROPOUT = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35)
FFN_DROPOUT = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)
SHARES = "source2token"


class FTTransformer(Fusion):
    """Attend over columns in blocks, and return the learned token's vector, normalised and rectified.

    Numbers and categories enter as one token a column; a text or image encoder as its row vector.

    Args:
        dims: size of each encoder's row vector, by name.
        token_dims: size of each encoder's tokens, for encoders with one token a column.
        columns: how many places of the row vector each column takes, by name of the encoder.
        blocks: number of blocks, 1 to 6 for the published sizes.
        dim: size of a token; published for the number of blocks if none. Encoders whose tokens have this size, as the
            paper's linear one, are not projected.
        heads: heads of the attention.
        attention_dropout, ffn_dropout: shares dropped in training; published for the number of blocks if none.
        residual_dropout: share of each block's two results that is dropped in training.
        hidden_factor: size inside a feed-forward layer, as a multiple of ``dim``.
    """

    head_hidden = ()
    knows_columns = True
    attends = True

    def __init__(
        self,
        dims: dict[str, int],
        token_dims: dict[str, int],
        columns: Columns,
        blocks: int = 3,
        dim: int | None = None,
        heads: int = 8,
        attention_dropout: float | None = None,
        ffn_dropout: float | None = None,
        residual_dropout: float = 0.0,
        hidden_factor: float = 4 / 3,
    ) -> None:
        super().__init__()
        _check_blocks(blocks, (dim, attention_dropout, ffn_dropout))
        self.dim = size = DIM[blocks - 1] if dim is None else dim
        _check_heads(size, heads)
        attention = ATTENTION_DROPOUT[blocks - 1] if attention_dropout is None else attention_dropout
        ffn = FFN_DROPOUT[blocks - 1] if ffn_dropout is None else ffn_dropout
        self.tabular = frozenset(token_dims)
        self.project = nn.ModuleDict(
            {name: _projection(len(columns[name]), token_dims.get(name, dims[name]), size) for name in dims}
        )
        self.cls = nn.Parameter(torch.empty(size).uniform_(-(size**-0.5), size**-0.5))
        self.blocks = nn.ModuleList(
            FTBlock(size, heads, int(size * hidden_factor), attention, ffn, residual_dropout, first=i == 0)
            for i in range(blocks)
        )
        self.last = nn.Sequential(nn.LayerNorm(size), nn.ReLU())

    def forward(self, vectors: dict[str, Tensor], tokens: dict[str, Tokens]) -> Float[Tensor, "batch dim"]:
        """Return the learned token's vector."""
        parts = {
            name: self.project[name](tokens[name].values if name in self.tabular else vector.unsqueeze(1))
            for name, vector in vectors.items()
        }
        rows = len(next(iter(parts.values())))
        x = torch.cat([self.cls.expand(rows, 1, -1), *parts.values()], dim=1)
        for block in self.blocks[:-1]:
            x = block(x)
        see = partial(self._see, {name: part.shape[1] for name, part in parts.items()})
        return self.last(self.blocks[-1](x, queries=1, see=see)[:, 0])

    def _see(self, sizes: dict[str, int], weights: Float[Tensor, "batch head 1 token"]) -> Tensor:
        """Show each encoder's share of the weights with which the learned token reads the columns at last."""
        start = 1  # the learned token itself
        for name, size in sizes.items():
            if name in self.tabular:
                with within(name):
                    show(SHARES, weights, partial(_columns, start, start + size))
            start += size
        return weights


def _columns(
    start: int, stop: int, weights: Float[Tensor, "batch head 1 token"]
) -> Float[Tensor, "batch column head"]:
    return weights[:, :, 0, start:stop].transpose(1, 2)


def _projection(count: int, token_dim: int, size: int) -> nn.Module:
    """Return what brings an encoder's tokens to the size of the blocks: a linear layer a column, where it is needed.

    As all first layers of columns it is not decayed.
    """
    if token_dim == size:
        return nn.Identity()
    layer = NLinear(count, token_dim, size, bias=True)
    layer.weight_decay = 0.0
    return layer


def _check_blocks(blocks: int, sizes: tuple[float | None, ...]) -> None:
    if blocks < 1 or (None in sizes and blocks > len(DIM)):
        raise ConfigError(
            "FT-Transformer has no published size for this number of blocks",
            f"Got {blocks}, want 1 to {len(DIM)}.",
            "Give dim, attention_dropout and ffn_dropout, or fewer blocks.",
        )


def _check_heads(dim: int, heads: int) -> None:
    if dim % heads:
        raise ConfigError(
            "The size of a token must be a multiple of the number of heads",
            f"dim {dim}, heads {heads}.",
            f"For example dim={heads * max(1, dim // heads)}.",
        )
