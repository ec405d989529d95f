"""The sentences that describe an explanation: how they are written, and how they are read back.

Every quoted part stands between “ and ”; a ” inside is doubled. Every number in a sentence is a claim. Sentences
are written here and read here, so that writing and reading cannot drift apart.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from salience.explain.phrasing import probability, quote, with_sign, written

SIDES = {  # (task, sign) → lead of the sentence, what a share is a share of, what is said where there is nothing
    ("class", 1): ("What speaks most for {} is", "of all evidence for it", "Nothing speaks for {}."),
    ("class", -1): (
        "What speaks most against {} is",
        "of all evidence against it",
        "Nothing speaks against {}.",
    ),
    ("value", 1): ("What raises {} most is", "of all that raises it", "Nothing raises {}."),
    ("value", -1): ("What lowers {} most is", "of all that lowers it", "Nothing lowers {}."),
    ("text", 1): (
        "What makes {} more likely is",
        "of all that makes it more likely",
        "Nothing makes {} more likely.",
    ),
    ("text", -1): (
        "What makes {} less likely is",
        "of all that makes it less likely",
        "Nothing makes {} less likely.",
    ),
    ("weight", 1): ("What {} adds most is", "of all that it adds", "There is nothing that {} adds."),
    ("weight", -1): (
        "What {} takes away most is",
        "of all that it takes away",
        "There is nothing that {} takes away.",
    ),
    ("look", 1): ("For {} the model looks most at", "of all attention", "For {} the model looks at nothing."),
}
SCALES = {  # scale of a truth claim → what changes, before and after the name of the target
    "probability": ("the probability of", ""),
    "standard deviations": ("the prediction of", " (in standard deviations)"),
    "units of the target": ("the prediction of", " (in its own units)"),
    "log-probability": ("the log-probability of", ""),
}


@dataclass(frozen=True)
class Claim:
    """State one checkable thing that a sentence says.

    Attributes:
        kind: ``prediction unpredicted target evidence coverage nothing zero empty missing part truth unmeasured``.
        target: what it speaks for, against, or predicts.
        phrase: the quoted words, cell or region.
        noun: what the phrase is called: ``word piece phrase mark cell region``.
        column: the column named beside it, or predicted; empty where none is.
        side: ``"class"``, ``"value"``, ``"text"``, ``"weight"`` or ``"look"``, as in :data:`SIDES`; of a prediction
            also ``"next"``, the next token of a text.
        sign: 1 for, −1 against, 0 neither.
        rank: 1 for the strongest part of its sign.
        share: share of all of its sign, in whole percent.
        count: number of parts meant.
        value: the number, rounded as it is written.
        control: the same number for random parts.
        scale: unit of a truth claim.
        verdict: whether the explanation is supported.
        units: positions of the units meant; not part of the text.
    """

    kind: str
    target: str = ""
    phrase: str = ""
    noun: str = ""
    column: str = ""
    side: str = ""
    sign: int = 0
    rank: int = 0
    share: int | None = None
    count: int | None = None
    value: float | None = None
    control: float | None = None
    scale: str = ""
    verdict: str = ""
    units: tuple[int, ...] = ()

    def said(self) -> "Claim":
        """Return what the text alone tells: everything but the positions of the units."""
        return replace(self, units=())


def _read(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


def _percent(share: int) -> str:
    return f"{share} %" if share else "under 1 %"


# -- writing -----------------------------------------------------------------------------------------


def write(claims: tuple[Claim, ...]) -> str:
    """Return the sentence of one group of claims: one claim, or the evidence of one sign by rank."""
    return _WRITERS[claims[0].kind](*claims)


def _write_prediction(claim: Claim) -> str:
    if claim.side == "value":
        sign = "−" if claim.value < 0 else ""
        return f"The model predicts {sign}{written(claim.value)} for {quote(claim.target)}."
    if claim.side == "text":
        sign = "−" if claim.value < 0 else ""
        return f"The model gives {quote(claim.target)} the log-probability {sign}{written(claim.value)}."
    if claim.side == "next":
        return f"The model expects {quote(claim.target)} next, with probability {probability(claim.value)}."
    of = f" for {quote(claim.column)}" if claim.column else ""
    return f"The model predicts {quote(claim.target)}{of} with probability {probability(claim.value)}."


def _item(claim: Claim) -> str:
    where = f" in {quote(claim.column)}" if claim.column else ""
    number = written(claim.value) if claim.side == "look" else with_sign(claim.value)
    whole = f" {SIDES[claim.side, claim.sign][1]}" if claim.rank == 1 else ""
    return f"the {claim.noun} {quote(claim.phrase)}{where} ({number}, {_percent(claim.share)}{whole})"


def _write_evidence(*claims: Claim) -> str:
    lead = SIDES[claims[0].side, claims[0].sign][0].format(quote(claims[0].target))
    first, *others = (_item(claim) for claim in claims)
    if not others:
        return f"{lead} {first}."
    rest = others[0] if len(others) == 1 else f"{', '.join(others[:-1])} and {others[-1]}"
    return f"{lead} {first}, followed by {rest}."


def _write_coverage(claim: Claim) -> str:
    return (
        f"Together these {claim.count} parts hold {_percent(claim.share)} {SIDES[claim.side, claim.sign][1]}."
    )


def _write_nothing(claim: Claim) -> str:
    return SIDES[claim.side, claim.sign][2].format(quote(claim.target))


def _write_missing(claim: Claim) -> str:
    return "1 part has no value." if claim.count == 1 else f"{claim.count} parts have no value."


def _write_truth(claim: Claim) -> str:
    before, after = SCALES[claim.scale]
    thing = f"{before} {quote(claim.target)}{after}"
    own = f"{_verb(claim.value)} {thing} by {written(claim.value)} on average"
    control = f"{_verb(claim.control)} it by {written(claim.control)}"
    return (
        f"Removing the strongest parts {own if claim.value else f'does not change {thing}'}; "
        f"removing random parts {control if claim.control else 'does not change it'}: "
        f"this explanation is {claim.verdict}."
    )


def _verb(change: float) -> str:
    return "lowers" if change > 0 else "raises"


_WRITERS: dict[str, Callable[..., str]] = {
    "prediction": _write_prediction,
    "unpredicted": lambda claim: f"The model gives no number for {quote(claim.target)}.",
    "target": lambda claim: f"What is explained is {quote(claim.target)}.",
    "evidence": _write_evidence,
    "coverage": _write_coverage,
    "nothing": _write_nothing,
    "zero": lambda claim: "No part of this row makes a difference: every value is zero.",
    "empty": lambda claim: "This row has no parts to explain.",
    "missing": _write_missing,
    "part": lambda claim: "These weights are exact, but one layer is only a part of the model.",
    "truth": _write_truth,
    "unmeasured": lambda claim: "Whether this explanation is true was not measured.",
}

# -- reading -----------------------------------------------------------------------------------------

QUOTED = re.compile("“((?:[^”]|””)*)”")
NUMBER = r"[+−]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?"
SHARE = r"(?P<share>under 1|\d+) %"
ITEM = re.compile(rf"the (\w+) “(\d+)”(?: in “(\d+)”)? \(({NUMBER}), (under 1|\d+) %")


def parse(text: str) -> list[Claim]:
    """Read the claims of sentences back from their text; positions of units are not in the text.

    Raises:
        ValueError: a sentence is not of this grammar.
    """
    phrases: list[str] = []

    def hide(match: re.Match[str]) -> str:
        phrases.append(match[1].replace("””", "”"))
        return f"“{len(phrases) - 1}”"

    skeleton = QUOTED.sub(hide, text)
    sentences = re.split(r"(?<=\.) (?=[A-Z0-9])", skeleton) if skeleton else []
    return [claim for sentence in sentences for claim in _parse_sentence(sentence, phrases)]


def _parse_sentence(sentence: str, phrases: list[str]) -> list[Claim]:
    for pattern, reader in _READERS:
        match = pattern.fullmatch(sentence)
        if match:
            return reader({k: v for k, v in match.groupdict().items() if v is not None}, phrases)
    raise ValueError(f"not a sentence of this grammar: {sentence!r}")


def _lead(form: str) -> str:
    return re.escape(form).replace(r"\{\}", r"“(?P<target>\d+)”")


def _target(found: dict[str, str], phrases: list[str]) -> str:
    return phrases[int(found["target"])]


def _share(text: str) -> int:
    return 0 if text == "under 1" else int(text)


def _read_evidence(side: str, sign: int) -> Callable[[dict[str, str], list[str]], list[Claim]]:
    def read(found: dict[str, str], phrases: list[str]) -> list[Claim]:
        return [
            Claim(
                "evidence", _target(found, phrases), phrases[int(phrase)], noun, phrases[int(column)] if column else "",
                side, sign, rank, _share(share), value=_read(number),
            )
            for rank, (noun, phrase, column, number, share) in enumerate(ITEM.findall(found["items"]), start=1)
        ]  # fmt: skip

    return read


def _read_coverage(side: str, sign: int) -> Callable[[dict[str, str], list[str]], list[Claim]]:
    return lambda found, _: [
        Claim("coverage", side=side, sign=sign, share=_share(found["share"]), count=int(found["count"]))
    ]


def _read_nothing(side: str, sign: int) -> Callable[[dict[str, str], list[str]], list[Claim]]:
    return lambda found, phrases: [Claim("nothing", _target(found, phrases), side=side, sign=sign)]


def _read_truth(scale: str) -> Callable[[dict[str, str], list[str]], list[Claim]]:
    def size(found: dict[str, str], name: str) -> float:
        if name not in found:
            return 0.0
        return _read(found[name]) * (1 if found[f"{name}_verb"] == "lowers" else -1)

    return lambda found, phrases: [
        Claim(
            "truth", _target(found, phrases), value=size(found, "own"), control=size(found, "random"),
            scale=scale, verdict=found["verdict"],
        )
    ]  # fmt: skip


def _read_prediction(side: str) -> Callable[[dict[str, str], list[str]], list[Claim]]:
    def read(found: dict[str, str], phrases: list[str]) -> list[Claim]:
        column = phrases[int(found["column"])] if "column" in found else ""
        return [
            Claim(
                "prediction", _target(found, phrases), column=column, side=side, value=_read(found["value"])
            )
        ]

    return read


def _plain(kind: str) -> Callable[[dict[str, str], list[str]], list[Claim]]:
    def read(found: dict[str, str], phrases: list[str]) -> list[Claim]:
        target = _target(found, phrases) if "target" in found else ""
        return [Claim(kind, target, count=int(found["count"]) if "count" in found else None)]

    return read


def _readers() -> list[tuple[re.Pattern[str], Any]]:
    value = rf"(?P<value>{NUMBER})"
    forms = [
        (
            rf"The model predicts “(?P<target>\d+)”(?: for “(?P<column>\d+)”)? with probability {value}\.",
            _read_prediction("class"),
        ),
        (rf"The model predicts {value} for “(?P<target>\d+)”\.", _read_prediction("value")),
        (rf"The model gives “(?P<target>\d+)” the log-probability {value}\.", _read_prediction("text")),
        (rf"The model expects “(?P<target>\d+)” next, with probability {value}\.", _read_prediction("next")),
        (r"The model gives no number for “(?P<target>\d+)”\.", _plain("unpredicted")),
        (r"What is explained is “(?P<target>\d+)”\.", _plain("target")),
        (r"(?P<count>\d+) parts? (?:has|have) no value\.", _plain("missing")),
    ]
    forms += [
        (re.escape(_WRITERS[kind](None)), _plain(kind)) for kind in ("zero", "empty", "part", "unmeasured")
    ]
    for (side, sign), (lead, whole, nothing) in SIDES.items():
        forms.append((rf"{_lead(lead)} (?P<items>the .*)\.", _read_evidence(side, sign)))
        coverage = rf"Together these (?P<count>\d+) parts hold {SHARE} {re.escape(whole)}\."
        forms += [(coverage, _read_coverage(side, sign)), (_lead(nothing), _read_nothing(side, sign))]
    forms += [(_truth_form(*parts), _read_truth(scale)) for scale, parts in SCALES.items()]
    return [(re.compile(form), reader) for form, reader in forms]


def _truth_form(before: str, after: str) -> str:
    verb = "(?:does not change{0}|(?P<{1}_verb>lowers|raises){0})"
    thing = rf" {before} “(?P<target>\d+)”{re.escape(after)}"
    return (
        rf"Removing the strongest parts {verb.format('', 'own')}{thing}(?: by (?P<own>{NUMBER}) on average)?; "
        rf"removing random parts {verb.format(' it', 'random')}(?: by (?P<random>{NUMBER}))?: "
        r"this explanation is (?P<verdict>[a-z ]+)\."
    )


_READERS = _readers()
