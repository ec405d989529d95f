"""Comprehensiveness and sufficiency: which sets are taken away, and how the changes of the answer are averaged.

One code for the metrics and for the measurement that every explanation carries. Conventions differ between the paper,
its code and a well-known library, by as much as methods do; each is named.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from salience.explain.explanation import Explanation
from salience.explain.options import within
from salience.explain.orders import FRACTIONS, order_of, shares, tops, values_of, with_nothing
from salience.explain.scores import one_of

DECILES = tuple(tenth / 10 for tenth in range(1, 11))
CONVENTIONS = {
    "eraser": "ERASER's scorer: plain mean of p(x) − p_k over the top {shares} % of the units (rounded up, at least one)",
    "paper": "ERASER's paper: sum of p(x) − p_k over the top {shares} % of the units (rounded up, at least one), divided by the number of shares plus one",
    "ferret": "ferret: plain mean of p(x) − p_k over the top {shares} % of the units (rounded down), only units with a positive value, a set that did not grow left out; {empty} where none is left",
}
NOTHING_LEFT = {True: 0.0, False: 1.0}  # ferret's score where no set is left: comprehensiveness, sufficiency


def fractions_of(convention: str, fractions: Sequence[float] | None) -> tuple[float, ...]:
    """Return the fractions that were asked for, or those of the convention.

    Raises:
        ConfigError: an unknown convention, or a fraction outside [0, 1].
    """
    one_of("convention", convention, CONVENTIONS)
    for fraction in fractions or ():
        within("fractions", fraction, 0, 1)
    return tuple(fractions or (DECILES if convention == "ferret" else FRACTIONS))


def sets(
    explanation: Explanation, convention: str, fractions: Sequence[float], *, remove: bool, seed: int
) -> Bool[np.ndarray, "set unit"]:
    """Return the sets that are taken away: nothing first, then one a fraction.

    Args:
        explanation: gives the order.
        convention: a key of :data:`CONVENTIONS`.
        fractions: shares of the units.
        remove: True takes the top units away (comprehensiveness), False all others (sufficiency).
        seed: seed of the order of units with one value.
    """
    values, order = values_of(explanation), order_of(explanation, seed)
    if convention == "ferret":
        positive = int((np.nan_to_num(values) > 0).sum())
        sizes = [min(int(fraction * len(values) + 1e-9), positive) for fraction in fractions]
        sizes = [k for k, before in zip(sizes, [0, *sizes], strict=False) if k > before]
    else:
        sizes = shares(len(values), fractions)
    top = tops(order, sizes)
    return with_nothing(top if remove else ~top)


def mean_drop(
    drops: Float[np.ndarray, "... fraction"], convention: str = "eraser", *, remove: bool = True
) -> Float[np.ndarray, "..."]:
    """Return the average of the changes of the answer over fractions, by the rule of a convention."""
    if not drops.shape[-1]:
        return np.full(drops.shape[:-1], NOTHING_LEFT[remove])
    return drops.sum(axis=-1) / (drops.shape[-1] + (convention == "paper"))


def words(convention: str, fractions: Sequence[float], answer: str, *, remove: bool = True) -> str:
    """Return the exact definition as one sentence."""
    listed = ", ".join(f"{100 * fraction:g}" for fraction in fractions)
    rule = CONVENTIONS[convention].format(shares=listed, empty=f"{NOTHING_LEFT[remove]:g}")
    what = "without these units" if remove else "with these units alone"
    return f"{rule}; p_k is p {what}; p is the {answer}; a removed unit gets its neutral value."
