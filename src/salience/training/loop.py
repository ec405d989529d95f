"""The training loop: epochs, early stopping, weight averaging, time limit, resume.

Devices and mixed precision come from accelerate; the rest is here, in one short loop.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from salience.core.errors import SalienceError, UnsupportedError
from salience.core.io import dumps
from salience.core.progress import Stage
from salience.training import checkpoint, parallel
from salience.training.batches import epoch_batches, pieces_of_process
from salience.training.checkpoint import Groups, Progress
from salience.training.coherent_descent import CoherentStep
from salience.training.config import TrainingConfig
from salience.training.schedule import decay_groups, rate_at

Evaluate = Callable[[nn.Module], dict[str, float]]
CHECKPOINT = "checkpoint.safetensors"
NOT_FINITE = "the loss was not finite"


class Watcher(Protocol):
    """See gradients while a :class:`Trainer` trains; whatever it draws or leaves in ``.grad`` changes no training."""

    def after_backward(self, model: nn.Module, rows: int) -> None:
        """See the mean gradient of a batch of so many rows in ``.grad``, unscaled, before clipping."""

    def end_epoch(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """Return numbers for the epoch's record; the model is in evaluation mode, at the weights that are trained."""


@dataclass(frozen=True)
class History:
    """Say how training went: one record an epoch, the best epoch, seconds, and why it stopped."""

    epochs: tuple[dict[str, Any], ...]
    best_epoch: int
    seconds: float
    stopped: str


def fingerprint(
    config: TrainingConfig, seed: int, examples: list[Any], target: np.ndarray, model: nn.Module
) -> str:
    """Return a digest of options, seed, rows and parameter shapes: what a checkpoint belongs to.

    Where the shapes do not tell all that the weights depend on, the model has a ``digest`` of the rest.
    """
    shapes = {name: list(p.shape) for name, p in model.state_dict().items()}
    options = asdict(replace(config, checkpoint_seconds=0.0))
    data = checkpoint.data_digest([examples, target, getattr(model, "digest", "")])
    return hashlib.sha256(dumps([options, seed, shapes, data], indent=None).encode()).hexdigest()


