"""Say an explanation in sentences whose every claim can be checked against the numbers.

The words of a person who has never seen a heat map: what is predicted, what speaks for it and against it, how much
of the whole that is, and whether removing it really changes the answer. The idea follows template verbalization
(Feldhus et al., NLRSE 2023), with neighbouring words merged to phrases and with evidence against the answer.
"""

import math
from dataclasses import dataclass
from html import escape
from typing import Any

from salience.core.io import to_plain
from salience.data.words import cut
from salience.explain.explanation import NEXT_TOKEN, Explanation
from salience.explain.phrasing import clean, probability, rounded
from salience.explain.words.grammar import Claim, parse, write

__all__ = ["Claim", "Sentence", "Words", "check", "parse", "verbalize"]

AGAINST = 2  # parts named against the answer
NOTABLE = 0.1  # of the strongest value of the same sign; below it a word is not named
LONGEST_PHRASE = 8  # words
LARGEST = 1e100  # beyond it a number counts as not measured


@dataclass(frozen=True)
class Sentence:
    """One sentence and what it claims."""

    text: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Words:
    """An explanation in sentences; ``str`` joins them."""

    sentences: tuple[Sentence, ...]

    @property
    def claims(self) -> tuple[Claim, ...]:
        """All claims, in the order of the text."""
        return tuple(claim for sentence in self.sentences for claim in sentence.claims)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the sentences with their claims as JSON-ready data."""
        return [{"text": s.text, "claims": [to_plain(vars(c)) for c in s.claims]} for s in self.sentences]

    def to_html(self) -> str:
        """Return the sentences, escaped."""
        return " ".join(escape(sentence.text) for sentence in self.sentences)

    def __str__(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)


def verbalize(explanation: Explanation, *, k: int = 4) -> Words:
    """Put an explanation into sentences.

    Args:
        explanation: what to say.
        k: parts named in favour of the answer, at most; half as many, at most two, against it.

    Returns:
        Prediction; evidence for and against with shares; what has no value; whether it is true.
    """
    groups = [_prediction(explanation), *_evidence(explanation, k), *_rest(explanation)]
    return Words(tuple(Sentence(write(group), group) for group in groups if group))


def _prediction(e: Explanation) -> tuple[Claim, ...]:
    name, side = _predicted(e)
    number = e.prediction if side in ("value", "text") else e.probability
    if number is None or not math.isfinite(number):
        return (Claim("unpredicted", name),)
    if side in ("value", "text"):
        return (Claim("prediction", name, side=side, value=rounded(float(number))),)
    if side == "next":
        return (Claim("prediction", name, side="next", value=float(probability(number))),)
    column = clean(e.target_column)
    return (Claim("prediction", name, column=column, side="class", value=float(probability(number))),)


def _predicted(e: Explanation) -> tuple[str, str]:
    """Return what is predicted, and how that is said."""
    if e.quantity == "value":
        return clean(e.target), "value"
    if e.quantity == "log-probability":
        return clean(e.target_column), "text"
    return clean(str(e.prediction)), "next" if e.target_column == NEXT_TOKEN else "class"


def _side(e: Explanation) -> str:
    sides = {"value": "value", "log-probability": "text", "weight": "weight"}
    return sides.get(e.quantity, "class") if e.signed else "look"


def _evidence(e: Explanation, k: int) -> list[tuple[Claim, ...]]:
    known = [v for v in e.values if _measured(v)]
    said = e.quantity == "value" or clean(e.target) == _predicted(e)[0]
    target = () if said else (Claim("target", clean(e.target)),)
    if not e.values:
        return [target, (Claim("empty"),)]
    if not known:
        return [target]
    if not any(known):
        return [target, (Claim("zero"),)]
    result = [target, *_one_sign(e, 1, k)]
    return result + _one_sign(e, -1, min(AGAINST, max(1, k // 2))) if e.signed else result


def _one_sign(e: Explanation, sign: int, k: int) -> list[tuple[Claim, ...]]:
    groups, total = phrases(e, sign)[:k], mass(e, sign)
    if not groups:
        return [(Claim("nothing", clean(e.target), side=_side(e), sign=sign),)]
    claims = tuple(
        Claim(
            "evidence", clean(e.target), clean(quoted(e, units)), noun(e, units), _column(e, units), _side(e), sign,
            rank, percent(e, units, total), value=rounded(_sum(e, units)), units=units,
        )
        for rank, units in enumerate(groups, start=1)
    )  # fmt: skip
    every = tuple(i for units in groups for i in units)
    share = percent(e, every, total)
    together = Claim("coverage", side=_side(e), sign=sign, share=share, count=len(groups), units=every)
    return [claims, (together,)] if len(groups) > 1 else [claims]


def _rest(e: Explanation) -> list[tuple[Claim, ...]]:
    absent = sum(not _measured(v) for v in e.values)
    missing = (Claim("missing", count=absent),) if absent else ()
    part = (Claim("part"),) if e.quantity == "weight" else ()
    return [missing, part, (_truth(e),)]


def _truth(e: Explanation) -> Claim:
    f = e.faithfulness
    if f is None or not (math.isfinite(f.comprehensiveness) and math.isfinite(f.random_comprehensiveness)):
        return Claim("unmeasured")
    own, control = (rounded(round(v, 4)) for v in (f.comprehensiveness, f.random_comprehensiveness))
    return Claim("truth", clean(e.target), value=own, control=control, scale=f.scale, verdict=f.verdict)


# -- numbers -----------------------------------------------------------------------------------------


def _measured(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= LARGEST


def mass(e: Explanation, sign: int) -> float:
    """Return the sum of the values of one sign."""
    return math.fsum(v for v in e.values if _measured(v) and v * sign > 0)


def _sum(e: Explanation, units: tuple[int, ...]) -> float:
    return math.fsum(e.values[i] for i in units)


def percent(e: Explanation, units: tuple[int, ...], total: float) -> int:
    """Return the share of some units in the mass of their sign, in whole percent."""
    return round(100 * (_sum(e, units) / total))


def phrases(e: Explanation, sign: int) -> list[tuple[int, ...]]:
    """Return notable units of one sign, strongest first; words that stand side by side are one phrase."""
    size = [v * sign if _measured(v) else 0.0 for v in e.values]
    least = NOTABLE * max(size, default=0.0)
    groups: list[list[int]] = []
    for i, value in enumerate(size):
        if value <= 0 or value < least:
            continue
        last = groups[-1] if groups else []
        joins = last and last[-1] == i - 1 and len(last) < LONGEST_PHRASE and _same_text(e, i - 1, i)
        if joins:
            last.append(i)
        else:
            groups.append([i])
    return sorted((tuple(g) for g in groups), key=lambda g: -math.fsum(size[i] for i in g))


def _same_text(e: Explanation, i: int, j: int) -> bool:
    return e.units[i].kind == e.units[j].kind == "text" and e.units[i].column == e.units[j].column


# -- names -------------------------------------------------------------------------------------------


def quoted(e: Explanation, units: tuple[int, ...]) -> str:
    """Return the words of a phrase as the text has them, or the label of a cell or region."""
    first, last = e.units[units[0]], e.units[units[-1]]
    text = e.inputs.get(first.column)
    if first.kind == "text" and isinstance(text, str):
        phrase = text[int(first.locator[0]) : int(last.locator[1])]
        return phrase if clean(phrase) else first.label  # a line break has nothing to quote
    return " ".join(e.units[i].label for i in units)


def noun(e: Explanation, units: tuple[int, ...]) -> str:
    """Return what the part is called: word, piece (of a word), phrase, mark, cell or region."""
    first, last = e.units[units[0]], e.units[units[-1]]
    if first.kind != "text":
        return "region" if first.kind == "image" else "cell"
    text = e.inputs.get(first.column)
    if isinstance(text, str) and (first.locator[0], last.locator[1]) in cut(text):
        return "word" if any(c.isalnum() for c in quoted(e, units)) else "mark"
    if len(units) > 1:
        return "phrase"
    if not any(c.isalnum() for c in first.label):
        return "mark"
    return "piece" if isinstance(text, str) else "word"


def _column(e: Explanation, units: tuple[int, ...]) -> str:
    """Return the column to name beside a part: where several columns have its kind, and its label has none."""
    unit = e.units[units[0]]
    several = list(e.kinds.values()).count(unit.kind) > 1
    return clean(unit.column) if several and unit.kind in ("text", "image") else ""


# -- checking ----------------------------------------------------------------------------------------


def check(words: Words, explanation: Explanation) -> list[str]:
    """Recompute every claim from the numbers, and read every sentence back.

    The recomputation does not use the code that chose the parts: signs, sums, shares and ranks are compared with
    the values of the units that a claim names, and with those of the units that it leaves out.

    Returns:
        What is wrong, in words; empty if every claim holds.
    """
    problems = []
    for sentence in words.sentences:
        try:
            agree = parse(sentence.text) == [claim.said() for claim in sentence.claims]
        except ValueError:
            agree = False
        if not agree:
            problems.append(f"the text does not say what is claimed: {sentence.text!r}")
    for claim in words.claims:
        wrong = _CHECKS[claim.kind](claim, explanation, words)
        problems += [f"{claim.kind}: {name}" for name, right in wrong.items() if not right]
    return problems


def _check_prediction(c: Claim, e: Explanation, words: Words) -> dict[str, bool]:
    right = {"target": _predicted(e) == (c.target, c.side)}
    if c.side in ("value", "text"):
        return right | {"value": rounded(float(e.prediction)) == c.value}
    known = e.probability is not None and abs(e.probability - c.value) <= 0.005 + 1e-12
    column = c.column == ("" if c.side == "next" else clean(e.target_column))
    return right | {"value": known, "column": column}


def _check_evidence(c: Claim, e: Explanation, words: Words) -> dict[str, bool]:
    if not c.units or not all(0 <= i < len(e.values) for i in c.units):
        return {"units": False}
    values = [e.values[i] for i in c.units]
    value, total = math.fsum(values), mass(e, c.sign)
    named = [x for x in words.claims if x.kind == "evidence" and x.sign == c.sign]
    weaker = [abs(x.value) for x in named if x.rank > c.rank]
    used = {i for x in named for i in x.units}
    others = [v * c.sign for i, v in enumerate(e.values) if i not in used and _measured(v)]
    return {
        "sign": all(v * c.sign > 0 for v in values),
        "value": rounded(value) == c.value,
        "share": total != 0 and round(100 * (value / total)) == c.share,
        "rank": [x.rank for x in named] == list(range(1, len(named) + 1))
        and all(abs(c.value) >= v for v in weaker)
        and all(abs(value) >= v * (1 - 1e-12) for v in others),
        "phrase": clean(quoted(e, c.units)) == c.phrase and noun(e, c.units) == c.noun,
        "column": _column(e, c.units) == c.column,
        "target": clean(e.target) == c.target and _side(e) == c.side,
        "one place": list(c.units) == list(range(c.units[0], c.units[0] + len(c.units)))
        and len({e.units[i].column for i in c.units}) == 1,
    }


def _check_coverage(c: Claim, e: Explanation, words: Words) -> dict[str, bool]:
    named = [x for x in words.claims if x.kind == "evidence" and x.sign == c.sign]
    units, total = {i for x in named for i in x.units}, mass(e, c.sign)
    share = math.fsum(e.values[i] for i in units) / total if total else math.nan
    return {
        "count": len(named) == c.count,
        "share": math.isfinite(share) and round(100 * share) == c.share,
        "units": units == set(c.units),
    }


def _check_nothing(c: Claim, e: Explanation, words: Words) -> dict[str, bool]:
    nothing = not any(v * c.sign > 0 for v in e.values if _measured(v))
    return {"sign": nothing, "target": clean(e.target) == c.target}


def _check_truth(c: Claim, e: Explanation, words: Words) -> dict[str, bool]:
    f = e.faithfulness
    if f is None:
        return {"measured": False}
    return {
        "value": rounded(round(f.comprehensiveness, 4)) == c.value,
        "control": rounded(round(f.random_comprehensiveness, 4)) == c.control,
        "verdict": f.verdict == c.verdict and f.scale == c.scale,
        "target": clean(e.target) == c.target,
    }


_CHECKS = {
    "prediction": _check_prediction,
    "unpredicted": lambda c, e, words: {"number": _prediction(e) == (c,)},
    "target": lambda c, e, words: {"target": clean(e.target) == c.target},
    "evidence": _check_evidence,
    "coverage": _check_coverage,
    "nothing": _check_nothing,
    "zero": lambda c, e, words: {"zero": bool(e.values) and not any(v for v in e.values if _measured(v))},
    "empty": lambda c, e, words: {"empty": not e.values},
    "part": lambda c, e, words: {"quantity": e.quantity == "weight"},
    "missing": lambda c, e, words: {"count": sum(not _measured(v) for v in e.values) == c.count},
    "truth": _check_truth,
    "unmeasured": lambda c, e, words: {"unmeasured": _truth(e).kind == "unmeasured"},
}
