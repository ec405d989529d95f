"""Piecewise linear functions in the dense form: one ramp a bin, then a matrix product; the reference."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


class Bins(NamedTuple):
    """The bins of all features; slots that a feature does not use come last and have width and scale 0.

    ``low`` and ``high`` are what a ramp is clamped to: 0 and 1, but −inf in a feature's first slot and inf in its last.
    ``ladder`` holds the left edges of all slots but the first, followed by NaN, a power of two of them a feature.
    """

    left: Float[Tensor, "feature bin"]
    width: Float[Tensor, "feature bin"]
    scale: Float[Tensor, "feature bin"]
    low: Float[Tensor, "feature bin"]
    high: Float[Tensor, "feature bin"]
    ladder: Float[Tensor, "feature rung"]

    @classmethod
    def between(cls, edges: Float[Tensor, "feature edge"]) -> Bins:
        """Return the bins between rising edges, of which each feature has two at least, then inf."""
        left, right = edges[:, :-1], edges[:, 1:]
        used = right.isfinite()
        width = torch.where(used, right - left, 0.0)
        scale = torch.where(used, 1 / width, 0.0)
        short = used & (width * scale < 1)  # by rounding; at its right edge a ramp shall have ended
        first = torch.arange(used.shape[1], device=used.device) == 0
        last = used & ~F.pad(used[:, 1:], (0, 1))
        rungs = 2 ** (used.shape[1] - 1).bit_length()
        return cls(
            left=left.where(used, 0.0),
            width=width,
            scale=torch.where(short, scale.nextafter(torch.full_like(scale, torch.inf)), scale),
            low=torch.where(first & used, -torch.inf, 0.0).to(edges),
            high=torch.where(last, torch.inf, 1.0).to(edges),
            ladder=F.pad(left.where(used, torch.nan)[:, 1:], (0, rungs - used.shape[1] + 1), value=torch.nan),
        )


def ramps(x: Float[Tensor, "*batch feature"], bins: Bins) -> Float[Tensor, "*batch feature bin"]:
    """Return the piecewise linear encoding: 0 below a bin, 1 from its right edge on, linear inside.

    A feature's first ramp goes on below its bin and its last above, with the slope inside.
    """
    inside = (x.unsqueeze(-1) - bins.left) * bins.scale
    over = inside >= bins.high
    return torch.where(over, bins.high, torch.where(inside < bins.low, bins.low, inside))


def piecewise_linear(
    x: Float[Tensor, "*batch feature"],
    bins: Bins,
    weight: Float[Tensor, "feature bin dim"],
    slope: Float[Tensor, "feature dim"] | None = None,
    bias: Float[Tensor, "feature dim"] | None = None,
) -> Float[Tensor, "*batch feature dim"]:
    """Return ``ramps(x) @ weight + x · slope + bias``, feature by feature; NaN for NaN.

    On an edge, the gradient in ``x`` is that of the bin on its right.
    """
    embedded = torch.einsum("...ft,ftd->...fd", ramps(x, bins), weight)
    if slope is not None:
        embedded = torch.addcmul(embedded, x.unsqueeze(-1), slope)
    return embedded if bias is None else embedded + bias
