"""Rotate pairs of features by an angle that depends on the token's position."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rotate_pairs(
    x: Float[Tensor, "*batch token head dim"],
    cos: Float[Tensor, "token dim"],
    sin: Float[Tensor, "token dim"],
) -> Float[Tensor, "*batch token head dim"]:
    """Rotate features (0, 1), (2, 3), …: a pair (a, b) becomes (a cos − b sin, b cos + a sin).

    Dot products of rotated queries and keys then depend on the difference of their positions only.

    Args:
        x: queries or keys; ``dim`` is even.
        cos: cosine of each token's angles, every value twice in a row.
        sin: sine of the same angles.

    Source: Su et al., RoFormer (arXiv 2104.09864), section 3.4.2.
    """
    first, second = x[..., 0::2], x[..., 1::2]
    turned = torch.stack((-second, first), dim=-1).flatten(-2)
    return x * cos[:, None, :] + turned * sin[:, None, :]
