"""A form: a sentence with gaps, which writes claims and reads them back."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from salience.explain.words.claims import Claim
from salience.explain.words.slots import Slots

PARTS = ("items", "first", "others")  # gaps that hold named parts
GAP = re.compile(r"\{([a-z_.]+)\}")
TOKEN = re.compile(r"(\[[^\]]*\])")

Choice = Callable[[str], str]


@dataclass(frozen=True)
class Form:
    """One sentence, or the name of one part, with its gaps.

    Attributes:
        text: the sentence as the grammar file has it, with ``{object}``, ``{whole}`` and ``{part}`` filled in.
        fixed: what the choice of this form alone says: kind, side, sign and so on.
        style: ``"plain"`` or ``"study"``.
        pattern: what the sentence looks like.
        literals: words that must occur in it; they rule out most forms at once.
        choices: gaps that are filled by choice and say nothing.
    """

    text: str
    fixed: Mapping[str, Any]
    style: str
    pattern: re.Pattern[str]
    literals: tuple[str, ...]
    choices: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def gaps(self) -> list[str]:
        """The names of the gaps, in order."""
        return GAP.findall(self.text)

    def fill(self, slots: Slots, claim: Claim, extra: Choice | None = None) -> str:
        """Return the sentence of a claim; ``extra`` fills the gaps that are not of the claim."""
        parts = []
        for token in TOKEN.split(self.text):
            optional = token.startswith("[")
            filled = self._fill(token[1:-1] if optional else token, slots, claim, extra)
            if filled is None and not optional:
                raise ValueError(f"{self.text!r} needs more than {claim} says")
            parts.append(filled or "")
        return "".join(parts)

    def _fill(self, text: str, slots: Slots, claim: Claim, extra: Choice | None) -> str | None:
        result, start = "", 0
        for match in GAP.finditer(text):
            own = extra is not None and (match[1] in PARTS or match[1] in self.choices)
            filled = extra(match[1]) if own else slots.write(match[1], claim)
            if filled is None:
                return None
            result += text[start : match.start()] + filled
            start = match.end()
        return result + text[start:]

    def read(self, slots: Slots, match: re.Match[str], phrases: Sequence[str]) -> dict[str, Any]:
        """Return the fields that a matched sentence tells, and under their own names the gaps with parts."""
        fields: dict[str, Any] = dict(self.fixed)
        for name, text in match.groupdict().items():
            name = name.replace("__", ".")
            if text is not None:
                fields |= {name: text} if name in PARTS else slots.read(name, text, phrases)
        return fields


def form(
    text: str,
    slots: Slots,
    fixed: Mapping[str, Any],
    style: str = "plain",
    choices: Mapping[str, Sequence[Any]] | None = None,
) -> Form:
    """Return the form of a line of a grammar file."""
    choices = choices or {}
    pattern, literals = "", []
    for token in TOKEN.split(text):
        inner = token[1:-1] if token.startswith("[") else token
        piece = _pattern(inner, slots, choices)
        pattern += f"(?:{piece})?" if token.startswith("[") else piece
        if not token.startswith("["):
            literals += [part.strip().lower() for part in GAP.split(token)[::2] if part.strip()]
    return Form(text, fixed, style, re.compile(pattern), tuple(literals), choices)


def _pattern(text: str, slots: Slots, choices: Mapping[str, Sequence[Any]]) -> str:
    pieces = GAP.split(text)
    result = re.escape(pieces[0])
    for name, literal in zip(pieces[1::2], pieces[2::2], strict=True):
        if name in choices:
            result += f"(?:{'|'.join(re.escape(word) for word in _words(choices[name]))})"
        else:
            result += rf"(?P<{name.replace('.', '__')}>{'.+' if name in PARTS else slots.pattern(name)})"
        result += re.escape(literal)
    # a comma that closes an insertion is left out before another mark
    return f"{result.removesuffix(',')},?" if text.endswith(",") else result


def _words(choice: Iterable[Any]) -> list[str]:
    words = [text for one in choice for text in (one.values() if isinstance(one, Mapping) else [one])]
    return sorted(words, key=len, reverse=True)
