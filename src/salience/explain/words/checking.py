"""Compare what sentences claim with the numbers of the explanation.

The comparison does not use the code that chose the parts: signs, sums, shares and ranks are computed again from the
values of the units that a claim names, and of those that it leaves out.
"""

import math
from collections.abc import Callable, Sequence

from salience.explain.explanation import NEXT_TOKEN, Explanation
from salience.explain.phrasing import clean, rounded
from salience.explain.words import regions
from salience.explain.words.claims import Claim
from salience.explain.words.parts import degree, describe, holders, mass, measured

ROUNDING = 1e-12


def predicted(e: Explanation) -> tuple[str, str]:
    """Return what is predicted, and how that is said."""
    if e.quantity == "value":
        return clean(e.target), "value"
    if e.quantity == "log-probability":
        return clean(e.target_column), "text"
    return clean(str(e.prediction)), "next" if e.target_column == NEXT_TOKEN else "class"


def side(e: Explanation) -> str:
    """Return the side of the claims about an explanation."""
    sides = {"value": "value", "log-probability": "text", "weight": "weight"}
    return sides.get(e.quantity, "class") if e.signed else "look"


def number_of(e: Explanation) -> float | None:
    """Return the number that is predicted; None where there is none."""
    number = e.prediction if predicted(e)[1] in ("value", "text") else e.probability
    return None if number is None or not math.isfinite(number) else float(number)


def measured_truth(e: Explanation) -> bool:
    """Tell whether it was measured if the explanation is true."""
    f = e.faithfulness
    return f is not None and math.isfinite(f.comprehensiveness) and math.isfinite(f.random_comprehensiveness)


def wrong(claims: Sequence[Claim], explanation: Explanation) -> list[str]:
    """Return what is wrong with claims, as ``"kind: field"``; empty if every one holds."""
    absent = [c for c in claims if not all(0 <= i < len(explanation.values) for i in c.units)]
    if absent:  # these sentences are about another row; nothing else can be compared
        return [f"{claim.kind}: units" for claim in absent]
    problems = []
    for claim in claims:
        right = _CHECKS[claim.kind](claim, explanation, claims)
        problems += [f"{claim.kind}: {name}" for name, holds in right.items() if not holds]
    return problems


def _check_prediction(c: Claim, e: Explanation, claims: Sequence[Claim]) -> dict[str, bool]:
    right = {"target": predicted(e) == (c.target, c.side)}
    if c.side in ("value", "text"):
        return right | {"value": rounded(float(e.prediction)) == c.value}
    known = e.probability is not None and abs(e.probability - c.value) <= 0.005 + ROUNDING
    column = c.column == ("" if c.side == "next" else clean(e.target_column))
    return right | {"value": known, "column": column}


def _named(c: Claim, claims: Sequence[Claim]) -> list[Claim]:
    return [other for other in claims if other.kind == "evidence" and other.sign == c.sign]


def _check_evidence(c: Claim, e: Explanation, claims: Sequence[Claim]) -> dict[str, bool]:
    if not c.units:
        return {"units": False}
    values = [e.values[i] for i in c.units]
    value, whole, named = math.fsum(values), mass(e, c.sign), _named(c, claims)
    real = describe(e, c.units)
    looks = ("cell", "reference", "relation", "size", "brightness", "colour", "texture")
    return {
        "sign": all(v * c.sign > 0 for v in values),
        "value": c.value is None or rounded(value) == c.value,
        "share": c.share is None or (whole != 0 and round(100 * (value / whole)) == c.share),
        "rank": _ranked(c, value, e, named),
        "phrase": (real.phrase, real.noun) == (c.phrase, c.noun),
        "column": real.column == c.column,
        "target": side(e) == c.side and _meant(c, e),
        "degree": c.degree in ("", degree(e, c.units)),
        "one place": _one_place(c, e),
    } | {name: getattr(real, name) == getattr(c, name) for name in looks if getattr(c, name)}


