"""RALA written out over explicit pairs of tokens: the reference for ``fast.py``, and its attention weights."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from salience.core.errors import ConfigError
from salience.ops.precision import full_precision, wide
from salience.ops.rotary import rotate_pairs

EPSILON = 1e-6
Rotation = tuple[Float[Tensor, "token dim"], Float[Tensor, "token dim"]]


def kernel(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return ELU(x) + 1: above zero, so that denominators are."""
    return F.elu(x) + 1


def blank(x: Float[Tensor, "batch token *rest"], mask: Bool[Tensor, "batch token"] | None) -> Tensor:
    """Return ``x`` with zeros at masked tokens, whatever stood there."""
    return x if mask is None else x.masked_fill(~mask.view(*mask.shape, *[1] * (x.ndim - 2)), 0.0)


def check_inputs(
    q: Tensor, k: Tensor, v: Tensor, rotation: Rotation | None, mask: Tensor | None, **like_v: Tensor | None
) -> None:
    """Raise `ConfigError` unless shapes and types fit together."""
    problems = [
        (q.ndim != 4 or q.shape != k.shape, f"q {tuple(q.shape)}, k {tuple(k.shape)}"),
        (v.shape[:-1] != k.shape[:-1], f"k {tuple(k.shape)}, v {tuple(v.shape)}"),
        (not all(t.is_floating_point() for t in (q, k, v)), f"types {q.dtype}, {k.dtype}, {v.dtype}"),
        (q.ndim == 4 and not q.shape[1], "no token"),
        (mask is not None and (mask.shape != q.shape[:2] or mask.dtype != torch.bool),
         f"mask {tuple(mask.shape) if mask is not None else ''} for q {tuple(q.shape)}"),
        (rotation is not None and any(t.shape != (q.shape[1], q.shape[-1]) for t in rotation),
         f"angles {tuple(rotation[0].shape) if rotation else ''} for q {tuple(q.shape)}"),
        *((t is not None and t.shape != v.shape, f"{name} {tuple(getattr(t, 'shape', ()))}, v {tuple(v.shape)}")
          for name, t in like_v.items()),
    ]  # fmt: skip
    for wrong, received in problems:
        if wrong:
            raise ConfigError(
                "Rank-augmented attention got inputs that do not fit together",
                f"Got {received}.",
                "Give floating q, k [batch, token, head, dim] and v [batch, token, head, channel], gate and local"
                " like v, a boolean mask [batch, token], and angles [token, dim].",
            )


def key_weights(
    q: Float[Tensor, "batch token head dim"],
    k: Float[Tensor, "batch token head dim"],
    mask: Bool[Tensor, "batch token"] | None = None,
) -> Float[Tensor, "batch token head"]:
    """Return α: how much each key counts, from its likeness to the mean query; the sum is the number of real tokens.

    Args:
        q: queries after the kernel, zero at masked tokens.
        k: keys after the kernel.
        mask: True at real tokens.
    """
    real = mask if mask is not None else q.new_ones(q.shape[:2], dtype=torch.bool)
    count = real.sum(1).clamp(min=1)[:, None, None]
    mean_query = q.sum(1, keepdim=True) / count[..., None]
    logits = (mean_query * k).sum(-1) * q.shape[-1] ** -0.5
    share = torch.softmax(logits.masked_fill(~real[..., None], torch.finfo(q.dtype).min), dim=1)
    return blank(count * share, mask)


def attention_weights(
    q: Float[Tensor, "batch token head dim"],
    k: Float[Tensor, "batch token head dim"],
    *,
    rotation: Rotation | None = None,
    mask: Bool[Tensor, "batch token"] | None = None,
    alpha: bool = True,
) -> Float[Tensor, "batch head query key"]:
    """Return the weights A with ``A @ v`` equal to the attention's result before ``local`` and ``gate``.

    A_ij = α_j (rot(Q_i) · rot(K_j)) / (Σ_m α_m Q_i · K_m + N·1e-6) with Q, K after the kernel and N real tokens.
    A weight may be negative, because rotated features are no longer positive; a row need not sum to one.
    Takes token² numbers a head. Arguments as in `rank_augmented`.
    """
    check_inputs(q, k, k, rotation, mask)
    with full_precision(q.device):
        q, k = (blank(kernel(wide(blank(x, mask))), mask) for x in (q, k))
        count = q.shape[1] if mask is None else mask.sum(1).clamp(min=1)[:, None, None, None]
        if alpha:
            k = k * key_weights(q, k, mask)[..., None]
        denominator = torch.einsum("bqhd,bhd->bhq", q, k.sum(1))[..., None] + count * EPSILON
        if rotation is not None:
            cos, sin = (t.to(q.dtype) for t in rotation)
            q, k = rotate_pairs(q, cos, sin), rotate_pairs(k, cos, sin)
        return torch.einsum("bqhd,bkhd->bhqk", q, k) / denominator


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
    """Attend by explicit weights. Arguments and result as in ``fast.rank_augmented``."""
    check_inputs(q, k, v, rotation, mask, local=local, gate=gate)
    weights = attention_weights(q, k, rotation=rotation, mask=mask, alpha=alpha)
    with full_precision(q.device):
        out = torch.einsum("bhqk,bkhe->bqhe", weights, wide(blank(v, mask)))
        out = out if local is None else out + blank(local, mask)
        out = out if gate is None else out * blank(gate, mask)
    return out.to(v.dtype)
