"""What does the model cost to train, store and run?"""

import resource
import sys
from time import perf_counter
from typing import Any

import numpy as np

from salience.audit.context import AuditContext
from salience.audit.make import make_finding
from salience.audit.phrases import between, number
from salience.core.finding import Control, Finding
from salience.core.stats import bootstrap

CARD = {
    "key": "cost",
    "kind": "check",
    "order": 80,
    "title": "Cost",
    "entry": "run",
    "summary": "Parameters, size, training time, measured time a row and peak memory.",
    "question": "What does the model cost to train, store and run?",
    "tasks": ["classification", "regression", "multi-label", "multi-regression"],
    "timed": True,
}
BATCH = 64
BATCHES = 8


def run(context: AuditContext) -> list[Finding]:
    """Measure the time a row on test rows, in batches of 64, and collect what is known of the rest."""
    timings = milliseconds(context)
    value, interval = float(np.median(timings)), bootstrap(_median, timings, seed=context.seed)
    floor = _harness_milliseconds(len(timings))
    facts = _facts(context) | {"milliseconds a row": round(value, 4)}
    parameters = facts.get("parameters")
    start = f"The model has {parameters:,} parameters. " if parameters is not None else ""
    return [
        make_finding(
            CARD,
            answer=f"{start}A prediction takes {number(value)} ms a row (median of {len(timings)} batches of up to "
            f"{BATCH} test rows on this machine, {between(interval)}). Peak memory of the process so far is "
            f"{number(facts['peak memory of the process (MB)'])} MB.{_training(facts)}",
            verdict="info",
            value=value,
            unit="ms a row",
            interval=interval,
            control=Control("the trivial answer, timed in the same way", floor),
            rows=min(len(context.frame("test")), BATCH * len(timings)),
            tables={"cost": [{"measure": name, "amount": amount} for name, amount in facts.items()]},
        )
    ]


def milliseconds(context: AuditContext) -> np.ndarray:
    """Return the time a row of each batch, after one batch that is not counted."""
    rows = context.inputs("test")
    batches = 4 if context.quick else BATCHES
    context.predict(rows.iloc[:BATCH])
    timings = []
    for number_ in range(batches):
        start_row = (number_ * BATCH) % max(len(rows) - BATCH + 1, 1)
        batch = rows.iloc[start_row : start_row + BATCH]
        start = perf_counter()
        context.predict(batch)
        timings.append(1000 * (perf_counter() - start) / len(batch))
    return np.array(timings)


def _median(values: np.ndarray) -> float:
    return float(np.median(values))


def _harness_milliseconds(batches: int) -> float:
    timings = []
    for _ in range(batches):
        start = perf_counter()
        np.zeros((BATCH, 2))
        timings.append(1000 * (perf_counter() - start) / BATCH)
    return float(np.median(timings))


def _facts(context: AuditContext) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if hasattr(context.model, "parameters"):
        facts["parameters"] = sum(p.numel() for p in context.model.parameters())
    known = context.cost
    if "train_seconds" in known:
        facts["training (s)"] = round(float(known["train_seconds"]), 1)
    if "model_bytes" in known:
        facts["size on disk (MB)"] = round(known["model_bytes"] / 1e6, 2)
    for name, baseline in context.baselines.items():
        if baseline.seconds:
            facts[f"{name}: fit and predict (s)"] = round(baseline.seconds, 2)
    facts["peak memory of the process (MB)"] = round(peak_megabytes(), 1)
    return facts


def peak_megabytes() -> float:
    """Return the largest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _training(facts: dict[str, Any]) -> str:
    seconds = facts.get("training (s)")
    return f" Training took {number(seconds)} s." if seconds is not None else ""
