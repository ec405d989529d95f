"""Fast-DiSA written as one softmax over explicit pairs: the reference for ``fast.py``."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from salience.core.errors import ConfigError, nearest
from salience.ops.token2token.naive import direction_mask

SCORES = ("sigmoid", "exp")


def head_mask(mask: Bool[Tensor, "batch token"], num_heads: int) -> Bool[Tensor, "batch head query key"]:
    """Tell which key each query may look at, for each head.

    The first half carries the ``forward`` mask (strictly earlier keys), the second the ``backward`` mask.
    Raises `ConfigError` if the number of heads is odd.
    """
    if num_heads < 2 or num_heads % 2:
        raise ConfigError(
            "Fast-DiSA got an odd number of heads", f"num_heads={num_heads}.", "Use an even number."
        )
    halves = [direction_mask(mask.shape[1], d, mask.device) for d in ("forward", "backward")]
    direction = torch.stack(halves).repeat_interleave(num_heads // 2, dim=0)
    return direction[None] & mask[:, None, None, :] & mask[:, None, :, None]


def check_score(score: str) -> None:
    """Raise `ConfigError` unless ``score`` is one of ``SCORES``."""
    if score not in SCORES:
        raise ConfigError("Fast-DiSA got an unknown score", f"score={score!r}.", nearest(score, SCORES))


def fast_disa(
    query: Float[Tensor, "batch head token dim"],
    key: Float[Tensor, "batch head token dim"],
    feature_logits: Float[Tensor, "batch head token dim"],
    values: Float[Tensor, "batch head token dim"],
    mask: Bool[Tensor, "batch token"],
    *,
    score: str = "sigmoid",
    return_attention: bool = False,
) -> (
    Float[Tensor, "batch head token dim"]
    | tuple[Float[Tensor, "batch head token dim"], Float[Tensor, "batch head query key dim"]]
):
    """Attend with weights that are a product of one score a pair and one score a key and feature.

    ``score`` is what becomes of the scaled dot product of a pair: ``"sigmoid"`` or ``"exp"``.
    ``feature_logits`` are the source-to-token logits of the keys. Padded queries and queries without a legal
    key give exactly zero.

    Source: Shen et al., Fast Directional Self-Attention Mechanism (arXiv 1805.00912).
    """
    check_score(score)
    # weight[j, i, :] = score(q_j . k_i / sqrt(dim)) * exp(feature_logits[i, :]), normalised over i for each
    # feature
    dot = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    log_score = F.logsigmoid(dot) if score == "sigmoid" else dot
    logits = log_score[..., None] + feature_logits[:, :, None, :, :]
    legal = head_mask(mask, query.shape[1])[..., None]
    attention = torch.softmax(logits.masked_fill(~legal, torch.finfo(logits.dtype).min), dim=3) * legal
    output = (attention * values[:, :, None, :, :]).sum(dim=3)
    return (output, attention) if return_attention else output
