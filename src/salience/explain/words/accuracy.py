"""How accurate words are: the text is read alone, and what it says is compared with the numbers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from salience.explain.explanation import Explanation
from salience.explain.phrasing import clean, rounded
from salience.explain.words.parts import mass
from salience.explain.words.sentences import Claim, Words, parse, verbalize


def read_back(
    explanations: Sequence[Explanation],
    verbalize: Callable[[Explanation], Words] = verbalize,
    coverage: float = 0.5,
) -> dict[str, float]:
    """Put explanations into words, read the text alone, and compare what it says with the numbers.

    Args:
        explanations: what is said.
        verbalize: the generator of words.
        coverage: share of the mass of a sign that the named parts must hold, unless the text says that they do not.

    Returns:
        ``explanations``, ``parts`` (named), and rates in [0, 1], NaN where nothing was named: ``sign``, ``rank``,
        ``value`` and ``share`` (of the parts for which the text gives one, those where it is right),
        ``hallucinations`` (parts that are not in the row), ``coverage`` (mean over explanations and signs),
        ``covered`` (of these, those that reach the target or say that they do not).
    """
    parts: dict[str, list[bool]] = {name: [] for name in ("sign", "rank", "value", "share", "hallucinations")}
    reached, covered = [], []
    for e in explanations:
        words = verbalize(e)
        told = parse(str(words), words.language)
        placed = [replace(c, units=own.units) for c, own in zip(told, words.claims, strict=True)]
        for sign in (1, -1):
            named = [c for c in placed if c.kind == "evidence" and c.sign == sign]
            for name, right in _accuracy(named, e):
                parts[name].append(right)
            if named:
                reached.append(_reached(named, e))
                said = any(c.rest for c in placed if c.kind == "coverage" and c.sign == sign)
                covered.append(said or reached[-1] >= coverage - 1e-12)
    means = {name: _mean(found) for name, found in parts.items()}
    count = len(parts["sign"])
    return {
        "explanations": len(explanations),
        "parts": count,
        **means,
        "coverage": _mean(reached),
        "covered": _mean(covered),
    }


def _mean(found: Sequence[float]) -> float:
    return float(np.mean(found)) if len(found) else math.nan


def _accuracy(named: Sequence[Claim], e: Explanation) -> list[tuple[str, bool]]:
    sums = [math.fsum(e.values[i] for i in c.units) for c in named]
    whole = mass(e, named[0].sign) if named else 0.0
    order = sorted(sums, key=lambda v: -abs(v))
    found = []
    for place, (c, value) in enumerate(zip(named, sums, strict=True)):
        found.append(("sign", value * c.sign > 0))
        found.append(("rank", c.rank == place + 1 and math.isclose(order[place], value, rel_tol=1e-12)))
        found.append(("hallucinations", not _occurs(c, e)))
        if c.value is not None:
            found.append(("value", c.value == rounded(value)))
        if c.share is not None:
            found.append(("share", bool(whole) and c.share == round(100 * (value / whole))))
    return found


def _reached(named: Sequence[Claim], e: Explanation) -> float:
    units = {i for c in named for i in c.units}
    return math.fsum(e.values[i] for i in units) / (mass(e, named[0].sign) or math.inf)


def _occurs(c: Claim, e: Explanation) -> bool:
    """Tell whether the row holds what a claim names."""
    if c.noun == "area":
        return any(unit.kind == "image" for unit in e.units)
    if c.noun in ("number", "category"):
        return any(clean(unit.label) == clean(f"{c.phrase} = {c.cell}") for unit in e.units)
    texts = [
        clean(cell) for name, cell in e.inputs.items() if e.kinds[name] == "text" and isinstance(cell, str)
    ]
    return any(c.phrase in text for text in texts) or any(c.phrase == clean(unit.label) for unit in e.units)
