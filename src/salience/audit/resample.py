"""The bootstrap of AUROC without sorting again for every resample.

A resample only changes how often each row counts. With the rows sorted once by score, AUROC of all resamples is a
cumulative sum over counts. The draws are those of :func:`salience.core.stats.bootstrap`, so the numbers are the same.
"""

from collections.abc import Iterator

import numpy as np

from salience.core.stats import generator

CELLS = 2_000_000  # counts held at once


def counts(rows: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each row is drawn, ``(replicate, row)``, a few replicates at a time."""
    rng = generator(seed, "bootstrap")
    step = max(CELLS // max(rows, 1), 1)
    for start in range(0, replicates, step):
        draws = [rng.integers(0, rows, rows) for _ in range(min(step, replicates - start))]
        yield np.stack([np.bincount(draw, minlength=rows) for draw in draws]).astype(float)


def weighted_auroc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return AUROC with each row counted ``weights`` times, one a replicate; NaN where a class is absent.

    Args:
        positive: whether a row is of the positive class.
        scores: one a row; ties count half.
        weights: ``(replicate, row)``.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sorted_weights, label = weights[:, order], positive[order].astype(float)
    hits = np.add.reduceat(sorted_weights * label, starts, axis=1)
    misses = np.add.reduceat(sorted_weights * (1 - label), starts, axis=1)
    below = np.cumsum(misses, axis=1) - misses / 2
    pairs = hits.sum(axis=1) * misses.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, (hits * below).sum(axis=1) / pairs, np.nan)


def auroc_replicates(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return AUROC of every replicate: of classes, or of labels where the truth is ``(row, label)``."""
    classes = probabilities.shape[1]
    if truth.ndim == 1 and classes == 2:
        return weighted_auroc(truth == 1, probabilities[:, 1], weights)
    positive = truth == 1 if truth.ndim == 2 else truth[:, None] == np.arange(classes)
    each = np.stack([weighted_auroc(positive[:, c], probabilities[:, c], weights) for c in range(classes)])
    defined = np.isfinite(each)
    with np.errstate(invalid="ignore"):
        return np.where(defined, each, 0.0).sum(axis=0) / np.where(
            defined.any(axis=0), defined.sum(axis=0), np.nan
        )


def auroc_gain(
    truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray, *, replicates: int, seed: int
) -> tuple[float, float]:
    """Return the 95 % paired bootstrap interval of the difference of two AUROCs; ``(nan, nan)`` if rarely defined."""
    gains = np.concatenate(
        [
            auroc_replicates(truth, ours, weights) - auroc_replicates(truth, theirs, weights)
            for weights in counts(len(truth), replicates, seed)
        ]
    )
    finite = gains[np.isfinite(gains)]
    if len(finite) * 2 < replicates:
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(low), float(high)
