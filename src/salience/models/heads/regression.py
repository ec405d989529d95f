"""Head: one number, trained on the standardised target, reported in its own units."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salience.models.slots import MLP, Head
from salience.ops.precision import exact_dtype

CARD = {
    "key": "regression",
    "kind": "head",
    "title": "Regression on the standardised target",
    "entry": "RegressionHead",
    "summary": "A small perceptron and squared error; mean and spread of the training target are kept with the model.",
    "tasks": ["regression"],
    "tiny": {"n_outputs": 1, "hidden": [4]},
}


class RegressionHead(Head):
    """Predict a number.

    Args:
        dim: size of the row vector.
        n_outputs: number of targets, 1.
        hidden: sizes of hidden layers.
        dropout: share of activations dropped in training.
        members: models that answer side by side, each with an output layer of its own; their mean is the answer.
    """

    task = "regression"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        dim: int,
        n_outputs: int = 1,
        hidden: tuple[int, ...] = (),
        dropout: float = 0.0,
        members: int = 1,
    ) -> None:
        super().__init__()
        self.layers = MLP(dim, n_outputs, tuple(hidden), dropout, members)
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("std", torch.ones((), dtype=torch.float64))

    def fit_target(self, target: np.ndarray) -> None:
        """Keep mean and standard deviation of the training target (1 if it is constant)."""
        std = target.std(axis=0)
        self.mean.copy_(torch.as_tensor(target.mean(axis=0)))
        self.std.copy_(torch.as_tensor(np.where(std > 0, std, 1.0)))

    def forward(self, vector: Float[Tensor, "batch *member dim"]) -> Float[Tensor, "batch *member 1"]:
        """Return the standardised prediction."""
        return self.layers(vector)

    def loss(
        self, output: Float[Tensor, "batch *member 1"], target: Float[Tensor, "batch"]
    ) -> Float[Tensor, ""]:
        """Return the mean squared error of the standardised target."""
        return self.row_losses(output, target).mean()

    def row_losses(
        self, output: Float[Tensor, "batch *member 1"], target: Float[Tensor, "batch"]
    ) -> Float[Tensor, " batch"]:
        """Return each row's squared error of the standardised target, the mean over members (and targets)."""
        standard = ((target.double() - self.mean) / self.std).to(exact_dtype(output))
        members = output.reshape(len(output), -1, output.shape[-1])
        return (members - standard.reshape(len(output), 1, -1)).square().mean((1, 2))

    def finish(self, output: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch 1"]:
        """Return the prediction in units of the target, in float64."""
        return output.double() * self.std + self.mean
