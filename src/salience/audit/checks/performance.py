"""Is the model better than simple alternatives?"""

from typing import Any

import numpy as np

from salience.audit.baselines import TRIVIAL
from salience.audit.context import AuditContext
from salience.audit.make import make_finding
from salience.audit.phrases import between, metric_name, number
from salience.core.errors import UnsupportedError
from salience.core.finding import Control, Finding
from salience.core.metrics import PROBABLE, scores_with_intervals

CARD = {
    "key": "performance",
    "kind": "check",
    "order": 10,
    "title": "Performance beside baselines",
    "entry": "run",
    "summary": "All metrics with bootstrap intervals beside every baseline; a paired bootstrap against the strongest; "
    "of several targets each one's score.",
    "question": "How good are the predictions, and are they better than simple alternatives?",
    "tasks": ["classification", "regression", "multi-label", "multi-regression"],
    "pass": "not worse than the strongest baseline beyond noise, and better than the trivial answer",
    "warn": "worse than the strongest baseline",
    "fail": "not better than the trivial answer",
}
OURS = "this model"
MIN_ROWS = 10
MAX_CLASSES = 20


def run(context: AuditContext) -> list[Finding]:
    """Score the model and every baseline on the test rows.

    Raises:
        UnsupportedError: fewer than 10 test rows, or one class only.
    """
    truth, predicted = context.truth("test"), context.predictions("test")
    _require(context, truth)
    others = {name: baseline.predictions for name, baseline in context.baselines.items()}
    others.setdefault(TRIVIAL[context.task], context.trivial())
    everyone = {OURS: predicted, **others}
    scored = {
        name: scores_with_intervals(
            context.task,
            truth,
            p,
            targets=context.schema.outputs,
            seed=context.seed,
            replicates=context.replicates // 2,
        )
        for name, p in everyone.items()
    }
    best = _strongest(context, {name: scored[name] for name in others})
    gaps = {
        name: context.paired_gain(truth, predicted, others[name]) for name in {best, TRIVIAL[context.task]}
    }
    verdict = _verdict(gaps[best][1], gaps[TRIVIAL[context.task]][1])
    ours = scored[OURS][context.metric]
    reference = scored[TRIVIAL[context.task]][context.metric]
    evidence = {
        "comparison": _comparison(context, scored),
        "metrics": _metrics(scored),
        **_errors(context, truth, predicted),
        **_targets(context, scored, best),
    }
    return [
        make_finding(
            CARD,
            answer=_answer(context, ours, best, scored[best][context.metric], gaps[best]) + _extremes(ours),
            verdict=verdict,
            value=ours["value"],
            unit=metric_name(context.metric),
            interval=tuple(ours["interval"]),
            control=Control(TRIVIAL[context.task], reference["value"], tuple(reference["interval"])),
            rows=len(truth),
            advice=_advice(verdict, best),
            tables=evidence,
        )
    ]


def _require(context: AuditContext, truth: np.ndarray) -> None:
    if len(truth) < MIN_ROWS:
        raise UnsupportedError(
            "Too few test rows to score", f"{len(truth)} rows.", f"Give at least {MIN_ROWS}."
        )
    if not (truth != truth[:1]).any():
        what = "class" if context.task in PROBABLE else "target value"
        raise UnsupportedError(f"The test rows hold one {what} only", "", "Use test rows with several.")


def _strongest(context: AuditContext, scored: dict[str, Any]) -> str:
    return max(scored, key=lambda name: context.gain(scored[name][context.metric]["value"], 0.0))


def _verdict(against_best: tuple[float, float], against_trivial: tuple[float, float]) -> str:
    if not against_trivial[0] > 0:
        return "fail"
    return "pass" if against_best[1] >= 0 else "warn"


def _answer(
    context: AuditContext, ours: dict, best: str, theirs: dict, gap: tuple[float, tuple[float, float]]
) -> str:
    metric = metric_name(context.metric)
    difference, (low, high) = gap
    better = "better" if difference >= 0 else "worse"
    noise = "" if low > 0 or high < 0 else ", which is within noise"
    if context.task in PROBABLE:
        difference, low, high = (round(end, 4) for end in (difference, low, high))
    low, high = sorted((abs(low), abs(high))) if low * high > 0 else (low, high)
    return (
        f"{metric[0].upper() + metric[1:]} is {number(ours['value'])} on the test rows ({between(ours['interval'])}). The strongest baseline, "
        f"{best}, reaches {number(theirs['value'])}; the model is {number(abs(difference))} {better} on the same rows "
        f"(paired {between((low, high))}){noise}."
    )


