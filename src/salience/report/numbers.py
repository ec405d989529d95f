"""Numbers as a person reads them: rounded, with a true minus sign, never ``nan``."""

import math
from collections.abc import Sequence
from typing import Any

UNDEFINED = "not defined"
NARROW = "\u00a0"  # a space that does not break, between a number and its sign
METRIC_TITLES = {
    "auroc": "AUROC",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "log_loss": "Log loss (nats)",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "mean_auroc": "AUROC, mean of labels",
    "micro_f1": "Micro F1",
    "label_accuracy": "Label accuracy",
    "subset_accuracy": "All labels right",
    "hamming_loss": "Hamming loss",
    "mean_rmse": "RMSE, mean of targets",
    "mean_mae": "MAE, mean of targets",
    "mean_r2": "R², mean of targets",
}


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number (a boolean is not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any) -> str:
    """Return about three significant digits: ``0.957``, ``1.62``, ``74.2``, ``50,231``."""
    if not is_number(value):
        return UNDEFINED
    size = abs(value)
    if isinstance(value, int) or size >= 100 or size == 0:
        text = f"{value:,.0f}"
    elif size < 0.001:
        text = f"{value:.1e}"
    else:
        text = f"{value:.{3 if size < 0.9995 else 2 if size < 9.995 else 1}f}"
    return text.replace("-", "−")


def percent(value: Any) -> str:
    """Return a share in [0, 1] as a percentage; one decimal below 10 % and above 99 %."""
    if not is_number(value):
        return UNDEFINED
    share = 100 * float(value)
    digits = 1 if 0 < abs(share) < 10 or 99 < share < 100 else 0
    return f"{share:.{digits}f}{NARROW}%".replace("-", "−")


def between(interval: Sequence[float] | None, show: Any = number) -> str:
    """Return ``"0.951 to 0.963"``, or an empty string where no interval is known."""
    if not interval or not all(is_number(end) for end in interval):
        return ""
    return f"{show(interval[0])} to {show(interval[1])}"


def with_interval(value: Any, interval: Sequence[float] | None, show: Any = number) -> str:
    """Return ``"0.957 (95 % interval 0.951 to 0.963)"``."""
    span = between(interval, show)
    return f"{show(value)} (95\u00a0% interval {span})" if span else show(value)


def metric_title(name: str) -> str:
    """Return the name of a metric as people write it."""
    return METRIC_TITLES.get(name, name.replace("_", " "))


def tick(value: float) -> str:
    """Return a round number of an axis without trailing zeros."""
    return f"{value:,.6g}".replace("-", "−")


def cell(value: Any) -> str:
    """Return any value of a table as text."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {cell(item)}" for key, item in value.items())
    return str(value)


def shorten(text: Any, limit: int) -> str:
    """Return at most ``limit`` characters on one line, cut with an ellipsis."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def join(names: Sequence[str], last: str = "and") -> str:
    """Return ``"a, b and c"``."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}" if names else ""


def plural(count: int, noun: str, many: str = "") -> str:
    """Return ``"1 row"`` or ``"2,000 rows"``."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
