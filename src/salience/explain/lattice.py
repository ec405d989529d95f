"""The best and the worst order of units: a search over the lattice of sets, exact where it is small enough.

An order is a path from the empty set to all units. The sum of the drops along it depends on the sets it passes, so
that the best path to a set is the best path to one of its subsets and one unit more: dynamic programming over 2^n
sets in place of n! orders. Above some units only the ``width`` best sets of each size are kept, for each end.
"""

from collections.abc import Callable, Generator

import numpy as np
from jaxtyping import Bool, Float, Int

Sets = Bool[np.ndarray, "set unit"]
Search = Generator[Sets, Float[np.ndarray, " set"], tuple[float, float]]
Frontier = tuple[Int[np.ndarray, " set"], Float[np.ndarray, " set"]]  # sets as bits, sum of drops on the way
LARGEST = 62  # units that fit the bits of an integer


def extremes(units: int, width: int | None) -> Search:
    """Ask for the drops of sets, size by size, and return the least and greatest sum of drops of an order.

    A generator: it yields sets to take away and is sent their drops.

    Args:
        units: number of units, 1 to :data:`LARGEST`.
        width: sets of each size that are kept for each end; None for all, which makes it exact.
    """
    start = (np.zeros(1, dtype=np.int64), np.zeros(1))
    ends = [start, start]  # least and greatest
    for _ in range(units):
        grown = [_grown(*end, units, best) for end, best in zip(ends, (np.minimum, np.maximum), strict=True)]
        asked, inverse = np.unique(np.concatenate([masks for masks, _ in grown]), return_inverse=True)
        drops = yield as_sets(asked, units)
        parts = np.split(drops[inverse], [len(grown[0][0])])
        ends = [
            _pruned(masks, sums + part, width, sign)
            for (masks, sums), part, sign in zip(grown, parts, (1, -1), strict=True)
        ]
    return float(ends[0][1].min()), float(ends[1][1].max())


def _grown(masks: np.ndarray, sums: np.ndarray, units: int, best: np.ufunc) -> Frontier:
    """Return every set with one unit more, and the best sum with which its subsets were reached."""
    bits = np.int64(1) << np.arange(units, dtype=np.int64)
    fresh = (masks[:, None] & bits) == 0
    children = (masks[:, None] | bits)[fresh]
    parents = np.repeat(sums, fresh.sum(axis=1))
    found, inverse = np.unique(children, return_inverse=True)
    reached = np.empty(len(found))
    reached[inverse] = parents  # any of them, to start from
    best.at(reached, inverse, parents)
    return found, reached


def _pruned(masks: np.ndarray, sums: np.ndarray, width: int | None, sign: int) -> Frontier:
    if width is None or len(masks) <= width:
        return masks, sums
    kept = np.argsort(sign * sums, kind="stable")[:width]
    return masks[kept], sums[kept]


def as_sets(masks: Int[np.ndarray, " set"], units: int) -> Sets:
    """Return sets of bits as lines of booleans."""
    return (masks[:, None] >> np.arange(units, dtype=np.int64) & 1).astype(bool)


def in_step(
    searches: list[Search], ask: Callable[[list[int], list[Sets]], list[np.ndarray]]
) -> list[tuple[float, float]]:
    """Run searches side by side, so that one call answers all of them, and return what they return.

    Args:
        searches: generators that yield sets and are sent drops.
        ask: from the positions of searches and their sets to their drops.
    """
    results: list[tuple[float, float]] = [(np.nan, np.nan)] * len(searches)
    waiting = {i: next(search) for i, search in enumerate(searches)}
    while waiting:
        found = ask(list(waiting), list(waiting.values()))
        for i, drops in zip(list(waiting), found, strict=True):
            try:
                waiting[i] = searches[i].send(drops)
            except StopIteration as end:
                results[i] = end.value
                del waiting[i]
    return results
