"""Options of cleaning, with their ranges."""

from dataclasses import dataclass

from salience.core.errors import ConfigError

RANGES = {
    "min_characters": (1, 10**9), "max_characters": (1, 10**12), "max_garbled": (0.0, 1.0), "min_letters": (0.0, 1.0),
    "min_packed": (0.0, 1.0), "similarity": (0.3, 1.0), "line_similarity": (0.3, 1.0), "line_words": (1, 10**6),
    "line_documents": (2, 10**9), "permutations": (16, 1024), "rounds": (0, 20), "spread": (0.5, 100.0),
    "low_spread": (0.5, 100.0), "max_share": (0.0, 1.0), "min_bytes": (1, 10**9), "seed": (0, 2**32 - 1),
}  # fmt: skip


@dataclass(frozen=True)
class CleaningConfig:
    """Say how to clean.

    Attributes:
        min_characters: least length of a document, spaces not counted.
        max_characters: greatest length.
        max_garbled: greatest share of garbled characters.
        min_letters: least share of letters and digits.
        min_packed: least size after packing, as a share.
        similarity: least Jaccard similarity of word triples of two documents that count as one; 1 for equal words.
        line_similarity: the same for two lines.
        line_words: least words of a line that is compared; shorter ones are equal by chance.
        line_documents: documents that must hold a line before it counts as boilerplate; the first one keeps it.
        permutations: hash functions of a MinHash signature.
        rounds: rounds of the judge; 0 for none.
        spread: how many robust standard deviations above the median a document's bits a byte may lie.
        low_spread: the same below the median; none for no limit.
        max_share: greatest share of the documents that one round may drop; the worst ones go.
        min_bytes: documents with fewer bytes are not judged: the start of a text is always surprising.
        skip: names of rules and steps that are left out (``documents`` and ``lines`` are the two duplicate steps).
        seed: seed of signatures and samples.
    """

    min_characters: int = 50
    max_characters: int = 10_000_000
    max_garbled: float = 0.02
    min_letters: float = 0.5
    min_packed: float = 0.1
    similarity: float = 0.8
    line_similarity: float = 0.9
    line_words: int = 6
    line_documents: int = 3
    permutations: int = 128
    rounds: int = 1
    spread: float = 4.0
    low_spread: float | None = None
    max_share: float = 0.2
    min_bytes: int = 100
    skip: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(
                    f"{name} is out of range", f"Got {value}, want {low} to {high}.", code="SAL-C005"
                )
