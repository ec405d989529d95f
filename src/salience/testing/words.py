"""Checks that every generator of words must pass: what it says is what the numbers say.

A generator is a function from an :class:`~salience.explain.explanation.Explanation` to
:class:`~salience.explain.words.Words`.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from salience.core.stats import generator
from salience.core.unit import Unit
from salience.data.kinds import KINDS
from salience.explain.explanation import NEXT_TOKEN, VERDICTS, Explanation, Faithfulness
from salience.explain.words import Words, check, parse

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
        u
        for n, k in kinds.items()
        for u in (_regions(n, inputs[n]) if k == "image" else KINDS[k].units(n, inputs[n]))
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


def _regions(column: str, picture: Any) -> tuple[Unit, ...]:
    if picture is not None:
        return KINDS["image"].units(column, picture)
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
