"""Do small changes of the input spoil the predictions?"""

from typing import Any

import numpy as np
import pandas as pd

from salience.audit.context import AuditContext
from salience.audit.features import by_kind
from salience.audit.make import make_finding
from salience.audit.perturb import CONTROL, PERTURBATIONS, Perturbation, perturbed
from salience.audit.phrases import between, metric_name, number, percent
from salience.core.errors import UnsupportedError
from salience.core.finding import Control, Finding
from salience.core.stats import generator

CARD = {
    "key": "perturbation",
    "kind": "check",
    "order": 60,
    "title": "Robustness to small changes",
    "entry": "run",
    "summary": "Typing errors, dropped words, capitals, noise on numbers and pictures, missing categories: the loss of the "
    "main metric on the same rows, and the share of predictions that change; white space or no change as the control.",
    "question": "Do small changes of the input spoil the predictions?",
    "tasks": ["classification", "regression", "multi-label", "multi-regression"],
    "pass": "the worst change that keeps the meaning costs at most 10 % of the gain over the trivial answer, or noise",
    "warn": "at most 25 %",
    "fail": "more",
}
LIMIT = 1000
MIN_ROWS = 50
NO_CHANGE = "no change (control)"
CHANGED, MOVED = "share of predictions changed", "mean change of the prediction"


def run(context: AuditContext) -> list[Finding]:
    """Change the inputs of a sample of test rows and score the predictions again.

    Raises:
        UnsupportedError: fewer than 50 test rows, one class only, or a model that is not better than the trivial answer.
    """
    index = context.sample("test", LIMIT, "perturbation")
    rows, truth = context.inputs("test").iloc[index], context.truth("test")[index]
    before = context.predictions("test")[index]
    lift = _lift(context, truth, before, index)
    lines = [_line(context, rows, truth, before, p) for p in _applicable(context)]
    control, others = lines[0], lines[1:]
    kept = [line for line in others if line["keeps meaning"]] or others
    worst = max(kept, key=lambda line: line["value"])
    lost = worst["value"] / lift
    verdict = _verdict(lost, worst["low"])
    for line in lines:
        line["control"] = control["value"]
    return [
        make_finding(
            CARD,
            answer=_answer(context, worst, lost, control, len(truth)),
            verdict=verdict,
            value=worst["value"],
            unit=f"loss of {metric_name(context.metric)}",
            interval=(worst["low"], worst["high"]),
            control=Control(control["change"], control["value"], (control["low"], control["high"])),
            rows=len(truth),
            advice="" if verdict == "pass" else "Train with such changes applied to the training rows.",
            tables={"perturbations": lines},
        )
    ]


def _lift(context: AuditContext, truth: np.ndarray, before: np.ndarray, index: np.ndarray) -> float:
    if len(truth) < MIN_ROWS or not (truth != truth[:1]).any():
        raise UnsupportedError(
            "Too few test rows to change",
            f"{len(truth)} rows.",
            f"Give at least {MIN_ROWS}, with several targets.",
        )
    lift = context.gain(context.score(truth, before), context.score(truth, context.trivial()[index]))
    if not lift > 0:
        raise UnsupportedError(
            "The model is not better than the trivial answer",
            "Nothing can be lost by changing the inputs.",
            "",
        )
    return lift


def _applicable(context: AuditContext) -> list[Perturbation]:
    """Return the control first, then the changes that the columns allow."""
    kinds = by_kind(context.schema)
    control = CONTROL if kinds["text"] else Perturbation(NO_CHANGE, "", PERTURBATIONS[0].change)
    return [control, *(p for p in PERTURBATIONS if kinds[p.kind])]


def _line(
    context: AuditContext, rows: pd.DataFrame, truth: np.ndarray, before: np.ndarray, change: Perturbation
) -> dict[str, Any]:
    columns = by_kind(context.schema).get(change.kind, [])
    rng = generator(context.seed, "perturbation", change.name)
    after = context.predict(perturbed(rows, columns, change, context.inputs(context.reference), rng))
    loss, (low, high) = context.paired_gain(truth, before, after)
    return {
        "change": change.name,
        "value": loss,
        "low": low,
        "high": high,
        "after": context.score(truth, after),
        "before": context.score(truth, before),
        **_moved(context, before, after),
        "keeps meaning": change.keeps_meaning,
    }


def _moved(context: AuditContext, before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    if context.task == "classification":
        return {CHANGED: float((after.argmax(1) != before.argmax(1)).mean())}
    if context.task == "multi-label":
        return {CHANGED: float(((after >= 0.5) != (before >= 0.5)).mean())}
    spread = context.truth("test").std(axis=0) if before.ndim == 2 else 1.0
    return {MOVED: float((np.abs(after - before) / np.where(spread == 0, 1.0, spread)).mean())}


def _verdict(lost: float, low: float) -> str:
    if lost <= 0.10 or low <= 0:
        return "pass"
    return "warn" if lost <= 0.25 else "fail"


def _answer(
    context: AuditContext, worst: dict[str, Any], lost: float, control: dict[str, Any], rows: int
) -> str:
    what = "labels" if context.task == "multi-label" else "classes"
    unit = " standard deviations" if context.task == "multi-regression" else ""
    moved = (
        f"changes {percent(worst[CHANGED])} of the predicted {what}"
        if CHANGED in worst
        else f"moves the prediction by {number(worst[MOVED])}{unit} on average"
    )
    return (
        f"The most harmful change that keeps the meaning is {worst['change']!r}: {metric_name(context.metric)} goes from "
        f"{number(worst['before'])} to {number(worst['after'])} on the same {rows:,} test rows, a loss of "
        f"{number(worst['value'])} (paired {between((worst['low'], worst['high']))}), {percent(max(lost, 0.0))} of the gain "
        f"over the trivial answer. It {moved}. The control ({control['change'].removesuffix(' (control)')}) costs "
        f"{number(control['value'])}."
    )
