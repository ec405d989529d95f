"""Attention weights, one number a unit: where the model looks, which need not be why it answers."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salience.explain.attribution import Attribution
from salience.explain.maps import (
    PAIRWISE,
    POOLING,
    check_size,
    featureless,
    in_packs,
    map_bytes,
    no_maps,
    real_mean,
    unit_weights,
)
from salience.explain.model import WhiteBox
from salience.explain.state import frozen
from salience.explain.target import Target, score

CARD = {
    "key": "attention",
    "kind": "explainer",
    "title": "Attention weights",
    "entry": "Attention",
    "summary": "Averages the model's pooling weights over features. Shows where the model looks; measure it before you trust it.",
    "paper": "DiSAN (Shen et al., AAAI 2018); on the caution: Attention is not Explanation (Jain, Wallace, NAACL 2019)",
    "year": 2018,
    "url": "https://arxiv.org/abs/1709.04696",
    "source": "papers",
    "faithful": "The source-to-token weights that the model uses in evaluation, averaged over features.",
    "deviates": "A model without them is read through its token-to-token map, averaged over queries and heads or features.",
    "needs": "white_box",
    "complete": False,
    "signed": False,
    "exact_linear": False,
    "uses_target": False,
    "kinds": ["text", "image"],
    "tasks": ["classification", "regression"],
    "cost": "one forward pass a row; the maps take words² × features",
    "defaults": {},
}


Show = Callable[[Any], dict[str, dict[str, Tensor]]]


class Attention:
    """Attribute by attention. Units that no attention map covers, such as numbers, get NaN."""

    def attribute(
        self,
        model: WhiteBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row, with the maps of each encoder as evidence.

        Evidence holds ``"<encoder>/<map>"``: pooling weights and gates averaged over features (token), and
        token-to-token maps averaged over features (query, key); padding is cut off.

        Raises:
            UnsupportedError: the model has no attention maps.
        """
        if not len(frame):
            return []
        begin = perf_counter()

        show = getattr(model, "attention", None)
        if show is None:
            raise no_maps(model)

        def run(rows: pd.DataFrame, asked: Sequence[Target]) -> tuple[list, int]:
            return _pack(model, show, rows, asked)

        with frozen(model), torch.no_grad():
            result = in_packs(model, frame, targets, memory_mb, run)
        seconds = (perf_counter() - begin) / len(frame)
        return [Attribution(v, output, None, "none", None, 2, seconds, maps) for v, output, maps in result]


def _pack(model: WhiteBox, show: Show, frame: pd.DataFrame, targets: Sequence[Target]) -> tuple[list, int]:
    batch = model.collate(model.prepare(frame))
    tokens = model.embed(batch)
    if not hasattr(model, "continuations"):  # a language model shows its last position alone
        check_size(model, tokens)
    maps = show(batch)
    weights = {n: found for n, m in maps.items() if (found := token_weights(m, tokens[n].mask)) is not None}
    if not weights:
        raise no_maps(model)
    values = unit_weights(model, frame, tokens, weights, mean=True)
    outputs = score(model.finish(model.forward_tokens(tokens)).double(), targets).tolist()
    evidence = [
        {
            f"{n}/{key}": _view(key, m[i], tokens[n].mask[i])
            for n, found in maps.items()
            for key, m in found.items()
        }
        for i in range(len(frame))
    ]
    used = map_bytes([m for found in maps.values() for m in found.values()])
    return list(zip(values, outputs, evidence, strict=True)), used


def token_weights(
    maps: dict[str, Tensor], mask: Bool[Tensor, "batch token"]
) -> Float[Tensor, "batch token"] | None:
    """Reduce an encoder's maps to one weight a token.

    Pooling weights (batch, token, feature…) are averaged over features; else token-to-token maps
    (batch, query, key, feature…) over features, real queries, and maps. None if there is neither.
    """
    if POOLING in maps:
        return featureless(maps[POOLING], 2)
    pairs = [real_mean(featureless(m, 3), mask) for n, m in maps.items() if n.startswith(PAIRWISE)]
    return torch.stack(pairs).mean(0) if pairs else None


def _view(name: str, values: Tensor, mask: Bool[Tensor, " token"]) -> np.ndarray:
    axes = 2 if name.startswith(PAIRWISE) else 1
    reduced = featureless(values, axes)
    for axis in range(min(axes, reduced.ndim)):
        if reduced.shape[axis] == len(mask):
            reduced = reduced.index_select(axis, mask.nonzero()[:, 0])
    return reduced.float().cpu().numpy()
