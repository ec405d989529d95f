"""The forms in which one explanation can be shown: heat map, rationale, sentences, a model's text, and two controls."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from salience.core.stats import generator
from salience.explain.explanation import Explanation
from salience.explain.phrasing import clean, with_sign
from salience.explain.words.free_text import folded, read, scale
from salience.explain.words.sentences import Words

TOKENS = 10  # of a heat map that are strong enough to be seen
RATE = 0.2  # share of the words that a rationale keeps
PLACEHOLDER = "{label}"


@dataclass(frozen=True)
class Part:
    """One word that is shown, the side that it is shown on (1 for, −1 against, 0 none), and how strongly."""

    word: str
    sign: int
    weight: float = 1.0


@dataclass(frozen=True)
class Shown:
    """What there is to read of an explanation, and the words of the input in it."""

    text: str
    parts: tuple[Part, ...]


def heat_map(explanation: Explanation, *, tokens: int = TOKENS) -> Shown:
    """Return the strongest parts of either sign with their scores, strongest first; the largest score is ±1."""
    whole = scale(explanation)
    top = [(unit, value / whole) for unit, value in explanation.top(tokens) if value]
    parts = [Part(p, 1 if v > 0 else -1, abs(v)) for unit, v in top for p in folded(unit.label)]
    return Shown(", ".join(f"{clean(u.label)} ({with_sign(v)})" for u, v in top), tuple(parts))


def rationale(explanation: Explanation, *, rate: float = RATE) -> Shown:
    """Return the words with the largest positive values, in the order of the input, without scores.

    Args:
        explanation: what to show.
        rate: share of the words that is kept, rounded up.
    """
    values = explanation.values
    for_it = [i for i, v in enumerate(values) if math.isfinite(v) and v > 0]
    kept = sorted(sorted(for_it, key=lambda i: -values[i])[: math.ceil(rate * len(values))])
    labels = [clean(explanation.units[i].label) for i in kept]
    gaps = ["" if i == before + 1 else " …" for before, i in zip([-1, *kept], kept, strict=False)]
    text = "".join(f"{gap} {label}" for gap, label in zip(gaps, labels, strict=True)).strip()
    return Shown(text, tuple(Part(piece, 1) for label in labels for piece in folded(label)))


def sentences(words: Words) -> Shown:
    """Return sentences, and the quoted evidence in them with its side."""
    named = [claim for claim in words.claims if claim.kind == "evidence"]
    return Shown(
        str(words),
        tuple(Part(p, claim.sign) for claim in named for p in folded(f"{claim.phrase} {claim.cell}")),
    )


def free_text(text: str, explanation: Explanation) -> Shown:
    """Return a text, and the quoted words of the input in it with the side that the text gives them."""
    reading = read(text, explanation)
    signs = {claim.quotes[0]: claim.sign for claim in reading.claims if claim.kind == "sign"}
    parts = [
        Part(p, signs.get(i, 1)) for i, q in enumerate(reading.quotes) if q.units for p in folded(q.phrase)
    ]
    return Shown(text, tuple(parts))


def shuffled(explanation: Explanation, *, seed: int = 0) -> Explanation:
    """Return the explanation with its values at random places: a control that knows nothing of the model."""
    order = generator(seed, "shuffled", str(explanation.row)).permutation(len(explanation.values))
    return replace(explanation, values=tuple(explanation.values[i] for i in order), faithfulness=None)


def whole_text(explanation: Explanation) -> Shown:
    """Return the input itself, no explanation: a control that shows what the words of the text give away."""
    labels = [clean(unit.label) for unit in explanation.units]
    return Shown(" ".join(labels), tuple(Part(piece, 0) for label in labels for piece in folded(label)))


# -- masking -------------------------------------------------------------------------------------------


class Mask:
    """Hide the words of class names, so that an explanation does not give the answer away.

    Every word of every name is replaced wherever it stands as a whole word, with or without an ending ``s``, ``'s`` or
    ``es``; case does not count. Words with fewer than three letters are left. A class that is a number or so short can
    still be read; name classes by words.

    Args:
        labels: names of all classes, since which of them is missing is a hint as well.
        placeholder: what stands in their place.
    """

    def __init__(self, labels: Iterable[str], placeholder: str = PLACEHOLDER) -> None:
        stems = {re.escape(_stem(word)) for label in labels for word in folded(label) if len(word) > 2}
        either = "|".join(sorted(stems, key=lambda stem: (-len(stem), stem)))
        self.placeholder = placeholder
        self.pattern = re.compile(
            rf"(?<!\w)(?:{either})(?:['’]?s|es)?(?!\w)" if stems else r"(?!)", re.IGNORECASE
        )

    def text(self, text: str) -> str:
        """Return a text without the words of labels."""
        return self.pattern.sub(lambda match: self.placeholder, text)

    def shown(self, shown: Shown) -> Shown:
        """Return what is shown without the words of labels."""
        parts = tuple(part for part in shown.parts if not self.pattern.fullmatch(part.word))
        return Shown(self.text(shown.text), parts)


def _stem(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word
