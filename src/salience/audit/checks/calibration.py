"""Does a stated probability (or value) come true as often (or on average) as it says?"""

from typing import Any

import numpy as np

from salience.audit.context import AuditContext
from salience.audit.intervals import wilson
from salience.audit.make import make_finding
from salience.audit.phrases import between, number, percent, points
from salience.core.errors import UnsupportedError
from salience.core.finding import Control, Finding
from salience.core.metrics import METRICS, PROBABLE, as_predictions
from salience.core.stats import bootstrap, generator

CARD = {
    "key": "calibration",
    "kind": "check",
    "order": 20,
    "title": "Calibration",
    "entry": "run",
    "summary": "Reliability curve and expected calibration error before and after temperature scaling, beside the "
    "error that a perfectly calibrated model with the same probabilities would show; for numbers the slope "
    "of the truth on the prediction.",
    "question": "When the model says 80 %, does it happen in 80 % of the cases?",
    "paper": "On Calibration of Modern Neural Networks (Guo et al., ICML 2017)",
    "year": 2017,
    "tasks": ["classification", "regression", "multi-label", "multi-regression"],
    "deviates": "Bins hold equally many rows. The error is corrected for its upward bias by the bootstrap; the "
    "interval reaches 0 where perfect calibration is not refuted.",
    "pass": "within what perfect calibration shows by chance, or at most 2 points; slope within 0.05 of 1",
    "warn": "at most 10 points; slope within 0.25 of 1",
    "fail": "more than that",
}
BINS = 15
MIN_ROWS = 100


def run(context: AuditContext) -> list[Finding]:
    """Compare stated probabilities, or values, with what happened on the test rows.

    Raises:
        UnsupportedError: fewer than 100 test rows.
    """
    rows = len(context.frame("test"))
    if rows < MIN_ROWS:
        raise UnsupportedError(
            "Too few test rows to judge calibration", f"{rows} rows.", f"Give at least {MIN_ROWS}."
        )
    return [_classification(context) if context.task in PROBABLE else _regression(context)]


