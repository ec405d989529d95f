"""What a metric returns, and the one way in which metrics ask a model about rows without some units."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from salience.explain.answers import answers
from salience.explain.explanation import Explanation
from salience.explain.orders import values_of
from salience.explain.perturb import Perturber

ROUNDING = 1e-12  # variation below this share of the size of numbers is none
ANSWER, QUANTITY = 0, 1  # columns of salience.explain.answers.answers
Plan = Callable[[Explanation], Bool[np.ndarray, "set unit"]]
Reduce = Callable[[Explanation, Bool[np.ndarray, "set unit"], Float[np.ndarray, " set"]], float]


@dataclass(frozen=True)
class Scores:
    """Give each explanation a number.

    Attributes:
        values: one number an explanation; NaN where the metric is not defined.
        convention: the exact definition, in one sentence.
        forwards: rows that the model evaluated for it.
        seconds: time that it took.
        reason: why numbers are NaN, where some are for another reason than that there is nothing to measure.
    """

    values: Float[np.ndarray, " explanation"]
    convention: str
    forwards: int
    seconds: float
    reason: str = ""

    @property
    def undefined(self) -> int:
        """Number of explanations that the metric is not defined for."""
        return int(np.isnan(self.values).sum())

    @property
    def mean(self) -> float:
        """Mean over the explanations that the metric is defined for; NaN if there are none."""
        known = self.values[~np.isnan(self.values)]
        return float(known.mean()) if len(known) else float("nan")


def by_values(
    explanations: Sequence[Explanation],
    score: Callable[[Float[np.ndarray, " unit"]], float],
    convention: str,
) -> Scores:
    """Return scores that follow from the values alone; units without a value are left out."""
    begin = perf_counter()
    known = [values[~np.isnan(values)] for values in map(values_of, explanations)]
    found = [score(values) if len(values) else np.nan for values in known]
    return Scores(np.array(found, dtype=float), convention, 0, perf_counter() - begin)


def by_removal(
    model: Any,
    explanations: Sequence[Explanation],
    plan: Plan,
    reduce: Reduce,
    convention: str,
    *,
    memory_mb: int | float,
    column: int = ANSWER,
) -> Scores:
    """Return scores from the answers of a model to rows without sets of units, all rows and sets together.

    Args:
        model: the model to ask.
        explanations: what is judged; one in which no unit has a value gets NaN and costs nothing.
        plan: from an explanation to the sets that are taken away.
        reduce: from an explanation, its sets and their answers to its score.
        convention: the exact definition.
        memory_mb: memory for one pass of the model, in MiB.
        column: :data:`ANSWER`, on a scale that a person can read, or :data:`QUANTITY`, the explained quantity.
    """
    begin = perf_counter()
    where = [i for i, e in enumerate(explanations) if np.isfinite(e.values).any()]
    known = [explanations[i] for i in where]
    sets = [plan(e) for e in known]
    perturber = Perturber(model, memory_mb)
    found = perturber.kept(
        [e.inputs for e in known], sets, lambda row, outputs: answers(model, known[row], outputs)[:, column]
    )
    values = np.full(len(explanations), np.nan)
    values[where] = [reduce(e, s, a) for e, s, a in zip(known, sets, found, strict=True)]
    return Scores(values, convention, perturber.forwards, perf_counter() - begin)


def correlation(a: Float[np.ndarray, " line"], b: Float[np.ndarray, " line"]) -> float:
    """Return Pearson's correlation; NaN for fewer than two lines or where either does not vary."""
    if len(a) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    x, y = (v / (np.abs(v).max() or 1.0) for v in (a, b))  # first, so that no sum can overflow
    x, y = x - x.mean(), y - y.mean()
    if min(np.abs(x).max(), np.abs(y).max()) <= ROUNDING:
        return float("nan")
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


def subset_sums(values: Float[np.ndarray, " unit"], sets: Bool[np.ndarray, "set unit"]) -> np.ndarray:
    """Return the sum of the values of each set; a unit without a value counts as 0. It may be infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return sets @ np.nan_to_num(values)


def one_of(name: str, value: Any, allowed: Mapping[str, Any] | Sequence[str]) -> None:
    """Require that an option is one of some names.

    Raises:
        ConfigError: it is not; the nearest name is suggested.
    """
    from salience.core.errors import ConfigError, nearest

    if value not in allowed:
        raise ConfigError(f"Unknown {name} {value!r}", "", nearest(str(value), list(allowed)))


def area_under(answers: Float[np.ndarray, " set"], share: Float[np.ndarray, " set"]) -> float:
    """Return the area under answers over growing shares in [0, 1], by the trapezoid rule."""
    return float(((answers[1:] + answers[:-1]) / 2 * np.diff(share)).sum())


def random_sets(
    units: int, sizes: Int[np.ndarray, " set"], rng: np.random.Generator
) -> Bool[np.ndarray, "set unit"]:
    """Return one random set of each size; all sets of that size are as likely."""
    rank = rng.random((len(sizes), units)).argsort(axis=1).argsort(axis=1)
    return rank < np.asarray(sizes).reshape(-1, 1)


def spearman(a: Float[np.ndarray, " unit"], b: Float[np.ndarray, " unit"]) -> float:
    """Return Spearman's correlation over the units that have a value in both; NaN where ranks are all alike."""
    from scipy.stats import rankdata

    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 2:
        return float("nan")
    return correlation(rankdata(a[known]), rankdata(b[known]))
