"""Which units of an explanation are named together, and what people call them."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from salience.core.unit import Unit
from salience.data.kinds import number_text
from salience.data.words import cut
from salience.explain.explanation import Explanation
from salience.explain.phrasing import clean
from salience.explain.words import regions
from salience.explain.words.claims import Claim
from salience.explain.words.slots import MISSING
from salience.explain.words.summary import summarize

NOTABLE = 0.1  # of the strongest value of the same sign; below it a part is named only to reach the coverage
LONGEST_PHRASE = 8  # words
LARGEST = 1e100  # beyond it a number counts as not measured
SLIGHT, STRONG = 0.1, 0.4  # of all absolute values
STOPS = (".", "!", "?")

Units = tuple[int, ...]


def measured(value: float) -> bool:
    """Tell whether a value is a number that can be spoken of."""
    return math.isfinite(value) and abs(value) <= LARGEST


def mass(e: Explanation, sign: int) -> float:
    """Return the sum of the values of one sign."""
    return math.fsum(v for v in e.values if measured(v) and v * sign > 0)


def total(e: Explanation, units: Units) -> float:
    """Return the sum of the values of some units."""
    return math.fsum(e.values[i] for i in units)


def percent(e: Explanation, units: Units, whole: float) -> int:
    """Return the share of some units in the mass of their sign, in whole percent."""
    return round(100 * (total(e, units) / whole))


# -- choosing ----------------------------------------------------------------------------------------


def choose(e: Explanation, sign: int, k: int, coverage: float, how: str) -> list[Units]:
    """Return the parts of one sign to name, strongest first: until they cover enough, and ``k`` at most.

    Args:
        e: the explanation.
        sign: 1 or −1.
        k: parts, at most.
        coverage: share of the mass of this sign after which no more are named, in [0, 1].
        how: ``"phrases"``: notable units, neighbours joined, then weaker ones; ``"summary"``: the stretches that the
            searches of saliency map verbalization agree on, for texts.
    """
    found = _stretches(e, sign) if how == "summary" else []
    found = found or phrases(e, sign)
    named = {i for units in found for i in units}
    weaker = [i for i, v in enumerate(e.values) if measured(v) and v * sign > 0 and i not in named]
    found += [(i,) for i in sorted(weaker, key=lambda i: -abs(e.values[i]))]
    whole, reached, result = mass(e, sign), 0.0, []
    for units in found[:k]:
        if result and reached >= coverage:
            break
        result.append(units)
        reached += total(e, units) / whole
    return result


def phrases(e: Explanation, sign: int) -> list[Units]:
    """Return notable units of one sign, strongest first; neighbouring words, and touching regions, are one part."""
    strength = [v * sign if measured(v) else 0.0 for v in e.values]
    least = NOTABLE * max(strength, default=0.0)
    notable = [i for i, value in enumerate(strength) if value > 0 and value >= least]
    groups = _joined(e, [i for i in notable if not regions.located(e.units[i])])
    groups += _areas(e, [i for i in notable if regions.located(e.units[i])])
    return sorted((tuple(g) for g in groups), key=lambda g: -math.fsum(strength[i] for i in g))


def _joined(e: Explanation, chosen: Sequence[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    for i in chosen:
        last = groups[-1] if groups else []
        if last and last[-1] == i - 1 and len(last) < LONGEST_PHRASE and _same_text(e, i - 1, i):
            last.append(i)
        else:
            groups.append([i])
    return groups


def _same_text(e: Explanation, i: int, j: int) -> bool:
    return e.units[i].kind == e.units[j].kind == "text" and e.units[i].column == e.units[j].column


def _areas(e: Explanation, chosen: Sequence[int]) -> list[list[int]]:
    areas: list[list[int]] = []
    for i in chosen:
        near = [area for area in areas if any(regions.touching(e.units[i], e.units[j]) for j in area)]
        areas = [area for area in areas if area not in near] + [
            sorted([i, *(j for area in near for j in area)])
        ]
    return areas


def _stretches(e: Explanation, sign: int) -> list[Units]:
    """Return what the summary search chooses in each text, with the other parts of the row between them.

    A stretch that is weaker than a unit which would stay unnamed is left out: a named part is never the weaker one.
    """
    texts = dict.fromkeys(u.column for u in e.units if u.kind == "text")
    found = [units for units in phrases(e, sign) if e.units[units[0]].kind != "text"]
    for column in texts:
        index = [i for i, unit in enumerate(e.units) if unit.column == column]
        values = np.array([e.values[i] if measured(e.values[i]) else np.nan for i in index])
        found += [tuple(index[i] for i in group.indices) for group in summarize(values, sign=sign)]
    found.sort(key=lambda units: -abs(total(e, units)))
    while found and abs(total(e, found[-1])) < _strongest_other(e, sign, found):
        found.pop()
    return found


def _strongest_other(e: Explanation, sign: int, groups: Sequence[Units]) -> float:
    named = {i for units in groups for i in units}
    return max((v * sign for i, v in enumerate(e.values) if i not in named and measured(v)), default=0.0)


# -- names -------------------------------------------------------------------------------------------


def quoted(e: Explanation, units: Units) -> str:
    """Return the words of a phrase as the text has them, or the label of a cell or region."""
    first, last = e.units[units[0]], e.units[units[-1]]
    text = e.inputs.get(first.column)
    if first.kind == "text" and isinstance(text, str):
        phrase = text[int(first.locator[0]) : int(last.locator[1])]
        return phrase if clean(phrase) else first.label  # a line break has nothing to quote
    return " ".join(e.units[i].label for i in units)


def noun(e: Explanation, units: Units) -> str:
    """Return what the part is called, as :class:`~salience.explain.words.claims.Claim` lists it."""
    first, last = e.units[units[0]], e.units[units[-1]]
    if first.kind == "image":
        return "area" if regions.located(first) else "region"
    if first.kind != "text":
        return first.kind if _cell(first) else "cell"
    text = e.inputs.get(first.column)
    if isinstance(text, str) and (first.locator[0], last.locator[1]) in _places(text):
        return "word" if any(c.isalnum() for c in quoted(e, units)) else "mark"
    if len(units) > 1:
        return _long(e, units)
    if not any(c.isalnum() for c in first.label):
        return "mark"
    return "piece" if isinstance(text, str) else "word"


@lru_cache(maxsize=8)  # each unit of a row asks about the same text
def _places(text: str) -> frozenset[tuple[int, int]]:
    return frozenset(cut(text))


def _long(e: Explanation, units: Units) -> str:
    labels = [e.units[i].label for i in units]
    if not any(c.isalnum() for label in labels for c in label):
        return "mark"
    return "span" if any(label in STOPS for label in labels[:-1]) else "phrase"


def _cell(unit: Unit) -> str:
    """Return what stands in the cell of a labelled unit; empty if its label is not that of a cell."""
    name = f"{unit.column} = "
    text = clean(unit.label.removeprefix(name)) if unit.label.startswith(name) else ""
    return text if unit.kind == "category" or text == MISSING or _is_number(text) else ""


def _is_number(text: str) -> bool:
    try:
        return bool(text) and text == number_text(float(text))
    except ValueError:
        return False


def describe(e: Explanation, units: Units) -> Claim:
    """Return what a part is called and looks like, as a claim without numbers."""
    first, name = e.units[units[0]], noun(e, units)
    if name == "area":
        boxes = [e.units[i] for i in units]
        brightness, colour, texture = regions.look(e.inputs.get(first.column), boxes)
        return Claim(
            "evidence", phrase=regions.place(boxes), noun=name, column=_column(e, units), size=regions.size(boxes),
            brightness=brightness, colour=colour, texture=texture,
        )  # fmt: skip
    if name in ("number", "category"):
        reference, relation = _median(e, first) if name == "number" else ("", "")
        column = clean(first.column)
        return Claim(
            "evidence", phrase=column, noun=name, cell=_cell(first), reference=reference, relation=relation
        )
    return Claim("evidence", phrase=clean(quoted(e, units)), noun=name, column=_column(e, units))


def _median(e: Explanation, unit: Unit) -> tuple[str, str]:
    """Return the training median of a number column, as it is written, and where the value lies beside it."""
    median, cell = e.medians.get(unit.column), _cell(unit)
    if median is None or not measured(median) or cell == MISSING:
        return "", ""
    value, written = float(cell), number_text(median)
    return written, "at" if cell == written else "below" if value < float(written) else "above"


def _column(e: Explanation, units: Units) -> str:
    """Return the column to name beside a part: where several columns have its kind, and its label has none."""
    unit = e.units[units[0]]
    several = list(e.kinds.values()).count(unit.kind) > 1
    return clean(unit.column) if several and unit.kind in ("text", "image") else ""


def degree(e: Explanation, units: Units) -> str:
    """Return ``"slight"`` below a tenth of all absolute values, ``"strong"`` from four tenths; else nothing."""
    whole = math.fsum(abs(v) for v in e.values if measured(v))
    share = abs(total(e, units)) / whole
    return "slight" if share < SLIGHT else "strong" if share >= STRONG else ""


def holders(e: Explanation, sign: int) -> dict[str, float]:
    """Return the share of each column in the mass of one sign, largest first; empty where there is only one column."""
    whole = mass(e, sign)
    shares: dict[str, list[float]] = {unit.column: [] for unit in e.units}
    for unit, value in zip(e.units, e.values, strict=True):
        if measured(value) and value * sign > 0:
            shares[unit.column].append(value / whole)
    found = {column: math.fsum(values) for column, values in shares.items()}
    return dict(sorted(found.items(), key=lambda pair: -pair[1])) if len(found) > 1 else {}
