"""Checks that every generator of words must pass: what it says is what the numbers say.

A generator is a function from an :class:`~salience.explain.explanation.Explanation` to
:class:`~salience.explain.words.Words`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from salience.core.stats import generator
from salience.core.unit import Unit
from salience.data.kinds import KINDS
from salience.explain.explanation import NEXT_TOKEN, VERDICTS, Explanation, Faithfulness
from salience.explain.phrasing import clean, rounded
from salience.explain.words import Claim, Words, check, parse, verbalize

ODD_TEXTS = (
    "A great dress, soft and warm.",
    "He said “no” — twice ””“ “",
    'tags <script>alert("x")</script> & &amp; entities',
    "good good good bad good",
    "مرحبا بالعالم \u202eright to left\u202c",
    "naïve café 漢字 かな 👩‍👩‍👧 👍🏽",
    "line\none\ttwo\x00three\x1b[31mred",
    "What speaks most for “yes” is the word “x” (+1.00, 50 % of all that speaks for it).",
    "the words “a” and “b” are most salient for the prediction. This explanation beats random ones.",
    "3 parts have no value. 1,000 5'4 -0.5 1e9",
    "…",
    "",
)
ODD_VALUES = (
    0.0,
    -0.0,
    1e-300,
    -1e-12,
    1e-3,
    0.005,
    0.995,
    99.995,
    -1234.5,
    1e9,
    1e99,
    1e101,
    math.nan,
    math.inf,
    -math.inf,
)


COLUMNS = {"title": "text", "review": "text", "photo": "image", "age": "number", "shop": "category"}
KINDS_OF_ROW = ("text", "image", "number", "category", "mixed")


def random_explanation(seed: int, values: list[float] | None = None, text: str | None = None) -> Explanation:
    """Return an explanation of made-up numbers, of all kinds of unit, task and verdict.

    Args:
        seed: decides everything that is not given.
        values: values to use, repeated or cut to the number of units.
        text: text of the first column.
    """
    rng = generator(seed, "explanation")
    kinds = {name: kind for name, kind in COLUMNS.items() if rng.random() < 0.8}
    inputs = {name: _cell(rng, kind) for name, kind in kinds.items()}
    if text is not None:
        kinds, inputs = {"title": "text", **kinds}, {**inputs, "title": text}
    units = [
        u for n, k in kinds.items() for u in (_regions(n) if k == "image" else KINDS[k].units(n, inputs[n]))
    ]
    numbers = _values(rng, len(units)) if values is None else _repeated(values, len(units))
    quantity = str(rng.choice(["log-odds", "log-odds", "value", "log-probability", "weight"]))
    numeric = quantity in ("value", "log-probability")
    return Explanation(
        units=tuple(units), values=tuple(numbers), inputs=inputs, kinds=kinds, row=seed, method="made_up",
        target="price (€)" if numeric else str(rng.choice(["yes", "no “really”", "yes rather than no"])),
        quantity=quantity,
        prediction=float(rng.choice([rng.normal(0, 1000), math.nan])) if numeric else "yes",
        probability=None if numeric else float(rng.choice([0.0, 1.0, 0.99999, rng.random(), math.nan])),
        output=1.0, baseline_output=0.0, baseline="nothing",
        target_column=str(rng.choice(["", "verdict", "the ”verdict”", NEXT_TOKEN])), signed=bool(rng.random() < 0.8),
        faithfulness=_faithfulness(rng, quantity), medians={"age": float(rng.choice([34.0, 40.5]))},
    )  # fmt: skip


def of_kind(explanation: Explanation, kind: str) -> Explanation:
    """Return an explanation of the units of one kind alone; ``"mixed"`` leaves it as it is."""
    if kind == "mixed":
        return explanation
    kept = [i for i, unit in enumerate(explanation.units) if unit.kind == kind]
    kinds = {name: found for name, found in explanation.kinds.items() if found == kind}
    return replace(
        explanation,
        units=tuple(explanation.units[i] for i in kept),
        values=tuple(explanation.values[i] for i in kept),
        kinds=kinds,
        inputs={name: explanation.inputs[name] for name in kinds},
    )


def _cell(rng: np.random.Generator, kind: str) -> Any:
    if kind == "image":
        return _photo(rng) if rng.random() < 0.5 else None
    if kind == "number":
        return float(rng.choice([34.0, -0.125, 1e12, math.nan]))
    return str(rng.choice(ODD_TEXTS)) if kind == "text" else rng.choice(["tops", None, "a ”quoted” shop"])


def _photo(rng: np.random.Generator) -> Any:
    from PIL import Image

    colours = rng.choice([0, 40, 128, 220, 255], (2, 2, 3))
    noise = rng.integers(0, rng.choice([1, 30, 120]), (8, 8, 3))
    return Image.fromarray(np.clip(colours.repeat(4, 0).repeat(4, 1) + noise, 0, 255).astype(np.uint8))


def _regions(column: str) -> tuple[Unit, ...]:
    return tuple(
        Unit(column, "image", f"{side} half", (x, 0.0, x + 0.5, 1.0))
        for side, x in (("left", 0.0), ("right", 0.5))
    )


def _values(rng: np.random.Generator, count: int) -> list[float]:
    numbers = np.abs(rng.standard_t(2, count)) * 10.0 ** rng.integers(-4, 5) * rng.choice([1, 1, -1], count)
    numbers *= rng.choice([1.0, 1.0, -1.0, 0.0])
    odd = rng.random(count) < rng.choice([0.0, 0.2])
    numbers[odd] = rng.choice(ODD_VALUES, odd.sum())
    return numbers.tolist()


def _repeated(values: list[float], count: int) -> list[float]:
    return [values[i % len(values)] for i in range(count)] if values else [0.0] * count


SCALES = {"value": ("standard deviations", "units of the target"), "log-probability": ("log-probability",)}


def _faithfulness(rng: np.random.Generator, quantity: str) -> Faithfulness | None:
    if rng.random() < 0.3:
        return None
    numbers = rng.normal(0, 1, 5) * rng.choice([1.0, 1e-3, 1e-6, 0.0])
    scale = str(rng.choice(SCALES.get(quantity, ("probability",))))
    verdict = str(rng.choice(VERDICTS))
    return Faithfulness(*map(float, numbers), (-1.0, 1.0), 0.0, 20, verdict, scale, None, "made up", 1, 0.1)


def check_words(verbalize: Callable[[Explanation], Words], explanation: Explanation) -> None:
    """Every sentence is read back to its claims, and every claim holds.

    Args:
        verbalize: the generator of words.
        explanation: what it speaks about.

    Raises:
        AssertionError: with what is wrong.
    """
    words = verbalize(explanation)
    problems = check(words, explanation)
    if parse(str(words), words.language) != [claim.said() for claim in words.claims]:
        problems.append("the joined text does not say what is claimed")
    if not any(claim.kind in ("truth", "unmeasured") for claim in words.claims):
        problems.append("nothing is said about whether the explanation is true")
    if problems:
        raise AssertionError("; ".join(problems))


# -- accuracy of what is said --------------------------------------------------------------------------


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
    whole = math.fsum(v for v in e.values if abs(v) <= 1e100 and v * (named[0].sign if named else 1) > 0)
    found = []
    for place, (c, value) in enumerate(zip(named, sums, strict=True)):
        found.append(("sign", value * c.sign > 0))
        order = sorted(sums, key=lambda v: -abs(v))
        found.append(("rank", c.rank == place + 1 and math.isclose(order[place], value, rel_tol=1e-12)))
        found.append(("hallucinations", not _occurs(c, e)))
        if c.value is not None:
            found.append(("value", c.value == rounded(value)))
        if c.share is not None:
            found.append(("share", c.share == round(100 * (value / whole))))
    return found


def _reached(named: Sequence[Claim], e: Explanation) -> float:
    units = {i for c in named for i in c.units}
    sign = named[0].sign
    whole = math.fsum(v for v in e.values if abs(v) <= 1e100 and v * sign > 0)
    return math.fsum(e.values[i] for i in units) / whole


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
