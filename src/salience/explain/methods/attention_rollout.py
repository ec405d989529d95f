"""Attention rollout: attention followed down through the layers, as if every layer only mixed its inputs."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salience.explain.attribution import Attribution
from salience.explain.maps import (
    POOLING,
    Maps,
    check_size,
    featureless,
    forward_shown,
    in_packs,
    layers_of,
    no_maps,
    pairwise,
    reading_weights,
    shown_bytes,
    unit_weights,
)
from salience.explain.model import WhiteBox
from salience.explain.state import frozen
from salience.explain.target import Target, score

CARD = {
    "key": "attention_rollout",
    "kind": "explainer",
    "title": "Attention rollout",
    "entry": "AttentionRollout",
    "summary": "Multiplies the token-to-token maps of all layers, each mixed half and half with the identity. Shows which words reach the answer; measure it before you trust it.",
    "paper": "Quantifying Attention Flow in Transformers (Abnar, Zuidema, ACL 2020)",
    "year": 2020,
    "url": "https://arxiv.org/abs/2005.00928",
    "source": "paper, section 3",
    "faithful": "Heads are averaged; each layer is 0.5 · A + 0.5 · I with rows that sum to one; layers are multiplied.",
    "deviates": "The paper reads one position; here the product is read as the model reads its tokens: by its pooling weights, its mean, or the last position. Maps of one layer that work side by side, such as the two directions of DiSAN, are averaged. A model that has a pooling map alone has no layers to multiply: the values are then its pooling weights, and the evidence says layers = 0. Signed weights, as of linear attention, are refused: a product of them is no share.",
    "needs": "white_box",
    "complete": False,
    "signed": False,
    "exact_linear": False,
    "uses_target": False,
    "kinds": ["text", "image"],
    "tasks": ["classification", "regression"],
    "cost": "one forward pass a row that keeps all maps: words² × features × layers",
    "defaults": {"residual": 0.5},
}
NEGATIVE = -1e-6  # a weight below it is signed, not rounded


class AttentionRollout:
    """Attribute by the product of attention maps. Units that no map covers, such as numbers, get NaN.

    Args:
        residual: share of the identity in each layer, in [0, 1]; 0.5 as published.
    """

    def __init__(self, residual: float = 0.5) -> None:
        self.residual = residual

    def attribute(
        self,
        model: WhiteBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row; evidence says how many layers were multiplied, by encoder.

        Raises:
            UnsupportedError: no maps, signed maps, maps of a text that is asked about rather than of the row, or maps
                too large.
        """
        if not len(frame):
            return []
        begin = perf_counter()

        def run(rows: pd.DataFrame, asked: Sequence[Target]) -> tuple[list, int]:
            return self._pack(model, rows, asked)

        with frozen(model), torch.no_grad():
            found = in_packs(model, frame, targets, memory_mb, run)
        seconds = (perf_counter() - begin) / len(frame)
        return [Attribution(v, output, None, "none", None, 1, seconds, layers) for v, output, layers in found]

    def _pack(self, model: WhiteBox, frame: pd.DataFrame, targets: Sequence[Target]) -> tuple[list, int]:
        tokens = model.embed(model.collate(model.prepare(frame)))
        check_size(model, tokens)
        output, shown = forward_shown(model, tokens)
        usable = {name: maps for name, maps in shown.items() if pairwise(maps) or POOLING in maps}
        if not usable:
            raise no_maps(model, "No encoder shows its weights.")
        weights = {name: self._rolled(model, maps, tokens[name].mask) for name, maps in usable.items()}
        values = unit_weights(model, frame, tokens, weights, mean=True)
        outputs = score(model.finish(output).double(), targets).tolist()
        layers = {f"{name}/layers": np.array(float(len(layers_of(maps)))) for name, maps in usable.items()}
        return [(v, o, layers) for v, o in zip(values, outputs, strict=True)], shown_bytes(shown)

    def _rolled(
        self, model: WhiteBox, maps: Maps, mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token"]:
        weights = reading_weights(maps, mask).double()
        for layer in reversed(layers_of(maps)):
            mixed = torch.stack([featureless(found.seen().double(), 3) for found in layer]).mean(0)
            _check_shares(model, mixed, mask)
            same = torch.eye(mask.shape[1], dtype=mixed.dtype, device=mixed.device)
            step = (1 - self.residual) * mixed + self.residual * same
            step = torch.where(mask[:, :, None] & mask[:, None, :], step, same)
            step = step / step.sum(-1, keepdim=True).clamp(min=torch.finfo(step.dtype).tiny)
            weights = torch.einsum("bq,bqk->bk", weights, step)
        return weights


def _check_shares(model: WhiteBox, weights: Tensor, mask: Bool[Tensor, "batch token"]) -> None:
    if weights.shape[1:] != (mask.shape[1], mask.shape[1]):
        raise no_maps(
            model, f"Its maps are between {weights.shape[1]} places, not the row's {mask.shape[1]} tokens."
        )
    if bool((weights < NEGATIVE).any()):
        raise no_maps(model, "Its weights are signed, and a product of signed maps is no share.")
