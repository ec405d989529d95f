"""A report: findings and explanations of one run, as a page, as Markdown or as data."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from salience.core.errors import ConfigError, IntegrityError, nearest
from salience.core.finding import VERDICTS, Finding
from salience.core.io import atomic_write_text, dumps, read_json, to_plain

FORMAT, VERSION = "salience-report", 1


@dataclass(frozen=True)
class Report:
    """Hold what one run found, ready to be read. Numbers are held as plain data: numpy's types and NaN are gone.

    Attributes:
        title: heading of the page.
        run: what was run: ``dataset, rows, target, task, classes, model, parameters, seed, seconds, versions,
            hashes, command, schema``; a missing entry is left out of the page.
        metrics: scores of the model and of every baseline, as in ``metrics.json``.
        findings: answers of the checks.
        explanations: explained rows; the page shows the first sixty.
        importance: ``columns`` (``column, share, interval``) and ``words`` (``word, column, mean, count``).
        effects: what :meth:`salience.explain.tables.Effects.to_json` returns; empty where it was not measured.
    """

    title: str
    run: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    explanations: tuple[Any, ...] = ()
    importance: dict[str, Any] = field(default_factory=dict)
    effects: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("run", "metrics", "importance", "effects"):
            object.__setattr__(self, name, to_plain(getattr(self, name)))
        findings = tuple(Finding.from_json(to_plain(finding.to_json())) for finding in self.findings)
        object.__setattr__(self, "findings", findings)
        object.__setattr__(self, "explanations", tuple(self.explanations))

    def to_html(self) -> str:
        """Return one self-contained page: no network, readable without JavaScript."""
        from salience.report.page import render

        return render(self)

    def to_markdown(self) -> str:
        """Return the same content as plain Markdown."""
        from salience.report.markdown import render

        return render(self)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-ready data (NaN becomes None)."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "title": self.title,
            "run": self.run,
            "metrics": self.metrics,
            "findings": [finding.to_json() for finding in self.findings],
            "explanations": to_plain([explanation.to_json() for explanation in self.explanations]),
            "importance": self.importance,
            "effects": self.effects,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Report":
        """Rebuild a report from :meth:`to_json`.

        Raises:
            IntegrityError: the data are not a report of this version.
        """
        if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
            received = (
                f"format {data.get('format')!r}, version {data.get('version')!r}"
                if isinstance(data, dict)
                else type(data).__name__
            )
            raise IntegrityError(
                "The data are not a report", received, f"Want {FORMAT!r}, version {VERSION}."
            )
        from salience.explain.explanation import Explanation

        return cls(
            title=data["title"],
            run=data["run"],
            metrics=data["metrics"],
            findings=tuple(Finding.from_json(item) for item in data["findings"]),
            explanations=tuple(Explanation.from_json(item) for item in data["explanations"]),
            importance=data["importance"],
            effects=data.get("effects", {}),  # reports of before hold none
        )

    def save(self, path: Path | str) -> Path:
        """Write the report; the suffix chooses the form: ``.html``, ``.md`` or ``.json``.

        Raises:
            ConfigError: the suffix is none of these.
        """
        path = Path(path)
        forms = {
            ".html": self.to_html,
            ".md": self.to_markdown,
            ".json": lambda: dumps(self.to_json()) + "\n",
        }
        form = forms.get(path.suffix.lower())
        if form is None:
            raise ConfigError(f"A report cannot be saved as {path.name!r}", "", nearest(path.suffix, forms))
        return atomic_write_text(path, form())

    @classmethod
    def load(cls, path: Path | str) -> "Report":
        """Read a report that was saved as ``.json``."""
        return cls.from_json(read_json(path))

    def counts(self) -> dict[str, int]:
        """Return the number of findings by verdict, in the order of severity."""
        return {v: n for v in severity() if (n := sum(f.verdict == v for f in self.findings))}

    def __str__(self) -> str:
        from salience.report.summary import points

        lines = [self.title, *(f"{point.question} {point.answer}" for point in points(self))]
        verdicts = ", ".join(f"{n} {v}" for v, n in self.counts().items())
        return "\n".join([*lines, f"Findings: {verdicts or 'none'}."])

    def _repr_html_(self) -> str:
        """Show the page in a frame of its own, so that the notebook's styles and the page's stay apart."""
        source = escape(self.to_html(), quote=True)
        style = "width:100%;height:46rem;border:1px solid #8886;border-radius:6px"
        return f'<iframe title="{escape(self.title)}" sandbox="allow-scripts" style="{style}" srcdoc="{source}"></iframe>'


def severity() -> Iterable[str]:
    """Return the verdicts, worst first."""
    return ("fail", "warn", *(v for v in VERDICTS if v not in ("fail", "warn")))
