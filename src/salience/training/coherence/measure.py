"""The public function: coherence of any module and loss."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from salience.core.errors import ConfigError, nearest
from salience.training.coherence import per_example, signs
from salience.training.coherence.per_example import Loss
from salience.training.coherence.quiet import quiet
from salience.training.coherence.result import TOLERANCE, Coherence, summarise
from salience.training.coherence.totals import GROUPS, Gradients, Totals

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
    checked = _checked(loss)
    with quiet(module, train=train, seed=seed) as notes, torch.enable_grad():
        if method == "signs":
            return signs.estimate(module, checked, batches, names, draws=draws, seed=seed, notes=notes)
        totals = Totals(groups)
        for batch in batches:
            totals.add(_gradients(module, checked, batch, names))
    if not totals.squares:
        raise ConfigError("There is no batch to measure coherence on", "", "Give at least one batch.")
    return summarise(totals, method=method, tolerance=tolerance, seed=seed, notes=notes)


def _gradients(module: nn.Module, loss: Loss, batch: Any, names: dict[str, nn.Parameter]) -> Gradients:
    return per_example.loop(module, loss, batch, loss(module, batch), names)


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, each once, by name.

    Raises:
        ConfigError: all are frozen.
    """
    found = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not found:
        raise ConfigError("Coherence needs parameters that are trained", "All are frozen.", "Unfreeze some.")
    return found


def _checked(loss: Loss) -> Callable[[nn.Module, Any], torch.Tensor]:
    def checked(module: nn.Module, batch: Any) -> torch.Tensor:
        losses = loss(module, batch)
        if losses.ndim != 1 or not len(losses):
            raise ConfigError(
                "Coherence needs one loss an example",
                f"The loss has shape {tuple(losses.shape)}.",
                'Return a vector, as with reduction="none"; for sequences sum or average over tokens.',
            )
        return losses

    return checked
