"""The report as plain Markdown: the same content, for terminals, issues and version control."""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from salience.report.content import VERDICT_TITLES, Content, FindingView, content
from salience.report.examples import STATUSES, Example
from salience.report.tables import Table

if TYPE_CHECKING:
    from salience.report.report import Report

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$])")


def escape(text: str) -> str:
    """Return text that Markdown prints as it is, on one line: no markup, no HTML, no table borders."""
    line = " ".join(str(text).split())
    return SPECIAL.sub(r"\\\1", line).replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def render(report: "Report") -> str:
    """Return the Markdown of a report."""
    return "\n\n".join(_blocks(content(report))) + "\n"


def _blocks(c: Content) -> Iterator[str]:
    yield f"# {escape(c.title)}"
    if c.subtitle:
        yield escape(c.subtitle)
    yield "## Summary"
    for point in c.points:
        verdict = f" [{VERDICT_TITLES[point.verdict]}]" if point.verdict else ""
        yield f"**{escape(point.question)}**{escape(verdict)} {escape(point.answer)}"
    yield "## Performance"
    yield from map(_table, c.scores) if c.scores else ["No scores are in this run."]
    yield "## Examples"
    for example in c.examples:
        yield from _example(example)
    if not c.examples:
        yield "No row was explained."
    if c.examples_left:
        yield f"{c.examples_left:,} more explained rows are in the JSON file."
    yield "## What it looks at overall"
    for drawn in c.importance:
        yield f"### {escape(drawn.title)}\n\n{escape(drawn.description)}"
        yield _table(drawn.table, caption=False)
    if not c.importance:
        yield "This was not measured."
    yield from _effects(c)
    yield "## Findings"
    for view in c.findings:
        yield from _finding(view)
    if not c.findings:
        yield "No check was run."
    yield "## Data"
    yield _table(c.data) if c.data else "The run holds no schema."
    yield "## Reproduce this run"
    yield _facts(c.facts)
    for t in c.provenance:
        yield _table(t)
    yield "## What was not measured"
    yield _facts(c.not_measured)


def _effects(c: Content) -> Iterator[str]:
    if c.effects:
        yield "## How each column moves the prediction"
        yield escape(c.effects.lede)
        told = [drawn.description for drawn in (*c.effects.curves, *c.effects.pairs)]
        yield "\n".join(f"- {escape(text)}" for text in (*told, *c.effects.sentences))
        yield _table(c.effects.overview.table)
        for t in c.effects.tables:
            yield _table(t)


def _example(e: Example) -> Iterator[str]:
    groups = ", ".join(STATUSES[s].lower() for s in e.statuses)
    yield f"### Example {e.number} ({escape(e.name)})"
    yield f"Predicted **{escape(e.prediction)}**, actual **{escape(e.truth)}**{f' ({groups})' if groups else ''}."
    for field in (f for f in e.fields if f.text or not f.marked):
        text = field.text or "(empty)"
        cut = f" … {field.cut:,} more characters" if field.cut else ""
        yield f"> **{escape(field.column)}** ({field.total}): {escape(text)}{cut}"
    if e.sentences:
        yield "\n".join(f"- {escape(text)}" for text, _ in e.sentences)
    yield f"Is this explanation true? **{escape(e.verdict)}**. {escape(' '.join(e.faithfulness))}"
    yield _table(Table(e.units.caption, e.units.columns, e.units.rows[:8], e.units.numeric))


def _finding(view: FindingView) -> Iterator[str]:
    f = view.finding
    yield f"### {escape(f.question)}"
    yield f"**{VERDICT_TITLES[f.verdict]}.** {escape(f.answer)}"
    if f.advice:
        yield f"What to do: {escape(f.advice)}"
    interval = f", 95 % interval {view.interval}" if view.interval else ""
    facts = [
        ("Check", view.title),
        ("Value", f"{view.value}{interval}"),
        ("Control", view.control),
        ("Measured on", view.measured_on),
        ("Cost", view.cost),
    ]
    yield _facts([(name, value) for name, value in facts if value])
    for t in view.evidence:
        yield _table(t)


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {escape(name)}: {escape(value)}" for name, value in facts)


def _table(t: Table, caption: bool = True) -> str:
    lines = [f"{escape(t.caption)}\n"] if caption else []
    lines.append(_line(t.columns))
    lines.append("|" + "|".join("---:" if right else "---" for right in t.numeric) + "|")
    lines += [_line(row) for row in t.rows]
    if t.note:
        lines.append(f"\n{escape(t.note)}")
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape(text) for text in cells) + " |"
