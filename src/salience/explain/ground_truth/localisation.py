"""How much of an explanation falls inside the region that is known to matter, beside what luck gives.

Conventions, the same for units and for pixels: Attr%, relevance rank, pointing game and the area under the curve look at
absolute values (as Zhou et al. do), relevance mass at positive values alone (as Kohlbrenner et al. do). A value that is
not a number counts as zero. Ties share their places evenly, so that a uniform map scores what luck scores. A map of
zeros, an empty region, and for rank, pointing and area a region without a unit that lies at least half inside, are
undefined: NaN, never a hit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float

from salience.core.stats import mean_interval
from salience.core.unit import Unit

HALF = 0.5  # a unit belongs to the region, where it must or must not, if this share of it lies inside


@dataclass(frozen=True)
class Localisation:
    """Scores of one map against one region.

    Attributes:
        attr: Attr% = Σ |s|·inside / Σ |s|, in [0, 1].
        uniform: Attr% of a uniform map, the share of the region among all units, in [0, 1].
        lift: attr / uniform; 1 is luck.
        normalised: (attr − uniform) / (1 − uniform); 0 is luck, 1 is all inside.
        mass: relevance mass, Attr% of the positive values.
        rank: relevance rank, share of the region among the |region| largest values.
        pointing: pointing game, 1 if the largest value lies inside.
        auc: area under the curve of telling inside from outside by the value.
        best: largest Attr% that any map can reach; below 1 where no unit lies wholly inside.
    """

    attr: float
    uniform: float
    lift: float
    normalised: float
    mass: float
    rank: float
    pointing: float
    auc: float
    best: float


MEASURES = tuple(field.name for field in fields(Localisation))


def localise(values: Float[np.ndarray, " unit"], inside: Float[np.ndarray, " unit"]) -> Localisation:
    """Score a map against a region.

    Args:
        values: one number a unit or pixel.
        inside: share of each unit that lies in the region, in [0, 1]; a mask for pixels.
    """
    values = np.nan_to_num(np.asarray(values, dtype=np.float64).ravel(), posinf=0.0, neginf=0.0)
    inside = np.asarray(inside, dtype=np.float64).ravel()
    uniform = float(inside.mean()) if len(inside) else 0.0
    size = np.abs(values)
    mask = inside >= HALF
    blank = not size.any() or not inside.any()
    attr = np.nan if blank else _share(size, inside)
    mass = np.nan if blank else _share(values.clip(min=0), inside)
    ordered = (_rank, _pointing, _area)
    found = [np.nan if blank or not mask.any() else float(score(size, mask)) for score in ordered]
    lift = attr / uniform if uniform else np.nan
    normalised = (attr - uniform) / (1 - uniform) if 0 < uniform < 1 else np.nan
    best = float(inside.max()) if inside.any() else np.nan
    return Localisation(attr, uniform, lift, normalised, mass, *found, best)


def _share(size: np.ndarray, inside: np.ndarray) -> float:
    total = size.sum()
    return float((size * inside).sum() / total) if total > 0 else np.nan


def _rank(size: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of the region among the |region| largest; units tied at the border count in part."""
    count = int(mask.sum())
    border = np.sort(size)[-count]
    above, tied = size > border, size == border
    taken = (count - above.sum()) / tied.sum()
    return ((above & mask).sum() + taken * (tied & mask).sum()) / count


def _pointing(size: np.ndarray, mask: np.ndarray) -> float:
    return mask[size == size.max()].mean()


def _area(size: np.ndarray, mask: np.ndarray) -> float:
    """Return the Mann–Whitney statistic, ties counted half; NaN if nothing lies outside."""
    from scipy.stats import rankdata

    inner, outer = int(mask.sum()), int((~mask).sum())
    if not outer:
        return np.nan
    return (rankdata(size)[mask].sum() - inner * (inner + 1) / 2) / (inner * outer)


def dilated(units: Sequence[Unit], inside: Float[np.ndarray, " unit"]) -> Float[np.ndarray, " unit"]:
    """Return the region grown by one cell: a unit of an image counts like the best unit that touches it.

    Maps of coarse layers smear over the border of a region by about one cell; the score with the grown region says
    how much of what is lost is smear. Units of other kinds stay as they are.
    """
    grown = np.array(inside, dtype=np.float64)
    boxes = {i: unit.locator for i, unit in enumerate(units) if unit.kind == "image"}
    for i, mine in boxes.items():
        near = [j for j, box in boxes.items() if units[j].column == units[i].column and _touch(mine, box)]
        grown[i] = max(inside[j] for j in near)
    return grown


def _touch(one: Sequence[float], other: Sequence[float]) -> bool:
    slack = 1e-9
    horizontal = one[0] <= other[2] + slack and other[0] <= one[2] + slack
    return horizontal and one[1] <= other[3] + slack and other[1] <= one[3] + slack


def summarise(scores: Sequence[Localisation]) -> dict[str, float]:
    """Return means over rows where each measure is defined, and how many rows have no Attr%.

    ``low`` and ``high`` are the 95 % bootstrap interval of the mean Attr% over rows; ``lift`` is the ratio of the mean
    Attr% to the mean uniform share of the same rows, since a mean of ratios is ruled by rows of tiny regions.
    """
    table = {name: np.array([getattr(score, name) for score in scores], dtype=float) for name in MEASURES}
    known = np.isfinite(table["attr"])
    means = {name: finite_mean(values) for name, values in table.items()}
    low, high = mean_interval(table["attr"][known])
    uniform = finite_mean(table["uniform"][known])
    lift = means["attr"] / uniform if uniform > 0 else np.nan
    return {
        **means,
        "uniform": uniform,
        "lift": lift,
        "low": low,
        "high": high,
        "undefined": int((~known).sum()),
    }


def finite_mean(values: Sequence[float]) -> float:
    """Return the mean of the numbers that are finite; NaN if none is."""
    found = np.asarray(values, dtype=np.float64)
    finite = found[np.isfinite(found)]
    return float(finite.mean()) if len(finite) else np.nan
