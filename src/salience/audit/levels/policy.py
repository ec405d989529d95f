"""The policy: levels, types of agent and requirements, read from a YAML file; every row says whose it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salience.core.config import read_yaml
from salience.core.errors import ConfigError, nearest

SHIPPED = Path(__file__).with_name("policy.yaml")
SOURCES = ("paper", "salience")
ACTIONS = ("set", "add", "raise_to", "recommend")
MEASURE = {"id", "text", "at_least", "above", "rows", "tested"}
RULE = {"id", "when", "any", *ACTIONS, "floor", "achieved", "text", "source", "citation"}


@dataclass(frozen=True)
class Policy:
    """Hold what :mod:`salience.audit.levels.procedure` follows.

    Attributes:
        statement: whose levels these are; printed with every result.
        concept: rows of the paper.
        levels: rows ``{level, name, text, source, citation, evidence: [{id, text, at_least, above, rows, tested}]}``.
        agent_types: rows ``{field, text, source, citation, options}``, the fields of an agent profile.
        requirements: rows ``{id, when | any, set | add | raise_to | recommend, floor, achieved, text, source, citation}``.
    """

    statement: str
    concept: tuple[Mapping[str, Any], ...]
    levels: tuple[Mapping[str, Any], ...]
    agent_types: tuple[Mapping[str, Any], ...]
    requirements: tuple[Mapping[str, Any], ...]

    @property
    def highest(self) -> int:
        """The highest level."""
        return self.levels[-1]["level"]

    @property
    def options(self) -> dict[str, list[str]]:
        """Options of each field of the profile."""
        return {row["field"]: list(row["options"]) for row in self.agent_types}

    @property
    def measures(self) -> dict[str, Mapping[str, Any]]:
        """Every measure that can be evidence, by id, in the order of the levels."""
        return {measure["id"]: measure for row in self.levels for measure in row["evidence"]}


def read_policy(path: Path | str | None = None) -> Policy:
    """Return a policy from a file; the shipped one if none.

    Raises:
        ConfigError: a part is missing, a row does not say whose it is, or names what does not exist (SAL-A002).
    """
    path = Path(path or SHIPPED)
    data = read_yaml(path)
    parts = ("concept", "levels", "agent_types", "requirements")
    missing = [name for name in ("statement", *parts) if not data.get(name)]
    if missing:
        raise _wrong(path, f"{missing[0]} is missing", "See the file that salience ships for the form.")
    policy = Policy(data["statement"], *(tuple(data[name]) for name in parts))
    for name in parts:
        for row in getattr(policy, name):
            _check_source(path, name, row)
    _check_levels(path, policy)
    for row in policy.requirements:
        _check_requirement(path, policy, row)
    return policy


def _check_source(path: Path, part: str, row: Any) -> None:
    if not isinstance(row, dict) or row.get("source") not in SOURCES or not row.get("citation"):
        raise _wrong(
            path,
            f"a row of {part} does not say whose it is: {str(row)[:80]}",
            "Give source: paper or source: salience, and a citation.",
        )


def _check_levels(path: Path, policy: Policy) -> None:
    if [row.get("level") for row in policy.levels] != list(range(len(policy.levels))):
        raise _wrong(path, "the levels are not 0, 1, 2, …", "Number them in order, each once.")
    measures = [measure for row in policy.levels for measure in row.get("evidence", ())]
    for measure in measures:
        unknown = sorted(set(measure) - MEASURE)
        if unknown or "id" not in measure or not {"at_least", "above"} & set(measure):
            raise _wrong(
                path, f"a measure cannot be read: {measure}", "Give id, text, and at_least or above."
            )
    if len(policy.measures) != len(measures):
        raise _wrong(path, "two measures have the same id", "Give each its own.")


def _check_requirement(path: Path, policy: Policy, row: Mapping[str, Any]) -> None:
    if set(row) - RULE or sum(action in row for action in ACTIONS) != 1 or ("when" in row) == ("any" in row):
        raise _wrong(
            path,
            f"requirement {row.get('id')!r} cannot be read",
            "Give when or any, and one of set, add, raise_to, recommend.",
        )
    for name, wanted in row.get("when", row.get("any")).items():
        known = policy.options.get(name, [])
        wrong = next((value for value in wanted if value not in known), None)
        if wrong is not None or not known:
            raise _wrong(
                path,
                f"requirement {row['id']!r} names {name}: {wrong!r}",
                nearest(str(wrong), known or policy.options),
            )


def _wrong(path: Path, what: str, fix: str) -> ConfigError:
    return ConfigError("The policy of levels cannot be used", f"{path}: {what}.", fix, code="SAL-A002")
