"""Say an explanation in sentences whose every claim can be checked against the numbers.

The words of a person who has never seen a heat map: what is predicted, what speaks for it and against it, how much
of the whole that is, and whether removing it really changes the answer. The idea follows template verbalization
(Feldhus et al., NLRSE 2023), which has sentences for evidence in favour alone, and checks none.
"""

import zlib
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from salience.core.errors import ConfigError
from salience.core.io import to_plain
from salience.explain.explanation import Explanation
from salience.explain.phrasing import clean, probability, rounded
from salience.explain.words.checking import measured_truth, number_of, predicted, side, wrong
from salience.explain.words.claims import Claim
from salience.explain.words.grammar import STYLES, grammar, parse
from salience.explain.words.parts import choose, degree, describe, holders, mass, measured, percent, total

__all__ = ["Claim", "Sentence", "Words", "check", "parse", "verbalize"]

AGAINST = 2  # parts named against the answer
COVERAGE = 0.5  # of the mass of a sign, after which no more parts are named
CHOICES = ("phrases", "summary")


@dataclass(frozen=True)
class Sentence:
    """One sentence and what it claims."""

    text: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Words:
    """An explanation in sentences; ``str`` joins them.

    Attributes:
        sentences: the sentences, the one about truth last.
        language: name or path of the grammar that they are written in.
    """

    sentences: tuple[Sentence, ...]
    language: str = "english"

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


def verbalize(
    explanation: Explanation,
    *,
    k: int = 4,
    coverage: float = COVERAGE,
    style: str = "plain",
    parts: str = "phrases",
    seed: int | None = None,
    language: str = "english",
) -> Words:
    """Put an explanation into sentences.

    Parts are named, strongest first, until they hold ``coverage`` of all that speaks for the answer, and ``k`` at
    most; where that is not enough, the sentence says over how many weaker parts the rest is spread.

    Args:
        explanation: what to say.
        k: parts named in favour of the answer, at most; half as many, at most two, against it.
        coverage: share to be named of what speaks for the answer, and of what speaks against it, in [0, 1].
        style: ``"plain"``: every number in its place; ``"study"``: short sentences as people were shown in the study
            of Feldhus et al. (2023), without numbers and without the predicted class.
        parts: ``"phrases"``: neighbouring words that matter; ``"summary"``: the stretches of a text that the searches
            of :mod:`salience.explain.words.searches` agree on.
        seed: draws among study sentences that mean the same; None takes one by the row, always the same.
        language: the name of a grammar of this package, or the path of another one.

    Returns:
        Prediction; evidence for and against with shares; what has no value; whether it is true.

    Raises:
        ConfigError: an unknown style, way of choosing parts, or language.
    """
    _known("style", style, STYLES)
    _known("parts", parts, CHOICES)
    groups = [*_evidence(explanation, k, coverage, parts), *_rest(explanation)]
    if style == "plain":
        said = [_prediction(explanation), *groups]
        write = grammar(language).write
        return Words(tuple(Sentence(write(group), group) for group in said if group), language)
    seed = zlib.crc32(str(explanation.row).encode()) if seed is None else seed
    named = clean(explanation.target) != predicted(explanation)[0]
    told = [group for group in groups if group and group[0].kind not in ("decided", "target")]
    sentences = [_short(group, seed + i, named, language, explanation) for i, group in enumerate(told)]
    return Words(tuple(sentences), language)


def _known(name: str, value: str, values: tuple[str, ...]) -> None:
    if value not in values:
        raise ConfigError(f"Unknown {name} {value!r}", "", f"Use one of {', '.join(values)}.")


def _short(group: tuple[Claim, ...], seed: int, named: bool, language: str, e: Explanation) -> Sentence:
    """Return a study sentence with what is left of the claims in it."""
    if group[0].kind == "evidence":
        group = tuple(replace(claim, degree=degree(e, claim.units)) for claim in group)
    text = grammar(language).write(group, "study", seed, named)
    told = grammar(language).parse(text)
    return Sentence(text, tuple(replace(t, units=c.units) for t, c in zip(told, group, strict=True)))


