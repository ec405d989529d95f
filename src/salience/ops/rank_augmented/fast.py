"""RALA by one matrix of keys and values a head: time and memory linear in the number of tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salience.ops.precision import full_precision, wide
from salience.ops.rank_augmented.naive import (
    EPSILON,
    Rotation,
    blank,
    check_inputs,
    kernel,
)


class Summary(NamedTuple):
    """Hold what queries need of all keys and values.

    Attributes:
        query: queries after kernel and rotation.
        buffer: B = Σ_j rot(α_j K_j) v_jᵀ / N, what a query is multiplied by.
        denominator: Q_i · mean_j(α_j K_j) + 1e-6, from features before the rotation, hence above zero.
    """

    query: Float[Tensor, "batch head dim token"]
    buffer: Float[Tensor, "batch head dim channel"]
    denominator: Float[Tensor, "batch head one token"]


def summarize(
    q: Float[Tensor, "batch token head dim"],
    k: Float[Tensor, "batch token head dim"],
    v: Float[Tensor, "batch token head channel"],
    *,
    rotation: Rotation | None = None,
    mask: Bool[Tensor, "batch token"] | None = None,
    alpha: bool = True,
) -> Summary:
    """Reduce keys and values to one matrix a head. Arguments as in `rank_augmented`; float32 or wider."""
    # Feature maps of a convolution are channel first: with tokens last nothing is copied.
    q, k = (_features(x, mask) for x in (q, k))
    v = wide(blank(v, mask)).permute(0, 2, 1, 3)
    count = q.shape[-1] if mask is None else mask.sum(1).clamp(min=1)[:, None, None, None]
    if alpha:
        weight = _key_weights(q, k, mask, count)
        v, mean_key = v * weight, k @ weight / count  # α belongs to a key; on its value it does the same
    else:
        mean_key = k.sum(-1, keepdim=True) / count
    denominator = mean_key.mT @ q + EPSILON
    if rotation is not None:
        cos, sin = (t[:, 0::2].to(q.dtype).mT for t in rotation)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
    return Summary(q, k @ (v / count), denominator)


def _features(x: Tensor, mask: Tensor | None) -> Float[Tensor, "batch head dim token"]:
    return blank(kernel(wide(blank(x, mask))), mask).permute(0, 2, 3, 1)


def _key_weights(
    q: Tensor, k: Tensor, mask: Tensor | None, count: Tensor | int
) -> Float[Tensor, "batch head token one"]:
    mean_query = q.sum(-1, keepdim=True) / count
    logits = k.mT @ mean_query * q.shape[2] ** -0.5
    if mask is None:
        return count * torch.softmax(logits, dim=2)
    real = mask[:, None, :, None]
    share = torch.softmax(logits.masked_fill(~real, torch.finfo(logits.dtype).min), dim=2)
    return (count * share).masked_fill(~real, 0.0)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Float[Tensor, "batch head dim token"]:
    """Rotate pairs of features; all first ones, then all second ones: dot products do not see the order."""
    first, second = x[:, :, 0::2], x[:, :, 1::2]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=2)


def rank_augmented(
    q: Float[Tensor, "batch token head dim"],
    k: Float[Tensor, "batch token head dim"],
    v: Float[Tensor, "batch token head channel"],
    *,
    local: Float[Tensor, "batch token head channel"] | None = None,
    gate: Float[Tensor, "batch token head channel"] | None = None,
    rotation: Rotation | None = None,
    mask: Bool[Tensor, "batch token"] | None = None,
    alpha: bool = True,
) -> Float[Tensor, "batch token head channel"]:
    """Attend to all tokens with rank-augmented linear attention, not causal.

    The result is ``(A v + local) ⊙ gate`` with the weights A of ``naive.attention_weights``, which are never formed.
    Everything is computed in float32 (float64 for float64 inputs), also under autocast; the result has v's type.

    Args:
        q, k: queries and keys, before the kernel ELU + 1.
        v: values.
        local: added before the gate: the positional convolution of the values; none adds nothing.
        gate: φ(X), multiplied element by element, as it is; none leaves the gate out.
        rotation: cosines and sines of 2-D rotary positions, every value twice in a row; none for no positions.
        mask: True at real tokens. Others take no part in mean, softmax and sums, and give zero, as do rows
            without a real token.
        alpha: weight each key by its likeness to the mean query; without it, and without the gate, this is plain
            normalised linear attention.

    Raises:
        ConfigError: shapes or types do not fit together.

    Source: Fan, Huang, He: Breaking the Low-Rank Dilemma of Linear Attention (CVPR 2025, arXiv 2411.07635), as the
    published code computes it: the mean query is taken after the kernel, and the gate has no activation.
    """
    check_inputs(q, k, v, rotation, mask, local=local, gate=gate)
    with full_precision(q.device):
        summary = summarize(q, k, v, rotation=rotation, mask=mask, alpha=alpha)
        out = (summary.buffer.mT @ summary.query / summary.denominator).permute(0, 3, 1, 2)
        out = out if local is None else out + blank(local, mask)
        out = out if gate is None else out * blank(gate, mask)
    return out.to(v.dtype)
