"""How to train: the options of the training loop."""

import math
from dataclasses import dataclass, field
from typing import Any

from salience.core.errors import ConfigError, nearest
from salience.training.coherent_descent import MODES

RANGES = {
    "epochs": (0, math.inf), "batch_size": (1, math.inf), "learning_rate": (0.0, math.inf), "clip": (0.0, math.inf),
    "weight_decay": (0.0, math.inf), "warmup": (0.0, 1.0), "average": (0.0, 1.0), "patience": (1, math.inf),
    "accumulate": (1, math.inf), "checkpoint_seconds": (0.0, math.inf), "beta1": (0.0, 1.0), "beta2": (0.0, 1.0),
    "floor": (0.0, 1.0), "steps": (0, math.inf), "evaluate_steps": (0, math.inf),
}  # fmt: skip
DESCENTS = ("mean", *MODES)
DESCENT_ARGS = {
    "median_of_means": {"groups"},
    "trimmed_mean": {"groups", "trim"},
    "winsorised": {"percentile"},
}
GROUPS = {"m3": 3, "median_of_means": 5, "trimmed_mean": 5}


@dataclass(frozen=True)
class TrainingConfig:
    """Say how to train.

    Attributes:
        epochs: highest number of passes over the training rows; 0 leaves the weights as they are.
        batch_size: rows of an optimiser step, over all processes.
        learning_rate: peak rate of AdamW.
        weight_decay: decoupled decay of weight matrices; biases, norms and embeddings are not decayed.
        warmup: share of all steps in which the rate rises linearly; then it falls along a cosine.
        clip: highest gradient norm; 0 for no limit.
        average: decay of the moving average of parameters that is evaluated and kept; 0 for none.
        patience: epochs without a better validation score before training stops.
        accumulate: parts in which a batch is worked through, to save memory; the gradient stays that of the batch.
        mixed_precision: ``"no"``, ``"bf16"`` or ``"fp16"``; weights, optimiser and evaluation stay in float32.
        sharding: ``"ddp"`` or ``"fsdp"``, when started with several processes.
        checkpoint_seconds: time between checkpoints inside an epoch; one is written after every epoch.
        beta1: AdamW's memory of gradients.
        beta2: AdamW's memory of squared gradients; 0.95 is usual for language models.
        floor: rate at the end of the cosine, as a share of the peak.
        steps: exact number of optimiser steps, in place of ``epochs``; 0 for whole epochs.
        evaluate_steps: steps between two validations, in place of an epoch; ``patience`` and the history then count
            these; 0 for one after every pass over the rows.
        descent: what a step follows: the ``"mean"`` gradient, or a robust average of
            :class:`~salience.training.coherent_descent.CoherentStep` that memorises less: ``"rm3"`` over steps,
            ``"m3"``, ``"median_of_means"`` and ``"trimmed_mean"`` over parts of a batch, ``"winsorised"`` over rows (one
            backward pass a row, and a gradient a row in memory).
        descent_args: its options: ``groups`` (parts of a batch), ``trim``, ``percentile``.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup: float = 0.05
    clip: float = 1.0
    average: float = 0.0
    patience: int = 3
    accumulate: int = 1
    mixed_precision: str = "no"
    sharding: str = "ddp"
    checkpoint_seconds: float = 30.0
    beta1: float = 0.9
    beta2: float = 0.999
    floor: float = 0.0
    steps: int = 0
    evaluate_steps: int = 0
    descent: str = "mean"
    descent_args: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.descent not in DESCENTS:
            raise ConfigError(
                f"Unknown training.descent {self.descent!r}", "", nearest(self.descent, DESCENTS)
            )
        self._check_descent_args()
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(
                    f"training.{name} is out of range",
                    f"Got {value}, want {low} to {high}.",
                    code="SAL-C005",
                )

    @property
    def groups(self) -> int:
        """Parts of a batch that a robust average is taken over; 0 where it is not taken over parts."""
        if self.descent == "winsorised":
            return self.batch_size
        return self.descent_args.get("groups", GROUPS.get(self.descent, 0))

    def _check_descent_args(self) -> None:
        allowed = DESCENT_ARGS.get(self.descent, set())
        unknown = sorted(set(self.descent_args) - allowed)
        if unknown:
            raise ConfigError(
                f"training.descent_args has no {unknown[0]!r} for {self.descent!r}",
                f"Got {self.descent_args}.",
                nearest(unknown[0], allowed) if allowed else "Leave it out.",
            )
        if self.groups == 1:
            raise ConfigError(
                "A robust average needs more than one part of a batch", "groups is 1.", "Use 3 or more."
            )
        if self.accumulate > 1 and self.groups:
            raise ConfigError(
                f"training.descent={self.descent} cuts the batch in parts itself",
                f"training.accumulate is {self.accumulate}.",
                "Set training.accumulate=1; training.descent_args.groups is the number of parts.",
            )
