"""Head: labels that do not exclude each other, each by a sigmoid, calibrated by one temperature."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from salience.models.slots import MLP, Head
from salience.models.temperature import fit_temperature
from salience.ops.precision import wide

CARD = {
    "key": "multi-label",
    "kind": "head",
    "title": "Sigmoid for each of several labels",
    "entry": "MultiLabelHead",
    "summary": "One perceptron for all labels, binary cross entropy, temperature fitted on validation rows.",
    "paper": "Temperature: On Calibration of Modern Neural Networks (Guo et al., ICML 2017)",
    "year": 2017,
    "faithful": "One temperature, fitted by the log loss of validation rows.",
    "deviates": "The temperature is shared by the labels: a label of its own has too few positive rows to fit one.",
    "tasks": ["multi-label"],
    "tiny": {"n_outputs": 3, "hidden": [4]},
}


class MultiLabelHead(Head):
    """Predict the probability of each of ``n_outputs`` labels.

    Args:
        dim: size of the row vector.
        n_outputs: number of labels.
        hidden: sizes of hidden layers, which the labels share.
        dropout: share of activations dropped in training.
        members: models that answer side by side, each with an output layer of its own.
    """

    task = "multi-label"
    temperature: Tensor

    def __init__(
        self,
        dim: int,
        n_outputs: int,
        hidden: tuple[int, ...] = (),
        dropout: float = 0.0,
        members: int = 1,
    ) -> None:
        super().__init__()
        self.layers = MLP(dim, n_outputs, tuple(hidden), dropout, members)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, vector: Float[Tensor, "batch *member dim"]) -> Float[Tensor, "batch *member label"]:
        """Return one logit a label, before temperature."""
        return self.layers(vector)

    def loss(
        self, output: Float[Tensor, "batch *member label"], target: Int[Tensor, "batch label"]
    ) -> Float[Tensor, ""]:
        """Return the mean binary cross entropy, over labels and members too."""
        return self.row_losses(output, target).mean()

    def row_losses(
        self, output: Float[Tensor, "batch *member label"], target: Int[Tensor, "batch label"]
    ) -> Float[Tensor, " batch"]:
        """Return each row's binary cross entropy, the mean over labels and members."""
        logits = wide(output)
        wanted = target.to(logits.dtype)
        wanted = wanted.unsqueeze(1).expand_as(logits) if logits.ndim == 3 else wanted
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").flatten(1).mean(1)

    def join(self, output: Float[Tensor, "batch *member label"]) -> Float[Tensor, "batch label"]:
        """Return the log-odds of the members' mean probability; one model's logits are returned as they are."""
        if output.ndim == 2:
            return output
        logits = wide(output)
        return F.logsigmoid(logits).logsumexp(1) - F.logsigmoid(-logits).logsumexp(1)

    def finish(self, output: Float[Tensor, "batch label"]) -> Float[Tensor, "batch label"]:
        """Return logits divided by the temperature."""
        return output / self.temperature

    @torch.no_grad()
    def calibrate(self, output: Float[Tensor, "batch label"], target: Int[Tensor, "batch label"]) -> float:
        """Set the temperature that minimises binary cross entropy on validation rows, in [0.05, 20].

        Args:
            output: joined logits before temperature.
            target: labels, 0 or 1.

        Returns:
            The temperature.
        """
        logits, wanted = output.double(), target.double()
        self.temperature.fill_(
            fit_temperature(lambda t: float(F.binary_cross_entropy_with_logits(logits / t, wanted)))
        )
        return float(self.temperature)
