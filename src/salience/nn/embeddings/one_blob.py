"""Smooth and hard codes of the bin that a number lies in: one-blob and thermometer; baselines of ablations."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salience.nn.embeddings.binned import BinnedModule


class OneBlob(BinnedModule):
    """Encode each number as the mass that a normal kernel around it puts into each bin.

    Shape:
        input ``(..., feature)``, output ``(..., feature, bin)``; slots that a feature does not use are zero.

    Args:
        edges: strictly increasing bin edges of each feature, at least two.
        gamma: the kernel's standard deviation is ``n_bins ** -gamma``, in the unit of x.

    Source:
        Müller et al. 2019 (Neural Importance Sampling), in the reading of the code of Gorishniy et al. 2022, whose kernel
        is in the unit of x and not of the bins; so is this one, since the published ablation is that code's.
    """

    def __init__(self, edges: Sequence[Float[np.ndarray, " edge"]], gamma: float = 1.0) -> None:
        super().__init__(edges)
        self.gamma = gamma

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature bin"]:
        """Encode the numbers."""
        narrowness = self.used.sum(1, keepdim=True).to(self.edges.dtype) ** self.gamma
        distance = self.edges - self.relative(x).unsqueeze(-1)
        return torch.special.ndtr(distance * narrowness).diff(dim=-1) * self.used


class Thermometer(BinnedModule):
    """Encode each number by ones up to the bin that it lies in ("binary" in the code of the paper).

    Shape:
        input ``(..., feature)``, output ``(..., feature, bin)``; slots that a feature does not use are zero, and a
        feature's first slot is always one.

    Args:
        edges: strictly increasing bin edges of each feature, at least two.

    There is no gradient in the numbers.

    Source: the code of Gorishniy et al. 2022 (arXiv 2203.05556).
    """

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature bin"]:
        """Encode the numbers."""
        reached = (self.relative(x).unsqueeze(-1) >= self.left) | self.low.isinf()
        return (reached & self.used).to(self.edges.dtype)
