"""What matters over many rows: shares of columns, and mean values of words."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from salience.core.stats import mean_interval
from salience.explain.explanation import Explanation

MIN_COUNT = 5  # occurrences that a word needs


def importance(
    explanations: Sequence[Explanation],
    *,
    classes: Sequence[str] | None = None,
    min_count: int = MIN_COUNT,
    words: int = 100,
    seed: int = 0,
) -> dict[str, Any]:
    """Summarise explanations of many rows by column and by word.

    Args:
        explanations: explanations of rows of one model, by one method.
        classes: classes of the model. With two of them, log-odds of one are those of the other with the sign
            turned, so that all rows can be told from the side of the second.
        min_count: occurrences that a word needs to be listed.
        words: words listed, at most.
        seed: seed of the intervals.

    Returns:
        ``{"columns": [{column, share, interval}], "words": [{word, column, mean, count}], "toward": class}``, lists
        strongest first. ``share`` is the mean over rows of the column's part of all absolute values, with a 95 %
        bootstrap interval over rows; rows where nothing matters are left out. ``mean`` is the mean signed value of a
        word over its occurrences, toward the class ``toward``; None where rows explain different classes.
    """
    told = (
        [from_side_of(e, classes[1]) for e in explanations] if classes and len(classes) == 2 else explanations
    )
    targets = {e.target for e in told}
    return {
        "columns": _columns(told, seed),
        "words": _words(told, min_count, words),
        "toward": targets.pop() if len(targets) == 1 else None,
    }


def from_side_of(explanation: Explanation, positive: str) -> Explanation:
    """Turn the sign of an explanation of the other one of two classes."""
    if not explanation.signed or explanation.against_index is not None or explanation.target_index == 1:
        return explanation
    return replace(explanation, values=tuple(-v for v in explanation.values), target=positive, target_index=1)


def column_shares(explanations: Sequence[Explanation]) -> tuple[list[str], Float[np.ndarray, "row column"]]:
    """Return the columns, and each row's share of absolute values that every column holds."""
    names = list(dict.fromkeys(name for e in explanations for name in e.kinds))
    position = {name: i for i, name in enumerate(names)}
    sums = np.zeros((len(explanations), len(names)))
    for row, explanation in enumerate(explanations):
        for unit, value in zip(explanation.units, explanation.values, strict=True):
            sums[row, position[unit.column]] += abs(value) if math.isfinite(value) else 0.0
    total = sums.sum(axis=1)
    return names, sums[total > 0] / total[total > 0, None]


def _columns(explanations: Sequence[Explanation], seed: int) -> list[dict[str, Any]]:
    names, shares = column_shares(explanations)
    if not len(shares):
        return []
    lines = [
        {"column": n, "share": float(s.mean()), "interval": list(mean_interval(s, seed=seed))}
        for n, s in zip(names, shares.T, strict=True)
    ]
    return sorted(lines, key=lambda line: -line["share"])


def _words(explanations: Sequence[Explanation], min_count: int, limit: int) -> list[dict[str, Any]]:
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for explanation in explanations:
        for unit, value in zip(explanation.units, explanation.values, strict=True):
            if unit.kind == "text" and math.isfinite(value) and any(c.isalnum() for c in unit.label):
                values[unit.label.lower(), unit.column].append(value)
    lines = [
        {"word": word, "column": column, "mean": math.fsum(found) / len(found), "count": len(found)}
        for (word, column), found in values.items()
        if len(found) >= min_count
    ]
    return sorted(lines, key=lambda line: -abs(line["mean"]))[:limit]
