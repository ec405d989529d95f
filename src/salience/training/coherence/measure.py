"""The public function: coherence of any module and loss."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from salience.core.errors import ConfigError, nearest
from salience.training.coherence import per_example, signs
from salience.training.coherence.ghost import ghost
from salience.training.coherence.per_example import Loss, guessed_examples
from salience.training.coherence.quiet import quiet
from salience.training.coherence.result import TOLERANCE, Coherence, summarise
from salience.training.coherence.totals import GROUPS, Gradients, Totals
from salience.training.coherence.trace import Untraceable

METHODS = ("exact", "per_example", "signs")


def coherence(
    module: nn.Module,
    loss: Loss,
    batches: Iterable[Any],
    *,
    method: str = "exact",
    train: bool = False,
    draws: int = 8,
    groups: int = GROUPS,
    tolerance: float = TOLERANCE,
    check: int = 2,
    processes: Any = None,
    seed: int = 0,
) -> Coherence:
    """Measure how much the gradients of examples agree, at the present weights.

    An example is one entry of what ``loss`` returns: a row, a picture, or a whole sequence (whether its loss is
    divided by its tokens is up to ``loss``). α does not change with the scale of the loss. What is added a batch
    (weight decay, penalties) is no part of it; frozen parameters are left out.

    Args:
        module: the model; its gradients and its mode are left as they are.
        loss: ``loss(module, batch)`` gives one loss an example, not their mean.
        batches: what ``loss`` takes, one batch after the other; four or more give an interval.
        method: ``"exact"`` (one backward pass a batch), ``"per_example"`` (one an example; any module) or
            ``"signs"`` (``draws`` + 1 a batch; any module; an estimate with its standard error).
        train: keep dropout on, with masks fixed by ``seed``; off by default. Batch normalisation always uses its
            running statistics, since with those of the batch no example has a gradient of its own.
        draws: random signs of an example.
        groups: groups of batches that the interval resamples; each holds a copy of the parameters.
        tolerance: an example is active if its norm is above this share of the root mean square.
        check: examples of the first batch that ``"exact"`` also measures alone; where they differ (the examples of
            a batch depend on each other, or code hides what it does) it measures all of them alone, and says so.
        processes: a group of ``torch.distributed`` whose processes each measure their own batches; sums and squared norms
            are added up over them. Not for ``"signs"``.
        seed: seed of signs, masks and resamples.

    Raises:
        ConfigError: an unknown method, a loss that is not one number an example, no batch, nothing to train.
        UnsupportedError: the model mixes the examples of a batch.

    Source:
        Chatterjee & Zielinski 2022 (arXiv 2203.10036); m-coherence: arXiv 2008.01217.
    """
    if method not in METHODS:
        raise ConfigError(f"Unknown method {method!r}", "", nearest(method, METHODS))
    names = trainable(module)
    vector = checked(loss)
    with quiet(module, train=train, seed=seed) as notes, torch.enable_grad():
        if method == "signs":
            return signs.estimate(module, vector, batches, names, draws=draws, seed=seed, notes=notes)
        exact = Exact(module, vector, names, method, check)
        totals = Totals(groups)
        for batch in batches:
            totals.add(exact.gradients(batch))
    if not totals.squares:
        raise ConfigError("There is no batch to measure coherence on", "", "Give at least one batch.")
    if processes is not None:
        totals.gather(processes)
    return summarise(
        totals, method=exact.method, tolerance=tolerance, seed=seed, reason=exact.reason, notes=notes
    )


class Exact:
    """Measure batches exactly: from one pass where that can be done, else by single examples.

    Args:
        module: the model.
        loss: one loss an example.
        names: the parameters, by name.
        method: ``"exact"`` or ``"per_example"``.
        check: examples of the first batch that are measured alone as well.
    """

    def __init__(
        self, module: nn.Module, loss: Loss, names: dict[str, nn.Parameter], method: str, check: int
    ) -> None:
        self.module, self.loss, self.names = module, loss, names
        self.method, self.reason, self.to_check = method, "", check

    def gradients(self, batch: Any) -> Gradients:
        """Return what one batch gives."""
        if self.method == "exact":
            try:
                return self._one_pass(batch)
            except Untraceable as error:
                self.method = "per_example"
                self.reason = f"Measured one example after the other: {error}."
        with torch.no_grad():
            examples = len(self.loss(self.module, batch))
        return per_example.loop(self.module, self.loss, batch, examples, self.names)

    def _one_pass(self, batch: Any) -> Gradients:
        state = torch.get_rng_state()
        found = ghost(self.module, lambda: self.loss(self.module, batch), self.names, guessed_examples(batch))
        if self.to_check:
            rows = np.unique(np.linspace(0, found.examples - 1, self.to_check).round().astype(int))
            after = torch.get_rng_state()
            torch.set_rng_state(state)
            alone = per_example.norms_alone(self.module, self.loss, batch, found.examples, self.names, rows)
            torch.set_rng_state(after)
            self._compare(found, alone, rows)
            self.to_check = 0
        return found

    def _compare(self, found: Gradients, alone: dict[str, torch.Tensor], rows: np.ndarray) -> None:
        for name, expected in alone.items():
            got = found.squares[name][rows]
            precise = self.names[name].dtype == torch.float64
            near = torch.allclose(
                got,
                expected,
                rtol=1e-6 if precise else 2e-2,
                atol=self._scale(found) * (1e-12 if precise else 1e-5),
            )
            if not near:
                raise Untraceable(f"a single example has another gradient of {name!r} than in its batch")

    def _scale(self, found: Gradients) -> float:
        return float(torch.stack(list(found.squares.values())).sum(0).mean())


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, each once, by name.

    Raises:
        ConfigError: all are frozen.
    """
    found = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not found:
        raise ConfigError("Coherence needs parameters that are trained", "All are frozen.", "Unfreeze some.")
    return found


def checked(loss: Loss) -> Callable[[nn.Module, Any], torch.Tensor]:
    """Return the loss, which refuses anything but one number an example."""

    def vector(module: nn.Module, batch: Any) -> torch.Tensor:
        losses = loss(module, batch)
        if losses.ndim != 1 or not len(losses):
            raise ConfigError(
                "Coherence needs one loss an example",
                f"The loss has shape {tuple(losses.shape)}.",
                'Return a vector, as with reduction="none"; for sequences sum or average over tokens.',
            )
        return losses

    return vector
