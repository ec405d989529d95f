"""Intervals and tests that do not depend on torch."""

from collections.abc import Callable
from itertools import product

import numpy as np


def generator(seed: int, *names: str) -> np.random.Generator:
    """Return a random generator for one purpose: the same seed and names give the same stream."""
    words = [seed, *(int.from_bytes(name.encode("utf-8"), "little") % (1 << 32) for name in names)]
    return np.random.default_rng(words)


def bootstrap(
    statistic: Callable[..., float],
    *arrays: np.ndarray,
    replicates: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of a statistic of rows.

    Args:
        statistic: maps the resampled arrays to a number; a NaN replicate is left out.
        arrays: arrays with one entry a row, resampled together.
        replicates: number of resamples.
        level: coverage of the interval.
        seed: seed of the resampling.

    Returns:
        Lower and upper end; ``(nan, nan)`` if fewer than half of the replicates are defined.
    """
    rng = generator(seed, "bootstrap")
    rows = len(arrays[0])
    values = []
    for _ in range(replicates if rows else 0):
        index = rng.integers(0, rows, rows)
        values.append(statistic(*(array[index] for array in arrays)))
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if len(finite) * 2 < max(replicates, 1):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(values: np.ndarray, *, seed: int = 0, replicates: int = 500) -> tuple[float, float]:
    """Return a bootstrap interval of the mean of ``values`` (computed at once, without a loop)."""
    values = np.asarray(values, dtype=float)
    if len(values) == 0:
        return float("nan"), float("nan")
    index = generator(seed, "mean").integers(0, len(values), (replicates, len(values)))
    low, high = np.quantile(values[index].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def sign_flip_test(differences: np.ndarray, *, replicates: int = 2000, seed: int = 0) -> float:
    """Return the two-sided p-value that paired differences have mean zero, by sign flips.

    All flips of few differences are counted, so that p is exact; else ``replicates`` random ones.
    """
    differences = np.asarray(differences, dtype=float)
    if len(differences) == 0:
        return 1.0
    few = 2 ** len(differences) <= replicates
    if few:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(differences))))
    else:
        signs = generator(seed, "signs").choice([-1.0, 1.0], (replicates, len(differences)))
    null = np.abs((signs * differences).mean(axis=1))
    as_far = (null >= abs(differences.mean()) - 1e-12).sum()
    return float(as_far / len(signs) if few else (1 + as_far) / (replicates + 1))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return Holm-adjusted p-values, in the order given."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    scaled = p[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted
