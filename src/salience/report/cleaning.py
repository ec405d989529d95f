"""The page of a cleaned corpus: what was dropped and why, in one file that asks the network for nothing."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from salience.core.finding import Finding
from salience.core.io import to_plain
from salience.report import svg
from salience.report.content import VERDICT_TITLES
from salience.report.numbers import is_number, number, plural
from salience.report.page import assets, template
from salience.report.tables import Figure, Table, table

if TYPE_CHECKING:
    from salience.data.cleaning.result import Cleaning

HEIGHT, TOP, BOTTOM = 150, 24, 190


@dataclass(frozen=True)
class Section:
    """One finding with its evidence."""

    title: str
    finding: Finding
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]


def render(cleaning: "Cleaning", name: str) -> str:
    """Return the page.

    Args:
        cleaning: what was done.
        name: name of the corpus.
    """
    rounds = {f"judge, round {facts['round']}": to_plain(facts) for facts in cleaning.rounds}
    sections = [_section(finding, rounds.get(finding.check)) for finding in cleaning.findings()]
    settings = [{"setting": key, "value": str(value)} for key, value in asdict(cleaning.config).items()]
    seconds = {"setting": "seconds taken", "value": number(cleaning.seconds)}
    return template("cleaning.html.j2").render(
        title=f"Cleaning of {name}",
        subtitle=plural(cleaning.sizes["documents read"], "document"),
        sections=sections,
        settings=table("Options of this cleaning", [*settings, seconds]),
        verdict_titles=VERDICT_TITLES,
        **assets(),
    )


def _section(finding: Finding, judged: dict[str, Any] | None) -> Section:
    drawn = _histogram(judged) if judged and judged["judged"] else None
    tables = tuple(
        table(name.capitalize(), to_plain(records)) for name, records in finding.tables.items() if records
    )
    return Section(finding.check.capitalize(), finding, (drawn,) if drawn else (), tables)


def _histogram(facts: dict[str, Any]) -> Figure:
    """Return the documents by bits a byte, with the limits as dashed lines."""
    edges, counts = facts["distribution"]["edges"], facts["distribution"]["documents"]
    low, high = min(edges[0], facts["low"] or edges[0]), max(edges[-1], facts["high"] or edges[-1])
    at = lambda value: round(4 + 92 * (value - low) / ((high - low) or 1), 2)  # noqa: E731 - a coordinate
    parts = []
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        tall = round(HEIGHT * count / max(counts), 1)
        tip = svg.tag("title", f"{number(left)} to {number(right)} bits a byte: {plural(count, 'document')}")
        width = max(at(right) - at(left) - 0.2, 0.2)
        bar = svg.tag(
            "rect",
            tip,
            x=f"{at(left)}%",
            width=f"{width:.2f}%",
            y=TOP + HEIGHT - tall,
            height=tall,
            class_="accent",
        )
        parts.append(bar)  # fmt: skip
    for value in svg.ticks(low, high):
        parts.append(svg.text(number(value), f"{at(value)}%", BOTTOM, text_anchor="middle", class_="muted"))
    for limit in filter(is_number, (facts["low"], facts["high"])):
        x = f"{at(limit)}%"
        parts.append(svg.tag("line", x1=x, x2=x, y1=TOP - 6, y2=TOP + HEIGHT, class_="reference"))
        parts.append(svg.text(f"limit {number(limit)}", x, 12, text_anchor="middle", class_="muted"))
    title = f"Bits a byte of each document, round {facts['round']}"
    description = "How surprising the judge finds each document. What lies beyond a dashed line is dropped."
    records = [
        {"from": left, "to": right, "documents": count}
        for left, right, count in zip(edges, edges[1:], counts, strict=False)
    ]
    return Figure(
        title, description, svg.chart(title, description, BOTTOM + 8, *parts), table(title, records)
    )
