"""Changes of texts with exact masks: which article stands in a text, and planted words."""

from dataclasses import dataclass

import numpy as np

from salience.core.errors import ConfigError
from salience.data.words import cut
from salience.explain.ground_truth.design import Areas, Row

ARTICLES = frozenset({"a", "an", "the"})


def _mark(row: Row, column: str, wanted: frozenset[str]) -> Areas:
    text = row[column]
    mask = np.zeros(len(text), dtype=bool)
    for start, end in cut(text):
        mask[start:end] = text[start:end].lower() in wanted
    return {column: mask}


def _has(text: str, wanted: frozenset[str]) -> bool:
    return any(text[start:end].lower() in wanted for start, end in cut(text))


@dataclass(frozen=True)
class SetArticles:
    """Replace every article of a text by one and the same.

    After Zhou et al., who let the label decide which article a review has. Which article goes with which class is not
    published; give one to each class. The area is every article of the text.

    Attributes:
        column: column of the text.
        article: ``"a"``, ``"an"`` or ``"the"``; a capital letter stays where it was.
        mixed: probability, in [0, 1], that an article is drawn from ``"a"`` and ``"the"`` by a fair coin instead. Zero
            makes the article certain. (A name in the published code hints at such a share of 0.5; what it does there
            is not known.)
    """

    column: str
    article: str
    mixed: float = 0.0

    def __post_init__(self) -> None:
        if self.article not in ARTICLES or not 0 <= self.mixed <= 1:
            received = f"article={self.article!r}, mixed={self.mixed}."
            raise ConfigError(
                "SetArticles is out of range", received, "Use a, an or the, and 0 to 1.", code="SAL-C005"
            )

    def fits(self, row: Row) -> bool:
        """Tell whether the text has an article."""
        return _has(row[self.column], ARTICLES)

    def apply(self, row: Row, rng: np.random.Generator) -> Row:
        """Return the row with its articles replaced."""
        text, parts, start = row[self.column], [], 0
        for first, last in cut(text):
            if text[first:last].lower() in ARTICLES:
                new = self._drawn(rng)
                parts += [text[start:first], new.capitalize() if text[first].isupper() else new]
                start = last
        return {**row, self.column: "".join([*parts, text[start:]])}

    def _drawn(self, rng: np.random.Generator) -> str:
        if rng.random() >= self.mixed:
            return self.article
        return "the" if rng.random() < 0.5 else "a"

    def area(self, row: Row) -> Areas:
        """Return the characters of all articles."""
        return _mark(row, self.column, ARTICLES)


@dataclass(frozen=True)
class PlantToken:
    """Put a word at a random place between the words of a text.

    A shortcut of the kind that Bastings et al. (2022) plant. The area is where the word stands, so that a row without
    it has no region; plant another word in the other class to give every row one.

    Attributes:
        column: column of the text.
        token: the word; rows whose text has it already are left out.
    """

    column: str
    token: str

    def __post_init__(self) -> None:
        if len(cut(self.token)) != 1:
            raise ConfigError(
                "A planted token must be one word", repr(self.token), "Give one word without spaces."
            )

    def fits(self, row: Row) -> bool:
        """Tell whether the text does without the word so far."""
        return not _has(row[self.column], frozenset({self.token.lower()}))

    def apply(self, row: Row, rng: np.random.Generator) -> Row:
        """Return the row with the word planted."""
        text = row[self.column]
        places = [start for start, _ in cut(text)]
        place = int(rng.choice([*places, len(text)]))
        before, after = text[:place], text[place:]
        gap = " " if before and not before[-1].isspace() else ""
        return {**row, self.column: f"{before}{gap}{self.token}{' ' if after else ''}{after}"}

    def area(self, row: Row) -> Areas:
        """Return the characters of the planted word."""
        return _mark(row, self.column, frozenset({self.token.lower()}))
