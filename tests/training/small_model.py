"""A small model and rows for tests of the loop."""

import numpy as np
import torch
from torch import Tensor, nn

from salience.models.heads.classification import ClassificationHead
from salience.training.loop import History, Trainer, TrainingConfig


class SmallModel(nn.Module):
    """A perceptron with dropout over rows of numbers, with what the loop asks of a model."""

    def __init__(
        self, dim: int = 5, classes: int = 3, dropout: float = 0.0, seed: int = 0, **head: object
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Linear(dim, 16), nn.Tanh(), nn.Dropout(dropout))
        self.head = ClassificationHead(16, classes, **head)

    def length(self, example: np.ndarray) -> int:
        return int(abs(example[0]) * 10) + 1

    def collate(self, examples: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(examples))

    def forward(self, batch: Tensor) -> Tensor:
        return self.head(self.layers(batch))


class CostlyModel(SmallModel):
    """A small model that also pays for large outputs, row by row."""

    def auxiliary_loss(self, output, target):
        rows = output.square().sum(1) * self.head.row_losses(output, target).detach()
        return rows.sum() / self.head.weight(target)


def small_rows(rows: int = 48, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Return rows of five numbers and a class in {0, 1, 2} that follows from them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 5)).astype(np.float32)
    return list(x), (x @ rng.normal(size=(5, 3))).argmax(1)


def small_scores(examples: list[np.ndarray], target: np.ndarray):
    """Return an evaluation: accuracy and log loss of these rows."""

    @torch.no_grad()
    def evaluate(model: SmallModel) -> dict[str, float]:
        assert not model.training
        logits = model(model.collate(examples))
        loss = nn.functional.cross_entropy(logits.double(), torch.as_tensor(target))
        return {"accuracy": float((logits.argmax(1).numpy() == target).mean()), "log_loss": float(loss)}

    return evaluate


def train(
    model: SmallModel | None = None, rows: int = 48, evaluate=None, trainer: dict | None = None, **options
) -> tuple[SmallModel, History]:
    """Train a small model; ``trainer`` are the trainer's arguments, the others the configuration's."""
    model = model or SmallModel()
    examples, target = small_rows(rows)
    config = TrainingConfig(**{"epochs": 3, "batch_size": 16, "learning_rate": 1e-2, **options})
    evaluate = evaluate or small_scores(examples, target)
    return model, Trainer(model, config, **(trainer or {})).fit(examples, target, evaluate, "log_loss", False)


def same_state(one: nn.Module, other: nn.Module) -> bool:
    """Say whether two models have equal tensors, bit for bit."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
