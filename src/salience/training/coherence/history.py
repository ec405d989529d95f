"""Coherence over training: measured after every epoch on the same rows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from torch import nn

from salience.training.coherence.measure import coherence
from salience.training.coherence.per_example import Loss
from salience.training.coherence.result import Coherence


@dataclass
class CoherenceHistory:
    """Measure coherence on a fixed sample of rows while a model is trained; a watcher of the ``Trainer``.

    Only a sample of one size is comparable over epochs, and only rows that are trained on show what is left to learn.

    Args:
        loss: one loss an example.
        batches: gives the same batches each time it is called with the model; or a list of them.
        every: epochs between two measurements.
        options: further arguments of :func:`~salience.training.coherence.coherence`.

    Attributes:
        measured: epoch → what was found.

    Example::

        probe = CoherenceHistory(table_loss, lambda model: table_batches(model, rows))
        Trainer(model, config, watchers=[probe]).fit(…)
        probe.to_frame()
    """

    loss: Loss
    batches: Callable[[nn.Module], Iterable[Any]] | list[Any]
    every: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    measured: dict[int, Coherence] = field(default_factory=dict)

    def after_backward(self, model: nn.Module, rows: int) -> None:
        """Look at nothing: the gradients of mini-batches are not needed."""

    def end_epoch(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """Measure, and return what joins the epoch's record."""
        if epoch % self.every:
            return {}
        batches = self.batches if isinstance(self.batches, list) else self.batches(model)
        found = coherence(model, self.loss, batches, **self.options)
        self.measured[epoch] = found
        return {
            "m_coherence": found.m_coherence,
            "coherence_unbiased": found.unbiased,
            "active_share": found.active_share,
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one line an epoch: α, mα, the unbiased value with its interval, and the share of active examples."""
        lines = [
            {
                "epoch": epoch,
                "alpha": c.alpha,
                "m_coherence": c.m_coherence,
                "unbiased": c.unbiased,
                "low": c.interval[0] if c.interval else None,
                "high": c.interval[1] if c.interval else None,
                "active_share": c.active_share,
                "active_alpha": c.active_alpha,
            }
            for epoch, c in self.measured.items()
        ]
        return pd.DataFrame(lines)

    def layers(self) -> pd.DataFrame:
        """Return unbiased coherence, one line an epoch and one column a layer."""
        found = {epoch: {n: s.unbiased for n, s in c.by_layer.items()} for epoch, c in self.measured.items()}
        return pd.DataFrame.from_dict(found, orient="index").rename_axis("epoch").reset_index()

    def points(self, line: str = "coherence") -> list[dict[str, Any]]:
        """Return the unbiased values as points of a line, for ``salience.report.line_chart.line_chart``."""
        return [
            {"line": line, "epoch": row.epoch, "value": row.unbiased, "low": row.low, "high": row.high}
            for row in self.to_frame().itertuples()
        ]
