"""Normalised AOPC: where an explanation stands between the worst and the best order that there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Float

from salience.explain.answers import answers, scale_words
from salience.explain.explanation import Explanation
from salience.explain.lattice import LARGEST, extremes, in_step
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.orders import drops, order_of, tops, with_nothing
from salience.explain.perturb import Perturber
from salience.explain.scores import ANSWER, Scores

CARD = {
    "key": "naopc",
    "kind": "metric",
    "title": "Normalised AOPC",
    "entry": "NAOPC",
    "summary": "AOPC between 0, the worst order of the units for this row and model, and 1, the best; so that models can be compared.",
    "convention": "(AOPC − low) / (high − low); AOPC = 1/n · Σ p(x) − p(x without the first k units), k = 1 … n; low and high over all n! orders, exactly up to 12 units, by beam search above.",
    "better": "higher",
    "family": "faithfulness",
    "needs": "black_box",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "Normalized AOPC (Edin et al., ACL 2025)",
    "year": 2025,
    "url": "https://arxiv.org/abs/2408.08137",
    "source": "paper",
    "faithful": "Exact bounds for short rows, a beam of 50 for longer ones.",
    "deviates": "Exact bounds come from 2^n sets in place of n! orders; the beam keeps sets, not orders, and is told of the explanation's own order, so that the score stays in [0, 1].",
    "cost": "2^n rows up to 12 units; about 50 n² rows above, which is why rows of more than 32 units are left out",
    "defaults": {"exact": 12, "width": 50, "longest": 32},
}
FLAT = 1e-12  # distance of the bounds below which all orders are alike


@dataclass(frozen=True)
class NAOPC:
    """Normalise AOPC by its bounds.

    Args:
        exact: highest number of units for exact bounds.
        width: sets of each size that the beam keeps, for each bound.
        longest: highest number of units at all; longer rows get NaN.
    """

    exact: int = 12
    width: int = 50
    longest: int = 32

    def __post_init__(self) -> None:
        within("exact", self.exact, 0, 16)
        within("width", self.width, 1)
        within("longest", self.longest, 1, LARGEST)

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the position of each explanation between the bounds, in [0, 1]; NaN where all orders are alike."""
        begin = perf_counter()
        longest = min(self.longest, LARGEST)
        where = [
            i for i, e in enumerate(explanations) if np.isfinite(e.values).any() and len(e.units) <= longest
        ]
        perturber = Perturber(model, memory_mb)
        values = np.full(len(explanations), np.nan)
        values[where] = self._normalised(perturber, [explanations[i] for i in where], seed)
        skipped = sum(len(e.units) > longest for e in explanations)
        reason = f"{skipped} rows have more than {longest} units" if skipped else ""
        convention = (
            "Normalised AOPC: (AOPC − low) / (high − low); AOPC = 1/n · Σ p(x) − p(x without the first k units), "
            f"k = 1 … n; low and high over all orders, exactly up to {self.exact} units, by a beam of {self.width} sets "
            f"above; p is the {scale_words(model, explanations)}; a removed unit gets its neutral value."
        )
        return Scores(values, convention, perturber.forwards, perf_counter() - begin, reason)

    def _normalised(
        self, perturber: Perturber, known: list[Explanation], seed: int
    ) -> list[float] | Float[np.ndarray, " explanation"]:
        orders = [order_of(e, seed) for e in known]
        own_sets = [with_nothing(tops(order, range(1, len(order) + 1))) for order in orders]
        found = _ask(perturber, known, own_sets)
        own = np.array([drops(p).sum() for p in found])
        searches = [extremes(len(o), None if len(o) <= self.exact else self.width) for o in orders]
        untouched = [p[0] for p in found]
        bounds = in_step(
            searches,
            lambda rows, sets: [
                untouched[i] - p
                for i, p in zip(rows, _ask(perturber, [known[i] for i in rows], sets), strict=True)
            ],
        )
        low, high = np.array(bounds).reshape(-1, 2).T
        low, high = np.minimum(low, own), np.maximum(high, own)
        width = high - low
        return np.where(width > FLAT, (own - low) / np.where(width > FLAT, width, 1.0), np.nan)


def _ask(perturber: Perturber, known: list[Explanation], sets: list[Any]) -> list[np.ndarray]:
    return perturber.kept(
        [e.inputs for e in known],
        sets,
        lambda row, outputs: answers(perturber.model, known[row], outputs)[:, ANSWER],
    )
