"""Head: several numbers, each trained on its own standardised target, reported in its own units."""

import torch

from salience.models.heads.regression import RegressionHead

CARD = {
    "key": "multi-regression",
    "kind": "head",
    "title": "Regression on several standardised targets",
    "entry": "MultiRegressionHead",
    "summary": "One perceptron for all targets; squared errors of the standardised targets count alike.",
    "tasks": ["multi-regression"],
    "tiny": {"n_outputs": 3, "hidden": [4]},
}


class MultiRegressionHead(RegressionHead):
    """Predict several numbers; the loss is the mean over targets of the squared errors in standard deviations.

    Args:
        dim: size of the row vector.
        n_outputs: number of targets.
        hidden: sizes of hidden layers, which the targets share.
        dropout: share of activations dropped in training.
        members: models that answer side by side, each with an output layer of its own; their mean is the answer.
    """

    task = "multi-regression"

    def __init__(
        self,
        dim: int,
        n_outputs: int,
        hidden: tuple[int, ...] = (),
        dropout: float = 0.0,
        members: int = 1,
    ) -> None:
        super().__init__(dim, n_outputs, hidden, dropout, members)
        self.mean = torch.zeros(n_outputs, dtype=torch.float64)
        self.std = torch.ones(n_outputs, dtype=torch.float64)
