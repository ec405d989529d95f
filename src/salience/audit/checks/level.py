"""Is the system interpretable enough for what it decides?"""

from typing import Any

from salience.audit.context import AuditContext
from salience.audit.levels import (
    Agent,
    LevelResult,
    admit,
    gather,
    judge,
    read_policy,
    read_profile,
    weights_digest,
)
from salience.audit.make import make_finding
from salience.core.errors import UnsupportedError
from salience.core.finding import Finding

CARD = {
    "key": "level",
    "kind": "check",
    "order": 90,
    "title": "Level of interpretability",
    "entry": "run",
    "summary": "Which level of interpretability the decision asks for, which one the evidence reaches, and what is "
    "missing. Needs a profile of the agent; looks at the answers of the other checks of the same audit.",
    "question": "Is the system interpretable enough for what it decides?",
    "paper": "Minimum Levels of Interpretability for Artificial Moral Agents (Vijayaraghavan, Badea, 2023)",
    "year": 2023,
    "url": "https://arxiv.org/abs/2307.00660",
    "faithful": "the concept: a minimum that depends on the kind of agent",
    "deviates": "levels, types of agent and requirements are an operationalisation by salience, in a file that can be replaced",
    "tasks": ["classification", "regression", "multi-label", "multi-regression"],
    "decides": True,
    "pass": "the level reached is the level required, or higher",
    "warn": "one level short, and a person approves each decision",
    "fail": "lower than that",
}
VERDICTS = {"meets": "pass", "conditional": "warn", "fails": "fail", "not applicable": "info"}


def run(context: AuditContext) -> list[Finding]:
    """Judge the model on the evidence of this audit.

    Raises:
        UnsupportedError: no profile is given, or there are no test rows.
        ConfigError: the profile lacks a field.
    """
    if context.profile is None:
        raise UnsupportedError(
            "It is not known what kind of agent this is",
            "No agent profile is given.",
            "Fill in what 'salience level --template' prints, and give it: --set audit.profile=profile.yaml.",
        )
    context.inputs("test")  # refuses where nothing can have been measured
    policy = read_policy()
    profile = read_profile(context.profile, policy)
    methods = list(dict.fromkeys(e.method for e in context.explanations))
    agent = Agent(
        weights_digest(context.model), context.data or "rows of this audit", methods[0] if methods else ""
    )
    offered = [*gather(context.findings, context.explanations, agent, seed=context.seed), *context.evidence]
    result = judge(policy, profile, admit(policy, agent, offered))
    return [
        make_finding(
            CARD,
            answer=in_words(result),
            verdict=VERDICTS[result.verdict],
            value=result.achieved,
            unit="level",
            rows=len(context.explanations),
            advice=advice(result),
            tables=tables(result),
        )
    ]


def in_words(result: LevelResult) -> str:
    """Return the judgement in plain sentences."""
    reached = "not even level 0" if result.achieved < 0 else f"level {result.achieved}"
    if result.verdict == "not applicable":
        first = f"It takes no part in moral decisions, so no level is required; level {result.required} is recommended."
    else:
        first = f"Level {result.required} is required."
    short = {
        "meets": "That is enough.",
        "conditional": "That is one level short; a person approves each decision, which makes up for it for now.",
        "fails": "That is not enough.",
        "not applicable": "",
    }[result.verdict]
    return " ".join(f"{first} The evidence reaches {reached}. {short} {result.statement}".split())


def advice(result: LevelResult) -> str:
    """Return what would be done next: the first thing that is missing."""
    if not result.missing:
        return ""
    first, count = result.missing[0], len(result.missing)
    more = f" {count - 1} more {'is' if count == 2 else 'are'} missing." if count > 1 else ""
    return f"Next, level {first['level']}: {first['requirement']}; {first['reason']}.{more}"


def tables(result: LevelResult) -> dict[str, list[dict[str, Any]]]:
    """Return rules, evidence and refusals as tables."""
    rules = [{"rule": r["text"], "level": r["level"], "whose": r["source"]} for r in result.fired]
    lines = [
        {
            "level": e["level"],
            "measure": e["requirement"],
            "found": e["value"],
            "met": "yes" if e["met"] else e["reason"],
        }
        for e in result.evidence
    ]
    found = {"rules that apply": rules, "evidence": lines}
    return found | ({"refused": list(result.refused)} if result.refused else {})
