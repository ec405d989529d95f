"""The self-contained HTML page: template, styles and script in one file that asks the network for nothing."""

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salience.core.io import dumps
from salience.explain import markup
from salience.report.content import VERDICT_TITLES, content
from salience.report.examples import STATUSES, TONES

if TYPE_CHECKING:
    from salience.report.report import Report

HERE = Path(__file__).parent


@lru_cache(maxsize=1)
def assets() -> dict[str, str]:
    """Return what a page holds beside its content: ``style``, ``script`` and ``policy``."""
    style = markup.STYLE + (HERE / "static" / "page.css").read_text(encoding="utf-8")
    script = (HERE / "static" / "page.js").read_text(encoding="utf-8")
    return {"style": style, "script": script, "policy": policy(style, script)}


def policy(style: str, script: str) -> str:
    """Return a content security policy that allows this style, this script and embedded images, and nothing else."""
    rules = {
        "default-src": "'none'",
        "style-src-elem": f"'sha256-{_digest(style)}'",
        "style-src-attr": "'unsafe-inline'",  # how strongly a word is tinted is a style attribute
        "script-src": f"'sha256-{_digest(script)}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


@lru_cache(maxsize=8)
def template(name: str) -> Any:
    """Return a template by its file name; it escapes what it prints."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def script_json(value: Any) -> str:
    """Return JSON that is safe inside a script element: no ``<``, ``>`` or ``&``."""
    text = dumps(value, indent=None)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def render(report: "Report") -> str:
    """Return the page of a report."""
    data = {
        "run": report.run,
        "metrics": report.metrics,
        "verdicts": [[f.check, f.verdict] for f in report.findings],
    }
    return template("page.html.j2").render(
        c=content(report),
        data=script_json({"title": report.title, **data}),
        legend=markup.legend_html(*_legend(report)),
        titles=STATUSES,
        tones=TONES,
        verdict_titles=VERDICT_TITLES,
        order={verdict: k for k, verdict in enumerate(VERDICT_TITLES)},
        **assets(),
    )


def _legend(report: "Report") -> tuple[str, str]:
    if not any(explanation.signed for explanation in report.explanations):
        return "the model looks here", ""
    if report.run.get("task") in ("regression", "multi-regression"):
        return "raises the answer", "lowers it"
    return "speaks for the explained answer", "speaks against it"
