"""Batch normalisation that a single row does not break."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class BatchNorm(nn.BatchNorm1d):
    """Normalise each feature over the batch; a training batch of one row by the running statistics.

    One row has no spread: ``nn.BatchNorm1d`` raises an error for it, in the midst of training, whenever the last
    batch of an epoch happens to hold one row.
    """

    def forward(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Normalise."""
        if len(x) > 1 or not self.training:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
