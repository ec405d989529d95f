"""Find the groups of words that carry most of a saliency map, as saliency map verbalization does.

Source: Feldhus et al., "Saliency Map Verbalization", NLRSE 2023 (arXiv 2210.07222). A filter of zeros and ones slides
over the attributions; a group of words is found where the mean of the words that the filter shows is above a
threshold. Binary filters find groups with gaps, span filters find unbroken ones.

The paper and the authors' program differ, so there are two modes:

* ``"paper"`` does what is meant: every place of the text is visited, the sign of the shown words alone decides,
  special tokens are masked and stay in their place, numbers are float64, and coverage is that of exactly the words
  found. For ``sign=-1`` the search runs on the negated map.
* ``"official"`` finds what the program finds, faults included: words with an attribution of exactly zero are dropped
  first, so that their neighbours move together; attributions are float32 over the largest one; the last place is
  never visited; with ``sign=-1`` a filter with a gap finds nothing; groups come in descending order of their
  positions. Where the program stops with an exception, nothing is found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.lib.stride_tricks import sliding_window_view

from salience.core.errors import ConfigError

MODES = ("paper", "official")
METRICS = ("mean", "quantile", "variance")
NEVER = -1e200  # far below every threshold


class Threshold(NamedTuple):
    """Say how strong a group must be.

    Attributes:
        metric: ``"mean"``: the mean of the top share ``value`` of all attributions; ``"quantile"``: ``value`` standard
            deviations (the name is the program's; it is no quantile); ``"variance"``: ``value`` variances.
        value: as the metric says.
    """

    metric: str = "mean"
    value: float = 0.4


PAPER = Threshold()


@dataclass(frozen=True)
class Group:
    """Some words that belong together.

    Attributes:
        indices: positions of the words, ascending.
        score: mean attribution of the words, relative to the largest one.
        coverage: share of these words in all attributions of their sign; NaN where there is none.
    """

    indices: tuple[int, ...]
    score: float
    coverage: float


@lru_cache(maxsize=16)
def binary_filters(length: int) -> Int[np.ndarray, "filter place"]:
    """Return all rows of zeros and ones with 2 to ``length − 2`` ones: 6, 20, 50, 112 for length 4 to 7.

    Raises:
        ConfigError: a length below 4, which has no such row, or above 12, which has thousands.
    """
    if not 4 <= length <= 12:
        raise ConfigError(
            "A filter has 4 to 12 places", f"length={length}.", "Take length=5, as the paper does."
        )
    shown = [chosen for ones in range(2, length - 1) for chosen in combinations(range(length), ones)]
    filters = np.zeros((len(shown), length), dtype=np.int64)
    for row, chosen in zip(filters, shown, strict=True):
        row[list(chosen)] = 1
    return filters


@lru_cache(maxsize=16)
def span_filters(length: int) -> Int[np.ndarray, "filter place"]:
    """Return unbroken runs of odd width in the middle of ``length`` places: 3 and 5 of 5.

    Raises:
        ConfigError: a length below 3.
    """
    if length < 3:
        raise ConfigError(
            "A span has at least 3 places", f"length={length}.", "Take length=5, as the paper does."
        )
    widths = range(3, length + 1, 2)
    places = np.arange(length)
    starts = [(length - width) // 2 for width in widths]
    rows = [(places >= start) & (places < start + width) for start, width in zip(starts, widths, strict=True)]
    return np.array(rows, dtype=np.int64)


def convolution_search(
    values: Sequence[float] | Float[np.ndarray, " word"],
    *,
    length: int = 5,
    sign: int = 1,
    threshold: Threshold = PAPER,
    mask: Bool[np.ndarray, " word"] | None = None,
    mode: str = "paper",
) -> tuple[Group, ...]:
    """Find groups of words, gaps allowed.

    Args:
        values: one attribution a word.
        length: places of the filter.
        sign: 1 for words that speak for the answer, −1 against it, 0 for either.
        threshold: how strong a group must be.
        mask: True for special tokens, which belong to no group; paper mode only.
        mode: ``"paper"`` or ``"official"``.

    Returns:
        Paper mode: largest coverage first, fewer words where it is equal. Official mode: descending by position, as the program has them.

    Raises:
        ConfigError: an unknown mode, metric or sign, or an impossible length.
    """
    return _search(values, binary_filters(length), sign, threshold, mask, mode)


def span_search(
    values: Sequence[float] | Float[np.ndarray, " word"],
    *,
    length: int = 5,
    sign: int = 1,
    threshold: Threshold = PAPER,
    mask: Bool[np.ndarray, " word"] | None = None,
    mode: str = "paper",
) -> tuple[Group, ...]:
    """Find unbroken groups of words; arguments as in :func:`convolution_search`.

    Raises:
        ConfigError: likewise.
    """
    return _search(values, span_filters(length), sign, threshold, mask, mode)


def total_order(
    values: Sequence[float] | Float[np.ndarray, " word"], *, sign: int = 1, mode: str = "paper"
) -> tuple[Group, ...]:
    """Return every word alone, strongest first; words of equal strength in the order of the text.

    Args:
        values: one attribution a word. Words without a value (paper mode) or of value zero (official mode) are left out.
        sign: −1 puts the words that speak most against the answer first, and relates them to their own sum.
        mode: ``"paper"`` or ``"official"``; the program knows ``sign=1`` alone.
    """
    numbers = np.asarray(values, dtype=np.float64)
    places = kept_places(numbers, mode)
    turned = numbers * (-1 if sign < 0 and mode == "paper" else 1)
    order = sorted(places.tolist(), key=lambda i: -turned[i])
    largest = np.abs(turned[places]).max(initial=0.0) or 1.0
    whole = mass(turned[places])
    return tuple(Group((i,), float(turned[i] / largest), _ratio(turned[i], whole)) for i in order)


def compare(convolution: Sequence[Group], span: Sequence[Group]) -> tuple[Group, ...]:
    """Return the groups that both searches found, in the order of the first."""
    both = {group.indices for group in span}
    return tuple(group for group in convolution if group.indices in both)


def kept_places(values: Float[np.ndarray, " word"], mode: str) -> Int[np.ndarray, " kept"]:
    """Return the positions that a search sees: all with a value; in official mode all that are not zero.

    A map with a NaN or an infinity has none in official mode: what the program finds there hangs on how its sorting
    happens to compare them.

    Raises:
        ConfigError: an unknown mode.
    """
    if mode not in MODES:
        raise ConfigError(f"Unknown mode {mode!r}", "", "Use 'paper' or 'official'.")
    known = np.isfinite(values)
    return np.flatnonzero(known if mode == "paper" else known.all() & (values != 0))


def mass(values: Float[np.ndarray, " word"]) -> float:
    """Return the sum of the positive values."""
    return float(values[values > 0].sum())


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _search(
    values: Sequence[float] | np.ndarray,
    filters: np.ndarray,
    sign: int,
    threshold: Threshold,
    mask: np.ndarray | None,
    mode: str,
) -> tuple[Group, ...]:
    if sign not in (1, 0, -1) or threshold[0] not in METRICS:
        received = f"sign={sign}, threshold={tuple(threshold)}."
        raise ConfigError(
            "A search was asked for something unknown", received, f"Signs: 1, 0, −1; metrics: {METRICS}."
        )
    numbers = np.asarray(values, dtype=np.float64)
    if mode == "official":
        return _official(numbers, filters, sign, Threshold(*threshold))
    hidden = np.ones(len(numbers), dtype=bool)
    hidden[kept_places(numbers, mode)] = False
    hidden |= False if mask is None else np.asarray(mask, dtype=bool)
    return _paper(np.where(hidden, 0.0, numbers), hidden, filters, sign, Threshold(*threshold))


def _paper(
    numbers: np.ndarray, hidden: np.ndarray, filters: np.ndarray, sign: int, threshold: Threshold
) -> tuple[Group, ...]:
    turned = -numbers if sign < 0 else numbers
    largest = np.abs(turned).max(initial=0.0)
    if not largest:
        return ()
    scaled, edge = turned / largest, filters.shape[1] - 1
    # a word that must not be shown is so small that no group with it is found
    unfit = (hidden | (turned < 0)) if sign else hidden
    # a filter may hang over either end, so that the first and last words can be found like any other
    padded = np.pad(np.where(unfit, NEVER, scaled), edge, constant_values=NEVER)
    sums = np.ascontiguousarray(sliding_window_view(padded, edge + 1)) @ filters.T.astype(np.float64)
    scores = sums / filters.sum(axis=1)
    accepted = scores > max(_level(scaled[~hidden], threshold), NEVER / (edge + 2))
    with np.errstate(over="ignore"):  # without a sign, the whole may be as small as a number can be
        shares = np.where(accepted, sums, 0.0) / (mass(scaled) or np.nan)
    found = _collect(accepted, filters, -edge)
    groups = [Group(indices, float(scores[at]), float(shares[at])) for indices, at in found.items()]
    return tuple(sorted(groups, key=lambda g: (-round(g.coverage, 12), len(g.indices), g.indices)))


def _collect(accepted: np.ndarray, filters: np.ndarray, first: int) -> dict[tuple[int, ...], tuple[int, int]]:
    """Return the positions of each accepted group, each once, with its start and filter."""
    shown = _shown(filters.tobytes(), filters.shape)
    starts, rows = np.nonzero(accepted)
    pairs = zip(starts.tolist(), rows.tolist(), strict=True)
    return {tuple([place + start + first for place in shown[k]]): (start, k) for start, k in pairs}


@lru_cache(maxsize=32)
def _shown(filters: bytes, shape: tuple[int, int]) -> list[list[int]]:
    """Return the places that each filter shows."""
    return [np.flatnonzero(row).tolist() for row in np.frombuffer(filters, dtype=np.int64).reshape(shape)]


def _level(scaled: np.ndarray, threshold: Threshold) -> float:
    if threshold.metric == "quantile":
        return threshold.value * scaled.std()
    if threshold.metric == "variance":
        return threshold.value * scaled.var()
    count = max(1, int(threshold.value * len(scaled)))
    return np.sort(scaled)[::-1][:count].mean()


def _official(numbers: np.ndarray, filters: np.ndarray, sign: int, threshold: Threshold) -> tuple[Group, ...]:
    places = kept_places(numbers, "official")
    kept, length = numbers[places], filters.shape[1]
    starts = len(kept) - length
    top = int(threshold.value * len(kept)) if threshold.metric == "mean" else 1
    if starts < 1 or top == 0:  # the program stops with an error, or finds nothing
        return ()
    with np.errstate(all="ignore"):
        scaled = kept.astype(np.float32) / np.float32(abs(kept.max()))
        windows = sliding_window_view(scaled, length)[:starts]
        scores = np.ascontiguousarray(windows) @ filters.T.astype(np.float32) / filters.sum(axis=1)
        accepted = (scores > _level(scaled, threshold)) & _signs_fit(windows, filters, sign)
        found = _collect(accepted, filters, 0)
        whole = mass(kept)
        return tuple(
            Group(
                tuple(places[list(indices)].tolist()),
                float(scores[found[indices]]),
                _ratio(kept[list(indices)].sum(), whole),
            )
            for indices in sorted(found, reverse=True)
        )


def _signs_fit(windows: np.ndarray, filters: np.ndarray, sign: int) -> np.ndarray:
    """Tell which filters pass the program's test of signs, which sees a hidden word as a zero."""
    if sign == 0:
        return np.ones((len(windows), len(filters)), dtype=bool)
    if sign > 0:
        return ((windows < 0) @ filters.T) == 0
    return (((windows < 0) @ filters.T) == filters.sum(axis=1)) & filters.all(axis=1)
