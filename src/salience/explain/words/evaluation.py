"""Measure a text against the explanation that it puts into words.

Coverage at k and quote precision are those of Feldhus et al. (NLRSE 2023); accuracy of sign, rank and number follows
Ichmoukhamedov et al. (arXiv 2412.10220), with claims read by rules in place of a second language model.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from salience.core.stats import mean_interval
from salience.data.words import words as cut_words
from salience.explain.explanation import Explanation
from salience.explain.words.accuracy import read_back
from salience.explain.words.free_text import (
    DECIMALS,
    folded,
    holds,
    located,
    quoted_parts,
    read,
)
from salience.explain.words.sentences import Words

DEEPEST = 10  # k of coverage@k, as published
KINDS = {"sign": ("sign",), "rank": ("rank", "important"), "value": ("score", "share")}  # accuracy → claims


# -- coverage ------------------------------------------------------------------------------------------


def coverage_at(
    text: str | Words, explanation: Explanation, *, by: str = "word", deepest: int = DEEPEST
) -> Float[np.ndarray, " k"]:
    """Return coverage@k of a text for k = 1 … ``deepest``: the share of the positive evidence that it quotes.

    ``(sum of the k largest positive values whose word is quoted) / (sum of all positive values)``. As published, values
    are rounded to two decimals, words are compared without case and wherever they stand, and marks count as quoted where
    the text speaks of punctuation. With ``by="place"`` a value counts only if its own place is quoted, unrounded: a word
    that comes twice is not credited twice.

    Args:
        text: what was written; of :class:`Words` the places are known, in a text quotes are looked for.
        explanation: what it is about.
        by: ``"word"``, as published, or ``"place"``.
        deepest: largest k.

    Returns:
        One share for each k, not falling, in [0, 1]; NaN where nothing speaks for the answer.
    """
    values = np.array([v if math.isfinite(v) else 0.0 for v in explanation.values])
    if by == "word":
        values, said = np.round(values, DECIMALS), _quoted_words(str(text))
        named = [
            bool(pieces) and said.issuperset(pieces)
            for pieces in (folded(u.label) for u in explanation.units)
        ]
    else:
        places = _named_units(text, explanation)
        named = [i in places for i in range(len(values))]
    positive = np.maximum(values, 0.0)
    if not positive.any():
        return np.full(deepest, np.nan)
    quoted = np.zeros(deepest)
    top = np.sort(positive[np.array(named)])[::-1][:deepest]
    quoted[: len(top)] = top
    return quoted.cumsum() / positive.sum()


def _quoted_words(text: str) -> set[str]:
    said = {piece for part in quoted_parts(text) for piece in folded(part)}
    marks = {mark for mark in ".,:;!?\"'()-…" if "unctuation" in text}
    return said | marks


def _named_units(text: str | Words, explanation: Explanation) -> set[int]:
    if isinstance(text, Words):
        return {i for claim in text.claims if claim.kind == "evidence" for i in claim.units}
    return {i for quote in located(quoted_parts(text), explanation) for i in quote.units}


# -- style ---------------------------------------------------------------------------------------------


def syllables(word: str) -> int:
    """Return the syllables of an English word, by rule, at least one.

    A syllable is a run of the vowels a e i o u y; ``ia`` and ``io`` are two, unless c, g, l, s or t comes before. A final
    ``e`` is silent, unless ``le`` follows a consonant; so are final ``es`` and ``ed`` where the letter before does not
    need a vowel (as in ``boxes`` and ``wanted``).
    """
    word = re.sub(r"[^a-z]", "", word.lower())
    count = len(re.findall(r"[aeiouy]+", word)) + len(re.findall(r"(?<![cglst])i[ao](?!u)", word))
    silent = r"[^aeiouyl]e$|[aeiouy]le$|[^aeiouytd]ed$|[^aeiouysxzcgh]es$"
    return max(count - bool(re.search(silent, word)), 1)


def length(text: str) -> int:
    """Return the number of words of a text; marks are none, a number is one."""
    return len(_words(text))


def _words(text: str) -> list[str]:
    return [word for word in cut_words(text) if word[0].isalnum()]


def reading_ease(text: str) -> float:
    """Return Flesch's reading ease: 206.835 − 1.015 · words a sentence − 84.6 · syllables a word.

    Around 100 is very easy, below 30 very hard; NaN for a text without words. Sentences end at ``.``, ``!`` or ``?``
    before white space; syllables are counted by :func:`syllables`, so the number is for English.
    """
    words = _words(text)
    if not words:
        return math.nan
    sentences = len(re.findall(r"[.!?]+[)”\"»']*(?=\s|$)", text.strip()))
    spoken = sum(syllables(word) for word in words)
    return 206.835 - 1.015 * len(words) / max(sentences, 1) - 84.6 * spoken / len(words)


# -- truth ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What is measured of one text.

    Attributes:
        coverage: coverage@k by word, as published, k = 1 … 10.
        coverage_by_place: the same by place.
        quotes: quoted parts.
        quote_precision: share of them that stand in the input, as whole words side by side; NaN without quotes.
        sign, rank, value: shares of claims that are true; NaN where none is made. ``rank`` holds ranks and what is
            called important, ``value`` scores and shares.
        hallucinations: quotes that are not in the input, and numbers and directions of no quoted word.
        uncheckable: other words that no number can confirm; 0 for :class:`Words`, which have none.
        words: length.
        reading_ease: Flesch's.
    """

    coverage: Float[np.ndarray, " k"]
    coverage_by_place: Float[np.ndarray, " k"]
    quotes: int
    quote_precision: float
    sign: float
    rank: float
    value: float
    hallucinations: int
    uncheckable: int
    words: int
    reading_ease: float


