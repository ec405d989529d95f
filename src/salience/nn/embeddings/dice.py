"""DICE: a number becomes an angle, the angle a point on a sphere; a baseline of ablations without training."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn


class DICE(nn.Module):
    """Encode each number as a point whose angle to the others grows with their difference.

    A number between ``low`` and ``high`` gets the angle θ = π (x − low) / (high − low), the vector
    ``[cos θ, cos θ sin θ, …, cos θ sin^(d−2) θ, sin^(d−1) θ]``, and a fixed random rotation of its feature.

    Shape:
        input ``(..., feature)``, output ``(..., feature, dim)``; any batch axes.

    Args:
        low: least training value of each feature.
        high: greatest training value of each feature, above ``low``.
        dim: size of the vector, at least 2.

    Rotations and outer angles are part of the state dict and are not trained.

    Source:
        Sundararaman et al. 2020, in the reading of the code of Gorishniy et al. 2022. Both give a number outside the range
        a random angle, drawn anew at each call. Here it is drawn once for each side of each feature, so that
        a model gives the same answer twice.
    """

    low: Tensor
    width: Tensor
    rotation: Tensor
    outer: Tensor

    def __init__(
        self, low: Float[np.ndarray, " feature"], high: Float[np.ndarray, " feature"], dim: int
    ) -> None:
        super().__init__()
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        dtype, n_features = torch.get_default_dtype(), len(low)
        self.register_buffer("low", torch.as_tensor(low, dtype=dtype), persistent=False)
        self.register_buffer("width", torch.as_tensor(high - low, dtype=dtype), persistent=False)
        self.register_buffer("rotation", torch.linalg.qr(torch.randn(n_features, dim, dim))[0].contiguous())
        self.register_buffer("outer", torch.empty(2, n_features).uniform_(-math.pi, math.pi))

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature dim"]:
        """Encode the numbers."""
        share = (x - self.low) / self.width
        angle = torch.where(share < 0, self.outer[0], torch.where(share > 1, self.outer[1], math.pi * share))
        cos, sin = angle.cos().unsqueeze(-1), angle.sin().unsqueeze(-1)
        powers = sin ** torch.arange(self.rotation.shape[-1], device=x.device)
        vector = torch.cat([cos * powers[..., :-1], powers[..., -1:]], dim=-1)
        return torch.einsum("...fd,fde->...fe", vector, self.rotation)
