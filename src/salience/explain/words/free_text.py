"""Read what a freely written text claims of an explanation, and compare it with the numbers.

The text is written by a language model, so nothing in it is believed. It may be made of quoted parts of the input and
of a closed list of words (``instruct_en.yaml``); a word outside it says something that numbers cannot confirm, and is
reported. What is left is read by clause: every quoted part claims a sign, and may claim that it is important, a rank,
a score and a share.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

import yaml

from salience.data.words import words as cut_words
from salience.explain.explanation import Explanation
from salience.explain.phrasing import clean, written

QUOTES = re.compile(r"“([^“”]*)”|\"([^\"]*)\"|«([^«»]*)»|(?<!\w)['‘]([^'‘’]+)['’](?!\w)")
NUMBER = re.compile(r"[+−-]?\d+(?:\.\d+)?(?:\s?%)?")
TOKEN = re.compile(rf"\x01\d+|\x02|{NUMBER.pattern}|[^\W\d_]+(?:['’-][^\W\d_]+)*|\S")
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+|;")
MARKS = frozenset(".,:!?()[]-–—\x02")
DECIMALS = 2  # of the scores that a model is shown, as published
SHARE_SLACK = 1.0  # percentage points: a share is made from scores of two decimals
NOTABLE = 0.1  # of the strongest part of its sign; what is called important has at least this


@cache
def language(name: str = "en") -> dict[str, Any]:
    """Return the texts and word lists of instruction mode in one language."""
    return yaml.safe_load(files(__package__).joinpath(f"instruct_{name}.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Quote:
    """A quoted part of a text and the units that it names; none if it is not in the input."""

    phrase: str
    units: tuple[int, ...]


@dataclass(frozen=True)
class Said:
    """One claim of a text about some of its quotes.

    Attributes:
        kind: ``sign important rank score share count``.
        quotes: positions of the quotes that it is about.
        sign: sign of the evidence that it is about, 1 or −1.
        number: the first of the ranks that the quotes share, the score, the percentage, or how many quotes.
        decimals: digits behind the point of a score.
    """

    kind: str
    quotes: tuple[int, ...]
    sign: int
    number: float = 0.0
    decimals: int = 0


@dataclass(frozen=True)
class Reading:
    """What a text quotes and claims, and what in it cannot be checked."""

    quotes: tuple[Quote, ...]
    claims: tuple[Said, ...]
    uncheckable: tuple[str, ...]


def total(values: tuple[float, ...], units: Iterable[int]) -> float:
    """Return the sum of the finite values of some units."""
    return math.fsum(values[i] for i in units if math.isfinite(values[i]))


def scale(explanation: Explanation) -> float:
    """Return what values are divided by before a model sees them, so that the strongest has a score of ±1."""
    return max((abs(v) for v in explanation.values if math.isfinite(v)), default=0.0) or 1.0


# -- quotes --------------------------------------------------------------------------------------------


def _inside(match: re.Match[str]) -> str:
    return next(part for part in match.groups() if part is not None)


def quoted_parts(text: str) -> list[str]:
    """Return the quoted parts of a text, in order: between “ ”, " ", « » or ' '."""
    return [_inside(match) for match in QUOTES.finditer(text)]


def folded(text: str) -> list[str]:
    """Return words and marks as they are compared: case and the form of apostrophes do not count."""
    return [piece.casefold().replace("’", "'") for piece in cut_words(clean(text))]


class Places:
    """Find where quoted words stand in the input of an explanation: whole words, side by side, case ignored.

    A cell or region is found by a part of its label.
    """

    def __init__(self, explanation: Explanation) -> None:
        self.values = explanation.values
        self.pieces: list[
            tuple[str, int, Any]
        ] = []  # piece, its unit, and the place within which pieces join
        self.starts: dict[str, list[int]] = {}
        for i, unit in enumerate(explanation.units):
            block = unit.column if unit.kind == "text" else (unit.column, i)
            for piece in folded(unit.label):
                self.starts.setdefault(piece, []).append(len(self.pieces))
                self.pieces.append((piece, i, block))

    def every(self, phrase: str) -> list[tuple[int, ...]]:
        """Return the units of every place of a phrase, in the order of the input."""
        wanted = folded(phrase)
        starts = self.starts.get(wanted[0], ()) if wanted else ()
        found = [self.pieces[start : start + len(wanted)] for start in starts]
        return [
            tuple(dict.fromkeys(unit for _, unit, _ in part))
            for part in found
            if [piece for piece, _, _ in part] == wanted and len({block for *_, block in part}) == 1
        ]

    def find(self, phrase: str, taken: set[tuple[int, ...]]) -> tuple[int, ...]:
        """Return the units that a phrase means: of several places the one that weighs most, not yet ``taken``."""
        return max(self.every(phrase), key=lambda p: (p not in taken, abs(total(self.values, p))), default=())


def located(phrases: Iterable[str], explanation: Explanation) -> tuple[Quote, ...]:
    """Return phrases with the units that they name; one that comes again means its next place."""
    places, taken, found = Places(explanation), set(), []
    for phrase in phrases:
        units = places.find(phrase, taken)
        taken.add(units)
        found.append(Quote(clean(phrase), units))
    return tuple(found)


# -- reading -------------------------------------------------------------------------------------------


def read(text: str, explanation: Explanation, *, lang: str = "en") -> Reading:
    """Read the quotes and claims of a text.

    Quotes speak for the answer unless their part of the sentence has a word of the list ``against``, or negative
    scores. A superlative gives the quotes beside it the first ranks together, an ordinal gives one, “followed by”
    gives the ones after. Numbers belong to the quotes in their order.

    Args:
        text: what was written.
        explanation: what it is about.
        lang: language of the word lists.
    """
    hidden, phrases = _hidden(text, explanation)
    reader = _Reader(language(lang))
    for sentence in SENTENCE.split(hidden):
        reader.sentence(TOKEN.findall(sentence))
    uncheckable = tuple(dict.fromkeys(reader.uncheckable))
    return Reading(located(phrases, explanation), tuple(reader.claims), uncheckable)


def _hidden(text: str, explanation: Explanation) -> tuple[str, list[str]]:
    """Put numbers in place of quotes, and one character in place of what is predicted."""
    label, phrases = clean(explanation.target), []
    here = bool(Places(explanation).every(label))

    def hide(match: re.Match[str]) -> str:
        phrase = _inside(match)
        if not here and phrase.casefold().strip(" .,") == label.casefold():
            return "\x02"
        phrases.append(phrase)
        return f" \x01{len(phrases) - 1} "

    hidden = QUOTES.sub(hide, "\n".join(clean(line) for line in text.splitlines()))
    if isinstance(explanation.prediction, float):
        sign = "−" if explanation.prediction < 0 else ""
        number = re.escape(sign + written(explanation.prediction))
        hidden = re.sub(rf"(?<![\d.]){number}(?![\d]|\.\d) for\b", "\x02 for", hidden)
    scored = "|".join(language()["scored"])  # "positive scores" are scores, though a class may be "positive"
    pattern = rf"(?<!\w){re.escape(label)}(?!\w)(?! (?:{scored})\b)"
    return (re.sub(pattern, "\x02", hidden, flags=re.IGNORECASE) if label else hidden), phrases


def _quotes(tokens: list[str]) -> tuple[int, ...]:
    return tuple(int(token[1:]) for token in tokens if token[0] == "\x01")


def _split(tokens: list[str], cuts: list[int]) -> list[list[str]]:
    ends = [*cuts, len(tokens)]
    return [tokens[start:end] for start, end in zip([0, *cuts], ends, strict=True) if start < end]


class _Reader:
    """Collect the claims of one text, sentence by sentence."""

    def __init__(self, lists: dict[str, Any]) -> None:
        self.lists = lists
        keys = set(lists) - {"inputs", "models", "parts", "answer"}
        self.known = MARKS.union(*(lists[key] for key in keys))
        self.claims: list[Said] = []
        self.uncheckable: list[str] = []

    def sentence(self, tokens: list[str]) -> None:
        tokens = [token.lower().replace("’", "'") for token in tokens]
        self._vocabulary(tokens)
        if not _quotes(tokens):
            stray = [t for i, t in enumerate(tokens) if self._predicate(tokens, i) or NUMBER.fullmatch(t)]
            self.uncheckable += [f"{token} (of no quoted word)" for token in stray]
            return
        rank = 0
        for segment in self._segments(tokens):
            rank = self._segment(segment, rank)

    def _vocabulary(self, tokens: list[str]) -> None:
        """Note what the word lists do not hold, and words that need another beside them."""
        for token, following in pairwise([*tokens, ""]):
            of_all = token in self.lists["first"] and following == "of"
            unscored = token in self.lists["signs"] and following not in self.lists["scored"]
            foreign = token not in self.known and token[0] != "\x01" and not NUMBER.fullmatch(token)
            if of_all or unscored or foreign:
                self.uncheckable.append(token)
        if "\x02" not in tokens:
            self.uncheckable += [t for t in tokens if t in self.lists["predict"]]

    def _direction(self, tokens: list[str], i: int) -> int:
        """Return the sign that the token at ``i`` names; 0 for none."""
        token, before = tokens[i], tokens[max(i - 1, 0)]
        if token in self.lists["against"]:
            return -1
        if token in self.lists["for"] or (token == "for" and before in self.lists["speak"]):
            return 1
        following = tokens[i + 1] if i + 1 < len(tokens) else ""
        return self.lists["signs"].get(token, 0) if following in self.lists["scored"] else 0

    def _predicate(self, tokens: list[str], i: int) -> bool:
        ranks = tokens[i] in self.lists["first"] or tokens[i] in self.lists["ordinals"]
        return ranks or self._direction(tokens, i) != 0

    def _segments(self, tokens: list[str]) -> list[list[str]]:
        """Cut a sentence where other quotes begin that claim something else; each segment has a quote."""
        parts = _split(tokens, self._cuts(tokens))
        joined: list[list[str]] = []
        for part in parts:
            if joined and not (_quotes(part) and _quotes(joined[-1])):
                joined[-1] = joined[-1] + part
            else:
                joined.append(part)
        return joined

    def _cuts(self, tokens: list[str]) -> list[int]:
        cuts: list[int] = []
        for i, token in enumerate(tokens):
            start = cuts[-1] if cuts else 0
            if token in self.lists["clauses"]:
                cuts.append(i)
                continue
            joins = token in {*self.lists["joins"], *self.lists["next"], *self.lists["also"]}
            if joins and _quotes(tokens[start:i]) and self._begins(tokens, start, i):
                cuts.append(i)
        return cuts

    def _begins(self, tokens: list[str], start: int, i: int) -> bool:
        """Tell whether a list of quotes with its predicate ends before ``i``."""
        if tokens[i] in self.lists["next"] or tokens[i] in self.lists["also"]:
            return True
        predicates = [j for j in range(start, i) if self._predicate(tokens, j)]
        quotes = [j for j in range(start, i) if tokens[j][0] == "\x01"]
        if predicates and quotes[0] < predicates[0]:
            return True
        end = next((j for j in range(i + 1, len(tokens)) if tokens[j] in self.lists["joins"]), len(tokens))
        return bool(predicates) and any(self._predicate(tokens, j) for j in range(i + 1, end))

    def _segment(self, tokens: list[str], last: int) -> int:
        """Add the claims of one segment; return the last rank that it gives."""
        quotes, numbers = _quotes(tokens), list(_numbers(tokens))
        signs = {self._direction(tokens, i) for i in range(len(tokens))} - {0}
        negative = any(number < 0 for number, *_ in numbers)
        sign = signs.pop() if len(signs) == 1 else -1 if negative else 1
        if signs:
            self.uncheckable.append("for and against in one part of a sentence")
        self.claims += [Said("sign", (quote,), sign) for quote in quotes]
        if any(token in self.lists["important"] for token in tokens):
            self.claims += [Said("important", (quote,), sign) for quote in quotes]
        counts = [self.lists["counts"][token] for token in tokens if token in self.lists["counts"]]
        self.claims += [Said("count", quotes, sign, count) for count in counts]
        self._figures(tokens, quotes, numbers, sign)
        rank = self._rank(tokens, last)
        if not rank:
            return last
        self.claims.append(Said("rank", quotes, sign, rank))
        return rank + len(quotes) - 1

    def _rank(self, tokens: list[str], last: int) -> int:
        """Return the first of the ranks that a segment gives; 0 for none."""
        ordinals = [self.lists["ordinals"][token] for token in tokens if token in self.lists["ordinals"]]
        if ordinals:
            return ordinals[0]
        if any(token in self.lists["first"] for token in tokens):
            return 1
        return last + 1 if last and any(token in self.lists["next"] for token in tokens) else 0

    def _figures(self, tokens: list[str], quotes: tuple[int, ...], numbers: list[Any], sign: int) -> None:
        together = len(numbers) == 1 and any(token in self.lists["together"] for token in tokens)
        groups = [quotes] if together else [(quote,) for quote in quotes]
        if numbers and len(numbers) != len(groups):
            self.uncheckable += [f"{number:g} (of which quoted word?)" for number, *_ in numbers]
            return
        for group, (number, percent, decimals) in zip(groups, numbers, strict=False):
            self.claims.append(Said("share" if percent else "score", group, sign, number, decimals))


def _numbers(tokens: list[str]) -> Iterator[tuple[float, bool, int]]:
    """Return each number of a segment, whether it is a percentage, and its decimals."""
    for token, following in pairwise([*tokens, ""]):
        if NUMBER.fullmatch(token):
            plain = token.rstrip("% ").replace("−", "-")
            yield float(plain), "%" in token or following == "percent", len(plain.partition(".")[2])


# -- judging -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Why a text is not believed.

    Attributes:
        kind: a false claim (``quote sign important rank score share count``), ``uncheckable``, ``no quote``, or, of
            instruction mode, ``empty``, ``cut off`` and what went wrong with the endpoint.
        detail: in words.
    """

    kind: str
    detail: str = ""


