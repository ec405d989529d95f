"""What attention methods share: the weights of a forward pass, in packs of rows that fit the memory."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salience.core.errors import UnsupportedError
from salience.explain.gradients import sums, unit_index
from salience.explain.model import WhiteBox
from salience.explain.rows import records
from salience.explain.target import Target
from salience.nn.watch import Shown, watching

PAIRWISE, POOLING, FIXED_POOLING = "token2token", "source2token", "pooling"
MAPS_LIMIT = 4 * 2**30  # bytes of one row's maps that are still made
PROBE = 64  # tokens by which the maps of a long text are measured
COPIES = 4  # of the maps that exist at once: logits, weights, products, gradients
Result = TypeVar("Result")
Maps = dict[str, list[Shown]]
LAYER = re.compile(r"layer(\d+)")


def in_packs(
    model: WhiteBox,
    frame: pd.DataFrame,
    targets: Sequence[Target],
    memory_mb: int | float,
    run: Callable[[pd.DataFrame, Sequence[Target]], tuple[list[Result], int]],
) -> list[Result]:
    """Run rows in packs whose maps fit the memory; the first row alone shows how much a row takes.

    Args:
        model: the model, for the length of rows.
        frame: canonical rows.
        targets: one a row.
        memory_mb: memory for the maps of one pack, in MiB.
        run: from rows and targets to one result a row, and the bytes of the pack's maps.
    """
    lengths = np.array([len(model.units(row)) + 2 for row in records(model, frame)], dtype=float)
    found, start, size, rate = [], 0, 1, 0.0
    while start < len(frame):
        stop = min(len(frame), start + size)
        results, used = run(frame.iloc[start:stop], targets[start:stop])
        found += results
        rate = max(rate, used * COPIES / ((stop - start) * lengths[start:stop].max() ** 2))
        longest = lengths[stop:].max(initial=1.0)
        size = max(1, int(memory_mb * 2**20 / max(rate * longest**2, 1.0)))
        start = stop
    return found


def real_mean(
    weights: Float[Tensor, "batch query key"], mask: Bool[Tensor, "batch query"]
) -> Float[Tensor, "batch key"]:
    """Return the mean over real queries."""
    real = mask.to(weights)
    return torch.einsum("bqk,bq->bk", weights, real) / real.sum(1, keepdim=True).clamp(min=1)


def featureless(weights: Tensor, axes: int) -> Tensor:
    """Return the mean over all axes after the first ``axes``: features, layers, heads."""
    return weights.flatten(axes).mean(-1) if weights.ndim > axes else weights


def unit_weights(
    model: WhiteBox,
    frame: pd.DataFrame,
    tokens: dict[str, Any],
    weights: dict[str, Tensor],
    *,
    mean: bool = False,
) -> list[Float[np.ndarray, " unit"]]:
    """Return the sum of token weights for each unit of each row; NaN for units that no map covers.

    Args:
        model: the model.
        frame: canonical rows.
        tokens: their tokens.
        weights: one number a token, of the encoders that have maps.
        mean: the mean over members of an ensemble, in place of the sum: each has weights that add up to one, while
            gradients have the share of a member in them.
    """
    rows = records(model, frame)
    index = {n: i for n, i in unit_index(model, rows, tokens).items() if n in weights}
    counts = [len(model.units(row)) for row in rows]
    width = max(counts, default=0)
    values = sum(sums(unit, weights[name], width) for name, unit in index.items())
    values = values / (len(getattr(model, "members", ())) or 1) if mean else values
    covered = sum(sums(unit, torch.ones(unit.shape), width) for unit in index.values())
    found = np.where(np.asarray(covered) > 0, values, np.nan)
    return [line[:count] for line, count in zip(found, counts, strict=True)]


def forward_shown(model: WhiteBox, tokens: dict[str, Any]) -> tuple[Tensor, dict[str, Maps]]:
    """Return the raw outputs of a forward pass, and what each encoder showed in it."""
    with watching() as watch:
        output = model.forward_tokens(tokens)
    return output, {name: found for name, found in watch.shown.items() if name in tokens}


def shown_bytes(shown: dict[str, Maps]) -> int:
    """Return the memory of everything that was shown."""
    return map_bytes([s.tensor for maps in shown.values() for found in maps.values() for s in found])


def reading_weights(maps: Maps, mask: Bool[Tensor, "batch token"]) -> Float[Tensor, "batch token"]:
    """Return with which weight the model reads each token of its last layer: learned, fixed, or the mean."""
    for name in (POOLING, FIXED_POOLING):
        if name in maps:
            return featureless(maps[name][0].seen(), 2)
    real = mask.to(torch.get_default_dtype())
    return real / real.sum(1, keepdim=True).clamp(min=1)


def layers_of(maps: dict[str, list[Result]]) -> list[list[Result]]:
    """Return the token-to-token maps of each layer, from the first."""
    layers: dict[int, list[Result]] = {}
    for name, found in pairwise(maps).items():
        place = LAYER.search(name)
        layers.setdefault(int(place[1]) if place else 0, []).extend(found)
    return [layers[i] for i in sorted(layers)]


def pairwise(maps: dict[str, list[Result]]) -> dict[str, list[Result]]:
    """Return the token-to-token maps."""
    return {name: found for name, found in maps.items() if name.startswith(PAIRWISE)}


def map_bytes(tensors: Sequence[Tensor]) -> int:
    """Return the memory of maps."""
    return sum(t.nbytes for t in tensors)


def check_size(model: WhiteBox, tokens: dict[str, Any]) -> None:
    """Refuse rows whose maps would not fit, before they are made: those of a few tokens are made and measured.

    Args:
        model: the model.
        tokens: embedded rows.

    Raises:
        UnsupportedError: the maps of one row would take more than 4 GiB.
    """
    longest = max((t.values.shape[1] for t in tokens.values()), default=0)
    if longest <= 8 * PROBE:
        return
    with torch.no_grad():
        _, shown = forward_shown(model, {name: _end(found) for name, found in tokens.items()})
    size = shown_bytes(shown) * (longest / PROBE) ** 2
    if size > MAPS_LIMIT:
        raise UnsupportedError(
            "The attention maps of this text are too large",
            f"{type(model).__name__}, {longest:,} tokens: about {size / 2**30:.0f} GiB a row.",
            "Use method='gradient_x_input' or 'integrated_gradients', or shorten the text.",
        )


def _end(tokens: Any) -> Any:
    """Return the last tokens of the first row."""
    parts = {name: part for name, part in vars(tokens).items() if part is not None}
    return replace(tokens, **{name: part[:1, -PROBE:] for name, part in parts.items()})


def no_maps(model: Any, why: str = "") -> UnsupportedError:
    """Return the error of a model without attention maps."""
    return UnsupportedError(
        "This model has no attention maps",
        f"{type(model).__name__}. {why}".strip(),
        "Use method='integrated_gradients' or 'occlusion'.",
    )
