"""A model that remembers what it answered to a row without some units, so that metrics share what they ask."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from salience.explain.perturb import Perturber

WIDEST = 64  # outputs of a row that are worth keeping; a language model has as many as its vocabulary


class Remembering:
    """Stand in for a black box; equal sets of equal rows are evaluated once, whoever asks.

    Args:
        model: the model.
        memory_mb: memory for one pass of the model, in MiB.

    Attributes:
        forwards: rows that the model evaluated so far.
    """

    def __init__(self, model: Any, memory_mb: int | float = 256) -> None:
        self.model, self.perturber = model, Perturber(model, memory_mb)
        self.known: dict[tuple[Any, ...], dict[bytes, np.ndarray]] = {}
        self.cells: dict[int, Any] = {}  # kept alive, so that no other picture gets the address of one

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    @property
    def forwards(self) -> int:
        """Rows that the model evaluated so far."""
        return self.perturber.forwards

    def outputs_without(
        self, rows: Sequence[dict[str, Any]], removed: Sequence[Bool[np.ndarray, "set unit"]]
    ) -> list[Float[np.ndarray, "set output"]]:
        """Return the outputs of each row without each of its sets."""
        memories = [self.known.setdefault(self._name(row), {}) for row in rows]
        keys = [[bits.tobytes() for bits in np.packbits(found, axis=1)] for found in removed]
        fresh = [
            np.array([i for i, key in enumerate(k) if key not in memory], dtype=int)
            for k, memory in zip(keys, memories, strict=True)
        ]
        asked = [i for i, lines in enumerate(fresh) if len(lines)]
        found = self.perturber.outputs([rows[i] for i in asked], [removed[i][fresh[i]] for i in asked])
        given: list[dict[bytes, np.ndarray]] = [{} for _ in rows]
        for i, outputs in zip(asked, found, strict=True):
            given[i] = {keys[i][line]: output for line, output in zip(fresh[i], outputs, strict=True)}
            if outputs.shape[1] <= WIDEST:
                memories[i].update(given[i])
        return [
            np.array([new[key] if key in new else memory[key] for key in k])
            for k, new, memory in zip(keys, given, memories, strict=True)
        ]

    def _name(self, row: dict[str, Any]) -> tuple[Any, ...]:
        """Return what tells a row from others: its cells, and the address of a cell that is an object."""
        return tuple((name, self._cell(cell)) for name, cell in row.items())

    def _cell(self, cell: Any) -> Any:
        if cell is None or isinstance(cell, str | bytes | int):
            return cell
        if isinstance(cell, float):
            return repr(cell)  # NaN is not equal to itself
        self.cells[id(cell)] = cell
        return id(cell)
