"""Neutral inputs by name, and how far an explanation depends on the one that was chosen.

A method that compares a row with a neutral input answers another question for another input. So there are several a
kind of column, they can be averaged, and :func:`sensitivity` says how alike the answers are.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from salience.core.errors import ConfigError, nearest
from salience.core.stats import generator
from salience.explain.model import WhiteBox
from salience.explain.rows import describe_baseline, records
from salience.explain.target import Spec, resolve

NEUTRAL = "neutral"
NEEDS_ROWS = ("rows", "frequent")
FEW_UNITS = 3  # below it an order says nothing
HARDLY, SOMEWHAT = 0.9, 0.6  # Spearman between baselines from which the order counts as the same, or alike


@dataclass(frozen=True)
class Baselines:
    """Choose neutral inputs.

    Attributes:
        names: one or more of :data:`WORDS`; a name that occurs twice is drawn twice, where it is random.
        background: training rows, for ``"rows"`` and ``"frequent"``.
        seed: seed of random ones.
    """

    names: tuple[str, ...] = (NEUTRAL,)
    background: pd.DataFrame | None = field(default=None, compare=False)
    seed: int = 0

    @classmethod
    def of(cls, names: str | Sequence[str], background: pd.DataFrame | None = None) -> "Baselines":
        """Return a choice from one name or several.

        Raises:
            ConfigError: no name, an unknown one, or one that needs training rows without them.
        """
        chosen = (names,) if isinstance(names, str) else tuple(names)
        for name in chosen or ("",):
            if name not in WORDS:
                raise ConfigError(f"Unknown baseline {name!r}", "", nearest(name, WORDS), code="SAL-C002")
            if name in NEEDS_ROWS and (background is None or not len(background)):
                raise ConfigError(
                    f"The baseline {name!r} is taken from training rows",
                    "Got no background.",
                    "Give background=, a frame of canonical rows.",
                    code="SAL-C005",
                )
        return cls(chosen, background)

    def seeded(self, seed: int) -> "Baselines":
        """Return the same choice with a seed."""
        return replace(self, seed=seed)


# name → kind of column → what a person reads; a kind that is not named keeps the model's own neutral input
WORDS: dict[str, dict[str, str]] = {
    NEUTRAL: {},
    "zero": {"text": "zero vectors", "image": "black", "number": "the number 0"},
    "mean": {"text": "the mean vector of the row's own words"},
    "white": {"image": "white"},
    "blur": {"image": "the blurred picture"},
    "noise": {"image": "random pixels"},
    "rows": {
        "number": "a training row's numbers",
        "category": "a training row's categories",
        "image": "a training row's picture",
    },
    "frequent": {"category": "the most frequent categories"},
}


def names_for(model: WhiteBox) -> list[str]:
    """Return the baselines that differ from the neutral one for some column of a model, after that one."""
    kinds = {column.kind for column in model.schema.inputs}
    return [NEUTRAL, *(name for name, words in WORDS.items() if kinds & words.keys())]


def describe(model: WhiteBox, names: Sequence[str]) -> str:
    """Return neutral inputs in words."""
    return "; ".join(dict.fromkeys(_describe(model, name) for name in names))


def _describe(model: WhiteBox, name: str) -> str:
    kinds = dict.fromkeys(column.kind for column in model.schema.inputs)
    own = [WORDS[name][kind] for kind in kinds if kind in WORDS[name]]
    rest = [kind for kind in kinds if kind not in WORDS[name]]
    return ", ".join([*own, describe_baseline(model, rest)] if rest else own)


def make_baseline(
    model: WhiteBox,
    batch: Any,
    tokens: dict[str, Any],
    frame: pd.DataFrame,
    baselines: Baselines,
    draw: int = 0,
) -> dict[str, Any]:
    """Return the neutral input of a batch, with the shape of its tokens.

    Words and pieces that belong to no unit stay as the model's own neutral input has them. The result for a row does
    not depend on the rest of the batch.

    Args:
        model: white box in evaluation mode.
        batch: what ``model.collate`` made of the rows.
        tokens: what ``model.embed`` made of the batch.
        frame: the canonical rows.
        baselines: the choice.
        draw: which of ``baselines.names``.
    """
    neutral, name = model.baseline(batch), baselines.names[draw]
    change = WORDS[name].keys()
    if not change:
        return neutral
    result, kinds = dict(neutral), encoder_kinds(model, frame, tokens)
    changed = _embedded_cells(model, frame, baselines, draw) if change & CELLS.get(name, {}).keys() else {}
    for key, kind in kinds.items():
        if kind == "text" and kind in change:
            result[key] = neutral[key].with_values(_word_vectors(name, tokens[key], neutral[key]))
        elif kind in change and changed[key].values.shape == tokens[key].values.shape:
            result[key] = neutral[key].with_values(changed[key].values)
    return result


def encoder_kinds(model: WhiteBox, frame: pd.DataFrame, tokens: dict[str, Any]) -> dict[str, str]:
    """Return the kind of unit of each encoder that has units in these rows."""
    kinds: dict[str, str] = {}
    for position, row in enumerate(records(model, frame)):
        missing = [name for name in tokens if name not in kinds]
        if not missing:
            break
        units, offsets = model.units(row), model.unit_offsets(row)
        for name in missing:
            own = (tokens[name].unit[position] >= 0) & tokens[name].mask[position]
            if own.any():
                kinds[name] = units[offsets[name] + int(tokens[name].unit[position][own][0])].kind
    return kinds


def _word_vectors(name: str, tokens: Any, neutral: Any) -> torch.Tensor:
    own = ((tokens.unit >= 0) & tokens.mask).unsqueeze(-1)
    if name == "zero":
        vector = torch.zeros_like(tokens.values)
    else:
        total = torch.where(own, tokens.values, 0.0).sum(1, keepdim=True)
        vector = (total / own.sum(1, keepdim=True).clamp(min=1)).expand_as(tokens.values)
    return torch.where(own, vector, neutral.values)


def _embedded_cells(model: WhiteBox, frame: pd.DataFrame, baselines: Baselines, draw: int) -> dict[str, Any]:
    """Return the tokens of rows whose numbers, categories and pictures are replaced by those of a baseline."""
    name, background = baselines.names[draw], baselines.background
    rng = generator(baselines.seed, "baseline", name, str(draw))
    row = int(rng.integers(len(background))) if background is not None and len(background) else 0
    columns = {}
    for column in model.schema.inputs:
        cells, change = frame[column.name].tolist(), CELLS[name].get(column.kind)
        if change is not None:
            known = None if background is None else background[column.name]
            cells = [cell if _stays(cell, column.kind) else change(cell, known, row, rng) for cell in cells]
        dtype = np.float64 if column.kind == "number" else object
        columns[column.name] = pd.Series(cells, dtype=dtype)
    return model.embed(model.collate(model.prepare(pd.DataFrame(columns))))


def _stays(cell: Any, kind: str) -> bool:
    return kind == "image" and cell is None  # a missing picture has no units


def _plain(level: int) -> Callable[..., Any]:
    def change(cell: Any, known: Any, row: int, rng: np.random.Generator) -> Any:
        return _pixels(cell, lambda pixels: np.full_like(pixels, level))

    return change


def _pixels(cell: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    from PIL import Image

    from salience.data.images import load_image

    return Image.fromarray(change(np.asarray(load_image(cell))).astype(np.uint8))


def _blurred(cell: Any, known: Any, row: int, rng: np.random.Generator) -> Any:
    from PIL import ImageFilter

    from salience.data.images import load_image

    image = load_image(cell)
    return image.filter(ImageFilter.GaussianBlur(max(image.size) / 8))


def _noise(cell: Any, known: Any, row: int, rng: np.random.Generator) -> Any:
    same = copy.deepcopy(rng)  # the same picture for every row, whatever the batch
    return _pixels(cell, lambda pixels: same.integers(0, 256, pixels.shape))


def _drawn(cell: Any, known: pd.Series, row: int, rng: np.random.Generator) -> Any:
    return known.iloc[row]


def _most_frequent(cell: Any, known: pd.Series, row: int, rng: np.random.Generator) -> Any:
    counts = known.value_counts()
    return min(counts.index[counts == counts.max()]) if len(counts) else None


def _nought(cell: Any, known: Any, row: int, rng: np.random.Generator) -> float:
    return 0.0


CELLS: dict[str, dict[str, Callable[..., Any]]] = {
    "zero": {"image": _plain(0), "number": _nought},
    "white": {"image": _plain(255)},
    "blur": {"image": _blurred},
    "noise": {"image": _noise},
    "rows": {"number": _drawn, "category": _drawn, "image": _drawn},
    "frequent": {"category": _most_frequent},
}


@dataclass(frozen=True)
class Sensitivity:
    """Say how far the order of one row's units depends on the baseline.

    Attributes:
        row: index of the row.
        baselines: names, in the order of the matrix.
        spearman: rank correlation of the values under each pair of baselines; NaN where an order says nothing:
            fewer than three units, or all values equal.
        units: number of units.
    """

    row: Any
    baselines: tuple[str, ...]
    spearman: Float[np.ndarray, "baseline baseline"]
    units: int

    @property
    def lowest(self) -> float:
        """The lowest rank correlation of two baselines; NaN if there is none."""
        found = self.spearman[np.triu_indices(len(self.baselines), 1)]
        return float(np.nanmin(found)) if np.isfinite(found).any() else float("nan")

    def words(self) -> str:
        """Return what this means, in a sentence."""
        if not np.isfinite(self.lowest):
            return (
                "Whether the order of units depends on the baseline cannot be told: there are too few values."
            )
        pairs = list(combinations(range(len(self.baselines)), 2))
        first, second = min(pairs, key=lambda p: np.nan_to_num(self.spearman[p], nan=2.0))
        worst = (
            f"rank correlation {self.lowest:.2f}, {self.baselines[first]} against {self.baselines[second]}"
        )
        if self.lowest >= HARDLY:
            return f"The order of units hardly depends on the baseline ({worst})."
        if self.lowest >= SOMEWHAT:
            return f"The order of units depends somewhat on the baseline ({worst})."
        return f"The order of units depends strongly on the baseline ({worst})."


def sensitivity(
    model: WhiteBox,
    frame: pd.DataFrame,
    method: str = "integrated_gradients",
    baselines: Sequence[str] = (),
    *,
    background: pd.DataFrame | None = None,
    target: Spec = "predicted",
    seed: int = 0,
    memory_mb: int | float = 256,
) -> list[Sensitivity]:
    """Explain rows under several baselines at once, and compare the orders of their units.

    Args:
        model: white box.
        frame: canonical rows.
        method: key of an explainer that takes ``baseline=``.
        baselines: at least two names; all that change something for the model's kinds if empty.
        background: training rows, for the baselines that need them.
        target: as in :func:`salience.explain.engine.explain`.
        seed: seed of the method and of random baselines.
        memory_mb: memory for one pass of the model, in MiB.

    Raises:
        ConfigError: fewer than two baselines, or an unknown one.
    """
    from salience.core import registry

    usable = [n for n in names_for(model) if background is not None or n not in NEEDS_ROWS]
    names = tuple(baselines) or tuple(usable)
    if len(names) < 2:
        raise ConfigError(
            "Sensitivity compares baselines", f"Got {list(names)}.", "Name at least two.", code="SAL-C005"
        )
    explainer = registry.load("explainer", method)(baseline=names, background=background)
    targets = resolve(model.schema, target, np.asarray(model.outputs(frame), dtype=np.float64))
    found = explainer.attribute(model, frame, targets, seed=seed, memory_mb=memory_mb)
    return [
        Sensitivity(row, names, rank_correlations(a.evidence["by_baseline"]), len(a.values))
        for row, a in zip(frame.index, found, strict=True)
    ]


def rank_correlations(values: Float[np.ndarray, "line unit"]) -> Float[np.ndarray, "line line"]:
    """Return Spearman's rank correlation of each pair of lines; NaN for fewer than three units or a constant line."""
    from scipy.stats import rankdata

    lines, units = values.shape
    result = np.full((lines, lines), np.nan)
    if units < FEW_UNITS:
        return result
    ranks = rankdata(values, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    size = np.sqrt((ranks**2).sum(axis=1))
    told = np.flatnonzero(size > 0)
    unit = ranks[told] / size[told, None]
    result[np.ix_(told, told)] = np.clip(unit @ unit.T, -1.0, 1.0)
    return result


def sensitivity_table(found: Sequence[Sensitivity]) -> pd.DataFrame:
    """Return one line a row and pair of baselines: Spearman, and the row's sentence."""
    lines = [
        (s.row, s.baselines[a], s.baselines[b], float(s.spearman[a, b]), s.words())
        for s in found
        for a, b in combinations(range(len(s.baselines)), 2)
    ]
    return pd.DataFrame(lines, columns=["row", "baseline", "other", "spearman", "words"])
