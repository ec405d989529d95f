"""Numbers, ranges and cells of a table as people read them."""

import math

import numpy as np
from jaxtyping import Float

MISSING = "missing"
WITHOUT_COMMA = 10_000  # a year is written 1998, a salary 52,000


def number_label(value: float) -> str:
    """Return a cell's number: ``"1998"``, ``"52,000"``, ``"0.0312"``, four digits at most after rounding."""
    value = float(value)
    if value.is_integer() and abs(value) < 1e15:
        text = f"{value:,.0f}" if abs(value) >= WITHOUT_COMMA else f"{value:.0f}"
    else:
        text = f"{value:,.0f}" if WITHOUT_COMMA <= abs(value) < 1e15 else f"{value:.4g}"
    return ("0" if text == "-0" else text).replace("-", "−")


def range_label(low: float, high: float, whole: bool) -> str:
    """Return a range of cells: ``"37–42"`` where they are whole numbers (both ends are in it), else ``"1.5 to 2"``."""
    if whole and low == high:
        return number_label(low)
    if whole and low >= 0:
        return f"{number_label(low)}–{number_label(high)}"
    return f"{number_label(low)} to {number_label(high)}"


def roundest(low: float, high: float) -> float:
    """Return the number of fewest digits in ``[low, high]``: a multiple of the largest 1, 2 or 5 times a power of ten.

    Of several multiples the one nearest to the middle.
    """
    if low <= 0 <= high:
        return 0.0
    middle, power = (low + high) / 2, math.floor(math.log10(max(abs(low), abs(high)))) + 1
    while high > low:
        for factor in (10, 5, 2):
            step = factor * 10.0 ** (power - 1)
            found = round(middle / step) * step
            if low <= found <= high:
                return float(f"{found:.12g}")
        power -= 1
    return middle


def readable(
    edges: Float[np.ndarray, " edge"], values: Float[np.ndarray, " row"], slack: float = 0.25
) -> Float[np.ndarray, " edge"]:
    """Return edges of few digits that keep their order: each moves by at most ``slack`` of the bin on that side.

    An edge belongs to the bin on its right. The outer edges become the values' own ends, and inner edges of whole
    numbers stay whole.

    Args:
        edges: strictly increasing.
        values: what is binned.
        slack: in (0, 0.5), so that moved edges cannot meet.
    """
    if np.all(values == np.round(values)):
        inner = np.ceil(edges[1:-1])
        return np.unique(
            np.concatenate(
                [[values.min()], inner[(inner > values.min()) & (inner <= values.max())], [values.max()]]
            )
        )
    widths = np.diff(edges)
    inner = [
        roundest(edge - slack * left, edge + slack * right)
        for edge, left, right in zip(edges[1:-1], widths, widths[1:], strict=False)
    ]
    return np.array([values.min(), *inner, values.max()])
