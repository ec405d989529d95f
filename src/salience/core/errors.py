"""Errors that say what failed, what was received and how to mend it.

Every error that a user can cause is a :class:`SalienceError`. It is raised once, at the public boundary,
``from None``, so that the user reads one self-contained line. Codes are stable; ``docs/errors.md`` explains each.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class SalienceError(Exception):
    """Report a failure in three parts: what failed, what was received, how to mend it.

    Args:
        what: the action or public name that failed.
        received: the offending shape, type, value, file, row or column.
        fix: what to do next.
        code: a stable code such as ``"SAL-D003"``.
    """

    default_code = "SAL-X000"

    def __init__(self, what: str, received: str = "", fix: str = "", *, code: str | None = None) -> None:
        self.what, self.received, self.fix = what, received, fix
        self.code = code or self.default_code
        super().__init__(what, received, fix)

    def __str__(self) -> str:
        parts = [self.what.rstrip(".") + ".", self.received, self.fix]
        line = " ".join(" ".join(part.split()) for part in parts if part)
        return f"{line} [{self.code}]"

    def to_json(self) -> dict[str, str]:
        """Return the parts as a dictionary, for ``--json`` output."""
        return {"error": self.what, "received": self.received, "fix": self.fix, "code": self.code}


class DataError(SalienceError):
    """A file, row, column or value of the user's data cannot be used."""

    default_code = "SAL-D000"


class ConfigError(SalienceError):
    """An option has an unknown name or an impossible value."""

    default_code = "SAL-C000"


class NotFittedError(SalienceError):
    """A fitted object is needed, but ``fit`` was not called."""

    default_code = "SAL-M001"


class UnsupportedError(SalienceError):
    """A method was asked for something that it is not defined for."""

    default_code = "SAL-M002"


class MissingExtraError(SalienceError):
    """An optional package is needed and not installed."""

    default_code = "SAL-E001"


class IntegrityError(SalienceError):
    """A stored or downloaded file is incomplete or not the expected one."""

    default_code = "SAL-I001"


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a sentence that names the closest valid name, or lists the valid ones."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"Valid names: {shown}."
