"""Image encoder: a small vision transformer with rank-augmented linear attention."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.models.image_encoder import GRID, ImageEncoder
from salience.models.ravlt import RAVLT
from salience.models.ravlt import preset as configured
from salience.models.slots import Tokens
from salience.nn.attention.self_attention.disa import evaluating

CARD = {
    "key": "ravlt",
    "kind": "encoder",
    "title": "Rank-augmented vision linear transformer (RAVLT)",
    "entry": "RAVLTEncoder",
    "summary": "Stages of linear attention whose cost grows with the number of pixels, not its square; small presets for images of 8 to 64 pixels.",
    "paper": "Fan, Huang, He: Breaking the Low-Rank Dilemma of Linear Attention (CVPR 2025)",
    "year": 2025,
    "url": "https://arxiv.org/abs/2411.07635",
    "source": "paper and measured behaviour of the published code (no licence: run for parity, not copied)",
    "faithful": "Blocks, stem and stages as published. The presets T, S, B and L have the published numbers of parameters.",
    "deviates": "Presets mini and small, linear in every stage, one-group normalisation in place of batch normalisation, pooled by mean and maximum. The published sizes are hybrids: softmax in the last two stages.",
    "sizes": [  # at 224 pixels; the published figures lie near those of the convolutions alone
        "T: 14.9 M parameters; multiply-adds: convolutions 2.41 G, with attention 2.61 G (hybrid) or 2.54 G (all linear); published 2.4 G",
        "S: 25.6 M parameters; multiply-adds: convolutions 4.51 G, with attention 4.88 G (hybrid) or 4.73 G (all linear); published 4.6 G",
        "B: 48.2 M parameters; multiply-adds: convolutions 9.80 G, with attention 10.58 G (hybrid) or 10.35 G (all linear); published 9.9 G",
        "L: 95.2 M parameters; multiply-adds: convolutions 16.09 G, with attention 17.21 G (hybrid) or 16.78 G (all linear); published 16.0 G",
    ],
    "kinds": ["image"],
    "cost": "O(pixels × width²) a row",
    "defaults": {"size": 32, "preset": "small"},
    "tiny": {"size": 8, "preset": "mini"},
}
REGIONS = "token2token_regions"


class RAVLTEncoder(ImageEncoder):
    """Encode one image column by RAVLT; tokens are as in `ImageEncoder`.

    Args:
        columns: name of the image column (one).
        size: images are resized to ``size × size`` pixels; rounded down to a multiple of 4, at least 4.
        preset: ``"mini"`` for 8 to 16 pixels, ``"small"`` for 32 to 64; T, S, B, L for 224.
        norm: ``"group"`` works with any batch; ``"batch"`` is as published.
        shift: largest random shift in training, as a share of the size.
        flip: whether training mirrors half of the images.
        changes: other fields of `RAVLTConfig`, such as ``{"attn_per_stage": "l,l,v", "alpha": False}``.

    Raises:
        ConfigError: a size below 4, or options that the network refuses.
    """

    def __init__(
        self,
        columns: list[str],
        size: int = 32,
        preset: str = "small",
        norm: str = "group",
        shift: float = 0.1,
        flip: bool = False,
        changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(columns, size, shift, flip)
        self.network_config = configured(preset, norm=norm, classes=0, **(changes or {}))
        self.dim = 2 * self.network_config.projection

    def build_network(self) -> nn.Module:
        """Return the network without its head."""
        return RAVLT(self.network_config)

    def encode(self, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        """Run the network and pool."""
        return self.encoded(tokens, self.network.features(self.image(tokens))[0])

    @torch.no_grad()
    def attention(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights between the cells of every layer's map, and those between regions of the last one.

        ``stage<i>_block<j>_rank_augmented`` holds exact effective weights [batch, head, query, key]: signed, and not
        summing to one; ``…_softmax`` holds softmax weights. Cells go row by row. ``token2token_regions``
        [batch, query, key, head] sums the last layer's weights over the keys of a region, and takes the mean over its
        queries. Gate and convolution act after these weights.
        """
        with evaluating(self):
            maps = self.network.attention(self.image(self.embed(batch)))
            last = list(maps.values())[-1]
            return {**maps, REGIONS: self._between_regions(last)}

    def _between_regions(
        self, weights: Float[Tensor, "batch head query key"]
    ) -> Float[Tensor, "batch query key head"]:
        share = _overlap(round(weights.shape[-1] ** 0.5)).to(weights)
        share = torch.kron(share, share)  # of a cell's area, in each region
        mean = share / share.sum(1, keepdim=True)
        return torch.einsum("rq,bhqk,sk->brsh", mean, weights, share)


def _overlap(cells: int) -> Float[Tensor, "region cell"]:
    """Return which share of each of ``cells`` equal intervals lies in each of the grid's intervals."""
    edges, ends = torch.arange(GRID + 1) / GRID, torch.arange(cells + 1) / cells
    low = torch.maximum(edges[:-1, None], ends[None, :-1])
    high = torch.minimum(edges[1:, None], ends[None, 1:])
    return (high - low).clamp(min=0) * cells
