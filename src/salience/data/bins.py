"""Edges of the bins of a column of numbers: quantiles, or the thresholds of a decision tree on that column alone.

Source: Gorishniy et al. 2022 (arXiv 2203.05556) and the authors' package ``rtdl_num_embeddings`` 0.0.12, whose
edges these are, bit for bit. The edges have the precision of the column (float32 or float64) and come as float64.
"""

from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int

from salience.core.errors import ConfigError, DataError

LEAST_GAIN = (
    1e-12  # a share of the variance that rounding alone can give; without it pure leaves are split on
)
OFFSET = 1024.0  # a column this many times farther from zero than it is wide is shifted before a tree sees it


def quantile_edges(
    column: Float[np.ndarray, " row"], n_bins: int, *, legacy: bool = False
) -> Float[np.ndarray, " edge"]:
    """Return the distinct quantiles of a column, which bound its bins.

    Args:
        column: finite values of the training rows, at least two of them distinct.
        n_bins: highest number of bins, at least 2; there are fewer where quantiles coincide.
        legacy: as the experiments of the paper did: no more quantiles than distinct values are asked for. The
            bins of columns with few values then lie elsewhere; the package, and the default, takes all quantiles and
            then leaves out those that coincide.

    Returns:
        Strictly increasing edges, the least and the greatest value among them.

    Raises:
        ConfigError: ``n_bins`` is below 2.
        DataError: the column has no two distinct finite values, holds others, or is too wide for its precision.
    """
    values = _checked(column, n_bins)
    if legacy:
        count = min(n_bins, len(np.unique(values)))
        return np.unique(np.quantile(values, np.linspace(0.0, 1.0, count + 1))).astype(np.float64)
    return np.unique(_torch_quantiles(np.sort(values), _torch_levels(n_bins))).astype(np.float64)


def tree_edges(
    column: Float[np.ndarray, " row"],
    target: Float[np.ndarray, "row *output"] | Int[np.ndarray, "row *output"],
    n_bins: int,
    *,
    task: str,
    min_samples_leaf: int = 1,
    min_impurity_decrease: float = 0.0,
) -> Float[np.ndarray, " edge"]:
    """Return the thresholds of a decision tree that predicts the target from this column, and the column's ends.

    Args:
        column: finite values of the training rows, at least two of them distinct.
        target: what the rows of ``column`` should give; several columns share one tree.
        n_bins: highest number of leaves, at least 2.
        task: a name that ends in ``"regression"`` takes a regression tree, any other a classification tree.
        min_samples_leaf: fewest training rows of a bin.
        min_impurity_decrease: least gain of a split: of the variance of the standardised target, or of Gini's
            impurity, each weighted by the share of the rows.

    Returns:
        Strictly increasing edges; two of them where no split is worth while.

    Raises:
        ConfigError: ``n_bins`` is below 2.
        DataError: as `quantile_edges`; or the target does not fit the column.

    A regression target is standardised here, as in the experiments of the paper, so that ``min_impurity_decrease`` means
    the same whatever the target's unit. Trees see float32: a column far from zero is moved there first, and its thresholds
    back, which the package does not do.
    """
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    values = _checked(column, n_bins)
    low, high = values.min(), values.max()
    shift = low if max(abs(low), abs(high)) > OFFSET * (high - low) else values.dtype.type(0)
    regression = task.endswith("regression")
    wanted = _checked_target(np.asarray(target), len(values), regression)
    least = max(min_impurity_decrease, LEAST_GAIN)
    options = {"min_samples_leaf": min_samples_leaf, "min_impurity_decrease": least}
    maker = DecisionTreeRegressor if regression else DecisionTreeClassifier
    tree = (
        maker(max_leaf_nodes=n_bins, random_state=0, **options).fit((values - shift)[:, None], wanted).tree_
    )
    inner = tree.threshold[tree.children_left != tree.children_right] + np.float64(shift)
    return np.unique(np.concatenate([[low], inner.astype(values.dtype).clip(low, high), [high]])).astype(
        np.float64
    )


def _checked(column: np.ndarray, n_bins: int) -> np.ndarray:
    """Return the column in float32, if it has that, or float64, after asking whether it can be cut into bins."""
    if n_bins < 2:
        raise ConfigError(
            "Bins of a number need two at least", f"n_bins={n_bins}.", "Use n_bins >= 2.", code="SAL-C005"
        )
    values = np.asarray(column)
    values = values if values.dtype == np.float32 else values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        width = values.max() - values.min() if values.size else np.nan
    if values.ndim != 1 or not np.isfinite(width) or width == 0:
        raise DataError(
            "A column of numbers cannot be cut into bins",
            _complaint(values),
            "Pass one column of finite numbers of which two differ; constant columns and missing cells are the encoder's.",
            code="SAL-D061",
        )
    return values


def _complaint(values: np.ndarray) -> str:
    if values.ndim != 1:
        return f"Its shape is {values.shape}."
    if not values.size:
        return "It has no rows."
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        return f"{len(bad)} of its {len(values)} values are missing or infinite, the first in row {bad[0]}."
    if values.min() == values.max():
        return f"All its {len(values)} values are {values[0]:g}."
    return f"Its width, from {values.min():g} to {values.max():g}, overflows {values.dtype}."


def _checked_target(target: np.ndarray, rows: int, regression: bool) -> np.ndarray:
    if len(target) != rows or (target.dtype.kind == "f" and not np.isfinite(target).all()):
        raise DataError(
            "A target cannot choose the bins of a column",
            f"{len(target)} values for {rows} rows, {int(np.sum(target != target))} of them missing.",
            "Pass one finite target for each row of the column.",
            code="SAL-D061",
        )
    if not regression:
        return target
    spread = target.std(axis=0)
    return (target - target.mean(axis=0)) / np.where(spread == 0, 1, spread)


def _torch_levels(n_bins: int) -> Float[np.ndarray, " level"]:
    """Return ``torch.linspace(0, 1, n_bins + 1)`` in float32: up from 0 in the first half, down from 1 in the second."""
    step = float(np.float32(1) / np.float32(n_bins))
    index = np.arange(n_bins + 1)
    return np.where(index < (n_bins + 1) // 2, index * step, 1 - (n_bins - index) * step).astype(np.float32)


def _torch_quantiles(ordered: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return ``torch.quantile`` of ordered values to the last bit, which a fused multiply-add decides."""
    rank = levels.astype(ordered.dtype) * ordered.dtype.type(len(ordered) - 1)
    below = np.floor(rank)
    weight = rank - below
    start, end = ordered[below.astype(np.int64)], ordered[np.ceil(rank).astype(np.int64)]
    early = weight < 0.5
    return _fused(np.where(early, weight, weight - 1), end - start, np.where(early, start, end))


def _fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return ``a * b + c`` rounded once."""
    if a.dtype == np.float32:
        return (a.astype(np.float64) * b + c).astype(np.float32)
    exact = (Fraction(x) * Fraction(y) + Fraction(z) for x, y, z in zip(a, b, c, strict=True))
    return np.array([float(number) for number in exact])
