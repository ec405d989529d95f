"""Drop the documents that a judge model finds too surprising, or too easy.

TransNormerLLM's self-cleaning (Qin et al., 2023) trains a small language model on the whole corpus, scores every
document, drops the bad tail by a threshold, has a person look at a sample, and repeats. The judge is trained on
everything, the bad documents too, so that what it cannot learn from many examples stands out; nothing is held out.

Scores are bits a byte, not a token: tokenizers that cut rare text in more pieces would change a mean over tokens.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from salience.core.progress import track
from salience.core.stats import generator
from salience.data.cleaning.config import CleaningConfig
from salience.data.cleaning.store import Spool

Score = Callable[[list[str]], Sequence[np.ndarray]]  # natural log-probability of each token of each text
TrainJudge = Callable[[Path, int], Score]  # file of documents (JSON lines with "text"), number of the round
NORMAL = 1.4826  # median absolute deviation → standard deviation of a normal distribution
BATCH, BINS, SHOWN, EXCERPT = 64, 30, 5, 300


@dataclass(frozen=True)
class Verdicts:
    """What one round of judging said.

    Attributes:
        bits: bits a byte of each document; NaN for one that is too short to judge.
        low: least bits a byte that stay; −infinity for no limit.
        high: most bits a byte that stay; infinity if all documents score alike.
        dropped: numbers of the documents to drop, in order.
        capped: documents beyond a limit that stay because a round may drop only a share.
    """

    bits: np.ndarray
    low: float
    high: float
    dropped: tuple[int, ...]
    capped: int


def bits_per_byte(log_probabilities: np.ndarray, text: str) -> float:
    """Return the mean surprise of a text: −Σ log₂ p over its tokens, divided by its UTF-8 bytes."""
    size = _bytes(text)
    return -float(np.sum(log_probabilities, dtype=np.float64)) / math.log(2) / size if size else math.nan


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def judge(documents: Spool, score: Score, config: CleaningConfig) -> Verdicts:
    """Score every document and choose those to drop."""
    numbered = ((n, d.text) for n, d in enumerate(documents) if _bytes(d.text) >= config.min_bytes)
    bits = np.full(len(documents), np.nan)
    for batch in track(_batches(numbered), "judge", math.ceil(len(documents) / BATCH)):
        texts = [text for _, text in batch]
        for (number, text), log_probabilities in zip(batch, score(texts), strict=True):
            bits[number] = bits_per_byte(log_probabilities, text)
    return choose(bits, config)


def _batches(numbered: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    while batch := list(islice(numbered, BATCH)):
        yield batch


def choose(bits: np.ndarray, config: CleaningConfig) -> Verdicts:
    """Set the limits from the median and the median absolute deviation, and choose what lies beyond them."""
    known = bits[~np.isnan(bits)]
    middle = float(np.median(known)) if len(known) else 0.0
    scale = NORMAL * float(np.median(np.abs(known - middle))) if len(known) else 0.0
    high = middle + config.spread * scale if scale else math.inf
    low = middle - config.low_spread * scale if scale and config.low_spread is not None else -math.inf
    beyond = np.flatnonzero((bits > high) | (bits < low))
    worst = beyond[np.argsort(-np.abs(bits[beyond] - middle), kind="stable")]
    dropped = worst[: int(config.max_share * len(bits))]
    return Verdicts(bits, low, high, tuple(sorted(map(int, dropped))), len(beyond) - len(dropped))


def facts(documents: Spool, verdicts: Verdicts, round_: int, seed: int) -> dict[str, Any]:
    """Return what a person wants to know of a round: its numbers, distribution and samples to look at."""
    known = verdicts.bits[~np.isnan(verdicts.bits)]
    counts, edges = np.histogram(known, bins=BINS) if len(known) else (np.zeros(0, int), np.zeros(1))
    quantiles = np.quantile(known, [0.05, 0.5, 0.95]) if len(known) else [None] * 3
    return {
        "round": round_,
        "judged": len(known),
        "too short to judge": len(verdicts.bits) - len(known),
        "dropped": len(verdicts.dropped),
        "kept beyond the limit": verdicts.capped,
        "low": verdicts.low,
        "high": verdicts.high,
        **dict(zip(("5 %", "median", "95 %"), quantiles, strict=True)),
        "distribution": {"edges": edges, "documents": counts},
        "samples": list(_samples(documents, verdicts, seed + round_)),
    }


def _samples(documents: Spool, verdicts: Verdicts, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the documents at both sides of the limits, the worst ones, and some that stay, for a person to look at."""
    gone = np.array(verdicts.dropped, dtype=int)
    stay = np.setdiff1d(np.flatnonzero(~np.isnan(verdicts.bits)), gone)
    away = np.minimum(np.abs(verdicts.bits - verdicts.high), np.abs(verdicts.bits - verdicts.low))
    groups = {
        "dropped, nearest to the limit": gone[np.argsort(away[gone], kind="stable")][:SHOWN],
        "dropped, farthest": gone[np.argsort(-away[gone], kind="stable")][:SHOWN],
        "kept, nearest to the limit": stay[np.argsort(away[stay], kind="stable")][:SHOWN],
        "kept, at random": generator(seed, "samples").permutation(stay)[:SHOWN],
    }
    for group, numbers in groups.items():
        for number in map(int, numbers):
            document = documents[number]
            text = document.text[:EXCERPT]
            yield {"which": group, "id": document.id, "bits a byte": verdicts.bits[number], "text": text}