def measure(text: str | Words, explanation: Explanation) -> Measured:
    """Measure a text; claims of :class:`Words` are read back by :func:`read_back`, those of other texts by rules.

    The rules are strict: a claim that is read wrongly counts as false, so accuracies of free text are lower bounds.
    """
    named = located(_phrases(text), explanation)
    found = _of_words(text, explanation) if isinstance(text, Words) else _of_text(text, explanation)
    return Measured(
        coverage=coverage_at(text, explanation),
        coverage_by_place=coverage_at(text, explanation, by="place"),
        quotes=len(named),
        quote_precision=_share([bool(quote.units) for quote in named]),
        words=length(str(text)),
        reading_ease=reading_ease(str(text)),
        **found,
    )


def _share(hits: Sequence[bool]) -> float:
    return float(np.mean(hits)) if len(hits) else math.nan


def _phrases(text: str | Words) -> list[str]:
    if isinstance(text, Words):
        return [
            c.phrase for c in text.claims if c.kind == "evidence" and c.noun != "area"
        ]  # an area is no quote
    return quoted_parts(text)


def _of_words(words: Words, explanation: Explanation) -> dict[str, Any]:
    claims = [claim for claim in words.claims if claim.kind == "evidence"]
    if any(not 0 <= i < len(explanation.values) for claim in claims for i in claim.units):
        return {"sign": 0.0, "rank": 0.0, "value": 0.0, "hallucinations": len(claims), "uncheckable": 0}
    found = read_back([explanation], lambda _: words)
    numbers = [found[name] for name in ("value", "share") if math.isfinite(found[name])]
    absent = found["hallucinations"] * len(claims) if claims else 0
    return {
        "sign": found["sign"],
        "rank": found["rank"],
        "value": float(np.mean(numbers)) if numbers else math.nan,
        "hallucinations": round(absent),
        "uncheckable": 0,
    }


def _of_text(text: str, explanation: Explanation) -> dict[str, Any]:
    reading = read(text, explanation)
    hits: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for claim in reading.claims:
        for kind, claims in KINDS.items():
            if claim.kind in claims:
                hits[kind].append(holds(claim, reading, explanation))
    stray = sum("quoted word" in what for what in reading.uncheckable)
    absent = sum(not quote.units for quote in reading.quotes)
    return {
        **{kind: _share(found) for kind, found in hits.items()},
        "hallucinations": absent + stray,
        "uncheckable": len(reading.uncheckable) - stray,
    }


def summary(measured: Sequence[Measured], *, seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """Return mean and 95 % bootstrap interval over texts of every measurement; NaN is left out.

    Coverage is given as ``coverage@1`` … and ``coverage by place@1`` ….
    """
    columns: dict[str, np.ndarray] = {}
    for name in Measured.__dataclass_fields__:
        numbers = np.array([getattr(m, name) for m in measured], dtype=float)
        if numbers.ndim == 1:
            columns[name.replace("_", " ")] = numbers
            continue
        columns |= {f"{name.replace('_', ' ')}@{k + 1}": numbers[:, k] for k in range(numbers.shape[1])}
    return {name: _mean(numbers[np.isfinite(numbers)], seed) for name, numbers in columns.items()}


def _mean(numbers: np.ndarray, seed: int) -> tuple[float, float, float]:
    if not len(numbers):
        return math.nan, math.nan, math.nan
    return (float(numbers.mean()), *mean_interval(numbers, seed=seed))
