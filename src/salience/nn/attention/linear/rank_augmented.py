"""Rank-augmented linear attention (RALA) over a feature map, and its softmax twin with the same parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from salience.core.errors import ConfigError
from salience.ops.precision import full_precision, wide
from salience.ops.rank_augmented import fast, naive
from salience.ops.rank_augmented.naive import Rotation, blank
from salience.ops.rotary import rotate_pairs

CARD = {
    "key": "rank_augmented",
    "kind": "attention",
    "title": "Rank-augmented linear attention (RALA)",
    "entry": "RankAugmentedAttention",
    "summary": "Linear attention over a feature map; keys weighted by likeness to the mean query, and an element-wise gate raise the rank of the output.",
    "paper": "Fan, Huang, He: Breaking the Low-Rank Dilemma of Linear Attention (CVPR 2025)",
    "year": 2025,
    "url": "https://arxiv.org/abs/2411.07635",
    "source": "paper and measured behaviour of the published code (no licence: run for parity, not copied)",
    "faithful": "The published layer, parameter names included: 1×1 convolution to q, k, v, gate; ELU + 1; 2-D rotary positions in the numerator; 5×5 depthwise convolution of the values; gate without activation.",
    "deviates": "Statistics in float32. Masked tokens are left out of every mean. α and gate can be switched off",
    "category": "linear",
    "cost": "O(tokens × head_dim²) a head",
    "defaults": {"alpha": True, "gate": True},
    "tiny": {"dim": 8, "num_heads": 2},
}


class FeatureMapAttention(nn.Module, ABC):
    """Hold what both attentions share: projections, positional convolution, gate.

    Parameters are ``qkvo`` (1×1 convolution to queries, keys, values and gate), ``lepe`` (5×5 depthwise convolution of
    the values) and ``proj`` (1×1 convolution). Without the gate ``qkvo`` has three parts instead of four.

    Args:
        dim: channels of the feature map, a multiple of ``num_heads``.
        num_heads: number of heads.
        gate: multiply the result by a linear map of the input, element by element.

    Raises:
        ConfigError: ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int, *, gate: bool = True) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ConfigError(
                "The heads do not divide the channels",
                f"dim={dim}, num_heads={num_heads}.",
                "Choose a number of heads that divides dim.",
            )
        self.num_heads, self.gate = num_heads, gate
        self.qkvo = nn.Conv2d(dim, (4 if gate else 3) * dim, 1)
        self.lepe = nn.Conv2d(dim, dim, 5, 1, 2, groups=dim)
        self.proj = nn.Conv2d(dim, dim, 1)

    def parts(
        self, x: Float[Tensor, "batch channel height width"], mask: Bool[Tensor, "batch height width"] | None
    ) -> dict[str, Tensor | None]:
        """Return ``q, k, v, local, gate`` [batch, token, head, dim] and the mask of tokens [batch, token]."""
        maps = self.qkvo(x).chunk(4 if self.gate else 3, dim=1)
        values = maps[2] if mask is None else maps[2] * mask[:, None]
        maps = (*maps[:3], self.lepe(values), *maps[3:])
        tokens = [rearrange(m, "b (h d) y x -> b (y x) h d", h=self.num_heads) for m in maps]
        found = dict(zip(("q", "k", "v", "local", "gate"), tokens, strict=False))
        return {"gate": None, **found, "mask": None if mask is None else mask.flatten(1)}

    @abstractmethod
    def attend(self, rotation: Rotation | None, parts: dict[str, Tensor | None]) -> Tensor:
        """Return the result of all heads, plus ``local``, times ``gate``, [batch, token, head, dim]."""

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        rotation: Rotation | None = None,
        mask: Bool[Tensor, "batch height width"] | None = None,
    ) -> Float[Tensor, "batch channel height width"]:
        """Let all cells of the map attend to all others.

        Args:
            x: feature map.
            rotation: cosines and sines from `RotaryEmbedding2D`; none for no positions.
            mask: True at cells that belong to the image; others are left out, and their result is that of zeros.
        """
        mixed = self.attend(rotation, self.parts(x, mask))
        height, width = x.shape[2:]
        return self.proj(rearrange(mixed, "b (y x) h d -> b (h d) y x", y=height, x=width))

    @abstractmethod
    def attention(
        self,
        x: Float[Tensor, "batch channel height width"],
        rotation: Rotation | None = None,
        mask: Bool[Tensor, "batch height width"] | None = None,
    ) -> Float[Tensor, "batch head query key"]:
        """Return the weights that multiply the values, before ``lepe`` and the gate."""

    def matrices(
        self, x: Float[Tensor, "batch channel height width"], rotation: Rotation | None = None
    ) -> dict[str, Float[Tensor, "batch head row column"]]:
        """Return the matrices whose rank tells how much the layer can tell apart.

        ``attention``: weights times values, (token, dim) a head. ``output``: what the last projection gets, all heads
        joined, with convolution and gate, (token, heads × dim).
        """
        parts = self.parts(x, None)
        plain = self.attend(rotation, {**parts, "local": None, "gate": None})
        output = self.attend(rotation, parts).flatten(2)[:, None]
        return {"attention": plain.transpose(1, 2), "output": output}