def _ranked(c: Claim, value: float, e: Explanation, named: Sequence[Claim]) -> bool:
    """Tell whether no weaker part is named before a stronger one, and none that is left out is stronger."""
    used = {i for other in named for i in other.units}
    left = [v * c.sign for i, v in enumerate(e.values) if i not in used and measured(v)]
    weaker = [math.fsum(e.values[i] for i in other.units) * c.sign for other in named if other.rank > c.rank]
    size = abs(value) * (1 + ROUNDING)
    told = [other.rank for other in named] == list(range(1, len(named) + 1))
    return told and all(size >= v for v in weaker) and all(size >= v for v in left)


def _meant(c: Claim, e: Explanation) -> bool:
    """Tell whether the target is the explained one; a study sentence may say “the prediction” for it."""
    if c.target:
        return c.target == clean(e.target)
    return not clean(e.target) or (c.side == "class" and clean(e.target) == predicted(e)[0])


def _one_place(c: Claim, e: Explanation) -> bool:
    units = [e.units[i] for i in c.units]
    if len({unit.column for unit in units}) > 1:
        return False
    if all(regions.located(unit) for unit in units):
        return regions.connected(units)
    return list(c.units) == list(range(c.units[0], c.units[0] + len(c.units)))


def _check_coverage(c: Claim, e: Explanation, claims: Sequence[Claim]) -> dict[str, bool]:
    named, whole = _named(c, claims), mass(e, c.sign)
    units = {i for other in named for i in other.units}
    share = math.fsum(e.values[i] for i in units) / whole if whole else math.nan
    left = sum(v * c.sign > 0 for i, v in enumerate(e.values) if i not in units and measured(v))
    return {
        "count": len(named) == c.count,
        "share": math.isfinite(share) and round(100 * share) == c.share,
        "units": units == set(c.units),
        "rest": c.rest is None or c.rest == left,
    }


def _check_decided(c: Claim, e: Explanation, claims: Sequence[Claim]) -> dict[str, bool]:
    shares = holders(e, c.sign)
    column = next((name for name in shares if clean(name) == c.column), None)
    share = shares.get(column, math.nan)
    return {
        "column": column is not None and share >= max(shares.values()) * (1 - ROUNDING),
        "share": math.isfinite(share) and round(100 * share) == c.share,
        "verdict": c.verdict == ("decided" if share >= 0.5 else "largest"),
        "kind": e.kinds.get(column) == c.noun,
        "side": c.side == side(e),
    }


def _check_nothing(c: Claim, e: Explanation, claims: Sequence[Claim]) -> dict[str, bool]:
    nothing = not any(v * c.sign > 0 for v in e.values if measured(v))
    return {"sign": nothing, "target": _meant(c, e)}


def _check_truth(c: Claim, e: Explanation, claims: Sequence[Claim]) -> dict[str, bool]:
    f = e.faithfulness
    if f is None:
        return {"measured": False}
    own, control = rounded(round(f.comprehensiveness, 4)), rounded(round(f.random_comprehensiveness, 4))
    return {
        "value": c.value in (None, own),
        "control": c.control in (None, control),
        "verdict": f.verdict == c.verdict and c.scale in ("", f.scale),
        "target": c.target in (clean(e.target), "" if c.value is None else None),
    }


_CHECKS: dict[str, Callable[[Claim, Explanation, Sequence[Claim]], dict[str, bool]]] = {
    "prediction": _check_prediction,
    "unpredicted": lambda c, e, claims: {
        "number": number_of(e) is None,
        "target": c.target == predicted(e)[0],
    },
    "target": lambda c, e, claims: {"target": clean(e.target) == c.target},
    "evidence": _check_evidence,
    "coverage": _check_coverage,
    "decided": _check_decided,
    "nothing": _check_nothing,
    "zero": lambda c, e, claims: {"zero": bool(e.values) and not any(v for v in e.values if measured(v))},
    "empty": lambda c, e, claims: {"empty": not e.values},
    "part": lambda c, e, claims: {"quantity": e.quantity == "weight"},
    "missing": lambda c, e, claims: {"count": sum(not measured(v) for v in e.values) == c.count},
    "truth": _check_truth,
    "unmeasured": lambda c, e, claims: {"unmeasured": not measured_truth(e)},
}
