"""Make the gradient of one example well defined: no example's loss may depend on another, nor on chance."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from salience.core.errors import UnsupportedError

BATCH_NORMS = nn.modules.batchnorm._BatchNorm


@contextmanager
def quiet(module: nn.Module, *, train: bool = False, seed: int = 0) -> Iterator[tuple[str, ...]]:
    """Set a module so that examples do not mix, and put it back afterwards.

    In evaluation mode dropout is off and batch normalisation uses its running statistics. With ``train`` everything
    but batch normalisation is in training mode, and random numbers start from ``seed``, so that two methods see the
    same dropout masks.

    Yields:
        What a reader should know about it.

    Raises:
        UnsupportedError: batch normalisation without running statistics mixes the examples of a batch.
    """
    norms = {name: m for name, m in module.named_modules() if isinstance(m, BATCH_NORMS)}
    without = [name for name, m in norms.items() if m.running_mean is None]
    if without:
        raise UnsupportedError(
            "One example has no gradient of its own in this model",
            f"{without[0]!r} normalises by the statistics of the batch.",
            "Use running statistics (track_running_stats=True), or GroupNorm.",
        )
    modes = {m: m.training for m in module.modules()}
    notes = ("batch normalisation used its running statistics",) if norms else ()
    module.train(train)
    for norm in norms.values():
        norm.eval()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield notes + (("dropout was on, with fixed masks",) if train else ())
    finally:
        for m, mode in modes.items():
            m.training = mode
