"""Head: classes by softmax, weighted if asked, calibrated by one temperature."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from salience.models.slots import MLP, Head
from salience.models.temperature import fit_temperature
from salience.ops.precision import wide

CARD = {
    "key": "classification",
    "kind": "head",
    "title": "Softmax classification",
    "entry": "ClassificationHead",
    "summary": "A small perceptron, cross entropy with optional class weights and label smoothing, temperature fitted on validation rows.",
    "paper": "Temperature: On Calibration of Modern Neural Networks (Guo et al., ICML 2017)",
    "year": 2017,
    "faithful": "One temperature, fitted by the log loss of validation rows.",
    "tasks": ["classification"],
    "tiny": {"n_outputs": 3, "hidden": [4]},
}


class ClassificationHead(Head):
    """Predict one of ``n_outputs`` classes.

    Args:
        dim: size of the row vector.
        n_outputs: number of classes.
        hidden: sizes of hidden layers.
        dropout: share of activations dropped in training.
        class_weights: weight of each class in the loss; none for equal weights.
        label_smoothing: share of the target spread over all classes, in [0, 1).
        members: models that answer side by side, each with an output layer of its own.
    """

    task = "classification"
    temperature: Tensor

    def __init__(
        self,
        dim: int,
        n_outputs: int,
        hidden: tuple[int, ...] = (),
        dropout: float = 0.0,
        class_weights: list[float] | None = None,
        label_smoothing: float = 0.0,
        members: int = 1,
    ) -> None:
        super().__init__()
        self.layers = MLP(dim, n_outputs, tuple(hidden), dropout, members)
        self.label_smoothing = label_smoothing
        self.register_buffer("temperature", torch.ones(()))
        weights = torch.tensor(class_weights) if class_weights else None
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, vector: Float[Tensor, "batch *member dim"]) -> Float[Tensor, "batch *member class"]:
        """Return logits before temperature."""
        return self.layers(vector)

    def loss(
        self, output: Float[Tensor, "batch *member class"], target: Int[Tensor, "batch"]
    ) -> Float[Tensor, ""]:
        """Return the mean cross entropy."""
        return self._cross_entropy(output, target, "mean")

    def row_losses(
        self, output: Float[Tensor, "batch *member class"], target: Int[Tensor, "batch"]
    ) -> Float[Tensor, " batch"]:
        """Return each row's cross entropy, times the weight of its class."""
        return self._cross_entropy(output, target, "none").reshape(len(output), -1).mean(1)

    def _cross_entropy(self, output: Tensor, target: Tensor, reduction: str) -> Tensor:
        """Return cross entropies of rows and members, each a row of its own."""
        logits = wide(output).flatten(0, -2)
        members = output.shape[1] if output.ndim == 3 else 1
        return F.cross_entropy(
            logits,
            target.repeat_interleave(members) if members > 1 else target,
            weight=None if self.class_weights is None else self.class_weights.to(logits.dtype),
            label_smoothing=self.label_smoothing,
            reduction=reduction,
        )

    def weight(self, target: Int[Tensor, "batch"]) -> float:
        """Return the sum of the rows' class weights: what the weighted mean is divided by."""
        if self.class_weights is None:
            return float(len(target))
        return float(self.class_weights[target.to(self.class_weights.device)].sum())

    def join(self, output: Float[Tensor, "batch *member class"]) -> Float[Tensor, "batch class"]:
        """Return the logarithm of the members' mean probability; one model's logits are returned as they are."""
        if output.ndim == 2:
            return output
        return wide(output).log_softmax(-1).logsumexp(1) - math.log(output.shape[1])

    def finish(self, output: Float[Tensor, "batch class"]) -> Float[Tensor, "batch class"]:
        """Return logits divided by the temperature."""
        return output / self.temperature

    @torch.no_grad()
    def calibrate(self, output: Float[Tensor, "batch class"], target: Int[Tensor, "batch"]) -> float:
        """Set the temperature that minimises cross entropy on validation rows, in [0.05, 20].

        Args:
            output: joined logits before temperature.
            target: class indices.

        Returns:
            The temperature.
        """
        logits = output.double()
        self.temperature.fill_(fit_temperature(lambda t: float(F.cross_entropy(logits / t, target))))
        return float(self.temperature)
