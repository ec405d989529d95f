"""The hard Kumaraswamy distribution: numbers in [0, 1] that are exactly 0 or 1 with positive probability."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST, LARGEST = 1e-6, 100.0  # of both shapes, as published
UNIFORM = (1e-3, 1 - 1e-3)  # range of the uniform numbers that samples are made of, as published
HALF = -math.log(2.0)


class HardKumaraswamy:
    """Stretch a Kumaraswamy variable beyond [0, 1] and clip it back.

    ``K ~ Kumaraswamy(a, b)`` on (0, 1), ``T = low + (high − low) · K``, ``Z = min(1, max(0, T))``. What lies below 0 and
    above 1 becomes exactly 0 and exactly 1; samples are differentiable in ``a`` and ``b`` in between.

    Args:
        a: first shape; clipped to [1e-6, 100].
        b: second shape, likewise.
        low: lower end of the stretched support, below 0.
        high: upper end, above 1.

    Source: Bastings, Aziz, Titov: Interpretable Neural Predictions with Differentiable Binary Variables (ACL 2019).
    """

    def __init__(
        self, a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"], low: float = -0.1, high: float = 1.1
    ) -> None:
        self.a, self.b = a.clamp(SMALLEST, LARGEST), b.clamp(SMALLEST, LARGEST)
        self.low, self.high = low, high

    def _share(self, z: float) -> float:
        """Return where a value of the stretched support lies in (0, 1)."""
        return (z - self.low) / (self.high - self.low)

    def _log_above(self, log_k: Tensor | float) -> Float[Tensor, "*shape"]:
        """Return ``log P(K > k) = b · log(1 − k^a)``."""
        return self.b * log_one_minus_exp(self.a * log_k)

    def probability_zero(self) -> Float[Tensor, "*shape"]:
        """Return ``P(Z = 0)``."""
        return -torch.expm1(self._log_above(math.log(self._share(0.0))))

    def probability_one(self) -> Float[Tensor, "*shape"]:
        """Return ``P(Z = 1)``."""
        return self._log_above(math.log(self._share(1.0))).exp()

    def log_density(self, z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the logarithm of the density of the continuous part, for values strictly between 0 and 1.

        It integrates over (0, 1) to ``1 − P(Z = 0) − P(Z = 1)``.
        """
        log_k = ((z - self.low) / (self.high - self.low)).log()
        kuma = self.a.log() + self.b.log() + (self.a - 1) * log_k
        rest = (self.b - 1) * log_one_minus_exp(self.a * log_k)
        return kuma + rest - math.log(self.high - self.low)

    def mean(self) -> Float[Tensor, "*shape"]:
        """Return the mean of the stretched variable before it is clipped, clipped: ``E[K] = b · Beta(1 + 1/a, b)``."""
        a, b = self.a.double(), self.b.double()  # differences of large logarithms of gamma
        inverse = 1 + 1 / a
        log_mean = b.log() + torch.lgamma(inverse) + torch.lgamma(b) - torch.lgamma(inverse + b)
        return (self.low + (self.high - self.low) * log_mean.exp()).clamp(0.0, 1.0).to(self.a.dtype)

    def sample(self, uniform: Float[Tensor, "*shape"] | None = None) -> Float[Tensor, "*shape"]:
        """Draw values in [0, 1].

        Args:
            uniform: numbers in (0, 1), one a value; drawn from (0.001, 0.999) if none. A larger number never gives a
                smaller value.
        """
        if uniform is None:
            uniform = torch.empty_like(self.a).uniform_(*UNIFORM)
        log_k = log_one_minus_exp(torch.log1p(-uniform) / self.b) / self.a
        return (self.low + (self.high - self.low) * log_k.exp()).clamp(0.0, 1.0)

    def most_likely(self) -> Float[Tensor, "*shape"]:
        """Return 0, 1 or the mean: whichever of zero, one and between is most probable."""
        zero, one = self.probability_zero(), self.probability_one()
        between = 1 - zero - one
        hard = (one > zero).to(zero.dtype)
        return torch.where((between > zero) & (between > one), self.mean(), hard)


def log_one_minus_exp(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return ``log(1 − exp(x))`` for ``x < 0``, to full precision and with finite gradients."""
    near = torch.log(-torch.expm1(x.clamp(min=HALF)))  # each form on its own side of exp(x) = 1/2
    far = torch.log1p(-x.clamp(max=HALF).exp())
    return torch.where(x > HALF, near, far)
