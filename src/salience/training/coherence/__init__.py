"""Gradient coherence: how much the gradients of examples agree, a number that says why a network generalises."""

from salience.training.coherence.alignment import Alignment, alignment, stiffness
from salience.training.coherence.history import CoherenceHistory
from salience.training.coherence.law import MiniBatchCoherence, batch_alpha, example_alpha
from salience.training.coherence.measure import coherence
from salience.training.coherence.result import Coherence, Share
from salience.training.coherence.tables import table_batches, table_loss, table_order

__all__ = [
    "Alignment", "Coherence", "CoherenceHistory", "MiniBatchCoherence", "Share", "alignment", "batch_alpha", "coherence",
    "example_alpha", "stiffness", "table_batches", "table_loss", "table_order",
]  # fmt: skip