def _prediction(e: Explanation) -> tuple[Claim, ...]:
    (name, kind), number = predicted(e), number_of(e)
    if number is None:
        return (Claim("unpredicted", name),)
    if kind in ("value", "text"):
        return (Claim("prediction", name, side=kind, value=rounded(number)),)
    column = "" if kind == "next" else clean(e.target_column)
    return (Claim("prediction", name, column=column, side=kind, value=float(probability(number))),)


def _evidence(e: Explanation, k: int, coverage: float, parts: str) -> list[tuple[Claim, ...]]:
    known = [v for v in e.values if measured(v)]
    said = e.quantity == "value" or clean(e.target) == predicted(e)[0]
    target = () if said else (Claim("target", clean(e.target)),)
    if not e.values:
        return [target, (Claim("empty"),)]
    if not known:
        return [target]
    if not any(known):
        return [target, (Claim("zero"),)]
    result = [target, *_one_sign(e, 1, k, coverage, parts), _decided(e)]
    against = min(AGAINST, max(1, k // 2))
    return result + _one_sign(e, -1, against, coverage, parts) if e.signed else result


def _one_sign(e: Explanation, sign: int, k: int, coverage: float, parts: str) -> list[tuple[Claim, ...]]:
    groups, whole = choose(e, sign, k, coverage, parts), mass(e, sign)
    about = {"target": clean(e.target), "side": side(e), "sign": sign}
    if not groups:
        return [(Claim("nothing", **about),)]
    claims = tuple(
        replace(
            describe(e, units), **about, rank=rank, share=percent(e, units, whole), value=rounded(total(e, units)),
            units=units,
        )
        for rank, units in enumerate(groups, start=1)
    )  # fmt: skip
    every = tuple(i for units in groups for i in units)
    reached = total(e, every) / whole >= coverage
    if len(groups) == 1 and reached:
        return [claims]
    left = sum(v * sign > 0 for i, v in enumerate(e.values) if measured(v)) - len(every)
    together = Claim(
        "coverage", side=side(e), sign=sign, share=percent(e, every, whole), count=len(groups), units=every,
        rest=None if reached or not left else left,
    )  # fmt: skip
    return [claims, (together,)]


def _decided(e: Explanation) -> tuple[Claim, ...]:
    """Return which column holds most of what speaks for the answer, where there are several."""
    shares = holders(e, 1)
    if not shares or not mass(e, 1):
        return ()
    column, share = next(iter(shares.items()))
    verdict = "decided" if share >= 0.5 else "largest"
    return (
        Claim(
            "decided", noun=e.kinds[column], column=clean(column), side=side(e), sign=1, share=round(100 * share),
            verdict=verdict,
        ),
    )  # fmt: skip


def _rest(e: Explanation) -> list[tuple[Claim, ...]]:
    absent = sum(not measured(v) for v in e.values)
    missing = (Claim("missing", count=absent),) if absent else ()
    part = (Claim("part"),) if e.quantity == "weight" else ()
    return [missing, part, (_truth(e),)]


def _truth(e: Explanation) -> Claim:
    f = e.faithfulness
    if not measured_truth(e):
        return Claim("unmeasured")
    own, control = (rounded(round(v, 4)) for v in (f.comprehensiveness, f.random_comprehensiveness))
    return Claim("truth", clean(e.target), value=own, control=control, scale=f.scale, verdict=f.verdict)


def check(words: Words, explanation: Explanation) -> list[str]:
    """Recompute every claim from the numbers, and read every sentence back.

    Returns:
        What is wrong, in words; empty if every claim holds.
    """
    problems = []
    for sentence in words.sentences:
        try:
            agree = parse(sentence.text, words.language) == [claim.said() for claim in sentence.claims]
        except ValueError:
            agree = False
        if not agree:
            problems.append(f"the text does not say what is claimed: {sentence.text!r}")
    return problems + wrong(words.claims, explanation)
