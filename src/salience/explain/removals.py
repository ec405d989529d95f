"""What methods that take parts of rows away share: parts, calls, counts, and the attributions at the end."""

from collections.abc import Sequence
from hashlib import sha256
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from salience.core.stats import generator
from salience.core.unit import Unit
from salience.explain.attribution import Attribution
from salience.explain.model import BlackBox
from salience.explain.perturb import Perturber
from salience.explain.rows import records
from salience.explain.target import Target

SETS_SHARE = 0.25  # of the memory budget, for the sets of units of one call
BASELINE = "the row without its units"


class Removals:
    """Take parts of a group of rows away, count what the model evaluates, and dress the values of the parts.

    A part is one unit. Where a row has more units than ``limit``, it is a run of neighbouring units of one column,
    which are taken away together and share the value of the part equally; the longest run is then in the evidence as
    ``"units_a_part"``.

    Args:
        model: a black box.
        frame: canonical rows.
        targets: one a row.
        memory_mb: budget of :class:`~salience.explain.perturb.Perturber`, in MiB.
        limit: parts that a row has at most.

    Attributes:
        units: units of each row.
        counts: number of parts of each row.
        part: for each row, the part of each unit.
        whole, empty: the explained quantity with all parts and with none, after :meth:`first`.
        forwards: rows that the model has evaluated for each row.
    """

    def __init__(
        self,
        model: BlackBox,
        frame: pd.DataFrame,
        targets: Sequence[Target],
        memory_mb: int | float,
        limit: int,
    ) -> None:
        self._begin, self._memory_mb, self._targets = perf_counter(), memory_mb, targets
        self._perturber = Perturber(model, memory_mb)
        self._rows = records(model, frame)
        self.units = [model.units(row) for row in self._rows]
        self.part = [parts(found, limit) for found in self.units]
        self.counts = [int(part.max(initial=-1)) + 1 for part in self.part]
        self.forwards = np.zeros(len(self._rows), dtype=int)
        self.whole = self.empty = np.zeros(len(self._rows))

    def first(self, removed: Sequence[Bool[np.ndarray, "set part"]]) -> list[Float[np.ndarray, " set"]]:
        """Return :meth:`scores` of one array of sets a row; the whole and the empty rows are evaluated with them."""
        ends = [np.array([[False], [True]]).repeat(count, axis=1) for count in self.counts]
        asked = [np.concatenate(pair) for pair in zip(ends, removed, strict=True)]
        found = self.scores(range(len(asked)), asked)
        if found:
            self.whole, self.empty = np.array([scores[:2] for scores in found]).T
        return [scores[2:] for scores in found]

    def scores(
        self, index: Sequence[int], removed: Sequence[Bool[np.ndarray, "set part"]]
    ) -> list[Float[np.ndarray, " set"]]:
        """Return the explained quantity of some rows without each of their sets of parts.

        Args:
            index: positions of the rows.
            removed: one array of sets for each of them.
        """
        result: list[np.ndarray] = []
        sizes = [len(sets) * len(self.units[i]) for i, sets in zip(index, removed, strict=True)]
        for pack in _packs(sizes, SETS_SHARE * self._memory_mb * 2**20):
            some = list(index[pack])
            sets = [found[:, self.part[i]] for i, found in zip(some, removed[pack], strict=True)]
            asked = [self._rows[i] for i in some], sets, [self._targets[i] for i in some]
            result += self._perturber.scores(*asked)
            self.forwards[some] += self._perturber.row_forwards
        return result

    def generators(self, seed: int, purpose: str) -> list[np.random.Generator]:
        """Return a generator for each row, which depends on the seed, the purpose and its units alone."""
        return [row_generator(seed, purpose, units) for units in self.units]

    def attributions(
        self,
        values: Sequence[Float[np.ndarray, " part"]],
        *,
        errors: Sequence[Float[np.ndarray, " part"]] | None = None,
        complete: bool = False,
        evidence: Sequence[dict[str, Any]] | None = None,
        baseline: str = BASELINE,
    ) -> list[Attribution]:
        """Return one attribution a row.

        Args:
            values: value of each part.
            errors: standard error of each value.
            complete: whether the method claims that values add up to the change from the empty row to the whole.
            evidence: more evidence of each row.
            baseline: the neutral input, in words.
        """
        second = (perf_counter() - self._begin) / max(self.forwards.sum(), 1)
        result = []
        for i, (part, found) in enumerate(zip(self.part, values, strict=True)):
            size = np.bincount(part, minlength=self.counts[i])[part]
            shared = found[part] / size
            more = {} if evidence is None else dict(evidence[i])
            if errors is not None:
                more["standard_errors"] = errors[i][part] / size
            if len(part) > self.counts[i]:
                more["units_a_part"] = float(size.max())
            whole, empty = float(self.whole[i]), float(self.empty[i])
            gap = float(shared.sum() - (whole - empty)) if complete else None
            spent = int(self.forwards[i])
            result.append(Attribution(shared, whole, empty, baseline, gap, spent, second * spent, more))
        return result


def parts(units: Sequence[Unit], limit: int) -> Int[np.ndarray, " unit"]:
    """Return the part of each unit: itself, or a run of neighbours of one column where there are more than ``limit``.

    Runs are as short as the limit allows. Where there are more columns than parts, runs go across columns.
    """
    count = len(units)
    if count <= limit:
        return np.arange(count)
    columns = np.array([unit.column for unit in units])
    turns = np.flatnonzero(np.r_[True, columns[1:] != columns[:-1]])
    inside = np.arange(count) - np.repeat(turns, np.diff(np.r_[turns, count]))
    for size in range(-(-count // limit), count + 1):
        starts = inside % size == 0
        if starts.sum() <= limit:
            return np.cumsum(starts) - 1
    return np.arange(count) // -(-count // max(limit, 1))


def row_generator(seed: int, purpose: str, units: Sequence[Unit]) -> np.random.Generator:
    """Return a generator that depends on the seed, the purpose and the labels of a row's units alone.

    So a row gets the same numbers in a batch and alone.
    """
    names = "\x1f".join([purpose, *(unit.label for unit in units)])
    digest = sha256(names.encode("utf-8", "surrogatepass")).hexdigest()
    return generator(seed, digest[:4], digest[4:8])  # four characters of a name count


def _packs(sizes: Sequence[int], budget: float) -> list[slice]:
    packs, start, held = [], 0, 0
    for stop, size in enumerate(sizes):
        if stop > start and held + size > budget:
            packs.append(slice(start, stop))
            start, held = stop, 0
        held += size
    return [*packs, slice(start, len(sizes))] if sizes else []
