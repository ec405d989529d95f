"""Fast-DiSA as two matrix products a head, in memory of token × (token + dim) numbers."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salience.ops.fast_disa.naive import check_score, head_mask

# A key this many nats below the strongest of its text and feature counts as this far below: keeps sums above
# zero.
MAX_SPREAD = 40.0


def fast_disa(
    query: Float[Tensor, "batch head token dim"],
    key: Float[Tensor, "batch head token dim"],
    feature_logits: Float[Tensor, "batch head token dim"],
    values: Float[Tensor, "batch head token dim"],
    mask: Bool[Tensor, "batch token"],
    *,
    score: str = "sigmoid",
) -> Float[Tensor, "batch head token dim"]:
    """Attend with weights that are a product of one score a pair and one score a key and feature.

    Same arguments and numbers as ``salience.ops.fast_disa.naive.fast_disa``. Feature logits more than 40
    below the largest of their row and feature are raised to that: the published code overflows or loses them
    instead.

    Source: Shen et al., Fast Directional Self-Attention Mechanism (arXiv 1805.00912).
    """
    check_score(score)
    legal = head_mask(mask, query.shape[1])
    dot = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    # Constant factors of a row, and of a feature, cancel between numerator and denominator: shift before
    # exponentials.
    if score == "exp":
        shift = dot.masked_fill(~legal, -torch.inf).amax(dim=-1, keepdim=True).detach()
        pair = (dot - shift.nan_to_num(neginf=0.0)).masked_fill(~legal, -torch.inf).exp()
    else:
        pair = dot.sigmoid() * legal
    real = mask[:, None, :, None]
    peak = feature_logits.masked_fill(~real, -torch.inf).amax(dim=2, keepdim=True).detach()
    feature = (feature_logits - peak.nan_to_num(neginf=0.0)).clamp(-MAX_SPREAD, 0.0).exp() * real
    denominator = pair @ feature
    return (pair @ (feature * values)) / torch.where(denominator > 0, denominator, 1.0)
