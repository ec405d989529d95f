"""Layers that never turn an order round: weights without negative values, and activations that rise.

After Runje and Shankaranarayana, "Constrained Monotonic Neural Networks" (ICML 2023): a convex activation alone, with
weights of one sign, could only make convex functions; its mirror image is concave, and the two joined saturate.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SHARES = (0.4, 0.4)  # of the units that are convex and concave; the others saturate


class NonNegative(nn.Module):
    """Map free weights to their absolute values, times the sign of their line.

    Args:
        sign: 1 or −1 for each output; none for 1 everywhere.
    """

    sign: Tensor | None

    def __init__(self, sign: Float[Tensor, " output"] | None = None) -> None:
        super().__init__()
        self.register_buffer("sign", sign, persistent=False)

    def forward(self, weight: Float[Tensor, "output input"]) -> Float[Tensor, "output input"]:
        """Return the weights that are used."""
        size = weight.abs()
        return size if self.sign is None else size * self.sign[:, None]


class Mixture(nn.Module):
    """Apply ELU to some units, its mirror image ``−ELU(−x)`` to others, and both, joined at 0, to the rest.

    All three rise everywhere: ELU has the slope 1 or eˣ, mirroring keeps slopes, and the third is
    ``ELU(x + 1) − ELU(1)`` below 0 and ``ELU(1) − ELU(1 − x)`` above, two rising pieces that meet at 0.

    Args:
        dim: number of units.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        convex, concave = (round(share * dim) for share in SHARES)
        self.parts = [convex, concave, dim - convex - concave]

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Apply the activations."""
        convex, concave, both = x.split(self.parts, dim=-1)
        low, high = F.elu(both.clamp(max=0.0) + 1), F.elu(1 - both.clamp(min=0.0))
        return torch.cat([F.elu(convex), -F.elu(-concave), low - high], dim=-1)


class MonotoneLinear(nn.Module):
    """Apply a linear layer whose weights have a given sign.

    Args:
        dim_in: size of the input.
        dim_out: size of the output.
        sign: 1 or −1 for each input; none for 1 everywhere.
        bias: whether a vector is added.
    """

    sign: Tensor

    def __init__(
        self, dim_in: int, dim_out: int, sign: Float[Tensor, " input"] | None = None, bias: bool = True
    ) -> None:
        super().__init__()
        bound = (
            2 / dim_in
        )  # mean size 1 / dim_in: sizes do not cancel out, so larger ones would add up layer by layer
        self.raw = nn.Parameter(torch.empty(dim_out, dim_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(dim_out)) if bias else None
        self.register_buffer("sign", torch.ones(dim_in) if sign is None else sign, persistent=False)

    @property
    def weight(self) -> Float[Tensor, "output input"]:
        """The weights that are used: sizes that are learned, times the signs that are given."""
        return self.raw.abs() * self.sign

    def forward(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output"]:
        """Apply the layer."""
        return F.linear(x, self.weight, self.bias)
