"""A vocabulary of words, learned from training rows."""

from collections import Counter
from collections.abc import Iterable

PAD, UNKNOWN = 0, 1


class Vocabulary:
    """Map words to indices; 0 is padding, 1 an unknown word.

    Args:
        words: the known words, most frequent first.
    """

    def __init__(self, words: list[str]) -> None:
        self.words = list(words)
        self.index = {word: i + 2 for i, word in enumerate(self.words)}

    @classmethod
    def fit(cls, texts: Iterable[list[str]], min_count: int = 2, max_size: int = 50_000) -> "Vocabulary":
        """Learn the words that occur at least ``min_count`` times, at most ``max_size``, ties by alphabet."""
        counts = Counter(word for text in texts for word in text)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls([word for word, count in ranked[:max_size] if count >= min_count])

    def encode(self, words: list[str]) -> list[int]:
        """Return the index of each word."""
        get = self.index.get
        return [get(word, UNKNOWN) for word in words]

    def __len__(self) -> int:
        return len(self.words) + 2
