"""Options of explainers and metrics: refused with a reason where a name or a range is wrong."""

import inspect
from collections.abc import Mapping
from typing import Any

from salience.core.errors import ConfigError, nearest


def build(entry: Any, options: Mapping[str, Any], name: str) -> Any:
    """Return ``entry(**options)``.

    Args:
        entry: a class whose ``__init__`` names its options.
        options: what differs from its defaults.
        name: its name, for messages.

    Raises:
        ConfigError: there is no such option; the nearest is suggested.
    """
    known = inspect.signature(entry).parameters
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    for option in options:
        if option not in known and not free:
            fix = nearest(option, known) if known else "It has no options."
            raise ConfigError(f"{name!r} has no option {option!r}", "", fix, code="SAL-C001")
    return entry(**options)


def within(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Refuse an option outside of ``[low, high]``.

    Raises:
        ConfigError: it is outside, or no number.
    """
    if isinstance(value, int | float) and low <= value <= high:
        return
    fix = f"Use {low:g} or more." if high == float("inf") else f"Use a number from {low:g} to {high:g}."
    raise ConfigError(f"The option {name} is out of its range", f"{name}={value!r}.", fix, code="SAL-C005")
