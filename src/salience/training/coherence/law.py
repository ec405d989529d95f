"""The mini-batch law: coherence of examples from the gradients of mini-batches.

For independent batches of k examples α_k = kα/(1 + (k − 1)α), where α_k is the coherence of batch means; so what a
training computes anyway tells α, up to noise that grows with k.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


def batch_alpha(alpha: float, k: float) -> float:
    """Return the coherence of means of k examples: kα/(1 + (k − 1)α)."""
    return k * alpha / (1 + (k - 1) * alpha)


def example_alpha(alpha_k: float, k: float) -> float:
    """Return the coherence of examples from that of means of k: α_k/(k − (k − 1)α_k)."""
    return alpha_k / (k - (k - 1) * alpha_k)


@dataclass
class MiniBatchCoherence:
    """Follow coherence while training, from the mini-batch gradients that are there anyway.

    The product of two consecutive mini-batch gradients estimates ‖ḡ‖², since their examples are drawn apart; the
    squared norm of one estimates ‖ḡ‖²·(1 + (1/α − 1)/k). Both are smoothed by exponential means, and α follows by the
    mini-batch law. It costs one copy of the gradients and two inner products a step. The weights move between two
    steps, so that it is an estimate at a moving point; gradients are taken as they are before clipping.

    Args:
        decay: memory of the exponential means, in [0, 1): 0.95 averages about 20 steps.

    Attributes:
        alpha: estimate of α of one example, unbiased in the sense that unrelated gradients give about 0 (it may be
            negative); NaN before the second step.
    """

    decay: float = 0.95
    product: float = 0.0
    square: float = 0.0
    rows: float = 0.0
    weight: float = 0.0
    steps: int = 0
    before: list[Tensor] = field(default_factory=list, repr=False)

    @torch.no_grad()
    def after_backward(self, model: nn.Module, rows: int) -> None:
        """Take in the gradient of a mini-batch's mean loss, which is in ``.grad`` and not scaled.

        Args:
            model: the model.
            rows: examples of the mini-batch.
        """
        now = [p.grad.detach() for p in model.parameters() if p.grad is not None]
        if [t.shape for t in now] == [t.shape for t in self.before] and now:
            product = _dot(now, self.before)
            square = _dot(now, now)
            if math.isfinite(product) and math.isfinite(square):
                self._mean(product, square, rows)
            torch._foreach_copy_(self.before, now)
        else:
            self.before = [t.clone() for t in now]
        self.steps += 1

    def _mean(self, product: float, square: float, rows: int) -> None:
        keep = self.decay
        self.product = keep * self.product + (1 - keep) * product
        self.square = keep * self.square + (1 - keep) * square
        self.rows = keep * self.rows + (1 - keep) * rows
        self.weight = keep * self.weight + (1 - keep)

    @property
    def alpha(self) -> float:
        """Return the estimate of α of one example."""
        if not self.weight or not self.square > 0:
            return math.nan
        k = self.rows / self.weight
        noise = k * (self.square - self.product)  # trace of the covariance of one example's gradient
        return self.product / (self.product + noise) if self.product + noise > 0 else math.nan

    def end_epoch(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """Return what joins the epoch's record."""
        return {"coherence": self.alpha}


def _dot(one: list[Tensor], other: list[Tensor]) -> float:
    return sum(
        float(torch.dot(a.flatten().float(), b.flatten().float())) for a, b in zip(one, other, strict=True)
    )
