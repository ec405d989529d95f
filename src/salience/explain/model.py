"""What an explainer asks of a model: a black box that is called, or a white box that has gradients."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float

from salience.core.unit import Unit


@runtime_checkable
class BlackBox(Protocol):
    """Answer for rows of a table, and say which parts a row has.

    A row is a dictionary of canonical values, as ``schema.parse`` returns them. A model that knows a faster way than
    changed raw rows may also have ``outputs_without(rows, removed)``, which returns for each row the outputs (set,
    output) without each of its sets of units, a boolean array (set, unit); see :class:`salience.explain.perturb.Perturber`.
    """

    schema: Any

    def outputs(self, frame: pd.DataFrame) -> Float[np.ndarray, "row output"]:
        """Return logits of each class, or the target in its own units (one output)."""

    def predict_proba(self, outputs: Float[np.ndarray, "row output"]) -> Float[np.ndarray, "row output"]:
        """Return class probabilities of outputs."""

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return the units of a row."""

    def remove(self, row: dict[str, Any], units: tuple[Unit, ...]) -> dict[str, Any]:
        """Return the row with the neutral value in place of these units."""


@runtime_checkable
class WhiteBox(BlackBox, Protocol):
    """A black box that also shows its continuous input, so that gradients can be taken.

    ``finish(forward_tokens(embed(collate(prepare(frame)))))`` are the numbers of ``outputs(frame)``.
    Tokens are :class:`salience.models.slots.Tokens`, one entry an encoder.
    """

    def prepare(self, frame: pd.DataFrame) -> list[Any]:
        """Return one compact example a row."""

    def collate(self, examples: list[Any]) -> Any:
        """Join examples to a batch."""

    def embed(self, batch: Any) -> dict[str, Any]:
        """Return the continuous input, tokens by encoder."""

    def baseline(self, batch: Any) -> dict[str, Any]:
        """Return the neutral input of the same shape."""

    def forward_tokens(self, tokens: dict[str, Any]) -> Any:
        """Return raw outputs (batch, output) from tokens."""

    def finish(self, output: Any) -> Any:
        """Return outputs as ``outputs(frame)`` has them: calibrated, in the target's own units."""

    def unit_offsets(self, row: dict[str, Any]) -> dict[str, int]:
        """Return, for each encoder, where its units begin in ``units(row)``."""
