"""Periodic embedding of numbers: cosines and sines at frequencies of each feature's own, then a linear layer."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.errors import ConfigError
from salience.nn.embeddings.nlinear import NLinear
from salience.ops.precision import full_precision, wide


class Periodic(nn.Module):
    """Encode each number as ``[cos 2πcx, sin 2πcx]`` at ``n_frequencies`` frequencies c of its own.

    Shape:
        input ``(..., feature)``, output ``(..., feature, 2 · n_frequencies)``; any batch axes.

    Args:
        n_features: number of features.
        n_frequencies: frequencies of a feature.
        sigma: spread of the frequencies, positive. The option that matters most: too small is safe, too large harms.
        frequencies: ``"trained"`` (normal at the start, cut at ± 3 sigma) or ``"log-linear"`` (sigma^(j/k) for
            j = 0 … k−1, the same for all features, fixed).

    Phases are computed in float32 at least, under mixed precision too: at 16 bits a phase of a few turns is noise.
    Frequencies do not decay.

    Raises:
        ConfigError: ``sigma`` is not positive, or ``frequencies`` is unknown.

    Source:
        Gorishniy et al. 2022 (arXiv 2203.05556). The cut at 3 sigma is that of ``rtdl_num_embeddings`` 0.0.12; the
        experiments of the paper had none, but a single wild frequency can spoil a run. Log-linear frequencies are in the
        code of the experiments.
    """

    weight_decay = 0.0

    def __init__(
        self,
        n_features: int,
        n_frequencies: int = 48,
        sigma: float = 0.01,
        frequencies: Literal["trained", "log-linear"] = "trained",
    ) -> None:
        super().__init__()
        if not 0 < sigma < math.inf:
            raise ConfigError(
                "Frequencies need a spread", f"sigma={sigma!r}.", "Use sigma > 0.", code="SAL-C005"
            )
        if frequencies not in ("trained", "log-linear"):
            raise ConfigError(
                "Frequencies of this kind are not known",
                f"{frequencies!r}.",
                'Use "trained" or "log-linear".',
            )
        self.sigma = sigma
        if frequencies == "trained":
            self.frequency = nn.Parameter(torch.empty(n_features, n_frequencies))
            nn.init.trunc_normal_(self.frequency, 0.0, sigma, a=-3 * sigma, b=3 * sigma)
        else:
            spaced = sigma ** (torch.arange(n_frequencies) / n_frequencies)
            self.register_buffer("frequency", spaced.repeat(n_features, 1))

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature dim"]:
        """Encode the numbers."""
        with full_precision(x.device):
            phase = 2 * math.pi * wide(self.frequency) * wide(x).unsqueeze(-1)
            return torch.cat([phase.cos(), phase.sin()], dim=-1)


class PeriodicEmbedding(nn.Module):
    """Embed each number periodically, then linearly, then with a ReLU: "PLR", or "PL" without the ReLU.

    Shape:
        input ``(..., feature)``, output ``(..., feature, dim)``; any batch axes.

    Args:
        n_features: number of features.
        dim: size of the embedding.
        n_frequencies: frequencies of a feature.
        sigma: spread of the frequencies (see `Periodic`).
        activation: whether a ReLU follows.
        lite: whether all features share one linear layer (from TabR); only with ``activation``, since features would
            otherwise be told apart by their frequencies alone.
        frequencies: ``"trained"`` or ``"log-linear"`` (see `Periodic`).

    Raises:
        ConfigError: ``lite`` without ``activation``, or as `Periodic`.

    Source: Gorishniy et al. 2022 (arXiv 2203.05556), ``rtdl_num_embeddings`` 0.0.12; "lite": TabR (arXiv 2307.14338).
    """

    def __init__(
        self,
        n_features: int,
        dim: int = 24,
        n_frequencies: int = 48,
        sigma: float = 0.01,
        activation: bool = True,
        lite: bool = False,
        frequencies: Literal["trained", "log-linear"] = "trained",
    ) -> None:
        super().__init__()
        if lite and not activation:
            raise ConfigError(
                "A lite periodic embedding needs its activation",
                "lite=True, activation=False.",
                "Use activation=True, or lite=False.",
            )
        self.activation = activation
        self.periodic = Periodic(n_features, n_frequencies, sigma, frequencies)
        width = 2 * n_frequencies
        self.linear = nn.Linear(width, dim) if lite else NLinear(n_features, width, dim)

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature dim"]:
        """Embed the numbers."""
        embedded = self.linear(self.periodic(x).to(self.linear.weight.dtype))
        return embedded.relu() if self.activation else embedded
