"""Is an explanation true? Remove what it names, and compare with removing random units.

Comprehensiveness and sufficiency follow ERASER (DeYoung et al., ACL 2020) and its scorer: for each fraction of the
units, the change of the answer; then the plain mean over fractions. Nothing is shown without its control.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Float

from salience.core.stats import generator, mean_interval, sign_flip_test
from salience.explain.explanation import Explanation, Faithfulness
from salience.explain.model import BlackBox
from salience.explain.rows import evaluate
from salience.explain.target import Target, score

FRACTIONS = (0.01, 0.05, 0.10, 0.20, 0.50)
ORDERS = 20
NOISE = 1e-9  # differences below it are rounding
SATURATED = 500.0  # log-odds beyond which a probability is 0 or 1
LEVEL = 0.05  # of the test that no better than a random order could do as well by luck


@dataclass(frozen=True)
class _Plan:
    """Which units are taken away: one set a line, and for each order and fraction the two lines it needs."""

    removed: list[frozenset[int]]
    comprehensiveness: np.ndarray  # (order, fraction) → line; the explanation is order 0
    sufficiency: np.ndarray


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
    from salience.explain.state import frozen

    begin = perf_counter()
    plans = [_plan(explanation, seed, orders) for explanation in explanations]
    units = [explanation.units for explanation in explanations]
    rows = (
        model.remove(e.inputs, tuple(found[i] for i in sorted(removed)))
        for e, plan, found in zip(explanations, plans, units, strict=True)
        for removed in plan.removed
    )
    counts = [len(plan.removed) for plan in plans]
    owner = np.repeat(np.arange(len(plans)), counts)

    def answers(outputs: np.ndarray, first: int) -> np.ndarray:
        mine = owner[first : first + len(outputs)]
        parts = [_answers(model, explanations[i], outputs[mine == i]) for i in np.unique(mine)]
        return np.concatenate(parts) if parts else np.zeros((0, 2))

    with frozen(model):
        found = evaluate(model, rows, memory_mb, answers)
    parts = np.split(found, np.cumsum(counts)[:-1]) if counts else []
    seconds = (perf_counter() - begin) / max(sum(counts), 1)
    return [
        _judge(model, explanation, plan, part, seed, seconds)
        for explanation, plan, part in zip(explanations, plans, parts, strict=True)
    ]


def _plan(explanation: Explanation, seed: int, orders: int) -> _Plan:
    values = np.nan_to_num(np.array(explanation.values), nan=-np.inf)
    count = len(values)
    rng = generator(seed, "orders", str(explanation.row))
    ranked = [np.argsort(-values, kind="stable"), *(rng.permutation(count) for _ in range(orders))]
    sizes = [min(count, max(1, ceil(fraction * count))) for fraction in FRACTIONS]
    lines: dict[frozenset[int], int] = {frozenset(): 0}
    taken = [[lines.setdefault(frozenset(o[:k].tolist()), len(lines)) for k in sizes] for o in ranked]
    kept = [[lines.setdefault(frozenset(o[k:].tolist()), len(lines)) for k in sizes] for o in ranked]
    return _Plan(list(lines), np.array(taken), np.array(kept))


def _judge(
    model: BlackBox,
    explanation: Explanation,
    plan: _Plan,
    answers: Float[np.ndarray, "line 2"],
    seed: int,
    seconds: float,
) -> Faithfulness:
    first, scale = _scores(answers[:, 0], plan), _scale(model, explanation)
    combined = first[0] - first[1]
    gains = combined[0] - combined[1:]
    better = float((gains < -NOISE).mean()) if len(gains) else 0.0
    interval = mean_interval(gains, seed=seed)
    names = ("comprehensiveness", "sufficiency", "random_comprehensiveness", "random_sufficiency")
    log_odds = None
    if explanation.quantity == "log-odds":
        log_odds = dict(zip(names, _summary(_scores(answers[:, 1], plan)), strict=True))
    return Faithfulness(
        *_summary(first),
        difference=float(gains.mean()) if len(gains) else 0.0,
        interval=interval,
        better_orders=better,
        orders=len(gains),
        verdict=_verdict(first[0], gains, interval, better),
        scale=scale,
        log_odds=log_odds,
        convention=_convention(scale, len(gains)),
        forwards=len(answers),
        seconds=seconds * len(answers),
    )  # fmt: skip


def _answers(
    model: BlackBox, explanation: Explanation, outputs: Float[np.ndarray, "line output"]
) -> Float[np.ndarray, "line 2"]:
    """Return the answer on its own scale, and the explained quantity."""
    e = explanation
    quantity = score(outputs, [Target(e.target_index, "", e.quantity, e.against_index)] * len(outputs))
    if e.quantity == "log-probability":
        answer = quantity
    elif e.quantity == "value":
        answer = quantity / (target_spread(model) or 1.0)
    elif e.against_index is None:
        answer = model.predict_proba(outputs)[:, e.target_index]
    else:  # probability of the one, given that it is one of the two
        answer = 1 / (1 + np.exp(-np.clip(quantity, -SATURATED, SATURATED)))
    return np.stack([answer, quantity], axis=1)


def _scale(model: BlackBox, explanation: Explanation) -> str:
    if explanation.quantity == "value":
        return "standard deviations" if target_spread(model) else "units of the target"
    return "probability" if explanation.quantity == "log-odds" else "log-probability"


def target_spread(model: Any) -> float | None:
    """Return the standard deviation of a regression's training target; None if the model does not keep it."""
    spread = getattr(getattr(model, "head", None), "std", None)
    return float(spread) if spread is not None and float(spread) > 0 else None


def _scores(answers: np.ndarray, plan: _Plan) -> tuple[np.ndarray, np.ndarray]:
    """Return comprehensiveness and sufficiency of each order."""
    return tuple(
        (answers[0] - answers[lines]).mean(axis=1) for lines in (plan.comprehensiveness, plan.sufficiency)
    )


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


def _convention(scale: str, orders: int) -> str:
    answer = {
        "probability": "probability of the explained class",
        "standard deviations": "prediction in standard deviations of the training target",
        "units of the target": "prediction in units of the target",
        "log-probability": "log-probability of the explained text, in nats",
    }[scale]
    shares = ", ".join(f"{100 * fraction:g}" for fraction in FRACTIONS)
    return (
        f"ERASER: plain mean of p(x) − p_k over the top {shares} % of the units (rounded up, at least one); "
        f"p is the {answer}; a removed unit gets its neutral value; control: mean of {orders} random orders."
    )


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
