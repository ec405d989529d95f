"""Piecewise linear functions in the dense form: one ramp a bin, then a matrix product; the reference."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Bins(NamedTuple):
    """The bins of all features; slots that a feature does not use come last and have scale 0.

    ``lower`` is ``left``, but −inf where a ramp is not clamped below (a feature's first slot); ``upper`` is the right
    edge, but inf where it is not clamped above (its last slot).
    """

    left: Float[Tensor, "feature bin"]
    scale: Float[Tensor, "feature bin"]
    lower: Float[Tensor, "feature bin"]
    upper: Float[Tensor, "feature bin"]


def ramps(x: Float[Tensor, "*batch feature"], bins: Bins) -> Float[Tensor, "*batch feature bin"]:
    """Return the piecewise linear encoding: 0 below a bin, 1 from its right edge on, linear inside.

    A feature's first ramp goes on below its bin and its last above, with the slope inside.
    """
    x = x.unsqueeze(-1)
    inside = (x - bins.left) * bins.scale
    return inside.masked_fill(x < bins.lower, 0.0).masked_fill(x >= bins.upper, 1.0)


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
