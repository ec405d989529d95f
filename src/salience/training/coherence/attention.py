"""Let ``nn.MultiheadAttention`` run by plain steps, so that its projections are seen as linear maps."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@contextmanager
def plain_projections(module: nn.Module) -> Iterator[None]:
    """Replace the forward of every multi-head attention by equal steps, and put it back."""
    changed = [m for m in module.modules() if type(m) is nn.MultiheadAttention and _plain(m)]
    for m in changed:
        m.forward = partial(_attend, m)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for m in changed:
            del m.forward


def _plain(m: nn.MultiheadAttention) -> bool:
    return m.bias_k is None and not m.add_zero_attn and "forward" not in m.__dict__


def _attend(
    self: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attend as ``nn.MultiheadAttention.forward`` does; ``is_causal`` is only a hint about ``attn_mask`` there too."""
    if query.ndim != 3:
        return nn.MultiheadAttention.forward(
            self,
            query,
            key,
            value,
            key_padding_mask,
            need_weights,
            attn_mask,
            average_attn_weights,
            is_causal,
        )
    q, k, v = _projected(self, query, key, value)
    if not self.batch_first:
        q, k, v = (t.transpose(0, 1) for t in (q, k, v))
    q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
    mask = _mask(key_padding_mask, attn_mask, q)
    dropout = self.dropout if self.training else 0.0
    if need_weights:
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
        out = weights @ v
    else:
        weights, out = None, F.scaled_dot_product_attention(q, k, v, mask, dropout)
    joined = F.linear(out.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)
    shown = weights.mean(1) if weights is not None and average_attn_weights else weights
    return joined if self.batch_first else joined.transpose(0, 1), shown


def _projected(self: nn.MultiheadAttention, *inputs: Tensor) -> Any:
    query, key, value = inputs
    if self._qkv_same_embed_dim and key is query and value is query:
        return F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
    if self._qkv_same_embed_dim:
        weights = self.in_proj_weight.chunk(3)
    else:
        weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
    biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
    return tuple(F.linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True))


def _mask(padding: Tensor | None, attention: Tensor | None, q: Tensor) -> Tensor | None:
    """Return what is added to the scores ``(batch, head, query, key)``."""
    parts = []
    if padding is not None:
        parts.append(_additive(padding, q)[:, None, None])
    if attention is not None:
        added = _additive(attention, q)
        parts.append(added.unflatten(0, (len(q), -1)) if attention.ndim == 3 else added)
    return sum(parts[1:], parts[0]) if parts else None


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)
