"""Orders of units, and the sets that are taken away along them: shared by everything that measures faithfulness."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from jaxtyping import Bool, Float, Int

from salience.core.stats import generator
from salience.explain.explanation import Explanation

FRACTIONS = (0.01, 0.05, 0.10, 0.20, 0.50)  # ERASER's bins
NOTHING = 0  # position of the untouched row among the sets of a plan


def values_of(explanation: Explanation) -> Float[np.ndarray, " unit"]:
    """Return the values of an explanation; NaN where the method says nothing, also where it says infinity."""
    values = np.array(explanation.values, dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def order_of(explanation: Explanation, seed: int) -> Int[np.ndarray, " unit"]:
    """Return the units from the highest to the lowest value; units without a value come last.

    Units of one value are in a random order of their own, the same for every metric of a seed: the order of reading
    would hand a constant map the merit of the first words.
    """
    values = np.nan_to_num(values_of(explanation), nan=-np.inf)
    ties = generator(seed, "ties", str(explanation.row)).permutation(len(values))
    return np.lexsort((ties, -values))


def shares(units: int, fractions: Sequence[float] = FRACTIONS) -> list[int]:
    """Return the number of units of each fraction, rounded up, at least one."""
    return [min(units, max(1, ceil(fraction * units - 1e-9))) for fraction in fractions]


def grid(units: int, steps: int) -> Int[np.ndarray, " step"]:
    """Return sizes from 0 to all units in at most ``steps`` steps as equal as whole units allow."""
    return np.unique(np.round(np.linspace(0, units, min(units, steps) + 1)).astype(int))


def tops(order: Int[np.ndarray, " unit"], sizes: Sequence[int]) -> Bool[np.ndarray, "size unit"]:
    """Return for each size the set of that many first units of an order."""
    rank = np.empty(len(order), dtype=int)
    rank[order] = np.arange(len(order))
    return rank < np.asarray(sizes, dtype=int).reshape(-1, 1)


def drops(answers: Float[np.ndarray, " set"]) -> Float[np.ndarray, " changed"]:
    """Return how much the answer falls from the untouched row, which comes first, to every other set."""
    return answers[NOTHING] - answers[NOTHING + 1 :]


def with_nothing(*sets: Bool[np.ndarray, "set unit"]) -> Bool[np.ndarray, "set unit"]:
    """Return sets to take away, after the empty one."""
    return np.concatenate([np.zeros((1, sets[0].shape[1]), dtype=bool), *sets])
