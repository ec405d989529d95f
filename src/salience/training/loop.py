"""The training loop: epochs, early stopping, weight averaging, time limit, resume.

Devices, mixed precision, DDP and FSDP come from accelerate; the rest is here, in one short loop.
"""

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from torch import Tensor, nn

from salience.core.io import dumps
from salience.core.progress import Stage
from salience.training import checkpoint
from salience.training.batches import epoch_batches, share_of_process
from salience.training.checkpoint import Progress, copy_state

Evaluate = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class TrainingConfig:
    """Say how to train.

    Attributes:
        epochs: highest number of passes over the training rows.
        batch_size: rows of an optimiser step, over all processes.
        learning_rate: peak rate of AdamW.
        weight_decay: decoupled decay of weight matrices; biases, norms and embeddings are not decayed.
        warmup: share of all steps in which the rate rises linearly; then it falls along a cosine.
        clip: highest gradient norm.
        average: decay of the moving average of parameters that is evaluated and kept; 0 for none.
        patience: epochs without a better validation score before training stops.
        accumulate: batches whose gradients are added before a step.
        mixed_precision: ``"no"``, ``"bf16"`` or ``"fp16"``.
        sharding: ``"ddp"`` or ``"fsdp"``, when started with several processes.
        checkpoint_seconds: time between checkpoints inside an epoch; one is written after every epoch.
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


@dataclass(frozen=True)
class History:
    """Say how training went: one record an epoch, the best epoch, seconds, and why it stopped."""

    epochs: tuple[dict[str, Any], ...]
    best_epoch: int
    seconds: float
    stopped: str


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split trainable parameters in decayed matrices and the rest (biases, norms, embeddings)."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim >= 2 and id(p) not in embeddings]
    kept = {id(p) for p in decayed}
    others = [p for p in parameters if id(p) not in kept]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def rate_at(update: int, total: int, config: TrainingConfig) -> float:
    """Return the learning rate of an update: linear warm-up, then a cosine to zero."""
    warm = max(1, round(config.warmup * total))
    if update < warm:
        return config.learning_rate * (update + 1) / warm
    done = min(1.0, (update - warm) / max(1, total - warm))
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def fingerprint(config: TrainingConfig, seed: int, target: np.ndarray, model: nn.Module) -> str:
    """Return a digest of options, seed, targets and parameter shapes: what a checkpoint belongs to."""
    shapes = {name: list(p.shape) for name, p in model.state_dict().items()}
    text = dumps([asdict(config), seed, shapes], indent=None)
    return hashlib.sha256(text.encode() + np.ascontiguousarray(target).tobytes()).hexdigest()


class Trainer:
    """Train a model that offers ``collate``, ``length`` and ``head.loss``.

    Args:
        model: the model, parameters built.
        config: how to train.
        seed: seed of batches and dropout.
        folder: where checkpoints go; none for no checkpoints.
        time_limit: seconds after which training ends with the best weights so far.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        *,
        seed: int = 0,
        folder: Path | None = None,
        time_limit: float | None = None,
    ) -> None:
        self.config, self.seed, self.time_limit = config, seed, time_limit
        self.path = Path(folder) / "checkpoint.safetensors" if folder else None
        self.accelerator = accelerator(config)
        self.bare = model.to(self.accelerator.device)
        self.optimizer = torch.optim.AdamW(
            decay_groups(self.bare, config.weight_decay), lr=config.learning_rate
        )
        self.model, self.optimizer = self.accelerator.prepare(self.bare, self.optimizer)
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.average: dict[str, Tensor] = copy_state(self.bare) if config.average else {}

    def fit(
        self, examples: list[Any], target: np.ndarray, evaluate: Evaluate, score: str, higher: bool = True
    ) -> History:
        """Train, and leave the best weights in the model.

        Args:
            examples: prepared training rows.
            target: one entry a row.
            evaluate: maps the model, in evaluation mode, to validation metrics.
            score: the metric that decides.
            higher: whether a higher score is better.
        """
        self._seed()
        self.examples, self.target = examples, target
        self.lengths = np.array([self.bare.length(e) for e in examples])
        self.digest = fingerprint(self.config, self.seed, target, self.bare)
        self._resume()
        self.started = self.saved = time.perf_counter()
        stopped = "all epochs done"
        steps = math.ceil(len(examples) / self.config.batch_size)
        with Stage("train", self.config.epochs * steps) as stage:
            for _ in range(self.progress.epoch * steps + self.progress.step):
                stage.step("resumed")
            while self.progress.epoch < self.config.epochs:
                if self._patience_spent():
                    stopped = f"no better {score} for {self.config.patience} epochs"
                    break
                if not self._run_epoch(stage):
                    stopped = "time limit"
                    break
                self._end_epoch(evaluate, score, higher)
        if self.progress.best_epoch < 0:
            self._end_epoch(evaluate, score, higher)
        self.bare.load_state_dict(self.best)
        self.bare.eval()
        return History(tuple(self.progress.history), self.progress.best_epoch, self._seconds(), stopped)

    def _seed(self) -> None:
        torch.manual_seed(self.seed + self.accelerator.process_index)

    def _seconds(self) -> float:
        return self.progress.seconds + time.perf_counter() - self.started

    def _patience_spent(self) -> bool:
        best = self.progress.best_epoch
        return best >= 0 and self.progress.epoch - 1 - best >= self.config.patience

    def _run_epoch(self, stage: Stage) -> bool:
        """Work through the rest of the epoch; return False when time is up."""
        batches = epoch_batches(self.lengths, self.config.batch_size, self.seed, self.progress.epoch)
        total = self.config.epochs * math.ceil(len(batches) / self.config.accumulate)
        self.model.train()
        for number in range(self.progress.step, len(batches)):
            last = (number + 1) % self.config.accumulate == 0 or number + 1 == len(batches)
            loss = self._backward(batches[number], last)
            if last:
                self._update(total)
            self.progress.step = number + 1
            stage.step(f"epoch {self.progress.epoch + 1}, loss {loss:.3f}")
            if self.time_limit and self._seconds() > self.time_limit:
                return False
            if last and time.perf_counter() - self.saved > self.config.checkpoint_seconds:
                self._save()
        return True

    def _backward(self, batch: np.ndarray, last: bool) -> float:
        rows = share_of_process(batch, self.accelerator.process_index, self.accelerator.num_processes)
        rows = rows if len(rows) else batch[:1]
        sync = nullcontext() if last else self.accelerator.no_sync(self.model)
        with sync:
            output = self.model(self.bare.collate([self.examples[i] for i in rows]))
            target = torch.as_tensor(self.target[rows], device=output.device)
            loss = self.bare.head.loss(output, target)
            share = len(rows) * self.accelerator.num_processes / len(batch)
            self.accelerator.backward(loss * share / self.config.accumulate)
        return float(loss.detach())

    def _update(self, total: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.progress.updates, total, self.config)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.progress.updates += 1
        self._update_average()

    @torch.no_grad()
    def _update_average(self) -> None:
        if not self.average:
            return
        n = self.progress.updates
        keep = min(self.config.average, (1 + n) / (10 + n))  # a short memory while the average is young
        for name, value in self.bare.named_parameters():
            self.average[name].lerp_(value, 1 - keep)

    def _end_epoch(self, evaluate: Evaluate, score: str, higher: bool) -> None:
        current = copy_state(self.bare) if self.average else {}
        if self.average:
            self.bare.load_state_dict(self.average)
        self.bare.eval()
        metrics = evaluate(self.bare)
        value = metrics[score] if higher else -metrics[score]
        if value > self.progress.best_score or self.progress.best_epoch < 0:
            self.progress.best_score, self.progress.best_epoch = value, self.progress.epoch
            self.best = copy_state(self.bare)
        if self.average:
            self.bare.load_state_dict(current)
        record = {"epoch": self.progress.epoch, **metrics, "seconds": round(self._seconds(), 2)}
        self.progress.history.append(record)
        self.progress.epoch, self.progress.step = self.progress.epoch + 1, 0
        self._save()

    def _save(self) -> None:
        self.saved = time.perf_counter()
        if not self.path or not self.accelerator.is_main_process:
            return
        groups = {"model": self.bare.state_dict(), "best": self.best, "average": self.average}
        state = Progress(**{**vars(self.progress), "seconds": self._seconds()})
        checkpoint.save(self.path, groups, self.optimizer, state, self.digest)

    def _resume(self) -> None:
        found = checkpoint.load(self.path, self.digest) if self.path else None
        if not found:
            return
        groups, self.progress = found
        self.bare.load_state_dict(groups["model"])
        self.best, self.average = groups.get("best", {}), groups.get("average", {})
        checkpoint.restore_optimizer(self.optimizer, groups.get("optimizer", {}))
        torch.set_rng_state(groups["random"][""])


def accelerator(config: TrainingConfig) -> Accelerator:
    """Return accelerate's view of devices and processes for this configuration."""
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2) if config.sharding == "fsdp" else None
    return Accelerator(mixed_precision=config.mixed_precision, fsdp_plugin=plugin)
