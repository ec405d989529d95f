"""Do the explanations name what the model really uses?"""

from collections import Counter
from typing import Any

import numpy as np

from salience.audit.context import AuditContext
from salience.audit.make import make_finding
from salience.audit.phrases import between, number, percent
from salience.core.errors import UnsupportedError
from salience.core.finding import Control, Finding
from salience.core.stats import mean_interval, sign_flip_test

CARD = {
    "key": "faithfulness",
    "kind": "check",
    "order": 70,
    "title": "Faithfulness of the explanations",
    "entry": "run",
    "summary": "Over a sample of explained rows: how much more the output changes when the units named most "
    "important are removed (comprehensiveness) or kept alone (sufficiency) than with random units.",
    "question": "Do the explanations name what the model really uses?",
    "paper": "ERASER: A Benchmark to Evaluate Rationalized NLP Models (DeYoung et al., ACL 2020)",
    "year": 2020,
    "faithful": "comprehensiveness and sufficiency as averaged over fractions of the units",
    "tasks": ["classification", "regression", "multi-label", "multi-regression"],
    "pass": "removal and keeping both beat random units, p < 0.05",
    "warn": "one of the two does",
    "fail": "neither does",
}
MIN_ROWS = 5


def run(context: AuditContext) -> list[Finding]:
    """Average the faithfulness of the given explanations, beside random units in the same rows.

    Raises:
        UnsupportedError: fewer than 5 explanations with a measured faithfulness.
    """
    measured = [e for e in context.explanations if e.faithfulness is not None]
    if len(measured) < MIN_ROWS:
        raise UnsupportedError(
            "Too few explanations with a measured faithfulness",
            f"{len(measured)} of {len(context.explanations)}.",
            f"Explain at least {MIN_ROWS} rows with faithfulness on.",
        )
    methods = list(dict.fromkeys(e.method for e in measured))
    return [_finding(context, method, [e for e in measured if e.method == method]) for method in methods]


def _finding(context: AuditContext, method: str, explanations: list[Any]) -> Finding:
    removal, keeping = differences(explanations)
    tests = [_test(context, "comprehensiveness", removal), _test(context, "sufficiency", keeping)]
    supported = float(np.mean([e.faithfulness.verdict == "supported" for e in explanations]))
    beaten = sum(test["p"] < 0.05 and test["value"] > 0 for test in tests)
    verdict = ("fail", "warn", "pass")[beaten]
    random = np.array([e.faithfulness.random_comprehensiveness for e in explanations], dtype=float)
    total = np.array([e.faithfulness.comprehensiveness for e in explanations], dtype=float)
    unit = explanations[0].faithfulness.scale
    first, second = tests
    return make_finding(
        CARD,
        answer=f"Removing the units that {method} names most important changes the output by {number(total.mean())} "
        f"({unit}, mean of {len(explanations)} rows), random units of the same rows by {number(random.mean())}: "
        f"{number(first['value'])} more ({between((first['low'], first['high']))}, sign-flip p = {number(first['p'])}). "
        f"Keeping only them comes closer to the full output than random units by {number(second['value'])} "
        f"({between((second['low'], second['high']))}, p = {number(second['p'])}). "
        f"Row by row, {percent(supported)} of the explanations are supported.",
        verdict=verdict,
        value=total.mean(),
        unit=unit,
        interval=mean_interval(total, seed=context.seed),
        control=Control(
            "random units of the same rows", random.mean(), mean_interval(random, seed=context.seed)
        ),
        rows=len(explanations),
        advice=""
        if verdict == "pass"
        else "Do not rely on single explanations; try another method and compare.",
        tables={"difference to random units": tests, "verdicts": _verdicts(explanations)},
    )


def differences(explanations: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return, a row, by how much removal and keeping beat random units; positive is faithful."""
    found = [e.faithfulness for e in explanations]
    removal = [f.comprehensiveness - f.random_comprehensiveness for f in found]
    keeping = [f.random_sufficiency - f.sufficiency for f in found]
    return np.array(removal, dtype=float), np.array(keeping, dtype=float)


def _test(context: AuditContext, name: str, values: np.ndarray) -> dict[str, Any]:
    low, high = mean_interval(values, seed=context.seed)
    p = sign_flip_test(values, seed=context.seed)
    return {
        "measure": name,
        "value": float(values.mean()),
        "low": low,
        "high": high,
        "p": p,
        "share of rows": (values > 0).mean(),
    }


def _verdicts(explanations: list[Any]) -> list[dict[str, Any]]:
    counts = Counter(e.faithfulness.verdict for e in explanations)
    return [
        {"verdict": name, "rows": rows, "share": rows / len(explanations)}
        for name, rows in counts.most_common()
    ]
