"""Linearised relative position encoding (LRPE): a rotation by learned angles that linear attention can use."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class LRPE(nn.Module):
    """Map each feature x at position p to the pair x·cos(pθ), x·sin(pθ).

    The product of a query at t and a key at s is then Σ_j q_j k_j cos(θ_j (t − s)). Every feature keeps a
    frequency of its own, which is learned; unlike rotary positions, features are not paired, and the width doubles.

    Args:
        num_heads: heads.
        head_dim: features of a head.

    θ starts at 10000^(−2j / (heads · features)), where j runs through all heads, as in the published code.
    Source: Qin et al., Linearized Relative Positional Encoding (TMLR 2023). Holds heads × features parameters.
    """

    def __init__(self, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.empty(num_heads, 1, head_dim))  # [head, 1, dim], the published shape
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set θ to its start."""
        width = self.theta.numel()
        index = torch.arange(width, dtype=torch.float64, device=self.theta.device)
        self.theta.copy_((10000.0 ** (-2.0 * index / width)).view_as(self.theta))

    def factors(self, position: Int[Tensor, "batch token"]) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of the angles, each ``[batch token head dim]``, at least in fp32.

        The angle is reduced in float64: at position 100,000 a product in fp32 is wrong by up to 0.006.
        """
        exact = torch.float32 if position.device.type == "mps" else torch.float64  # which has no float64
        angle = position[..., None, None].to(exact) * self.theta[:, 0].to(exact)
        width = torch.promote_types(self.theta.dtype, torch.float32)
        angle = angle.remainder(2 * math.pi).to(width)
        return angle.cos(), angle.sin()

    def forward(
        self, x: Float[Tensor, "batch token head dim"], factors: tuple[Tensor, Tensor]
    ) -> Float[Tensor, "batch token head 2*dim"]:
        """Return the encoded features, in the input's type, from :meth:`factors` of their positions."""
        cos, sin = factors
        return torch.cat([(x * cos).to(x.dtype), (x * sin).to(x.dtype)], dim=-1)
