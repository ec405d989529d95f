"""Attention weights, one number a unit: where the model looks, which need not be why it answers."""

from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from salience.core.errors import UnsupportedError
from salience.explain.attribution import Attribution
from salience.explain.gradients import unit_index, unit_sums
from salience.explain.model import WhiteBox
from salience.explain.rows import records
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
POOLING, PAIRWISE = "source2token", "token2token"


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
        with frozen(model), torch.no_grad():
            if not hasattr(model, "attention"):
                raise _no_maps(model)
            # one row at a time: a map takes tokens² × features numbers, and a row needs no padding
            result = [self._row(model, frame.iloc[i : i + 1], targets[i : i + 1]) for i in range(len(frame))]
        seconds = (perf_counter() - begin) / len(frame)
        return [Attribution(v, output, None, "none", None, 2, seconds, maps) for v, output, maps in result]

    def _row(self, model: WhiteBox, frame: pd.DataFrame, targets: list[Target]) -> tuple[Any, float, dict]:
        rows = records(model, frame)
        batch = model.collate(model.prepare(frame))
        tokens, maps = model.embed(batch), model.attention(batch)
        weights = {name: found for name, m in maps.items() if (found := token_weights(m)) is not None}
        if not weights:
            raise _no_maps(model)
        index = {n: i for n, i in unit_index(model, rows, tokens).items() if n in weights}
        units = len(model.units(rows[0]))
        values = unit_sums([units], index, weights)[0]
        covered = np.zeros(units, dtype=bool)
        for found in index.values():
            covered[found[found >= 0].numpy()] = True
        output = score(model.finish(model.forward_tokens(tokens)).double(), targets)
        evidence = {f"{n}/{key}": _view(key, m[0]) for n, found in maps.items() for key, m in found.items()}
        return np.where(covered, values, np.nan), float(output[0]), evidence


def token_weights(maps: dict[str, Tensor]) -> Float[Tensor, "batch token"] | None:
    """Reduce an encoder's maps to one weight a token.

    Pooling weights (batch, token, feature…) are averaged over features; else token-to-token maps
    (batch, query, key, feature…) over features, queries, and maps. None if there is neither.
    """
    if POOLING in maps:
        return maps[POOLING].flatten(2).mean(-1) if maps[POOLING].ndim > 2 else maps[POOLING]
    pairs = [m.flatten(3).mean(-1) if m.ndim > 3 else m for n, m in maps.items() if n.startswith(PAIRWISE)]
    return torch.stack([m.mean(1) for m in pairs]).mean(0) if pairs else None


def _view(name: str, values: Tensor) -> np.ndarray:
    axes = 2 if name.startswith(PAIRWISE) else 1
    reduced = values.flatten(axes).mean(-1) if values.ndim > axes else values
    return reduced.float().cpu().numpy()


def _no_maps(model: Any) -> UnsupportedError:
    return UnsupportedError(
        "This model has no attention maps",
        type(model).__name__,
        "Use method='integrated_gradients' or 'occlusion'.",
    )
