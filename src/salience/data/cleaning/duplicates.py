"""Near duplicates of a stream of texts: MinHash signatures propose, exact Jaccard similarity decides.

A text is the set of its word triples (a *shingle* is three words in a row, in lower case, after Unicode NFKC; a letter
of Chinese, Japanese or Thai counts as a word). MinHash (Broder 1997) with locality-sensitive hashing names earlier
texts that may be similar; each of these is compared exactly, so that no text is dropped by an accident of hashing.
What can happen is that a pair is missed: bands are chosen so that a pair at the threshold is found with a probability
of 0.99 or more, and a more similar one nearly always.
"""

import re
import unicodedata
import zlib
from collections.abc import Callable, Hashable
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from salience.core.errors import ConfigError
from salience.core.extras import require

SHINGLE = 3
RECALL = 0.99
WORD = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
    r"|[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+"
)


def words(text: str) -> list[str]:
    """Return the words of a text in one form: NFKC, lower case, no punctuation or spacing."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def shingles(found: list[str]) -> frozenset[str]:
    """Return the word triples; a text of fewer words is one shingle of all its words."""
    if not found:
        return frozenset()
    last = max(1, len(found) - SHINGLE + 1)
    return frozenset(" ".join(found[i : i + SHINGLE]) for i in range(last))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the shared part of two sets, 0 for two empty ones."""
    shared = len(a & b)
    return shared / max(len(a) + len(b) - shared, 1)


def fingerprint(found: list[str]) -> bytes:
    """Return 16 bytes that stand for a sequence of words."""
    return blake2b(" ".join(found).encode("utf-8", "replace"), digest_size=16).digest()


def bands(threshold: float, permutations: int) -> tuple[int, int]:
    """Return bands and hashes a band: the longest bands that still find a pair at the threshold with 0.99.

    Raises:
        ConfigError: there are too few permutations for this threshold.
    """
    for rows in range(permutations, 1, -1):
        count = permutations // rows
        if 1 - (1 - threshold**rows) ** count >= RECALL:
            return count, rows
    raise ConfigError(
        "Too few permutations to find similar texts",
        f"{permutations} permutations at a similarity of {threshold}.",
        "Raise the permutations or the similarity.",
        code="SAL-C005",
    )


class NearDuplicates:
    """Find for each text of a stream the most similar earlier one.

    Only signatures and 16-byte fingerprints are held; a text that must be compared is fetched again.

    Args:
        threshold: least Jaccard similarity, in (0, 1]; at 1 only texts of equal words are found.
        fetch: returns an earlier text by its key.
        permutations: hash functions of a signature.
        seed: seed of the hash functions.

    Raises:
        MissingExtraError: the package datasketch is not installed.
    """

    def __init__(
        self, threshold: float, fetch: Callable[[Any], str], *, permutations: int = 128, seed: int = 0
    ) -> None:
        self.threshold = threshold
        self._seen: dict[bytes, tuple[Any, float]] = {}
        self._sets = lru_cache(maxsize=256)(lambda key: shingles(words(fetch(key))))
        if threshold < 1:
            sketch = require("datasketch")
            self._empty = sketch.MinHash(num_perm=permutations, seed=seed, hashfunc=zlib.crc32)
            self._index = sketch.MinHashLSH(num_perm=permutations, params=bands(threshold, permutations))

    def add(self, key: Hashable, text: str) -> tuple[Any, float] | None:
        """Return the key of the most similar earlier text and the similarity; None keeps the text as a new one."""
        found = words(text)
        if not found:
            return None
        mark = fingerprint(found)
        if mark in self._seen:
            return self._seen[mark]
        twin = self._near(key, shingles(found)) if self.threshold < 1 else None
        self._seen[mark] = twin or (key, 1.0)
        return twin

    def _near(self, key: Hashable, items: frozenset[str]) -> tuple[Any, float] | None:
        signature = self._empty.copy()
        signature.update_batch([item.encode("utf-8", "replace") for item in items])
        compared = [(-jaccard(items, self._sets(other)), other) for other in self._index.query(signature)]
        distance, twin = min(compared, default=(0.0, None))  # the first of the most similar ones
        if compared and -distance >= self.threshold:
            return twin, -distance
        self._index.insert(key, signature)
        return None
