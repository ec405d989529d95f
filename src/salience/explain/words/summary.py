"""Choose the few stretches of a text that the searches agree are most important.

Source: the summarization of saliency map verbalization (Feldhus et al., NLRSE 2023): the five strongest groups of each
search, their words joined to unbroken stretches, and of these the upper quartile. The modes are those of
:mod:`salience.explain.words.searches`. What the program does differently from what is meant, and official mode
with it: its coverage counts every word between the first of a group and, exclusively, the last. So a single word
covers nothing, the five "strongest" words are the first five of the text, and of stretches with equal coverage all
but one are lost.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from salience.explain.words.searches import (
    PAPER,
    Group,
    Threshold,
    convolution_search,
    kept_places,
    mass,
    span_search,
    total_order,
)

CANDIDATES = 5  # of each search
QUARTILE = 0.75

Cover = Callable[[Sequence[int]], float]


def summarize(
    values: Sequence[float] | Float[np.ndarray, " word"],
    *,
    length: int = 5,
    sign: int = 1,
    threshold: Threshold = PAPER,
    mask: Bool[np.ndarray, " word"] | None = None,
    mode: str = "paper",
) -> tuple[Group, ...]:
    """Return the stretches of words to speak of, most important first.

    Args:
        values: one attribution a word.
        length: places of the filters.
        sign: 1 for words that speak for the answer, −1 against it.
        threshold: how strong a group must be.
        mask: True for special tokens; paper mode only.
        mode: ``"paper"`` or ``"official"``.

    Raises:
        ConfigError: as :func:`salience.explain.words.searches.convolution_search`.
    """
    numbers = np.asarray(values, dtype=np.float64)
    options = {"length": length, "sign": sign, "threshold": threshold, "mask": mask, "mode": mode}
    found = [convolution_search(numbers, **options), span_search(numbers, **options)]
    if mode == "official":
        return _official(numbers, found)
    turned = np.nan_to_num(-numbers if sign < 0 else numbers, posinf=0.0, neginf=0.0)
    turned = np.where(False if mask is None else mask, 0.0, turned)
    singles = [group for group in total_order(turned) if turned[group.indices[0]] > 0]
    best = [group for groups in (*found, singles) for group in groups[:CANDIDATES]]
    whole = mass(turned)
    words = {i for group in best for i in group.indices if turned[i] > 0}  # zero says nothing
    return _upper(words, lambda indices: float(turned[list(indices)].sum() / whole))


def _upper(words: Iterable[int], cover: Cover) -> tuple[Group, ...]:
    """Return the unbroken stretches of words whose coverage is in the upper quartile, largest first."""
    stretches: list[list[int]] = []
    for i in sorted(words):
        if stretches and stretches[-1][-1] == i - 1:
            stretches[-1].append(i)
        else:
            stretches.append([i])
    covered = [cover(stretch) for stretch in stretches]
    least = np.quantile(covered, QUARTILE) if covered else 0.0
    pairs = zip(stretches, covered, strict=True)
    chosen = [
        Group(tuple(stretch), share / len(stretch), share) for stretch, share in pairs if share >= least
    ]
    return tuple(sorted(chosen, key=lambda group: -group.coverage))


def _official(numbers: np.ndarray, found: Sequence[Sequence[Group]]) -> tuple[Group, ...]:
    places = kept_places(numbers, "official")
    kept, position = numbers[places], {int(place): i for i, place in enumerate(places)}
    whole = mass(kept)

    def cover(indices: Sequence[int]) -> float:
        return float(max(kept[indices[0] : indices[-1]].sum(), 0.0) / whole) if whole else 0.0

    inner = [[tuple(position[i] for i in group.indices) for group in groups] for groups in found]
    singles = [(i,) for i in range(len(kept))]
    best = [g for groups in (*inner, singles) for g in sorted(groups, key=lambda g: -cover(g))[:CANDIDATES]]
    with np.errstate(all="ignore"):
        chosen = _upper({i for indices in best for i in indices}, cover)
    ranked = {group.coverage: group for group in chosen}  # equal coverage, equal rank: the last one stays
    return tuple(Group(tuple(places[list(g.indices)].tolist()), g.score, g.coverage) for g in ranked.values())
