"""Fourier features: cosines and sines of one fixed random projection of all numbers; a baseline of ablations."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.ops.precision import full_precision, wide


class FourierFeatures(nn.Module):
    """Encode all numbers of a row together as ``[cos 2πWx, sin 2πWx]`` with a fixed random matrix W.

    Shape:
        input ``(..., feature)``, output ``(..., 2 · n_frequencies)``: features have no vectors of their own.

    Args:
        n_features: number of features.
        n_frequencies: rows of W.
        sigma: standard deviation of the numbers in W.

    W is part of the state dict and is not trained.

    Source:
        Tancik et al. 2020 (arXiv 2006.10739). The code of Gorishniy et al. 2022 draws W with the standard deviation
        sigma²; here ``sigma`` is what the paper of 2020 says, so that their sigma s is ``sigma = s²`` here.
    """

    projection: Tensor

    def __init__(self, n_features: int, n_frequencies: int = 48, sigma: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("projection", sigma * torch.randn(n_frequencies, n_features))

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch dim"]:
        """Encode the rows."""
        with full_precision(x.device):
            phase = 2 * math.pi * (wide(x) @ wide(self.projection).T)
            return torch.cat([phase.cos(), phase.sin()], dim=-1)
