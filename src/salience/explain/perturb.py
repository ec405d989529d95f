"""Evaluate rows without some of their units: the one place that perturbs, for methods, metrics and ground truth."""

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from salience.explain.model import BlackBox
from salience.explain.rows import evaluate, output_bytes, row_bytes
from salience.explain.state import frozen
from salience.explain.target import Target, score

Keep = Callable[[int, Float[np.ndarray, "line output"]], Float[np.ndarray, "line ..."]]
Piece = tuple[int, Bool[np.ndarray, "line unit"]]  # a row, and sets of its units


class Perturber:
    """Ask a model about rows from which sets of units are taken away.

    All rows and sets of a call are packed into as few calls of the model as the memory allows; sets of a row that are
    equal are evaluated once. A model that offers ``outputs_without(rows, removed)`` answers itself; other models get
    changed raw rows from ``model.remove``. The model is left as it was found.

    Args:
        model: a black box.
        memory_mb: budget for the raw rows and the outputs of one call, in MiB; the model bounds its own batches.

    Attributes:
        forwards: rows that the model has evaluated so far.
        seconds: time spent on it so far.
        row_forwards: rows that the model evaluated in the latest call, for each row of that call.
        tokens_saved: tokens that a language model did not read again, since contexts began alike.
    """

    def __init__(self, model: BlackBox, memory_mb: int | float = 256) -> None:
        self.model, self.memory_mb = model, memory_mb
        self.forwards, self.seconds, self.tokens_saved = 0, 0.0, 0
        self.row_forwards: Int[np.ndarray, " row"] = np.zeros(0, dtype=int)

    def outputs(
        self, rows: Sequence[dict[str, Any]], removed: Sequence[Bool[np.ndarray, "set unit"]]
    ) -> list[Float[np.ndarray, "set output"]]:
        """Return the outputs of each row without each of its sets.

        Args:
            rows: raw rows.
            removed: for each row one line a set; True takes the unit of ``model.units(row)`` away.
        """
        return self.kept(rows, removed, lambda _, outputs: outputs)

    def scores(
        self,
        rows: Sequence[dict[str, Any]],
        removed: Sequence[Bool[np.ndarray, "set unit"]],
        targets: Sequence[Target],
    ) -> list[Float[np.ndarray, " set"]]:
        """Return the quantity that each row's target names, without each of its sets; see :meth:`outputs`."""
        return self.kept(rows, removed, lambda row, outputs: score(outputs, [targets[row]] * len(outputs)))

    def kept(
        self, rows: Sequence[dict[str, Any]], removed: Sequence[Bool[np.ndarray, "set unit"]], keep: Keep
    ) -> list[Float[np.ndarray, "set ..."]]:
        """Return what ``keep`` makes of the outputs of each row without each of its sets; see :meth:`outputs`.

        Args:
            rows: raw rows.
            removed: one array a row.
            keep: from the position of a row and outputs to a line each. Outputs are dropped after each call of the
                model: those of a language model are as many as its vocabulary.
        """
        begin = perf_counter()
        sets, inverse = zip(*map(distinct, removed), strict=True) if len(removed) else ((), ())
        self.row_forwards = np.array([len(found) for found in sets], dtype=int)
        saved = getattr(self.model, "tokens_saved", 0)
        with frozen(self.model):
            fast = hasattr(self.model, "outputs_without")
            found = self._without(rows, sets, keep) if fast else self._from_rows(rows, sets, keep)
        self.forwards += int(self.row_forwards.sum())
        self.tokens_saved += getattr(self.model, "tokens_saved", 0) - saved
        self.seconds += perf_counter() - begin
        return [lines[where] for lines, where in zip(found, inverse, strict=True)]

    def _without(
        self, rows: Sequence[dict[str, Any]], sets: Sequence[np.ndarray], keep: Keep
    ) -> list[np.ndarray]:
        parts: list[list[np.ndarray]] = [[] for _ in rows]
        for pieces in self._packs(rows, sets):
            asked = [rows[i] for i, _ in pieces]
            outputs = self.model.outputs_without(asked, [part for _, part in pieces])
            for (i, _), found in zip(pieces, outputs, strict=True):
                parts[i].append(keep(i, np.asarray(found, dtype=np.float64)))
        return [
            np.concatenate(found) if found else keep(i, np.zeros((0, 1))) for i, found in enumerate(parts)
        ]

    def _packs(self, rows: Sequence[dict[str, Any]], sets: Sequence[np.ndarray]) -> Iterator[list[Piece]]:
        """Cut rows × sets into calls that the memory allows; a row may be cut between its sets."""
        room = budget = self.memory_mb * 2**20
        pack: list[Piece] = []
        for i, (row, found) in enumerate(zip(rows, sets, strict=True)):
            size, start = row_bytes(row) + output_bytes(self.model), 0
            while start < len(found):
                if room < size and pack:
                    yield pack
                    room, pack = budget, []
                part = found[start : start + max(1, int(room / size))]
                pack.append((i, part))
                start, room = start + len(part), room - size * len(part)
        if pack:
            yield pack

    def _from_rows(
        self, rows: Sequence[dict[str, Any]], sets: Sequence[np.ndarray], keep: Keep
    ) -> list[np.ndarray]:
        ends = np.cumsum([len(found) for found in sets])
        owner = np.repeat(np.arange(len(sets)), [len(found) for found in sets])

        def lines(outputs: np.ndarray, first: int) -> np.ndarray:
            mine = owner[first : first + len(outputs)]
            return np.concatenate([keep(i, outputs[mine == i]) for i in np.unique(mine)])

        if not len(owner):
            return [keep(i, np.zeros((0, 1))) for i in range(len(rows))]
        return np.split(evaluate(self.model, self._variants(rows, sets), self.memory_mb, lines), ends[:-1])

    def _variants(
        self, rows: Sequence[dict[str, Any]], sets: Sequence[np.ndarray]
    ) -> Iterator[dict[str, Any]]:
        for row, found in zip(rows, sets, strict=True):
            units = self.model.units(row)
            for gone in found:
                taken = tuple(units[i] for i in np.flatnonzero(gone))
                yield self.model.remove(row, taken) if taken else row


def distinct(
    removed: Bool[np.ndarray, "set unit"],
) -> tuple[Bool[np.ndarray, "distinct unit"], Int[np.ndarray, " set"]]:
    """Return the sets that differ, in order of first appearance, and for each set its position among them."""
    removed = np.asarray(removed, dtype=bool)
    position: dict[bytes, int] = {}
    first: list[int] = []
    inverse = np.empty(len(removed), dtype=int)
    for i, bits in enumerate(np.packbits(removed, axis=1)):
        key = bits.tobytes()
        if key not in position:
            position[key] = len(first)
            first.append(i)
        inverse[i] = position[key]
    return removed[first], inverse


def singles(units: int) -> Bool[np.ndarray, "set unit"]:
    """Return nothing, everything, and each unit alone, as sets to take away, (units + 2, units)."""
    return np.concatenate([np.zeros((1, units), bool), np.ones((1, units), bool), np.eye(units, dtype=bool)])
