"""A callback that measures coherence while Lightning trains."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from salience.core.errors import MissingExtraError
from salience.training.coherence.history import CoherenceHistory
from salience.training.coherence.law import MiniBatchCoherence
from salience.training.coherence.per_example import Loss
from salience.training.coherence.trace import tensors_in


def coherence_callback(
    loss: Loss,
    batches: Callable[[nn.Module], Iterable[Any]] | list[Any],
    *,
    every: int = 1,
    mini_batches: bool = True,
    rows: Callable[[Any], int] | None = None,
    **options: Any,
) -> Any:
    """Return a Lightning callback that logs ``m_coherence``, ``coherence_unbiased`` and ``active_share`` after epochs.

    Args:
        loss: ``loss(module, batch)``, one loss an example.
        batches: rows that are measured, the same each time; see :class:`~salience.training.coherence.CoherenceHistory`.
        every: epochs between two measurements.
        mini_batches: also log ``coherence``, from the gradients of the training's own mini-batches.
        rows: number of examples of a batch; the length of its first tensor if none.
        options: further arguments of :func:`~salience.training.coherence.coherence`.

    Returns:
        The callback; its attribute ``history`` keeps what was measured.

    Raises:
        MissingExtraError: lightning is not installed.
    """
    try:
        from lightning.pytorch.callbacks import Callback
    except ImportError:
        raise MissingExtraError(
            "The package lightning is not installed", "", "Run: pip install lightning"
        ) from None
    count = rows or _first_length

    class CoherenceCallback(Callback):
        """Measure after epochs, and look at the gradients of mini-batches on the way."""

        def __init__(self) -> None:
            self.history = CoherenceHistory(loss, batches, every, options)
            self.law = MiniBatchCoherence()
            self._rows = 0

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self._rows = count(batch)

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            if mini_batches:
                self.law.after_backward(pl_module, self._rows * trainer.accumulate_grad_batches)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            epoch = trainer.current_epoch
            found = self.history.end_epoch(pl_module, epoch)
            found |= self.law.end_epoch(pl_module, epoch) if mini_batches else {}
            pl_module.log_dict(found)

    return CoherenceCallback()


def _first_length(batch: Any) -> int:
    return len(next(iter(tensors_in(batch))))
