"""Find nearly equal texts exactly: Jaccard similarity of word triples, by prefix filtering.

Order the triples of every text from rare to frequent. Two texts whose similarity is at least t share a triple
among the first ``n − ⌈t·n⌉ + 1`` of each (Chaudhuri et al., ICDE 2006; Bayardo et al., WWW 2007), so an index of
these few rare triples misses no pair, and only its candidates are compared.
"""

import math
import re
from collections import Counter, defaultdict

import numpy as np

WORD = re.compile(r"\w+")
SHINGLE = 3
MIN_WORDS = 5


def normalise(text: str) -> str:
    """Return the words in lower case, joined by one space; punctuation and spacing are gone."""
    return " ".join(WORD.findall(text.lower()))


def is_long(text: str) -> bool:
    """Tell whether a normalised text has at least 5 words; shorter ones are equal by chance."""
    return text.count(" ") + 1 >= MIN_WORDS


def shingles(text: str) -> frozenset[str]:
    """Return the word triples of a normalised text of at least 5 words; nothing for a shorter one."""
    words = text.split(" ")
    if len(words) < MIN_WORDS:
        return frozenset()
    return frozenset(" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1))


class NearText:
    """Look up the most similar of some normalised texts.

    Args:
        texts: the texts to search.
        threshold: least Jaccard similarity of word triples, in (0, 1].
    """

    def __init__(self, texts: list[str], threshold: float = 0.8) -> None:
        self.threshold = threshold
        self._sets = [shingles(text) for text in texts]
        self._frequency = Counter(item for items in self._sets for item in items)
        self._index: dict[str, list[int]] = defaultdict(list)
        for position, items in enumerate(self._sets):
            for item in self._prefix(items):
                self._index[item].append(position)

    def _prefix(self, items: frozenset[str]) -> list[str]:
        count = len(items) - math.ceil(self.threshold * len(items) - 1e-9) + 1 if items else 0
        return sorted(items, key=lambda item: (self._frequency[item], item))[:count]

    def find(self, texts: list[str]) -> np.ndarray:
        """Return for each text the position of the most similar one, −1 if none is similar enough."""
        return np.array([self._best(shingles(text), None) for text in texts], dtype=int)

    def find_again(self, positions: np.ndarray) -> np.ndarray:
        """Return for each of these own texts the most similar other one, −1 if none is similar enough."""
        return np.array([self._best(self._sets[i], int(i)) for i in positions], dtype=int)

    def _best(self, items: frozenset[str], own: int | None) -> int:
        candidates = {p for item in self._prefix(items) for p in self._index.get(item, ())} - {own}
        best, found = self.threshold - 1e-9, -1
        for position in sorted(candidates):
            other = self._sets[position]
            shared = len(items & other)
            similarity = shared / (len(items) + len(other) - shared)
            if similarity > best:
                best, found = similarity, position
        return found