def problems(reading: Reading, explanation: Explanation) -> list[Problem]:
    """Compare what a text says with the numbers of the explanation; empty if all of it is true."""
    found = [Problem("uncheckable", what) for what in reading.uncheckable]
    found += [Problem("quote", f"{q.phrase!r} is not in the input") for q in reading.quotes if not q.units]
    if not reading.quotes:
        found.append(Problem("no quote", "no part of the input is quoted"))
    for claim in reading.claims:
        if not holds(claim, reading, explanation):
            phrases = ", ".join(repr(reading.quotes[i].phrase) for i in claim.quotes)
            found.append(Problem(claim.kind, f"{claim.kind} of {phrases}"))
    return found


def holds(claim: Said, reading: Reading, explanation: Explanation) -> bool:
    """Return whether a claim is true; nothing true can be said of a quote that is not in the input.

    A rank is among the quoted parts and all single units that are not quoted; equal parts may stand in any order. A
    score is compared at the decimals that it is written with, a share to one percentage point.
    """
    quotes = [reading.quotes[i].units for i in claim.quotes]
    if not all(quotes):
        return False
    values, units = explanation.values, sorted({i for part in quotes for i in part})
    if claim.kind == "sign":
        return total(values, units) * claim.sign > 0
    if claim.kind == "count":
        return claim.number == len(quotes)
    if claim.kind == "score":
        slack = 0.5 * 10.0**-claim.decimals + 0.5 * 10.0**-DECIMALS * len(units)
        return abs(total(values, units) / scale(explanation) - claim.number) <= slack + 1e-9
    side = [i for i, v in enumerate(values) if math.isfinite(v) and v * claim.sign > 0]
    if claim.kind == "share":
        whole = total(values, side)
        return bool(whole) and abs(100 * total(values, units) / whole - claim.number) <= SHARE_SLACK
    named = {q.units: total(values, q.units) * claim.sign for q in reading.quotes if q.units}
    if claim.kind == "important":
        strongest = max((abs(values[i]) for i in side), default=0.0)
        return total(values, units) * claim.sign >= NOTABLE * strongest > 0
    return _ranked(claim, quotes, named, [i for i in side if not any(i in part for part in named)], values)


def _ranked(
    claim: Said,
    quotes: list[tuple[int, ...]],
    named: dict[tuple[int, ...], float],
    others: list[int],
    values: tuple[float, ...],
) -> bool:
    mine = [named[part] for part in quotes]
    rest = [v for part, v in named.items() if part not in quotes] + [abs(values[i]) for i in others]
    first, last = int(claim.number), int(claim.number) + len(mine) - 1
    above = sum(v > max(mine) for v in rest)
    not_below = sum(v >= min(mine) for v in rest)
    between = sum(min(mine) < v < max(mine) for v in rest)
    return min(mine) > 0 and above < first and not_below + len(mine) >= last and between == 0
