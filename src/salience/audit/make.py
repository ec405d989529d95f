"""Build findings of plain Python values, so that they are equal after a round trip through JSON."""

from typing import Any

from salience.core.finding import Control, Finding
from salience.core.io import to_plain


def make_finding(card: dict[str, Any], **fields: Any) -> Finding:
    """Return a finding of the check with this card.

    Args:
        card: the check's ``CARD``; gives ``check`` and, unless overridden, ``question``.
        fields: the other fields of :class:`Finding`; numbers may be numpy's, intervals may hold NaN (then dropped).
    """
    fields = {"question": card["question"], **fields}
    for name in ("value", "tables", "rows"):
        if name in fields:
            fields[name] = to_plain(fields[name])
    fields["interval"] = plain_interval(fields.get("interval"))
    control = fields.get("control")
    if control is not None:
        fields["control"] = Control(control.name, to_plain(control.value), plain_interval(control.interval))
    return Finding(check=card["key"], **fields)


def plain_interval(interval: Any) -> tuple[float, float] | None:
    """Return two Python numbers, or None if either end is undefined."""
    if interval is None:
        return None
    low, high = (to_plain(float(end)) for end in interval)
    return None if low is None or high is None else (low, high)
