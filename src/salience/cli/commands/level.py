"""``salience level``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from salience.cli.answer import Answer
from salience.core.errors import ConfigError

if TYPE_CHECKING:
    from salience.audit.levels import LevelResult

EXAMPLES = (
    "salience level --template > profile.yaml",
    "salience level runs/clothing-reviews --profile profile.yaml",
)


def command(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="A folder that 'salience run' wrote.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The agent profile (YAML); every field is needed.")
    ] = None,
    evidence: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Evidence that was measured elsewhere (JSON). May be repeated."),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another policy (YAML) than the one that comes along.")
    ] = None,
    template: Annotated[bool, typer.Option("--template", help="Print an empty profile and stop.")] = False,
) -> Answer:
    """Say how interpretable a system must be for what it decides, and whether it is.

    The verdict is meets, conditional (one level short, and a person approves each decision) or fails. The exit code
    is 1 where it fails.
    """
    from salience.audit import levels

    rules = levels.read_policy(policy)
    if template:
        text = levels.template(rules)
        return Answer({"template": text}, [text.rstrip("\n")])
    if run is None or profile is None:
        raise ConfigError(
            "A run and an agent profile are needed",
            f"Got {'no run' if run is None else 'no profile'}.",
            "salience level RUN --profile profile.yaml; an empty profile: salience level --template.",
            code="SAL-C004",
        )
    brought = [found for path in evidence or [] for found in levels.read_evidence(path)]
    result = levels.judge_run(run, levels.read_profile(profile, rules), rules, brought)
    return Answer(result.to_json(), _view(result), exit_code=int(result.verdict == "fails"))


def _view(result: "LevelResult") -> list[Any]:
    from salience.audit.checks.level import advice, in_words
    from salience.cli.views import table

    rules = [(str(rule["level"]), rule["text"], rule["source"]) for rule in result.fired]
    lines = [
        (str(line["level"]), "✓" if line["met"] else "✗", line["requirement"], _found(line))
        for line in result.evidence
    ]
    parts = [
        f"{result.verdict.upper()}: {in_words(result)}",
        "",
        table("Rules that apply", ("level", "rule", "whose"), rules),
        table("Evidence", ("level", "", "measure", "found"), lines),
    ]
    if result.refused:
        refused = [(line["measure"], line["reason"], line["source"]) for line in result.refused]
        parts.append(table("Refused", ("measure", "why", "from"), refused))
    return [*parts, "", advice(result)] if result.missing else parts


def _found(line: dict[str, Any]) -> str:
    if not line["met"]:
        return line["reason"]
    low = "" if line["low"] is None else f", interval from {line['low']:.3g}"
    return f"{line['value']:.3g}{low}" + (f" ({line['rows']} rows)" if line["rows"] else "")
