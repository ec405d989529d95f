"""Shapley values by permutations: what a unit adds, averaged over random orders and their reverses."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from salience.explain.attribution import Attribution
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.removals import Removals
from salience.explain.shapley import exact_values, order_values, precise, prefixes, subsets
from salience.explain.target import Target

CARD = {
    "key": "permutation_shapley",
    "kind": "explainer",
    "title": "Shapley values by permutations",
    "entry": "PermutationShapley",
    "summary": "Takes units away in random orders and their reverses; a unit's value is its mean share of the fall. Values add up exactly; standard errors say how well they are known.",
    "paper": "Polynomial calculation of the Shapley value based on sampling (Castro, Gómez, Tejada, Computers & OR 2009); Sampling Permutations for Shapley Value Estimation (Mitchell et al., JMLR 2022)",
    "year": 2022,
    "url": "https://arxiv.org/abs/2104.12199",
    "source": "papers, algorithm 1 and section 4.1 (antithetic sampling)",
    "faithful": "Mean marginal contribution over uniform orders, each with its reverse; all subsets for few units.",
    "deviates": "Sampling stops once the largest standard error (over pairs of orders) is small. Beyond an eighth of max_forwards units, runs of neighbours are one player and share its value.",
    "needs": "black_box",
    "complete": True,
    "signed": True,
    "exact_linear": True,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "two forward passes a unit and pair of orders, 4 pairs at least, 2,048 passes a row at most",
    "defaults": {"tolerance": 0.02, "max_forwards": 2048, "exact": 10},
    "tiny": {"max_forwards": 256, "exact": 6},
}
PAIRS = 4  # orders with their reverses, evaluated between two looks at the standard errors


class PermutationShapley:
    """Attribute by Shapley values over random orders and their reverses.

    The evidence holds ``"standard_errors"``, from the spread over pairs of orders (zero where all subsets were
    evaluated), and the number of ``"orders"``.

    Args:
        tolerance: largest standard error at which sampling stops, as a share of the change of the answer from the empty
            row to the whole one; see :func:`salience.explain.shapley.precise`. 0 samples until ``max_forwards``.
        max_forwards: evaluations of a row at most; one round of four pairs is always made.
        exact: number of units up to which all subsets are evaluated, at most 16.
    """

    def __init__(self, tolerance: float = 0.02, max_forwards: int = 2048, exact: int = 10) -> None:
        within("tolerance", tolerance, 0)
        within("max_forwards", max_forwards, 2 * PAIRS)
        within("exact", exact, 0, 16)
        self.tolerance, self.max_forwards, self.exact = tolerance, max_forwards, exact

    def attribute(
        self,
        model: BlackBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row; see :mod:`salience.explain.model` for what the model must offer."""
        rows = Removals(model, frame, targets, memory_mb, self.max_forwards // (2 * PAIRS))
        streams = rows.generators(seed, "permutation")
        few = [count <= max(self.exact, 1) for count in rows.counts]
        orders = [_orders(rng, n) for rng, n in zip(streams, rows.counts, strict=True)]
        asked = [
            subsets(n)[::-1] if f else prefixes(o) for f, o, n in zip(few, orders, rows.counts, strict=True)
        ]
        found = rows.first(asked)
        samples: list[np.ndarray] = [
            exact_values(scores)[None] if f else _pair_values(rows, i, o, scores)
            for i, (f, o, scores) in enumerate(zip(few, orders, found, strict=True))
        ]
        active = [i for i, f in enumerate(few) if not f and self._goes_on(samples[i])]
        while active:
            more = {i: _orders(streams[i], rows.counts[i]) for i in active}
            found = rows.scores(active, [prefixes(more[i]) for i in active])
            for i, scores in zip(active, found, strict=True):
                samples[i] = np.concatenate([samples[i], _pair_values(rows, i, more[i], scores)])
            active = [i for i in active if self._goes_on(samples[i])]
        return rows.attributions(
            [pairs.mean(axis=0) for pairs in samples],
            errors=[_errors(pairs) for pairs in samples],
            complete=True,
            evidence=[{"orders": 0.0 if f else 2.0 * len(s)} for f, s in zip(few, samples, strict=True)],
        )

    def _goes_on(self, pairs: Float[np.ndarray, "pair part"]) -> bool:
        """Tell whether another round is needed and allowed."""
        allowed = 2 * (len(pairs) + PAIRS) * pairs.shape[1] <= self.max_forwards
        return allowed and not precise(_errors(pairs), pairs.mean(axis=0), self.tolerance)


def _orders(rng: np.random.Generator, parts: int) -> Int[np.ndarray, "order part"]:
    """Return a round of orders: the second half is the reverse of the first."""
    forth = rng.random((PAIRS, parts)).argsort(axis=1)
    return np.concatenate([forth, forth[:, ::-1]])


def _pair_values(
    rows: Removals, i: int, orders: Int[np.ndarray, "order part"], scores: Float[np.ndarray, " set"]
) -> Float[np.ndarray, "pair part"]:
    """Return the mean contributions of each order and its reverse."""
    forth, back = np.split(order_values(orders, scores, rows.whole[i], rows.empty[i]), 2)
    return (forth + back) / 2


def _errors(pairs: Float[np.ndarray, "pair part"]) -> Float[np.ndarray, " part"]:
    """Return the standard error of the mean over pairs; zero for exact values, which are one line."""
    if len(pairs) < 2:
        return np.zeros(pairs.shape[1])
    return pairs.std(axis=0, ddof=1) / np.sqrt(len(pairs))
