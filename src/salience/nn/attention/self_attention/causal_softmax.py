"""Causal softmax attention with rotary positions: the standard that linear attention is compared with."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from salience.core.errors import ConfigError, UnsupportedError
from salience.nn.embeddings.positions import packed_boundaries, token_positions
from salience.nn.embeddings.rotary import rotary_angles, rotate

CARD = {
    "key": "causal_softmax",
    "kind": "attention",
    "title": "Causal softmax attention with rotary positions",
    "entry": "CausalSoftmaxAttention",
    "summary": "Scaled dot-product attention over the past, with keys and values kept for generation.",
    "paper": "Vaswani et al., Attention Is All You Need (2017); Su et al., RoFormer (2021)",
    "year": 2021,
    "url": "https://arxiv.org/abs/2104.09864",
    "faithful": "Scale 1/sqrt(head_dim), no bias, rotary positions in the half-split order.",
    "category": "self",
    "cost": "O(tokens² × dim) time, O(tokens × dim) memory for the state",
    "defaults": {"rope_base": 10000.0},
    "tiny": {"dim": 8, "num_heads": 2},
}


@dataclass(frozen=True)
class KeyValueState:
    """Hold the keys and values of all tokens so far; it grows with them.

    Attributes:
        k: rotated keys ``[batch head capacity dim]``; the first ``length`` places are in use.
        v: values, likewise.
        real: true where a place holds a real token ``[batch capacity]``.
        position: real tokens of each row so far ``[batch]``.
        length: places in use.
        padded: whether some place may hold no real token.
    """

    k: Tensor
    v: Tensor
    real: Tensor
    position: Tensor
    length: int
    padded: bool

    @classmethod
    def empty(cls, k: Tensor) -> "KeyValueState":
        """Return the state before the first token, for keys like ``k``."""
        none = k[:, :, :0].detach()
        real = torch.ones(k.shape[0], 0, dtype=torch.bool, device=k.device)
        return cls(none, none, real, real.sum(dim=1), 0, False)

    def extended(self, k: Tensor, v: Tensor, mask: Tensor | None) -> "KeyValueState":
        """Return the state with more tokens.

        Without gradients the buffers double when they are full, and the earlier state shares them.
        """
        real = torch.ones(k.shape[0], k.shape[2], dtype=torch.bool, device=k.device) if mask is None else mask
        new = (k, v, real[:, None, :, None])
        old = (self.k, self.v, self.real[:, None, :, None])
        buffers = [_extended(a, b, self.length) for a, b in zip(old, new, strict=True)]
        position = self.position + real.sum(dim=1)
        end, padded = self.length + k.shape[2], self.padded or mask is not None
        return KeyValueState(buffers[0], buffers[1], buffers[2][:, 0, :, 0], position, end, padded)


def _extended(buffer: Tensor, new: Tensor, start: int) -> Tensor:
    """Write ``new`` behind the first ``start`` places of axis 2."""
    end = start + new.shape[2]
    if new.requires_grad or buffer.requires_grad:
        return torch.cat([buffer[:, :, :start], new], dim=2)
    if end > buffer.shape[2]:
        buffer = pad(buffer, (0, 0, 0, max(end, 2 * start) - buffer.shape[2]))
    buffer[:, :, start:end] = new
    return buffer


class CausalSoftmaxAttention(nn.Module):
    """Mix tokens by softmax attention over the past.

    Args:
        dim: features of input and output.
        num_heads: heads; ``dim / num_heads`` must be even, for the rotary positions.
        rope_base: base of the rotary frequencies.

    Raises:
        ConfigError: the width is no multiple of twice the number of heads.

    Holds 4 · dim² parameters.
    """

    def __init__(self, dim: int, num_heads: int, rope_base: float = 10000.0) -> None:
        super().__init__()
        if num_heads < 1 or dim % (2 * num_heads):
            raise ConfigError(
                "The heads of softmax attention do not fit",
                f"dim={dim}, num_heads={num_heads}.",
                "The width must be a multiple of twice the number of heads.",
                code="SAL-C005",
            )
        self.num_heads, self.rope_base = num_heads, rope_base
        self.qkv_proj = nn.Linear(dim, 3 * dim, bias=False)
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def forward(
        self,
        x: Float[Tensor, "batch token dim"],
        *,
        mask: Bool[Tensor, "batch token"] | None = None,
        cu_seqlens: Int[Tensor, "boundary"] | None = None,
        position: Int[Tensor, "batch token"] | None = None,
        state: KeyValueState | None = None,
        keep_state: bool = False,
        need_weights: bool | Literal["last"] = False,
    ) -> tuple[
        Float[Tensor, "batch token dim"], KeyValueState | None, Float[Tensor, "batch head query key"] | None
    ]:
        """Return the mixed tokens, the state after them, and the softmax weights.

        Args:
            x: the tokens.
            mask: true where a token is real; the output of others is zero, and nobody attends to them.
            cu_seqlens: boundaries of sequences that are packed in one row; not together with a state.
            position: position of each token; counted if not given.
            state: keys and values of earlier tokens.
            keep_state: whether to return the state after the last token.
            need_weights: whether to return the weights; keys of the state come first. ``"last"``: those of the last
                query alone, ``[batch head 1 key]``.

        Raises:
            UnsupportedError: packed sequences with a state.
            ConfigError: boundaries that do not fit the tokens, or several rows of packed sequences.
        """
        keep_state = keep_state or state is not None
        if cu_seqlens is not None and keep_state:
            raise UnsupportedError(
                "Softmax attention keeps no state of packed sequences",
                "Got cu_seqlens and a cache.",
                "Pad the sequences and give attention_mask.",
            )
        start = None if state is None else state.position
        if position is None:
            position = token_positions(
                x.shape[1], mask=mask, cu_seqlens=cu_seqlens, start=start, device=x.device
            )
        q, k, v = self._project(x, position)
        if cu_seqlens is not None:
            out, weights = _packed(q, k, v, packed_boundaries(cu_seqlens, x.shape[1]), need_weights)
            return self._joined(out), None, weights
        real = mask
        if keep_state:
            state = (state or KeyValueState.empty(k)).extended(k, v, mask)
            k, v = state.k[:, :, : state.length], state.v[:, :, : state.length]
            real = state.real[:, : state.length] if state.padded else None
        out, weights = _attend(q, k, v, real, need_weights is True)
        if need_weights == "last":
            weights = _attend(q[:, :, -1:], k, v, real, True)[1]
        out = out if mask is None else out * mask[:, None, :, None]
        return self._joined(out), state, weights

    def _project(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        angles = rotary_angles(position, x.shape[-1] // self.num_heads, self.rope_base)
        q, k, v = self.qkv_proj(x).chunk(3, dim=-1)
        q, k, v = (rearrange(t, "b n (h d) -> b n h d", h=self.num_heads) for t in (q, k, v))
        return rotate(q, angles).transpose(1, 2), rotate(k, angles).transpose(1, 2), v.transpose(1, 2)

    def _joined(self, out: Float[Tensor, "batch head token dim"]) -> Float[Tensor, "batch token dim"]:
        return self.out_proj(rearrange(out, "b h n d -> b n (h d)"))


def _attend(
    q: Tensor, k: Tensor, v: Tensor, real: Tensor | None, need_weights: bool
) -> tuple[Tensor, Tensor | None]:
    """Attend to real keys up to the query's own; the last query stands at the last key."""
    queries, keys = q.shape[2], k.shape[2]
    if real is None and not need_weights and queries in (1, keys):
        return scaled_dot_product_attention(q, k, v, is_causal=queries > 1), None
    query = torch.arange(keys - queries, keys, device=q.device)[:, None]
    key = torch.arange(keys, device=q.device)
    allowed = (key <= query)[None, None]
    if real is not None:
        # a padded query attends to itself: softmax over nothing is not a number
        allowed = (allowed & real[:, None, None, :]) | (key == query)
    if not need_weights:
        return scaled_dot_product_attention(q, k, v, attn_mask=allowed), None
    logits = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
    logits = logits.to(torch.promote_types(q.dtype, torch.float32))
    weights = logits.masked_fill(~allowed, float("-inf")).softmax(dim=-1).to(v.dtype)
    if real is not None:
        weights = weights * real[:, None, -queries:, None]
    return weights @ v, weights


def _packed(
    q: Tensor, k: Tensor, v: Tensor, boundaries: list[int], need_weights: bool
) -> tuple[Tensor, Tensor | None]:
    """Attend within each of the packed sequences."""
    if len(q) != 1:
        raise ConfigError(
            "Packed sequences are one row", f"Got {len(q)} rows.", "Join the rows along the token axis."
        )
    out = torch.empty_like(v)
    weights = q.new_zeros(*q.shape[:3], q.shape[2]) if need_weights else None
    for a, b in pairwise(boundaries):
        own = slice(a, b)
        out[:, :, own], found = _attend(q[:, :, own], k[:, :, own], v[:, :, own], None, need_weights)
        if weights is not None:
            weights[:, :, own, own] = found
    return out, weights
