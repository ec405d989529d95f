"""The agent profile: what kind of agent is judged. Every field must be given; nothing is assumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salience.audit.levels.policy import Policy
from salience.core.config import read_yaml
from salience.core.errors import ConfigError, nearest

Profile = dict[str, str]


def read_profile(source: Path | str | Mapping[str, Any], policy: Policy) -> Profile:
    """Return a complete profile, from a YAML file or a mapping.

    Raises:
        ConfigError: a field is missing, unknown, or has an unknown value (SAL-A003). No field has a default: to
            assume the harmless or the harmful case would decide the answer.
    """
    given = dict(source) if isinstance(source, Mapping) else read_yaml(source)
    where = "The profile" if isinstance(source, Mapping) else str(source)
    unknown = [name for name in given if name not in policy.options]
    if unknown:
        raise _wrong(
            f"{where} has an unknown field {unknown[0]!r}.", nearest(str(unknown[0]), policy.options)
        )
    values = {name: _value(given.get(name)) for name in policy.options}
    missing = [name for name, value in values.items() if not value]
    if missing:
        choices = "; ".join(f"{name}: {' | '.join(policy.options[name])}" for name in missing)
        raise _wrong(f"{where} lacks {', '.join(missing)}.", f"Nothing is assumed. Give {choices}.")
    for name, value in values.items():
        if value not in policy.options[name]:
            raise _wrong(f"{where}: {name} is {value!r}.", nearest(str(value), policy.options[name]))
    return values


def _value(given: Any) -> str:
    """Return the name of an option; empty where none is given."""
    return "" if given is None else str(given).strip()


def template(policy: Policy) -> str:
    """Return an empty profile with comments, to be filled in."""
    lines = [
        "# What kind of agent is judged. Fill in every field; nothing is assumed where one is empty.",
        f"# {policy.statement}",
    ]
    for row in policy.agent_types:
        lines += ["", f"# {row['text']}"]
        lines += [f"#   {option}: {meaning}" for option, meaning in row["options"].items()]
        lines.append(f"{row['field']}:")
    return "\n".join(lines) + "\n"


def _wrong(received: str, fix: str) -> ConfigError:
    return ConfigError("The agent profile cannot be used", received, fix, code="SAL-A003")
