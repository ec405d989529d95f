"""What a report says, section by section, before it becomes a page or a Markdown file."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from salience.core.finding import Finding
from salience.core.metrics import HIGHER_IS_BETTER
from salience.report import svg
from salience.report.effects import EffectsView, view
from salience.report.examples import STATUSES, Example, examples
from salience.report.numbers import between, cell, is_number, metric_title, number, plural, with_interval
from salience.report.summary import Point, main_metric, points
from salience.report.tables import Figure, Table, figure, share_chart, table, word_chart

if TYPE_CHECKING:
    from salience.report.report import Report

VERDICT_TITLES = {"fail": "Fails", "warn": "Warning", "pass": "Passes", "info": "For information", "not measured": "Not measured"}  # fmt: skip
WORDS_SHOWN = 12
LIFTED = ("confusion", "reliability")  # these pictures belong to the performance section


@dataclass(frozen=True)
class FindingView:
    """A finding with its numbers written out and its evidence as figures and tables."""

    anchor: str
    finding: Finding
    title: str
    value: str
    interval: str
    control: str
    measured_on: str
    cost: str
    lifted: bool
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]
    evidence: tuple[Table, ...]


@dataclass(frozen=True)
class Content:
    """Everything that a report shows, in the order of the page."""

    title: str
    subtitle: str
    points: tuple[Point, ...]
    verdicts: tuple[tuple[str, str, int], ...]
    performance: tuple[Figure, ...]
    scores: tuple[Table, ...]
    examples: tuple[Example, ...]
    examples_left: int
    filters: tuple[tuple[str, str, int], ...]
    importance: tuple[Figure, ...]
    effects: EffectsView | None
    findings: tuple[FindingView, ...]
    data: Table | None
    facts: tuple[tuple[str, str], ...]
    provenance: tuple[Table, ...]
    not_measured: tuple[tuple[str, str], ...]


def content(report: "Report") -> Content:
    """Gather what a report says."""
    shown = tuple(examples(report.explanations, _typical_errors(report)))
    views = [_finding(f, k) for k, f in enumerate(report.findings, start=1)]
    lifted = [f for v in views for f in v.figures if f.kind in LIFTED]
    order = list(VERDICT_TITLES)
    findings = tuple(sorted(map(_without_lifted, views), key=lambda v: order.index(v.finding.verdict)))
    return Content(
        title=report.title,
        subtitle=_subtitle(report.run),
        points=tuple(points(report)),
        verdicts=tuple((v, VERDICT_TITLES[v], n) for v, n in report.counts().items()),
        performance=(*_metric_figures(report), *lifted),
        scores=(*_scores(report), *_target_scores(report)),
        examples=shown,
        examples_left=len(report.explanations) - len(shown),
        filters=_filters(shown),
        importance=tuple(_importance(report)),
        effects=view(report.effects),
        findings=findings,
        data=_data(report.run),
        facts=tuple(_facts(report.run)),
        provenance=tuple(_provenance(report.run)),
        not_measured=tuple(_not_measured(report)),
    )


def _typical_errors(report: "Report") -> dict[str, float]:
    """Return the RMSE of each number that is predicted, by its column; of one target under every name."""
    test = report.metrics.get("test") or {}
    several = (test.get("mean_rmse") or {}).get("targets") or {}
    only = (test.get("rmse") or {}).get("value")
    own = {e.target_column: only for e in report.explanations} if only is not None else {}
    return own | {name: score["value"] for name, score in several.items()}


def _subtitle(run: dict[str, Any]) -> str:
    parts = [run.get("model"), f"on {run['dataset']}" if run.get("dataset") else None]
    if is_number(run.get("parameters")):
        parts.append(f"· {plural(run['parameters'], 'parameter')}")
    if run.get("seed") is not None:
        parts.append(f"· seed {run['seed']}")
    return " ".join(str(part) for part in parts if part)


def _systems(report: "Report") -> dict[str, dict[str, Any]]:
    test = dict(report.metrics.get("test") or {})
    others = test.pop("baselines", None) or {}
    return {"this model": test, **others} if test else {}


def _metric_names(report: "Report") -> list[str]:
    names = dict.fromkeys(name for scores in _systems(report).values() for name in scores)
    first = main_metric(report)
    return sorted(names, key=lambda name: name != first)


def _direction(name: str) -> str:
    return "higher is better" if HIGHER_IS_BETTER.get(name, True) else "lower is better"


def _metric_figures(report: "Report") -> list[Figure]:
    figures = []
    for name in _metric_names(report):
        rows = [
            svg.Row(
                system,
                score.get("value"),
                score.get("interval"),
                "",
                "accent" if system == "this model" else "other",
            )
            for system, scores in _systems(report).items()
            if (score := scores.get(name))
        ]
        if not any(is_number(row.value) for row in rows):
            continue
        title = f"{metric_title(name)} on test rows"
        description = f"{_direction(name).capitalize()}. Dots are values, lines 95 % intervals; this model beside each baseline."
        numbers = [
            {"system": r.label, metric_title(name): number(r.value), "95 % interval": between(r.interval)}
            for r in rows
        ]
        drawing = svg.row_chart(title, description, rows, bars=False)
        figures.append(Figure(title, description, drawing, table(title, numbers)))
    return figures


def _scores(report: "Report") -> list[Table]:
    names, systems = _metric_names(report), _systems(report)
    if not systems:
        return []
    validation = report.metrics.get("validation") or {}
    lines = [(f"{system}, test", scores) for system, scores in systems.items()]
    lines += [("this model, validation", validation)] if validation else []
    records = [
        {"system and split": label} | {metric_title(n): _score(scores.get(n)) for n in names}
        for label, scores in lines
    ]
    return [table("All scores, with 95 % intervals", records)]


def _target_scores(report: "Report") -> list[Table]:
    """Return the scores of this model on each of several targets."""
    test = report.metrics.get("test") or {}
    each = {n: test[n]["targets"] for n in _metric_names(report) if "targets" in (test.get(n) or {})}
    if not each:
        return []
    records = [
        {"target": target}
        | {metric_title(n).split(",")[0]: _score(scores[target]) for n, scores in each.items()}
        for target in next(iter(each.values()))
    ]
    return [table("This model, target by target", records)]


def _score(score: Any) -> str:
    if isinstance(score, dict):
        span = between(score.get("interval"))
        return number(score.get("value")) + (f" ({span})" if span else "")
    return number(score) if is_number(score) else "—"


def _filters(shown: Sequence[Example]) -> tuple[tuple[str, str, int], ...]:
    counts = Counter(status for example in shown for status in example.statuses)
    return tuple((key, title, counts[key]) for key, title in STATUSES.items() if 0 < counts[key] < len(shown))


def _importance(report: "Report") -> list[Figure]:
    held, explained = report.importance, report.explanations
    where = f" over {plural(len(explained), 'explained row')}" if explained else ""
    figures = []
    columns = [c for c in held.get("columns") or [] if is_number(c.get("share"))]
    if columns:
        description = (
            f"Share of the absolute contributions that each column holds{where}, with 95 % intervals."
        )
        figures.append(share_chart("By column", description, sorted(columns, key=lambda c: -c["share"])))
    words = sorted((w for w in held.get("words") or [] if is_number(w.get("mean"))), key=lambda w: -w["mean"])
    toward = f"“{held['toward']}”" if held.get("toward") else "the predicted answer"
    quantity = f" ({explained[0].quantity})" if explained else ""
    groups = {
        "for": [w for w in words if w["mean"] >= 0],
        "against": [w for w in reversed(words) if w["mean"] < 0],
    }
    for side, chosen in groups.items():
        if chosen:
            title = f"Words that speak {side} {toward}"
            description = f"Mean contribution of each word{quantity}{where}, and how often it occurs."
            figures.append(word_chart(title, description, chosen[:WORDS_SHOWN]))
    return figures


def _finding(finding: Finding, position: int) -> FindingView:
    figures, tables = [], []
    for name, records in finding.tables.items():
        drawn = figure(name, records, finding.unit) if records else None
        if drawn:
            figures.append(drawn)
        elif records:
            tables.append(table(name.replace("_", " ").capitalize(), records))
    unit = f" {finding.unit}" if finding.unit else ""
    control = finding.control
    return FindingView(
        anchor=f"finding-{position}",
        finding=finding,
        title=finding.check.replace("_", " "),
        value=f"{number(finding.value)}{unit}" if is_number(finding.value) else "—",
        interval=between(finding.interval),
        control=f"{control.name}: {with_interval(control.value, control.interval)}" if control else "",
        measured_on=plural(finding.rows, f"{finding.split} row") if finding.rows else "",
        cost=_cost(finding),
        lifted=False,
        figures=tuple(figures),
        tables=tuple(tables),
        evidence=(*(drawn.table for drawn in figures), *tables),
    )


def _without_lifted(view: FindingView) -> FindingView:
    kept = tuple(f for f in view.figures if f.kind not in LIFTED)
    return view if len(kept) == len(view.figures) else replace(view, figures=kept, lifted=True)


def _cost(finding: Finding) -> str:
    parts = [f"{number(finding.cost.seconds)} s"] if finding.cost.seconds else []
    parts += [plural(finding.cost.forwards, "model forward")] if finding.cost.forwards else []
    return ", ".join(parts)


def _data(run: dict[str, Any]) -> Table | None:
    wanted = ("name", "kind", "role", "missing", "distinct", "examples", "reason")
    records = [{key: column[key] for key in wanted if key in column} for column in run.get("schema") or []]
    return table("Columns and how they were read", records) if records else None


def _facts(run: dict[str, Any]) -> list[tuple[str, str]]:
    rows = run.get("rows") or {}
    facts = [
        ("Command", run.get("command")),
        ("Data", run.get("dataset")),
        ("Rows", ", ".join(f"{name} {cell(n)}" for name, n in rows.items())),
        ("Model", run.get("model")),
        ("Parameters", cell(run["parameters"]) if run.get("parameters") is not None else None),
        ("Seed", str(run["seed"]) if run.get("seed") is not None else None),
    ]
    return [(name, str(value)) for name, value in facts if value]


def _provenance(run: dict[str, Any]) -> list[Table]:
    tables = []
    seconds = {k: v for k, v in (run.get("seconds") or {}).items() if is_number(v)}
    if seconds:
        records = [{"stage": stage, "seconds": number(value)} for stage, value in seconds.items()]
        total = {"stage": "together", "seconds": number(float(sum(seconds.values())))}
        tables.append(table("Time by stage (seconds)", records if "total" in seconds else [*records, total]))
    for key, name, held, caption in (
        ("versions", "package", "version", "Versions"),
        ("hashes", "file", "hash", "Hashes (SHA-256)"),
    ):
        if run.get(key):
            records = [{name: k, held: str(v)} for k, v in run[key].items()]
            tables.append(table(caption, records))
    settings = [{"setting": name, "value": value} for name, value in _flat(run.get("config") or {})]
    return [*tables, table("Settings", settings)] if settings else tables


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as dotted names with their values."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value)


def _not_measured(report: "Report") -> list[tuple[str, str]]:
    items = [(f.question, f.answer) for f in report.findings if f.verdict == "not measured"]
    items += [("Also left out", str(text)) for text in report.run.get("not_measured") or []]
    absent = (
        (not _systems(report), "Performance", "The run holds no scores of test rows."),
        (not report.findings, "Checks", "No check was run."),
        (not report.explanations, "Explanations", "No row was explained."),
        (
            not report.importance.get("columns"),
            "Global importance",
            "Contributions were not summed over rows.",
        ),
    )
    items += [(name, text) for missing, name, text in absent if missing]
    unchecked = sum(e.faithfulness is None for e in report.explanations)
    if unchecked:
        items.append(
            (
                "Faithfulness",
                f"{plural(unchecked, 'explanation')} on this page without a measurement of whether it is true.",
            )
        )
    items.append(
        (
            "Other seeds and splits",
            "All numbers come from one split and one seed; how they vary between seeds is unknown.",
        )
    )
    items.append(
        ("Causes", "Contributions say what the model uses, not what causes the outcome in the world.")
    )
    items.append(
        ("Other data", "Nothing here says how the model does on rows from another time, place or source.")
    )
    return items