def _advice(verdict: str, best: str) -> str:
    if verdict == "fail":
        return "The model has learned nothing that the trivial answer lacks. Check the target and the inputs first."
    if verdict == "warn":
        return f"Train longer or use a larger preset; until then {best} predicts these rows better."
    return ""


def _comparison(context: AuditContext, scored: dict[str, Any]) -> list[dict[str, Any]]:
    control = scored[TRIVIAL[context.task]][context.metric]["value"]
    rows = []
    for name, result in scored.items():
        value, (low, high) = result[context.metric]["value"], result[context.metric]["interval"]
        known = context.baselines.get(name)
        more = {"seconds": round(known.seconds, 2), "what": known.description} if known else {}
        rows.append({"predictor": name, "value": value, "low": low, "high": high, "control": control, **more})
    return rows


def _metrics(scored: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, result in scored.items():
        row: dict[str, Any] = {"predictor": name}
        for metric, entry in result.items():
            low, high = entry["interval"]
            row |= {metric: entry["value"], f"{metric} low": low, f"{metric} high": high}
        rows.append(row)
    return rows


def _targets(context: AuditContext, scored: dict[str, Any], best: str) -> dict[str, list[dict[str, Any]]]:
    """Return the main metric of each of several targets, the hardest first, beside the baselines."""
    if "targets" not in scored[OURS][context.metric]:
        return {}
    each = {name: result[context.metric]["targets"] for name, result in scored.items()}
    rows = [
        {
            "target": target,
            "value": score["value"],
            "low": score["interval"][0],
            "high": score["interval"][1],
            "control": each[TRIVIAL[context.task]][target]["value"],
            best: each[best][target]["value"],
        }
        for target, score in each[OURS].items()
    ]
    worst = np.argsort([context.gain(row["value"], 0.0) for row in rows], kind="stable")
    return {"targets": [rows[i] for i in worst]}


def _extremes(ours: dict[str, Any]) -> str:
    """Return which of several targets has the highest and the lowest score; nothing for one target."""
    known = {
        name: score["value"] for name, score in ours.get("targets", {}).items() if np.isfinite(score["value"])
    }
    if len(known) < 2:
        return ""
    high, low = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    return f" Of {len(ours['targets'])} targets {high!r} has the highest ({number(known[high])}) and {low!r} the lowest ({number(known[low])})."


def _errors(
    context: AuditContext, truth: np.ndarray, predicted: np.ndarray
) -> dict[str, list[dict[str, Any]]]:
    if truth.ndim == 2:
        return {}
    if context.task == "regression":
        return {"residuals": _residuals(truth, predicted)}
    classes, chosen = [str(c) for c in context.schema.classes], predicted.argmax(1)
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (truth, chosen), 1)
    if len(classes) <= MAX_CLASSES:
        pairs = [(i, j) for i in range(len(classes)) for j in range(len(classes))]
        return {"confusion": [_pair(classes, counts, i, j) for i, j in pairs]}
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:MAX_CLASSES]
    pairs = [divmod(int(k), len(classes)) for k in order if counts.flat[k]]
    return {
        "most frequent confusions": [
            {**_pair(classes, counts, i, j), "share": counts[i, j] / len(truth)} for i, j in pairs
        ]
    }


def _pair(classes: list[str], counts: np.ndarray, i: int, j: int) -> dict[str, Any]:
    return {"true": classes[i], "predicted": classes[j], "rows": int(counts[i, j])}


def _residuals(truth: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    """Return mean truth and error in tenths of the rows, ordered by prediction."""
    rows = []
    for part in np.array_split(np.argsort(predicted, kind="stable"), min(10, len(truth))):
        error = predicted[part] - truth[part]
        rows.append(
            {
                "predicted from": predicted[part].min(),
                "to": predicted[part].max(),
                "mean truth": truth[part].mean(),
                "mean error": error.mean(),
                "RMSE": np.sqrt((error**2).mean()),
                "rows": len(part),
            }
        )
    return rows
