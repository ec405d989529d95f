"""Directional token-to-token attention, written as the equation: the reference for ``fast.py``."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salience.core.errors import ConfigError, nearest

DIRECTIONS = ("forward", "backward", "diagonal")


def check_direction(direction: str) -> None:
    """Raise `ConfigError` unless ``direction`` is one of ``DIRECTIONS``."""
    if direction not in DIRECTIONS:
        raise ConfigError(
            "Attention got an unknown direction", f"{direction!r}.", nearest(direction, DIRECTIONS)
        )


def check_arguments(dependent: Tensor, head: Tensor, values: Tensor, mask: Tensor, direction: str) -> None:
    """Raise `ConfigError` unless shapes agree and the direction is known."""
    check_direction(direction)
    if dependent.shape == head.shape == values.shape and mask.shape == values.shape[:2]:
        return
    shapes = [tuple(t.shape) for t in (dependent, head, values, mask)]
    raise ConfigError(
        "token2token got shapes that do not agree",
        f"dependent, head, values, mask: {shapes}.",
        "Pass three tensors of one shape (batch, token, dim) and a mask (batch, token).",
    )


def direction_mask(
    tokens: int, direction: str, device: torch.device | None = None
) -> Bool[Tensor, "query key"]:
    """Tell which key each query may look at; a token never looks at itself.

    ``forward`` looks at strictly earlier tokens, ``backward`` at strictly later ones, ``diagonal`` at all
    others.
    Raises `ConfigError` for any other direction.
    """
    check_direction(direction)
    query = torch.arange(tokens, device=device)[:, None]
    key = torch.arange(tokens, device=device)[None, :]
    if direction == "forward":
        return key < query
    return key > query if direction == "backward" else key != query


def token2token(
    dependent: Float[Tensor, "batch token dim"],
    head: Float[Tensor, "batch token dim"],
    values: Float[Tensor, "batch token dim"],
    mask: Bool[Tensor, "batch token"],
    direction: str,
    *,
    c: float = 5.0,
    return_attention: bool = False,
) -> (
    Float[Tensor, "batch token dim"]
    | tuple[Float[Tensor, "batch token dim"], Float[Tensor, "batch query key dim"]]
):
    """Attend from every token to the others, one softmax for each feature.

    ``dependent`` belongs to the keys, ``head`` to the queries; the bias of the logits is already added to
    ``head``. ``mask`` is true at real tokens. Padded queries, and queries without a legal key, give exactly
    zero. Builds tensors of batch × token × token × dim numbers: for long texts use
    ``salience.ops.token2token.fast``.

    Source: Shen et al., DiSAN (AAAI 2018), section 3 and 4.1. The published code leaves padded queries as
        they come
    and zeroes them at the end of the block; here they are zero from the start, which gives the same block.
    """
    check_arguments(dependent, head, values, mask, direction)
    # logits[b, j, i, :] = c * tanh((dependent[b, i] + head[b, j]) / c): query j, key i, bounded by c
    logits = c * torch.tanh((dependent[:, None, :, :] + head[:, :, None, :]) / c)
    legal = direction_mask(mask.shape[1], direction, mask.device)[None] & mask[:, None, :] & mask[:, :, None]
    legal = legal[..., None]
    # A finite fill keeps rows without a legal key free of NaN; the product then turns their uniform noise
    # into zero.
    logits = logits.masked_fill(~legal, torch.finfo(logits.dtype).min)
    attention = torch.softmax(logits, dim=2) * legal
    # s[b, j, :] = sum_i attention[b, j, i, :] * values[b, i, :]
    output = (attention * values[:, None, :, :]).sum(dim=2)
    return (output, attention) if return_attention else output