class Trainer:
    """Train a model that offers ``collate``, ``length`` and ``head.loss``.

    Args:
        model: the model, parameters built.
        config: how to train.
        seed: seed of batches and dropout.
        folder: where checkpoints go; none for no checkpoints. A checkpoint of the same rows, options and seed
            is gone on with, to the same weights bit for bit on a CPU.
        time_limit: seconds after which training ends with the best weights so far.
        watchers: see every gradient, and add numbers to the record of each epoch; what they remember is not part of
            a checkpoint.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        *,
        seed: int = 0,
        folder: Path | str | None = None,
        time_limit: float | None = None,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self.config, self.seed, self.time_limit = config, seed, time_limit
        self.watchers = tuple(watchers)
        self.path = Path(folder) / CHECKPOINT if folder else None
        self.accelerator = parallel.accelerator(config.mixed_precision)
        self.processes, self.device = self.accelerator.num_processes, self.accelerator.device
        self.bare = model.to(self.device)
        objective = parallel.objective(self.bare, config.sharding, self.accelerator)
        self.core = objective.model
        sharded = self.core is not self.bare
        self.descent = self._make_descent()
        self.optimizer = self.accelerator.prepare(self.descent)
        self.objective = objective if sharded else self.accelerator.prepare(objective)
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.average = {n: p.detach().clone() for n, p in self._trained()} if config.average else {}

    def _make_descent(self) -> torch.optim.Optimizer:
        config = self.config
        optimizer = torch.optim.AdamW(
            decay_groups(self.core, config.weight_decay),
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            fused=self.core is self.bare
            or None,  # one pass over the weights, not ten; sharded ones do not have it
        )
        if config.descent == "mean":
            return optimizer
        if config.descent == "winsorised" and self.processes > 1:
            raise UnsupportedError(
                "training.descent=winsorised needs the gradient of each row",
                f"{self.processes} processes average theirs.",
                "Train in one process, or use training.descent=median_of_means.",
            )
        if config.groups and self.core is not self.bare:
            raise UnsupportedError(
                f"training.descent={config.descent} needs whole gradients",
                "Each process has a slice of them.",
                "Use training.sharding=ddp, or training.descent=rm3.",
            )
        options = {name: value for name, value in config.descent_args.items() if name != "groups"}
        return CoherentStep(optimizer, config.descent, **options)

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        # a parameter with two names (a tied head) under both, since the state of a module has both
        named = self.core.named_parameters(remove_duplicate=False)
        return [(name, p) for name, p in named if p.requires_grad]

    def fit(
        self, examples: list[Any], target: np.ndarray, evaluate: Evaluate, score: str, higher: bool = True
    ) -> History:
        """Train, and leave the best weights in the model, in evaluation mode.

        Args:
            examples: prepared training rows: a list, or a sequence that reads them when asked and has ``lengths``
                and a ``digest`` of its rows.
            target: one entry a row; an array, or what gives one for an array of row numbers and has a ``digest``.
            evaluate: maps the model, in evaluation mode, to validation metrics.
            score: the metric that decides.
            higher: whether a higher score is better.

        Returns:
            How it went. Torch's random numbers are afterwards as they were.

        Raises:
            SalienceError: the loss became infinite or NaN before the first validation (SAL-T001).
        """
        self.examples, self.target = examples, target
        own = getattr(examples, "lengths", None)  # rows that are read from disk know them without being read
        self.lengths = np.array([self.bare.length(e) for e in examples]) if own is None else own
        self.evaluate, self.score, self.sign = evaluate, score, 1.0 if higher else -1.0
        with self._own_random():
            torch.manual_seed(self.seed + self.accelerator.process_index)
            self.digest = fingerprint(self.config, self.seed, examples, target, self.bare)
            self._resume()
            self._train()
        self.bare.load_state_dict(self.best)
        self.bare.eval()
        return History(
            tuple(self.progress.history), self.progress.best_epoch, self._seconds(), self.progress.stopped
        )

    def _train(self) -> None:
        self.started = self.saved = time.perf_counter()
        config = self.config
        self.steps_of_pass = math.ceil(len(self.examples) / config.batch_size)
        self.steps = config.steps or config.epochs * self.steps_of_pass
        self.steps_of_epoch = config.evaluate_steps or self.steps_of_pass
        self.unit = "round" if config.evaluate_steps else "epoch"
        self.batches: tuple[int, Sequence[np.ndarray]] = (-1, [])
        with Stage("train", self.steps) as stage:
            for _ in range(self.progress.epoch * self.steps_of_epoch + self.progress.step):
                stage.step("resumed")
            while not self.progress.stopped:
                broken = self._run_epoch(stage) if self.steps else ""
                if broken and self.progress.best_epoch >= 0:
                    self.progress.stopped = broken
                    self._save()  # with the mark that training ended, so that it is not done again
                elif broken == NOT_FINITE:
                    raise self._failed()
                else:
                    self._end_epoch(broken)

    def _seconds(self) -> float:
        return self.progress.seconds + time.perf_counter() - self.started

    def _spent(self) -> str:
        """Return why there is no further epoch, or an empty string."""
        done, best = self.progress.epoch, self.progress.best_epoch
        if best >= 0 and done - 1 - best >= self.config.patience:
            return f"no better {self.score} for {self.config.patience} {self.unit}s"
        return f"all {'steps' if self.config.steps else 'epochs'} done" if self._steps_left() <= 0 else ""

    def _steps_left(self) -> int:
        """Return the steps from the start of the epoch to the end of training."""
        return self.steps - self.progress.epoch * self.steps_of_epoch

    def _run_epoch(self, stage: Stage) -> str:
        """Work through the rest of the epoch; return why it was broken off, or an empty string."""
        progress = self.progress
        steps = min(self.steps_of_epoch, self._steps_left())
        self.objective.train()
        for number in range(progress.step, steps):
            batch = self._batch(progress.epoch * self.steps_of_epoch + number)
            loss = self._backward(batch)
            self._finish_gradient(len(batch))
            self._update(self.steps)
            progress.step, progress.loss = number + 1, progress.loss + loss
            stage.step(f"{self.unit} {progress.epoch + 1}, loss {loss:.3f}")
            stopped, due = parallel.from_main(self.accelerator, (self._broken(loss), self._due()))
            if stopped:
                return stopped
            if due and progress.step < steps:
                self._save()
        return ""

    def _batch(self, step: int) -> np.ndarray:
        """Return the rows of a step; the batches of one pass over the rows are kept."""
        number, step = divmod(step, self.steps_of_pass)
        if self.batches[0] != number:
            batches = epoch_batches(self.lengths, self.config.batch_size, self.seed, number)
            self.batches = number, batches
        return self.batches[1][step]

    def _broken(self, loss: float) -> str:
        if not math.isfinite(loss):
            return NOT_FINITE
        late = self.time_limit is not None and self._seconds() > self.time_limit
        return "time limit" if late else ""

    def _due(self) -> bool:
        return time.perf_counter() - self.saved > self.config.checkpoint_seconds

    def _backward(self, batch: np.ndarray) -> float:
        """Add up the gradient of a batch's mean loss, part by part; return this process's share of the loss."""
        head, total = self.bare.head, 0.0
        everything = head.weight(torch.as_tensor(self.target[batch]))
        grouped, mine = self.config.groups > 0, self.accelerator.process_index
        parts = self.config.groups or self.config.accumulate
        every = [
            pieces_of_process(batch, parts, process, self.processes) for process in range(self.processes)
        ]
        pieces = every[mine]
        for number, rows in enumerate(pieces):
            share = head.weight(torch.as_tensor(self.target[rows])) * self.processes / everything
            rows = rows if len(rows) else batch[:1]  # an empty part waits with the others, at no weight
            whole = grouped or number + 1 == len(pieces)
            with nullcontext() if whole else self.accelerator.no_sync(self.objective):
                inputs = self.bare.collate([self.examples[i] for i in rows])
                target = torch.as_tensor(self.target[rows], device=self.device)
                with self.accelerator.autocast():
                    loss = self.objective(inputs, target)
                self.accelerator.backward(loss * share)
            if grouped:
                self.descent.collect(sum(len(others[number]) for others in every))
            total += float(loss.detach()) * share
        return total

    def _finish_gradient(self, rows: int) -> None:
        """Unscale the batch's gradient, show it to the watchers, and put a robust average in its place if asked."""
        scaler, grouped = self.accelerator.scaler, self.config.groups > 0
        if grouped and self.watchers:
            self.descent.mean(scaler.get_scale() if scaler else 1.0)
            self._watch(rows)
        if grouped:
            self.descent.combine()
        self.accelerator.unscale_gradients(self.optimizer)
        if not grouped and self.watchers:
            self._watch(rows)
        if self.config.descent == "rm3":
            self.descent.combine()

    def _watch(self, rows: int) -> None:
        with self._own_random():
            for watcher in self.watchers:
                watcher.after_backward(self.core, rows)

    def _own_random(self) -> AbstractContextManager[None]:
        """Leave torch's random numbers afterwards as they were."""
        return torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])

    def _update(self, total: int) -> None:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(
                self.progress.updates, total, config.learning_rate, config.warmup, config.floor
            )
        if config.clip:
            nn.utils.clip_grad_norm_(self.core.parameters(), config.clip)
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
        for name, value in self._trained():
            self.average[name].lerp_(value, 1 - keep)

    def _end_epoch(self, broken: str) -> None:
        """Score the weights (their average, if there is one), keep them if they are the best, and save."""
        progress = self.progress
        current = copy_state(self.core) if self.average and self.core is self.bare else {}
        self.bare.load_state_dict(parallel.whole(self.core.state_dict() | self.average))
        self.bare.eval()
        metrics = parallel.from_main(self.accelerator, self.evaluate(self.bare))
        value = self.sign * metrics[self.score]
        if progress.best_epoch < 0 or self._better(value):
            progress.best_score = value if math.isfinite(value) else None
            progress.best_epoch, self.best = progress.epoch, copy_state(self.bare)
        if current:
            self.bare.load_state_dict(current)
        record = {"epoch": progress.epoch, "loss": progress.loss / max(progress.step, 1), **metrics}
        record |= self._watched(progress.epoch)
        progress.history.append(record | {"seconds": round(self._seconds(), 2)})
        progress.epoch, progress.step, progress.loss = progress.epoch + 1, 0, 0.0
        progress.stopped = broken or self._spent()
        self._save()

    def _watched(self, epoch: int) -> dict[str, float]:
        """Return the watchers' numbers of the epoch; their gradients are taken away."""
        if not self.watchers:
            return {}
        found: dict[str, float] = {}
        with self._own_random():
            for watcher in self.watchers:
                found |= watcher.end_epoch(self.bare, epoch)
        self.optimizer.zero_grad()
        return parallel.from_main(self.accelerator, found)

    def _better(self, value: float) -> bool:
        best = self.progress.best_score
        return math.isfinite(value) and (best is None or value > best)

    def _failed(self) -> SalienceError:
        return SalienceError(
            "Training failed: the loss was infinite or not a number",
            f"epoch 1, step {self.progress.step}, learning rate {self.config.learning_rate}.",
            "Lower training.learning_rate, or set training.mixed_precision=no.",
            code="SAL-T001",
        )

    def _save(self) -> None:
        """Write a checkpoint; every process takes part, the main one writes."""
        self.saved = time.perf_counter()
        if not self.path:
            return
        groups: Groups = {
            "model": parallel.whole(self.core.state_dict()),
            "best": self.best,
            "average": parallel.whole(self.average),
            "optimizer": self._optimizer_tensors(),
            "random": self._random_tensors(),
        }
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler else {}
        if self.accelerator.is_main_process:
            state = replace(self.progress, seconds=self._seconds(), scaler=scaler)
            checkpoint.save(self.path, groups, state, self.digest)

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        state = self.optimizer.state_dict()["state"]
        flat = {f"{i}/{name}": torch.as_tensor(t) for i, s in state.items() for name, t in s.items()}
        return parallel.whole(flat)

    def _random_tensors(self) -> dict[str, Tensor]:
        states = parallel.from_all(self.accelerator, parallel.random_state(self.device))
        return {f"{i}/{name}": t for i, state in enumerate(states) for name, t in state.items()}

    def _resume(self) -> None:
        found = checkpoint.load(self.path, self.digest) if self.path else None
        if not all(parallel.from_all(self.accelerator, found is not None)):
            return
        groups, self.progress = found
        parameters = dict(self.core.named_parameters(remove_duplicate=False))
        self.core.load_state_dict(
            {n: parallel.like(t, parameters.get(n, t)) for n, t in groups["model"].items()}
        )
        self.best = {name: t.to(self.device) for name, t in groups.get("best", {}).items()}
        averages = groups.get("average", {})
        self.average = {n: parallel.like(t, parameters[n]).to(self.device) for n, t in averages.items()}
        self._restore_optimizer(groups.get("optimizer", {}))
        if self.accelerator.scaler and self.progress.scaler:
            self.accelerator.scaler.load_state_dict(self.progress.scaler)
        prefix = f"{self.accelerator.process_index}/"
        mine = {n.removeprefix(prefix): t for n, t in groups["random"].items() if n.startswith(prefix)}
        if mine:
            parallel.set_random_state(mine, self.device)

    def _restore_optimizer(self, tensors: dict[str, Tensor]) -> None:
        groups = self.optimizer.state_dict()["param_groups"]
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            number, _, name = key.partition("/")
            state.setdefault(int(number), {})[name] = parallel.like(value, parameters[int(number)])
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def copy_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's state."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
