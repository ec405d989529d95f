"""The sentences that describe an explanation: how they are written, and how they are read back.

A grammar is a file: ``english.yaml`` says every word, and another language is another file. Each of its lines is a
:class:`~salience.explain.words.forms.Form` that both writes and reads, so that the two cannot drift apart. Every
number in a sentence is a claim, and so is every quoted part.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from salience.core.errors import ConfigError
from salience.explain.words.claims import Claim
from salience.explain.words.forms import Form, form
from salience.explain.words.slots import Slots, signed

STYLES = ("plain", "study")
SIGNS = {"for": 1, "against": -1}
BY_SIDE = ("evidence", "coverage", "nothing")


@lru_cache(maxsize=8)
def grammar(language: str = "english") -> "Grammar":
    """Return the grammar of a language.

    Args:
        language: the name of a file beside this module, or the path of another one.

    Raises:
        ConfigError: there is no such file, or it is no grammar.
    """
    import yaml

    path = Path(__file__).parent / f"{language}.yaml"
    path = path if path.is_file() else Path(language)
    try:
        return Grammar(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, re.error) as error:
        raise ConfigError(
            f"There is no grammar {language!r}",
            f"{type(error).__name__}: {error}",
            "Use 'english', or give a file like it.",
        ) from error


def write(claims: tuple[Claim, ...], language: str = "english") -> str:
    """Return the precise sentence of one group of claims: one claim, or the evidence of one sign by rank."""
    return grammar(language).write(claims)


def parse(text: str, language: str = "english") -> list[Claim]:
    """Read the claims of sentences back from their text; positions of units are not in the text.

    Raises:
        ValueError: a sentence is not of this grammar.
    """
    return grammar(language).parse(text)


class Grammar:
    """Write and read the sentences of one language.

    Args:
        data: the content of a grammar file; ``english.yaml`` explains its shape.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.data, self.slots, self.choices = data, Slots(data), data["words"]
        self.forms: dict[tuple, list[Form]] = defaultdict(list)  # (style, kind, …) → sentences that mean it
        self.parts: dict[tuple, list[Form]] = defaultdict(list)  # (style, place) → names of parts
        self._read_parts()
        for style in STYLES:
            for kind, entry in data[style].items():
                self._read_entry(style, kind, entry)
        self.all_forms = [one for forms in self.forms.values() for one in forms]

    # -- reading the file ----------------------------------------------------------------------------

    def _read_parts(self) -> None:
        plain, study = self.data["parts"], {**self.data["parts"], **self.data["study_parts"]}
        for noun, lines in study.items():
            self.parts["study"] += [self._form(text, {"noun": noun}, "study") for text in lines]
        for place, entry in (("first", self.data["plain"]["first"]), ("next", self.data["plain"]["next"])):
            for measure, frame in entry.items():
                for noun, (text, *_) in plain.items():
                    self._add_measured(place, measure, frame.replace("{part}", text), noun)

    def _add_measured(self, place: str, measure: str, text: str, noun: str) -> None:
        for side, sign, whole in self._wholes():
            if (measure == "unsigned") == (side == "look"):
                key = ("plain", place, side, sign)
                self.parts[key].append(self._form(text.replace("{whole}", whole), {"noun": noun}, "plain"))

    def _wholes(self) -> Iterator[tuple[str, int, str]]:
        for side, signs in self.data["plain"]["wholes"].items():
            for name, whole in signs.items():
                yield side, SIGNS[name], whole

    def _form(self, text: str, fixed: Mapping[str, Any], style: str) -> Form:
        return form(text, self.slots, fixed, style, self.choices)

    def _read_entry(self, style: str, kind: str, entry: Any) -> None:
        if kind in ("first", "next", "after_first", "wholes"):
            return
        if kind in ("one", "many"):
            for side, sign, lines in _by_side(entry):
                fixed = {"kind": "evidence", "side": side, "sign": sign}
                texts = [text for line in lines for text in self._objects(line, side)]
                self.forms[style, "evidence", side, sign, kind] += [
                    self._form(t, fixed, style) for t in texts
                ]
        elif kind in ("evidence", "nothing"):
            for side, sign, lines in _by_side(entry):
                fixed = {"kind": kind, "side": side, "sign": sign}
                texts = [text for line in lines for text in self._objects(line, side)]
                self.forms[style, kind, side, sign] += [self._form(text, fixed, style) for text in texts]
        elif kind in ("coverage", "decided"):
            self._read_shares(style, kind, entry)
        else:
            self._read_others(style, kind, entry)

    def _objects(self, line: str, side: str) -> list[str]:
        unnamed = self.data["objects"].get(side, [])
        objects = [*unnamed, *self.data["named_objects"].get(side, ["{target}"])]
        return [line.replace("{object}", each) for each in objects] if "{object}" in line else [line]

    def _read_shares(self, style: str, kind: str, entry: Any) -> None:
        cases = entry.items() if isinstance(entry, Mapping) else [("", entry)]
        for case, lines in cases:
            for side, sign, whole in self._wholes():
                fixed = {"kind": kind, "side": side, "sign": sign} | ({"verdict": case} if case else {})
                texts = [text.replace("{whole}", whole) for text in lines]
                key = (style, kind, side, sign, *([case] if case else []))
                self.forms[key] += [self._form(text, fixed, style) for text in texts]

    def _read_others(self, style: str, kind: str, entry: Any) -> None:
        field = {"prediction": "side", "truth": "scale"}.get(kind)
        cases = entry.items() if isinstance(entry, Mapping) else [("", entry)]
        for case, lines in cases:
            fixed = {"kind": kind} | ({field: case} if field and case else {})
            key = (style, kind, *([case] if case else []))
            self.forms[key] += [self._form(text, fixed, style) for text in lines]

    # -- writing -------------------------------------------------------------------------------------

    def write(
        self, claims: tuple[Claim, ...], style: str = "plain", seed: int | None = None, named: bool = True
    ) -> str:
        """Return the sentence of a group of claims.

        Args:
            claims: one claim, or the evidence of one sign by rank.
            style: ``"plain"`` or ``"study"``; what the study has no sentence for is said plainly.
            seed: draws one of the sentences that mean the same; None takes the first.
            named: whether a study sentence names the target, where it can do either.

        Raises:
            KeyError: the language has no sentence for it.
        """
        draw = random.Random(seed) if seed is not None else None
        forms = self._fitting(claims, style, named)
        chosen = draw.choice(forms) if draw else forms[0]
        if claims[0].kind != "evidence":
            return self._closed(chosen.fill(self.slots, claims[0]))
        writer = self._plain_items if chosen.style == "plain" else self._study_items
        return self._closed(chosen.fill(self.slots, claims[0], writer(claims, draw)))

    def _fitting(self, claims: tuple[Claim, ...], style: str, named: bool) -> list[Form]:
        claim = claims[0]
        for wanted in dict.fromkeys((style, "plain")):
            key = self._key(claim, wanted, len(claims))
            forms = self.forms.get(key) or self.forms.get((wanted, claim.kind), [])
            fitting = [one for one in forms if ("target" in one.gaps) == named] if wanted == "study" else []
            if forms:
                return fitting or forms
        raise KeyError(f"no sentence for {claim.kind}, {claim.side}, {claim.sign}")

    @staticmethod
    def _key(claim: Claim, style: str, count: int) -> tuple:
        if claim.kind in (*BY_SIDE, "decided"):
            key = (style, claim.kind, claim.side, claim.sign)
            if claim.kind == "decided":
                return (*key, claim.verdict)
            if claim.kind == "evidence" and style == "study":
                return (*key, "one" if count == 1 else "many")
            return key
        case = {"prediction": claim.side, "truth": claim.scale}.get(claim.kind)
        return (style, claim.kind, case) if case else (style, claim.kind)

    def _closed(self, text: str) -> str:
        """Return a sentence with a capital letter, and no comma before another mark; what is quoted stays as it is."""
        end, (left, right) = self.data["end"], (self.slots.left, self.slots.right)
        parts = self.slots.quoted.split(text[:1].upper() + text[1:])  # outside, quoted, outside, …
        parts[::2] = [part.replace(",,", ",").replace(f",{end}", end) for part in parts[::2]]
        return "".join(f"{left}{part}{right}" if i % 2 else part for i, part in enumerate(parts))

    def _plain_items(self, claims: tuple[Claim, ...], draw: random.Random | None) -> Any:
        first, *others = claims
        names = [self._part("first", first), *(self._part("next", claim) for claim in others)]
        after = self.data["plain"]["after_first"]
        text = names[0] + (after + self._listed(names[1:]) if others else "")
        return lambda gap: text

    def _part(self, place: str, claim: Claim) -> str:
        forms = self.parts["plain", place, claim.side, claim.sign]
        return next(f for f in forms if f.fixed["noun"] == claim.noun).fill(self.slots, claim)

    def _listed(self, names: Sequence[str]) -> str:
        marks = self.data["list"]
        if len(names) < 2:
            return "".join(names)
        return marks["between"].join(names[:-1]) + marks["last"] + names[-1]

    def _study_items(self, claims: tuple[Claim, ...], draw: random.Random | None) -> Any:
        groups = {"items": claims, "first": claims[:1], "others": claims[1:]}
        count, chosen = len(claims), {}

        def fill(gap: str) -> str:
            nonlocal count
            if gap in groups:
                count = len(groups[gap])
                return self._named(groups[gap], draw)
            options = self.choices[gap]
            one = chosen.setdefault(gap, draw.choice(options) if draw else options[0])  # one tense a sentence
            return one[self.slots.plural(count, one)] if isinstance(one, Mapping) else one

        return fill

    def _named(self, claims: tuple[Claim, ...], draw: random.Random | None) -> str:
        nouns = {claim.noun for claim in claims}
        frames = self.data["collected"].get(claims[0].noun, []) if len(nouns) == 1 < len(claims) else []
        frames = [] if any(claim.column for claim in claims) else frames[len(claims) > 2 :]
        if frames and (draw is None or draw.random() < 0.5):
            frame = draw.choice(frames) if draw else frames[0]
            return frame.replace("{items}", self._listed([self.slots.quote(c.phrase) for c in claims]))
        return self._listed([self._study_part(claim, draw) for claim in claims])

    def _study_part(self, claim: Claim, draw: random.Random | None) -> str:
        forms = [f for f in self.parts["study"] if f.fixed["noun"] == claim.noun]
        return (draw.choice(forms) if draw else forms[0]).fill(self.slots, claim)

    # -- reading -------------------------------------------------------------------------------------

    def parse(self, text: str) -> list[Claim]:
        """Read the claims of sentences.

        Raises:
            ValueError: a sentence is not of this grammar.
        """
        skeleton, phrases = self.slots.hide(text)
        end = re.escape(self.data["end"])
        sentences = re.split(rf"(?<={end}) ", skeleton) if skeleton else []
        return [claim for sentence in sentences for claim in self._sentence(sentence, phrases)]

    def _sentence(self, sentence: str, phrases: list[str]) -> list[Claim]:
        lowered, variants = sentence.lower(), (sentence, sentence[:1].lower() + sentence[1:])
        for one in self.all_forms:
            if not all(literal in lowered for literal in one.literals):
                continue
            matches = filter(None, map(one.pattern.fullmatch, variants))
            claims = next(filter(None, (self._claims(one, match, phrases) for match in matches)), None)
            if claims:
                return claims
        raise ValueError(f"not a sentence of this grammar: {sentence!r}")

    def _claims(self, one: Form, match: re.Match[str], phrases: list[str]) -> list[Claim] | None:
        fields = signed(one.read(self.slots, match, phrases))
        texts = [fields.pop(name) for name in ("items", "first", "others") if name in fields]
        if not texts:
            return [Claim(**fields)]
        reader = self._read_plain_items if one.style == "plain" else self._read_study_items
        parts = [reader(text, fields, phrases) for text in texts]
        if not all(parts):
            return None
        found = [part for group in parts for part in group]
        return [Claim(**{**fields, **part, "rank": rank}) for rank, part in enumerate(found, start=1)]

    def _read_plain_items(self, text: str, fields: dict, phrases: list[str]) -> list[dict] | None:
        key = (fields["side"], fields["sign"])
        first = self._one(text, 0, self.parts["plain", "first", *key], phrases)
        if first is None:
            return None
        part, stop = first
        if stop == len(text):
            return [part]
        after = self.data["plain"]["after_first"]
        if not text.startswith(after, stop):
            return None
        others = self._list(text[stop + len(after) :], self.parts["plain", "next", *key], phrases)
        return [part, *others] if others else None

    def _read_study_items(self, text: str, fields: dict, phrases: list[str]) -> list[dict] | None:
        for noun, frames in self.data["collected"].items():
            for frame in frames:
                before, _, after = frame.partition("{items}")
                if text.startswith(before) and text.endswith(after):
                    inner = text[len(before) : len(text) - len(after)]
                    found = self._list(inner, [self._form("{phrase}", {"noun": noun}, "study")], phrases)
                    if found and len(found) > 1:
                        return found
        return self._list(text, self.parts["study"], phrases)

    def _list(self, text: str, forms: Sequence[Form], phrases: list[str]) -> list[dict] | None:
        """Read parts with commas and a last connective between them."""
        marks, found, start = self.data["list"], [], 0
        between = re.escape(marks["between"])
        # the comma of an insertion may stand for the first character of the one between parts
        separator = re.compile(f"{between}|{re.escape(marks['last'])}|(?<=,) ")
        while True:
            one = self._one(text, start, forms, phrases)
            if one is None:
                return None
            found.append(one[0])
            if one[1] == len(text):
                return found
            gap = separator.match(text, one[1])
            if gap is None:
                return None
            start = gap.end()

    def _one(
        self, text: str, start: int, forms: Sequence[Form], phrases: list[str]
    ) -> tuple[dict[str, Any], int] | None:
        """Read the longest part that begins at a place."""
        matches = [(m, f) for f in forms if (m := f.pattern.match(text, start))]
        if not matches:
            return None
        match, one = max(matches, key=lambda pair: pair[0].end())
        return one.read(self.slots, match, phrases), match.end()


def _by_side(entry: Mapping[str, Mapping[str, list[str]]]) -> Iterator[tuple[str, int, list[str]]]:
    for side, signs in entry.items():
        for name, lines in signs.items():
            yield side, SIGNS[name], lines
