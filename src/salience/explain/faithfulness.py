"""Is an explanation true? Remove what it names, and compare with removing random units.

Comprehensiveness and sufficiency follow ERASER (DeYoung et al., ACL 2020) and its scorer: for each fraction of the
units, the change of the answer; then the plain mean over fractions. Nothing is shown without its control.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from jaxtyping import Bool, Float

from salience.core.stats import generator, mean_interval, sign_flip_test
from salience.explain import eraser
from salience.explain.answers import answers, scale, scale_words
from salience.explain.explanation import Explanation, Faithfulness
from salience.explain.model import BlackBox
from salience.explain.orders import FRACTIONS, order_of, shares, tops, with_nothing
from salience.explain.perturb import Perturber

ORDERS = 20
NOISE = 1e-9  # differences below it are rounding
LEVEL = 0.05  # of the test that no better than a random order could do as well by luck
NAMES = ("comprehensiveness", "sufficiency", "random_comprehensiveness", "random_sufficiency")


def measure(
    model: BlackBox,
    explanations: Sequence[Explanation],
    *,
    seed: int = 0,
    memory_mb: int | float = 256,
    orders: int = ORDERS,
) -> list[Faithfulness]:
    """Measure comprehensiveness and sufficiency of explanations, beside random orders of the same units.

    All rows, fractions and orders go through the model together; a set of units is never evaluated twice.

    Args:
        model: the model that was explained.
        explanations: what to measure; the raw row inside is perturbed.
        seed: seed of the random orders.
        memory_mb: budget for the raw rows of one call, in MiB.
        orders: number of random orders.
    """
    begin = perf_counter()
    perturber = Perturber(model, memory_mb)
    found = perturber.kept(
        [e.inputs for e in explanations],
        [_sets(e, seed, orders) for e in explanations],
        lambda row, outputs: answers(model, explanations[row], outputs),
    )
    seconds = (perf_counter() - begin) / max(perturber.forwards, 1)
    return [
        _judge(model, explanation, part, int(forwards), seed, seconds)
        for explanation, part, forwards in zip(explanations, found, perturber.row_forwards, strict=True)
    ]


def _sets(explanation: Explanation, seed: int, orders: int) -> Bool[np.ndarray, "set unit"]:
    """Return nothing, then for each order the top units and the others, a line a fraction; the own order first."""
    count = len(explanation.values)
    rng = generator(seed, "orders", str(explanation.row))
    ranked = [order_of(explanation, seed), *(rng.permutation(count) for _ in range(orders))]
    taken = [tops(order, shares(count)) for order in ranked]
    return with_nothing(*(part for top in taken for part in (top, ~top)))


def _judge(
    model: BlackBox,
    explanation: Explanation,
    found: Float[np.ndarray, "set 2"],
    forwards: int,
    seed: int,
    seconds: float,
) -> Faithfulness:
    first, name = _scores(found[:, 0]), scale(model, explanation)
    combined = first[0] - first[1]
    gains = combined[0] - combined[1:]
    better = float((gains < -NOISE).mean()) if len(gains) else 0.0
    interval = mean_interval(gains, seed=seed)
    log_odds = None
    if explanation.quantity == "log-odds":
        log_odds = dict(zip(NAMES, _summary(_scores(found[:, 1])), strict=True))
    answer = scale_words(model, [explanation])
    return Faithfulness(
        *_summary(first),
        difference=float(gains.mean()) if len(gains) else 0.0,
        interval=interval,
        better_orders=better,
        orders=len(gains),
        verdict=_verdict(first[0], gains, interval, better),
        scale=name,
        log_odds=log_odds,
        convention=f"{eraser.words('eraser', FRACTIONS, answer)[:-1]}; control: mean of {len(gains)} random orders.",
        forwards=forwards,
        seconds=seconds * forwards,
    )  # fmt: skip


def _scores(found: Float[np.ndarray, " set"]) -> tuple[np.ndarray, np.ndarray]:
    """Return comprehensiveness and sufficiency of each order."""
    change = (found[0] - found[1:]).reshape(-1, 2, len(FRACTIONS))
    return eraser.mean_drop(change[:, 0]), eraser.mean_drop(change[:, 1])


def _summary(scores: tuple[np.ndarray, np.ndarray]) -> list[float]:
    own = [float(values[0]) for values in scores]
    return own + [float(values[1:].mean()) if len(values) > 1 else float("nan") for values in scores]


def _verdict(
    comprehensiveness: np.ndarray, gains: np.ndarray, interval: tuple[float, float], better: float
) -> str:
    if not len(gains) or not np.isfinite(interval).all():
        return "doubtful"
    allowed = max(0, int(LEVEL * (len(gains) + 1)) - 1) / len(gains)  # permutation test; none of 20
    removes_more = comprehensiveness[0] > comprehensiveness[1:].mean()
    if interval[0] > NOISE and better <= allowed and removes_more:
        return "supported"
    return "not supported" if gains.mean() <= NOISE and better > 0 else "doubtful"


@dataclass(frozen=True)
class FaithfulnessSummary:
    """State how faithful a method is over a sample of rows.

    Attributes:
        rows: number of explanations.
        comprehensiveness, sufficiency: means over rows.
        random_comprehensiveness, random_sufficiency: means of the control.
        difference: mean of each row's difference from its control.
        interval: 95 % bootstrap interval of the mean difference over rows.
        p_value: two-sided sign-flip test that the mean difference is zero.
        verdicts: share of rows with each verdict.
        scale: what the numbers are.
    """

    rows: int
    comprehensiveness: float
    sufficiency: float
    random_comprehensiveness: float
    random_sufficiency: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    verdicts: dict[str, float]
    scale: str


def aggregate(measured: Sequence[Faithfulness], *, seed: int = 0) -> FaithfulnessSummary:
    """Summarise the faithfulness of explanations of many rows.

    Raises:
        ValueError: nothing was measured.
    """
    if not measured:
        raise ValueError("aggregate needs at least one measured explanation")
    differences = np.array([m.difference for m in measured])
    means = [
        float(np.mean([getattr(m, name) for m in measured]))
        for name in ("comprehensiveness", "sufficiency", "random_comprehensiveness", "random_sufficiency")
    ]
    verdicts = [m.verdict for m in measured]
    return FaithfulnessSummary(
        len(measured),
        *means,
        difference=float(differences.mean()),
        interval=mean_interval(differences, seed=seed),
        p_value=sign_flip_test(differences, seed=seed),
        verdicts={name: verdicts.count(name) / len(verdicts) for name in sorted(set(verdicts))},
        scale=measured[0].scale,
    )