class RankAugmentedAttention(FeatureMapAttention):
    """Attend at linear cost with weighted keys and a gate.

    Args:
        dim: channels of the feature map.
        num_heads: heads; with rotary positions ``dim / num_heads`` is divisible by 4.
        alpha: weight the keys by their likeness to the mean query. False for all keys alike.
        gate: multiply by a linear map of the input. Both False is plain normalised linear attention.

    Source: arXiv 2411.07635; the layer that the published code calls without SiLU.
    """

    title = "rank_augmented"

    def __init__(self, dim: int, num_heads: int, *, alpha: bool = True, gate: bool = True) -> None:
        super().__init__(dim, num_heads, gate=gate)
        self.alpha = alpha

    def attend(self, rotation: Rotation | None, parts: dict[str, Tensor | None]) -> Tensor:
        """Return the gated result of all heads."""
        return fast.rank_augmented(**parts, rotation=rotation, alpha=self.alpha)

    def attention(
        self,
        x: Float[Tensor, "batch channel height width"],
        rotation: Rotation | None = None,
        mask: Bool[Tensor, "batch height width"] | None = None,
    ) -> Float[Tensor, "batch head query key"]:
        """Return the effective weights: exact, signed, rows need not sum to one."""
        parts = self.parts(x, mask)
        return naive.attention_weights(
            parts["q"], parts["k"], rotation=rotation, mask=parts["mask"], alpha=self.alpha
        )

    def matrices(
        self, x: Float[Tensor, "batch channel height width"], rotation: Rotation | None = None
    ) -> dict[str, Float[Tensor, "batch head row column"]]:
        """Return also ``buffer``, the matrix (dim, dim) of keys and values that every query is multiplied by."""
        parts = self.parts(x, None)
        tokens = {name: parts[name] for name in ("q", "k", "v")}
        buffer = fast.summarize(**tokens, rotation=rotation, alpha=self.alpha).buffer
        return {"buffer": buffer, **super().matrices(x, rotation)}


class SoftmaxAttention(FeatureMapAttention):
    """Attend by softmax(q·k/√d), with the parameters, positions, convolution and gate of the linear layer.

    Arguments as in `FeatureMapAttention`. Source: the layer of the later stages of the published RAVLT.
    """

    title = "softmax"

    def attend(self, rotation: Rotation | None, parts: dict[str, Tensor | None]) -> Tensor:
        """Return the gated result of all heads."""
        q, k = self._rotated(rotation, parts)
        v, mask = blank(parts["v"], parts["mask"]), parts["mask"]
        keys = None if mask is None else _legal(mask)
        q, k, v = (t.transpose(1, 2) for t in (q.to(v.dtype), k.to(v.dtype), v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=keys).transpose(1, 2)
        out = out if parts["local"] is None else out + parts["local"]
        return blank(out if parts["gate"] is None else out * blank(parts["gate"], mask), mask)

    def _rotated(self, rotation: Rotation | None, parts: dict[str, Tensor | None]) -> tuple[Tensor, Tensor]:
        q, k = (wide(blank(parts[name], parts["mask"])) for name in ("q", "k"))
        if rotation is None:
            return q, k
        cos, sin = (t.to(q.dtype) for t in rotation)
        return rotate_pairs(q, cos, sin), rotate_pairs(k, cos, sin)

    def attention(
        self,
        x: Float[Tensor, "batch channel height width"],
        rotation: Rotation | None = None,
        mask: Bool[Tensor, "batch height width"] | None = None,
    ) -> Float[Tensor, "batch head query key"]:
        """Return the softmax weights; each row of a real query sums to one."""
        parts = self.parts(x, mask)
        with full_precision(x.device):
            q, k = self._rotated(rotation, parts)
            logits = torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
            if mask is None:
                return logits.softmax(-1)
            legal = _legal(parts["mask"])
            weights = logits.masked_fill(~legal, torch.finfo(logits.dtype).min).softmax(-1)
            return weights * parts["mask"][:, None, :, None]


def _legal(mask: Bool[Tensor, "batch token"]) -> Bool[Tensor, "batch one query key"]:
    """Return which keys count; rows without any keep all, since their output is set to zero anyway."""
    keys = mask | ~mask.any(1, keepdim=True)
    return keys[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
