"""An interval of coherence: bootstrap over groups of examples, from the products of the groups' gradient sums."""

import numpy as np
from scipy import stats

from salience.core.stats import generator

FEWEST = 4


def unbiased_interval(
    products: np.ndarray,
    norms: np.ndarray,
    sizes: np.ndarray,
    *,
    level: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return an interval of the unbiased coherence by resampling groups of examples.

    Of resampled groups only products of *different* groups count, since a group drawn twice would look coherent
    with itself: numerator Σ_{g≠h} w_g w_h S_g·S_h over the number of such pairs of examples, denominator the
    mean squared norm. The percentile interval is widened by Student's t for few groups.

    Args:
        products: inner products of the groups' gradient sums.
        norms: sum of squared norms of each group.
        sizes: examples of each group.
        level: coverage.
        replicates: resamples.
        seed: seed of the resampling.

    Returns:
        Both ends, within [−1, 1]; None with fewer than four groups, or where all gradients are zero.
    """
    groups = len(sizes)
    if groups < FEWEST or not norms.sum() > 0:
        return None
    whole = _between(np.ones((1, groups)), products, norms, sizes)[0]
    drawn = generator(seed, "coherence").multinomial(groups, np.full(groups, 1 / groups), replicates)
    found = _between(drawn.astype(float), products, norms, sizes)
    found = found[np.isfinite(found)]
    tail = (1 - level) / 2
    wider = np.sqrt(groups / (groups - 1)) * stats.t.ppf(1 - tail, groups - 1) / stats.norm.ppf(1 - tail)
    low, high = whole + wider * (np.quantile(found, [tail, 1 - tail]) - whole)
    return float(max(low, -1.0)), float(min(high, 1.0))


def _between(weights: np.ndarray, products: np.ndarray, norms: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return for each line of weights the mean product of examples of different groups over the mean squared norm."""
    across = products - np.diag(np.diag(products))
    pairs = np.outer(sizes, sizes) - np.diag(sizes**2)
    top = np.einsum("rg,gh,rh->r", weights, across, weights)
    count = np.einsum("rg,gh,rh->r", weights, pairs.astype(float), weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (top / count) / ((weights @ norms) / (weights @ sizes))
