"""The first answers of a report, in sentences that a manager can read."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salience.core.finding import Finding
from salience.core.metrics import EACH, HIGHER_IS_BETTER, MAIN
from salience.report.numbers import (
    between,
    is_number,
    join,
    metric_title,
    number,
    percent,
    plural,
    shorten,
    with_interval,
)

if TYPE_CHECKING:
    from salience.report.report import Report

TRIVIAL = ("majority", "mean")
TRUST = {
    "pass": "Yes, with care",
    "warn": "Only in part",
    "fail": "No",
    "info": "See the numbers",
    "not measured": "Unknown",
}


@dataclass(frozen=True)
class Point:
    """One question of the summary with its answer.

    Attributes:
        question: what a reader asks first.
        answer: plain sentences with the numbers in them.
        verdict: verdict of the finding that the answer rests on, empty if it rests on none.
        lead: two or three words that answer before the sentences do.
        link: part of the page that says more.
    """

    question: str
    answer: str
    verdict: str = ""
    lead: str = ""
    link: str = ""


def points(report: "Report") -> list[Point]:
    """Return the questions and answers at the top of a report."""
    return [_what(report), _how_well(report), _looks_at(report), _trusted(report), _weak(report)]


def main_metric(report: "Report") -> str:
    """Return the metric that the summary is about."""
    task = report.metrics.get("task") or report.run.get("task") or "classification"
    scores = report.metrics.get("test") or {}
    wanted = MAIN.get(task, "")
    return wanted if wanted in scores else next((n for n in scores if n != "baselines"), wanted)


def baselines(report: "Report") -> dict[str, dict[str, Any]]:
    """Return the scores of the baselines on the test rows."""
    return (report.metrics.get("test") or {}).get("baselines") or {}


def strongest(report: "Report", metric: str) -> str | None:
    """Return the name of the best baseline that is not the trivial one."""
    scored = {
        name: scores[metric]["value"]
        for name, scores in baselines(report).items()
        if name not in TRIVIAL and is_number((scores.get(metric) or {}).get("value"))
    }
    best = max if HIGHER_IS_BETTER.get(metric, True) else min
    return best(scored, key=scored.__getitem__) if scored else None


def _what(report: "Report") -> Point:
    run = report.run
    target = run.get("target")
    if not target:
        return Point("What does it predict?", "The run does not say what it predicts.")
    classes = [str(c) for c in run.get("classes") or []]
    inputs = [c for c in run.get("schema") or [] if c.get("role") == "input"]
    kinds = Counter(c.get("kind", "column") for c in inputs)
    counted = [plural(n, kind, "categories" if kind == "category" else "") for kind, n in kinds.items()]
    names = (
        join([shorten(c, 30) for c in classes], "or")
        if len(classes) <= 4
        else plural(len(classes), "class", "classes")
    )
    what = {
        "regression": " (a number)",
        "multi-regression": ", all numbers,",
        "multi-label": ", yes or no for each,",
    }
    named = f"“{target}”" if run.get("task") in ("classification", "regression", None) else target
    answer = f"It predicts {named}" + (f" ({names})" if classes else what.get(str(run.get("task")), ""))
    if inputs:
        answer += f" from {plural(len(inputs), 'column')} ({join(counted)})"
    if run.get("dataset"):
        answer += f" of {run['dataset']}"
    rows = run.get("rows") or {}
    answer += "."
    if rows.get("train"):
        answer += f" It learned from {plural(rows['train'], 'row')}"
        answer += f" and was tested on {rows['test']:,} others." if rows.get("test") else "."
    return Point("What does it predict?", answer, link="data")


def _how_well(report: "Report") -> Point:
    metric = main_metric(report)
    score = (report.metrics.get("test") or {}).get(metric)
    if not score:
        return Point(
            "How well?", "Its performance was not measured.", "not measured", "Unknown", "not-measured"
        )
    title = metric_title(metric)
    lead = f"{title} {number(score.get('value'))}"
    finding = next((f for f in report.findings if f.check == "performance"), None)
    if finding and finding.control:
        trivial = f" A trivial answer ({finding.control.name}) scores {number(finding.control.value)}."
        return Point("How well?", finding.answer + trivial, finding.verdict, lead, "performance")
    return Point("How well?", _scores_in_words(report, metric, score), "", lead, "performance")


def _scores_in_words(report: "Report", metric: str, score: dict[str, Any]) -> str:
    rows = (report.run.get("rows") or {}).get("test")
    title = metric_title(metric)
    answer = f"{title} {with_interval(score.get('value'), score.get('interval'))}"
    answer += f" on {plural(rows, 'test row')}." if rows else " on the test rows."
    others = []
    for name in baselines(report):
        if name in TRIVIAL:
            value = (baselines(report)[name].get(metric) or {}).get("value")
            others.append(f"always answering the {name} scores {number(value)}")
    best = strongest(report, metric)
    if best:
        other = baselines(report)[best][metric]
        span = between(other.get("interval"))
        others.append(
            f"the strongest baseline, {best}, {number(other['value'])}" + (f" ({span})" if span else "")
        )
    if others:
        answer += f" In comparison, {join(others)}."
    return answer + _comparison(report, metric, score)


def _comparison(report: "Report", metric: str, score: dict[str, Any]) -> str:
    best = strongest(report, metric)
    if best is None or not is_number(score.get("value")):
        return ""
    other = baselines(report)[best][metric]
    gap = score["value"] - other["value"]
    better = gap > 0 if HIGHER_IS_BETTER.get(metric, True) else gap < 0
    if not between(score.get("interval")) or not between(other.get("interval")):
        return " The model is ahead of it." if better else " The model is not ahead of it."
    (a, b), (c, d) = score["interval"], other["interval"]
    apart = "the intervals do not overlap" if b < c or d < a else "the intervals overlap"
    return f" The model is {'ahead of' if better else 'not ahead of'} it; {apart}."


def _looks_at(report: "Report") -> Point:
    columns = [c for c in report.importance.get("columns") or [] if is_number(c.get("share"))]
    words = [w for w in report.importance.get("words") or [] if is_number(w.get("mean"))]
    if not columns and not words:
        return Point(
            "What does it look at?", "This was not measured.", "not measured", "Unknown", "not-measured"
        )
    columns = sorted(columns, key=lambda c: -c["share"])
    answer = ""
    if columns:
        first, *rest = columns
        about = report.importance.get("toward") if report.run.get("task") in EACH else None
        answer = f"For “{about}” mostly at" if about else "Mostly at"
        answer += f" {first['column']}: {with_interval(first['share'], first.get('interval'), percent)} of all contributions"
        answer += (
            f"; then {join([f'''{c['column']} ({percent(c['share'])})''' for c in rest[:2]])}."
            if rest
            else "."
        )
    words = sorted(words, key=lambda w: -abs(w["mean"]))[:5]
    if words:
        answer += f" The words that weigh most: {join([f'''“{w['word']}”''' for w in words])}."
    lead = shorten(columns[0]["column"], 24) if columns else "Words"
    return Point("What does it look at?", answer.strip(), lead=lead, link="importance")


def _trusted(report: "Report") -> Point:
    question = "Can its explanations be trusted?"
    finding = next((f for f in report.findings if f.check.startswith("faithfulness")), None)
    if finding and finding.control and is_number(finding.value):
        answer = (
            f"Removing what an explanation ranks highest moves the answer by {with_interval(finding.value, finding.interval)} "
            f"{finding.unit} on average over {plural(finding.rows, finding.split + ' row')}; "
            f"{finding.control.name}: {with_interval(finding.control.value, finding.control.interval)}."
        )
        return Point(question, answer, finding.verdict, TRUST[finding.verdict], anchor(report, finding))
    if finding:
        return Point(
            question, finding.answer, finding.verdict, TRUST[finding.verdict], anchor(report, finding)
        )
    if not report.explanations:
        return Point(question, "No row was explained.", "not measured", "Unknown", "not-measured")
    return Point(
        question,
        "This was not measured over a sample; each example says what was measured for it.",
        "not measured",
        "Unknown",
        "examples",
    )


def _weak(report: "Report") -> Point:
    question = "Where is it weak?"
    bad = [f for v in ("fail", "warn") for f in report.findings if f.verdict == v]
    measured = [f for f in report.findings if f.verdict != "not measured"]
    if not measured:
        return Point(question, "No check was run.", "not measured", "Unknown", "not-measured")
    if not bad:
        return Point(
            question,
            f"No weakness was found by {plural(len(measured), 'check')}. What was not checked is listed below.",
            "pass",
            "Nothing found",
            "findings",
        )
    told = sorted(bad, key=lambda f: f.check == "performance")  # the card beside this one has said it
    answer = " ".join(_first_sentence(f.answer) for f in told[:2])
    more = f" {plural(len(bad) - 2, 'more finding')} below." if len(bad) > 2 else ""
    return Point(question, answer + more, bad[0].verdict, plural(len(bad), "weak point"), "findings")


def _first_sentence(text: str) -> str:
    first, stop, _ = text.partition(". ")
    return first + stop.strip()


def anchor(report: "Report", finding: Finding) -> str:
    """Return the page's anchor of a finding."""
    return f"finding-{report.findings.index(finding) + 1}"
