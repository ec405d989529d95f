"""What the Shapley methods share: all subsets, exact values, permutations, and when to stop."""

from math import comb

import numpy as np
from jaxtyping import Bool, Float, Int


def subsets(parts: int) -> Bool[np.ndarray, "subset part"]:
    """Return every subset, (2^parts, parts): bit ``i`` of a subset's position says whether part ``i`` is in it."""
    return (np.arange(2**parts)[:, None] >> np.arange(parts)) % 2 == 1


def exact_values(scores: Float[np.ndarray, " subset"]) -> Float[np.ndarray, " part"]:
    """Return the Shapley values of a game from the scores of all subsets of what is kept.

    ``φ_i = Σ_S |S|! (n − |S| − 1)! / n! · (v(S ∪ {i}) − v(S))`` over the sets ``S`` without ``i``
    (Shapley, 1953).

    Args:
        scores: the score of every subset, in the order of :func:`subsets`.
    """
    count = len(scores).bit_length() - 1
    inside = subsets(count)
    weight = np.array([1 / (count * comb(count - 1, size)) for size in range(count)])
    index, size = np.arange(len(scores)), inside.sum(axis=1)
    values = np.zeros(count)
    for i in range(count):
        without = index[~inside[:, i]]
        values[i] = weight[size[without]] @ (scores[without | (1 << i)] - scores[without])
    return values


def prefixes(orders: Int[np.ndarray, "order part"]) -> Bool[np.ndarray, "set part"]:
    """Return the sets that orders take away step by step, but for nothing and everything, one order after the other."""
    rank = orders.argsort(axis=1)
    count = orders.shape[1]
    return (rank[:, None, :] < np.arange(1, count)[:, None]).reshape(-1, count)


def order_values(
    orders: Int[np.ndarray, "order part"], scores: Float[np.ndarray, " set"], whole: float, empty: float
) -> Float[np.ndarray, "order part"]:
    """Return by how much the score falls when each part goes, in each order.

    Args:
        orders: orders in which parts go.
        scores: scores without each set of :func:`prefixes`.
        whole, empty: the score with all parts and with none.
    """
    steps = np.pad(scores.reshape(len(orders), -1), ((0, 0), (1, 1)))
    steps[:, 0], steps[:, -1] = whole, empty
    values = np.empty(orders.shape)
    np.put_along_axis(values, orders, steps[:, :-1] - steps[:, 1:], axis=1)
    return values


def precise(errors: Float[np.ndarray, " part"], values: Float[np.ndarray, " part"], tolerance: float) -> bool:
    """Tell whether the largest standard error is within the tolerance.

    The tolerance is a share of the change of the answer from the empty row to the whole one, or of a tenth of the sum of
    absolute values where that is more, as for values of both signs that nearly cancel.
    """
    change = max(abs(values.sum()), 0.1 * np.abs(values).sum())
    return bool(errors.max(initial=0.0) <= tolerance * change)
