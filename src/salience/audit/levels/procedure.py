"""Which level an agent must reach, which it reaches, and what is missing. Deterministic; every step is listed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from salience.audit.levels.evidence import Admission
from salience.audit.levels.policy import Policy
from salience.audit.levels.profile import Profile

CONTROL = "human_approves_each"  # the role that makes up for one missing level


@dataclass(frozen=True)
class LevelResult:
    """State which level is required, which is reached, and why.

    Attributes:
        verdict: ``"meets"``; ``"conditional"``: one level short, and a person approves each decision; ``"fails"``;
            ``"not applicable"``: no moral content, so that no level is required.
        required: the level required; the recommended one where none is required.
        achieved: the highest level for which all evidence is there, with that of all levels below; −1 for none.
        fired: requirements that applied, ``{id, text, level, source, citation}``, with the level after each.
        evidence: every measure of every level, ``{level, measure, requirement, value, low, rows, met, reason}``.
        missing: those up to the required level that are not met, in order of level.
        refused: evidence that was not looked at, ``{measure, reason}``.
        profile: the agent.
        statement: whose levels these are.
    """

    verdict: str
    required: int
    achieved: int
    fired: tuple[dict[str, Any], ...]
    evidence: tuple[dict[str, Any], ...]
    missing: tuple[dict[str, Any], ...]
    refused: tuple[dict[str, Any], ...]
    profile: Profile
    statement: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(self)


def judge(policy: Policy, profile: Profile, admission: Admission) -> LevelResult:
    """Judge an agent.

    Args:
        policy: the rules.
        profile: a complete profile.
        admission: evidence of this agent, as :func:`salience.audit.levels.evidence.admit` returns it.
    """
    evidence = [_line(level["level"], m, admission) for level in policy.levels for m in level["evidence"]]
    achieved = achieved_level(evidence, policy.highest)
    required, applicable, fired = required_level(policy, profile, achieved)
    missing = [line for line in evidence if line["level"] <= required and not line["met"]]
    return LevelResult(
        verdict(required, achieved, profile) if applicable else "not applicable",
        required,
        achieved,
        tuple(fired),
        tuple(evidence),
        tuple(missing),
        admission.refused,
        profile,
        policy.statement,
    )


def required_level(policy: Policy, profile: Profile, achieved: int) -> tuple[int, bool, list[dict[str, Any]]]:
    """Return the level that a profile requires, whether one is required at all, and the rules that applied.

    Args:
        policy: the rules.
        profile: a complete profile.
        achieved: level reached; some rules count only with tested explanations.
    """
    level, fired = 0, []
    for row in policy.requirements:
        if not _applies(row, profile) or achieved < row.get("achieved", -1):
            continue
        level = min(policy.highest, _changed(level, row))
        fired.append({name: row[name] for name in ("id", "text", "source", "citation")} | {"level": level})
        if "recommend" in row:
            return level, False, fired
    return level, True, fired


def _applies(row: Mapping[str, Any], profile: Profile) -> bool:
    wanted = row.get("when", row.get("any"))
    holds = [profile[name] in values for name, values in wanted.items()]
    return all(holds) if "when" in row else any(holds)


def _changed(level: int, row: Mapping[str, Any]) -> int:
    if "add" in row:
        return max(level + row["add"], min(level, row.get("floor", 0)))
    if "raise_to" in row:
        return max(level, row["raise_to"])
    return row.get("set", row.get("recommend"))


def achieved_level(evidence: Sequence[Mapping[str, Any]], highest: int) -> int:
    """Return the highest level with all evidence met, on it and below; −1 for none."""
    unmet = [line["level"] for line in evidence if not line["met"]]
    return min(unmet, default=highest + 1) - 1


def verdict(required: int, achieved: int, profile: Profile) -> str:
    """Return whether the level reached is enough."""
    if achieved >= required:
        return "meets"
    return "conditional" if achieved == required - 1 and profile["role"] == CONTROL else "fails"


def _line(level: int, measure: Mapping[str, Any], admission: Admission) -> dict[str, Any]:
    found = admission.found.get(measure["id"])
    line = {
        "level": level,
        "measure": measure["id"],
        "requirement": requirement_words(measure),
        "value": found.value if found else None,
        "low": found.low if found else None,
        "rows": found.rows if found else 0,
    }
    reason = _shortfall(measure, found) if found else admission.reason(measure["id"])
    return line | {"met": not reason, "reason": reason}


def requirement_words(measure: Mapping[str, Any]) -> str:
    """Return what a measure must reach, in words."""
    parts = []
    if "above" in measure:
        parts.append(f"95 % interval above {measure['above']:g}")
    if measure.get("at_least", 1) != 1 or ("rows" in measure and "at_least" in measure):
        parts.append(f"at least {measure['at_least']:g}")
    if "rows" in measure:
        parts.append(f"on {measure['rows']} rows or more")
    return f"{measure['text']}" + (f" ({', '.join(parts)})" if parts else "")


def _shortfall(measure: Mapping[str, Any], found: Any) -> str:
    """Return why evidence does not reach what is asked for; empty if it does."""
    if found.rows < measure.get("rows", 0):
        return f"{found.rows} rows, {measure['rows']} are needed"
    if found.value is None:
        return "it gave no number"
    if found.value < measure.get("at_least", found.value):
        return f"{found.value:.3g}, at least {measure['at_least']:g} is needed"
    if "above" in measure and not (found.low is not None and found.low > measure["above"]):
        start = "no number" if found.low is None else f"{found.low:.3g}"
        return f"the interval begins at {start}, not above {measure['above']:g}"
    return ""