def events(truth: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return stated probabilities and whether they came true.

    They are those of the second of two classes, or of the top class of more; of labels all, ``(row, label)``.
    """
    if truth.ndim == 2:
        return probabilities, truth.astype(float)
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], (truth == 1).astype(float)
    return probabilities.max(axis=1), (truth == probabilities.argmax(axis=1)).astype(float)


def bin_numbers(stated: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return the bin of each row: equally many rows a bin by rank of the stated probability."""
    order = np.argsort(stated, kind="stable")
    numbers = np.empty(len(stated), dtype=int)
    numbers[order] = np.arange(len(stated)) * bins // len(stated)
    return numbers


def calibration_error(stated: np.ndarray, happened: np.ndarray, bins: int = BINS) -> float:
    """Return the mean over rows of the gap between stated and observed share in the row's bin (ECE), uncorrected.

    Of several labels, all pairs of row and label are put into the same bins.
    """
    gaps = (stated - happened).ravel()
    sums = np.bincount(bin_numbers(stated.ravel(), bins), weights=gaps, minlength=bins)
    return float(np.abs(sums).sum() / len(gaps))


def perfect_control(
    stated: np.ndarray, *, seed: int, replicates: int = 200
) -> tuple[float, tuple[float, float]]:
    """Return the mean ECE, and its 95 % range, if every stated probability were exactly true (simulated)."""
    rng, stated = generator(seed, "perfectly calibrated"), stated.ravel()
    numbers = bin_numbers(stated)
    drawn = []
    for _ in range(replicates):
        happened = rng.random(len(stated)) < stated
        drawn.append(np.abs(np.bincount(numbers, weights=stated - happened)).sum() / len(stated))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(np.mean(drawn)), (float(low), float(high))


def corrected_error(
    stated: np.ndarray, happened: np.ndarray, *, seed: int, replicates: int = 200
) -> tuple[float, tuple[float, float]]:
    """Return ECE corrected for its upward bias, and its interval.

    The bias is what resampling of rows adds once more (bootstrap); the interval is the basic bootstrap interval, clipped to
    [0, 1], and begins at 0 where the uncorrected error lies inside the range of :func:`perfect_control`.
    """
    rng = generator(seed, "calibration bootstrap")
    plain = calibration_error(stated, happened)
    again = []
    for _ in range(replicates):
        index = rng.integers(0, len(stated), len(stated))
        again.append(calibration_error(stated[index], happened[index]))
    low, high = np.quantile(again, [0.025, 0.975])
    ends = np.clip([2 * plain - high, 2 * plain - low, 2 * plain - np.mean(again)], 0.0, 1.0)
    if plain <= perfect_control(stated, seed=seed, replicates=replicates)[1][1]:
        ends[0] = 0.0
        ends[1] = max(ends[1], plain)
    return float(ends[2]), (float(ends[0]), float(ends[1]))


def _classification(context: AuditContext) -> Finding:
    truth = context.truth("test")
    stated, happened = events(truth, context.probabilities("test"))
    now = _state(context, truth, "as it is", context.outputs("test"))
    before = None
    if context.temperature is not None:
        before = _state(context, truth, "before temperature", context.raw_outputs("test"))
        now["state"] = "after temperature"
    plain, chance = calibration_error(stated, happened), perfect_control(stated, seed=context.seed)
    verdict = _verdict_error(plain, now["value"], chance[1][1])
    cure = "Fit the temperature on more validation rows, or read the probabilities as ranks only."
    return make_finding(
        CARD,
        answer=_answer_error(context, now, before),
        verdict=verdict,
        value=now["value"],
        unit="calibration error (share)",
        interval=(now["low"], now["high"]),
        control=Control("perfectly calibrated, same probabilities (chance alone)", *chance),
        rows=len(truth),
        advice="" if verdict == "pass" else cure,
        tables={
            "reliability": reliability(stated.ravel(), happened.ravel()),
            "calibration error": [before, now] if before else [now],
            **_labels(context, stated, happened),
        },
    )


def _labels(
    context: AuditContext, stated: np.ndarray, happened: np.ndarray
) -> dict[str, list[dict[str, Any]]]:
    """Return for each of several labels how often it is stated and observed."""
    if stated.ndim == 1:
        return {}
    shares = zip(context.schema.outputs, stated.mean(axis=0), happened.mean(axis=0), strict=True)
    lines = [{"label": name, "mean probability": said, "observed share": seen} for name, said, seen in shares]
    return {"labels": sorted(lines, key=lambda line: -abs(line["mean probability"] - line["observed share"]))}


def _verdict_error(plain: float, corrected: float, chance_high: float) -> str:
    if plain <= chance_high or corrected <= 0.02:
        return "pass"
    return "warn" if corrected <= 0.10 else "fail"


def _state(context: AuditContext, truth: np.ndarray, name: str, outputs: np.ndarray) -> dict[str, Any]:
    probabilities = as_predictions(context.task, outputs)
    stated, happened = events(truth, probabilities)
    value, (low, high) = corrected_error(stated, happened, seed=context.seed)
    chance, _ = perfect_control(stated, seed=context.seed)
    return {
        "state": name,
        "value": value,
        "low": low,
        "high": high,
        "control": chance,
        "log loss": METRICS[context.task]["log_loss"](truth, probabilities),
    }


def _answer_error(context: AuditContext, now: dict[str, Any], before: dict[str, Any] | None) -> str:
    classes = context.schema.classes
    of = "of a label" if not classes else "of the most probable class"
    of = f"of {classes[1]!r}" if classes and len(classes) == 2 else of
    text = (
        f"On average the stated probability {of} is {percent(now['value'])} away from the observed share "
        f"(calibration error on the test rows, corrected for chance; {points((now['low'], now['high']))}). "
        f"A perfectly calibrated model would show {percent(now['control'])} uncorrected, by chance alone."
    )
    if before is None:
        return text
    temperature = number(context.temperature)
    return f"{text} Before temperature scaling (T = {temperature}) it was {percent(before['value'])}."


def reliability(stated: np.ndarray, happened: np.ndarray) -> list[dict[str, Any]]:
    """Return one line a bin: mean stated probability, observed share with its 95 % Wilson interval, rows."""
    numbers = bin_numbers(stated)
    lines = []
    for b in range(numbers.max() + 1):
        inside = numbers == b
        observed, rows = happened[inside].mean(), int(inside.sum())
        low, high = wilson(observed, rows)
        lines.append(
            {
                "confidence": stated[inside].mean(),
                "observed": observed,
                "low": low,
                "high": high,
                "rows": rows,
            }
        )
    return lines


def slope(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the slope of the least-squares line of the truth on the prediction; NaN for constant predictions."""
    centred = predicted - predicted.mean()
    spread = (centred**2).sum()
    return float((centred * (truth - truth.mean())).sum() / spread) if spread > 0 else float("nan")


def _regression(context: AuditContext) -> Finding:
    lines, columns = _slopes(context)
    worst = max(lines, key=lambda line: abs(line["value"] - 1))
    truth, predicted = columns[worst["target"]]
    interval = worst["low"], worst["high"]
    chance, chance_range = _perfect_slope(truth, predicted, context)
    away = abs(worst["value"] - 1)
    right = interval[0] <= 1 <= interval[1] or away <= 0.05
    verdict = "pass" if right else "warn" if away <= 0.25 else "fail"
    far = "too extreme" if worst["value"] < 1 else "too timid"
    several = len(lines) > 1
    which = f"Of {len(lines)} targets {worst['target']!r} is the farthest from right: on" if several else "On"
    return make_finding(
        CARD,
        question="Where the model predicts one unit more, is the truth one unit more on average?",
        answer=f"{which} the test rows the truth rises by {number(worst['value'])} for each unit that the prediction rises "
        f"({between(interval)}{', widened for the number of targets' if several else ''}; 1 is right, a perfectly "
        f"calibrated model with the same errors gives {number(chance_range[0])} to {number(chance_range[1])}).",
        verdict=verdict,
        value=worst["value"],
        unit="slope",
        interval=interval,
        control=Control("perfectly calibrated, same predictions and error spread", chance, chance_range),
        rows=len(truth),
        advice="" if verdict == "pass" else f"The predictions are {far}: rescale them on validation rows.",
        tables={
            "predicted and observed": _levels(truth, predicted),
            **({"slopes": [{**line, "control": 1.0} for line in lines]} if several else {}),
        },
    )


def _slopes(
    context: AuditContext,
) -> tuple[list[dict[str, Any]], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return the slope of each target with an interval that holds for all at once, and each one's truth and predictions."""
    rows = len(context.truth("test"))
    pairs = (a.reshape(rows, -1).T for a in (context.truth("test"), context.predictions("test")))
    columns = dict(zip(context.schema.outputs, zip(*pairs, strict=True), strict=True))
    columns = {name: pair for name, pair in columns.items() if np.isfinite(slope(*pair))}
    if not columns:
        raise UnsupportedError(
            "The predictions are all the same",
            "",
            "Train a model that tells rows apart before asking for its slope.",
        )
    draws = {"replicates": context.replicates, "level": 1 - 0.05 / len(columns), "seed": context.seed}
    lines = []
    for name, pair in columns.items():
        low, high = bootstrap(slope, *pair, **draws)
        lines.append({"target": name, "value": slope(*pair), "low": low, "high": high})
    return lines, columns


def _perfect_slope(
    truth: np.ndarray, predicted: np.ndarray, context: AuditContext
) -> tuple[float, tuple[float, float]]:
    rng = generator(context.seed, "perfect slope")
    spread = (truth - predicted).std()
    drawn = [slope(predicted + rng.normal(0, spread, len(truth)), predicted) for _ in range(200)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(np.mean(drawn)), (float(low), float(high))


def _levels(truth: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    lines = []
    for part in np.array_split(np.argsort(predicted, kind="stable"), 10):
        half = 1.96 * truth[part].std(ddof=1) / np.sqrt(len(part))
        mean = truth[part].mean()
        lines.append(
            {
                "mean prediction": predicted[part].mean(),
                "mean truth": mean,
                "from": mean - half,
                "to": mean + half,
                "rows": len(part),
            }
        )
    return lines
