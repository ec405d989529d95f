"""Rotary position encoding of one axis."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rotary_angles(
    position: Int[Tensor, "batch token"], head_dim: int, base: float = 10000.0
) -> Float[Tensor, "batch token half"]:
    """Return the angle of each pair of features: position · base^(−2i / dim), in fp32."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device=position.device) / head_dim
    return position[..., None] * base**-exponent


def rotate(
    x: Float[Tensor, "batch token head dim"], angles: Float[Tensor, "batch token half"]
) -> Float[Tensor, "batch token head dim"]:
    """Rotate feature i with feature i + dim/2 by their angle; in the input's type.

    Source: RoFormer (arXiv 2104.09864), in the half-split order of Llama.
    """
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos()[:, :, None], angles.sin()[:, :, None]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)
