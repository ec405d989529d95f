"""Attention × gradient: each attention weight times how the answer reacts to it."""

from collections.abc import Iterable, Sequence
from time import perf_counter

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
    "key": "attention_x_gradient",
    "kind": "explainer",
    "title": "Attention × gradient",
    "entry": "AttentionXGradient",
    "summary": "Attention weights times the gradient of the answer in them: unlike attention alone it knows the target and has a sign.",
    "paper": "Is Attention Interpretable? (Serrano, Smith, ACL 2019); positive=True: Generic Attention-model Explainability (Chefer, Gur, Wolf, ICCV 2021)",
    "year": 2019,
    "url": "https://arxiv.org/abs/1906.03731",
    "source": "papers",
    "faithful": "Weight times gradient, added up over features and heads. positive=True: R ← R + E_heads[(A ⊙ ∇A)⁺] R from the first layer to the last, starting at the identity.",
    "deviates": "The learned pooling weights are read where a model has them; else the products of all layers are added up over queries. With positive=True the last R is read by the positive part of the pooling's products, by the model's fixed pooling, or by the mean.",
    "needs": "white_box",
    "complete": False,
    "signed": True,
    "exact_linear": False,
    "uses_target": True,
    "kinds": ["text", "image"],
    "tasks": ["classification", "regression"],
    "cost": "one forward and backward pass a row that keeps all maps: words² × features × layers",
    "defaults": {"positive": False},
}
Pair = tuple[Tensor, Tensor]  # a map and the gradient in it, with the axes that its name promises


class AttentionXGradient:
    """Attribute by attention weights times their gradients. Units that no map covers, such as numbers, get NaN.

    Args:
        positive: whether only weights that speak for the target count, and layers are followed (relevance propagation).
    """

    def __init__(self, positive: bool = False) -> None:
        self.positive, self.signed = positive, not positive

    def attribute(
        self,
        model: WhiteBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row; see :mod:`salience.nn.watch` for what the model must show.

        Raises:
            UnsupportedError: the answer is computed without weights that could be shown, or they are too large.
        """
        if not len(frame):
            return []
        begin = perf_counter()

        def run(rows: pd.DataFrame, asked: Sequence[Target]) -> tuple[list, int]:
            return self._pack(model, rows, asked)

        with frozen(model):
            found = in_packs(model, frame, targets, memory_mb, run)
        seconds = (perf_counter() - begin) / len(frame)
        return [Attribution(v, output, None, "none", None, 1, seconds) for v, output in found]

    def _pack(self, model: WhiteBox, frame: pd.DataFrame, targets: Sequence[Target]) -> tuple[list, int]:
        with torch.no_grad():
            tokens = model.embed(model.collate(model.prepare(frame)))
            check_size(model, tokens)
        leaves = {n: t.with_values(t.values.detach().requires_grad_(True)) for n, t in tokens.items()}
        with torch.enable_grad():
            output, shown = forward_shown(model, leaves)
            found = score(model.finish(output).double(), targets)
        pairs = _with_gradients(found, shown)
        if not pairs:
            raise no_maps(model, "No weights that it shows take part in its answer.")
        weights = {n: self._tokens(maps, shown[n], tokens[n].mask) for n, maps in pairs.items()}
        values = unit_weights(model, frame, tokens, weights)
        return list(zip(values, found.tolist(), strict=True)), shown_bytes(shown)

    def _tokens(
        self, pairs: dict[str, list[Pair]], shown: Maps, mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token"]:
        if self.positive:
            return _relevance(pairs, shown, mask)
        if POOLING in pairs:
            return _total(_summed(weights * gradient, 2) for weights, gradient in pairs[POOLING])
        products = [_summed(w * g, 3).sum(1) for found in pairs.values() for w, g in found]
        # what follows the row's tokens is the text that is asked about
        return _total(product[:, : mask.shape[1]] for product in products)


def _total(parts: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(parts)).sum(0)


def _summed(values: Tensor, axes: int) -> Tensor:
    return values.flatten(axes).sum(-1) if values.ndim > axes else values


def _with_gradients(found: Tensor, shown: dict[str, Maps]) -> dict[str, dict[str, list[Pair]]]:
    """Return the maps that the answer depends on, with the gradients in them."""
    places = [
        (encoder, name, one)
        for encoder, maps in shown.items()
        for name, several in maps.items()
        if name == POOLING or name in pairwise(maps)
        for one in several
        if one.tensor.requires_grad
    ]
    if not places or not found.requires_grad:
        return {}
    gradients = torch.autograd.grad(found.sum(), [one.tensor for *_, one in places], allow_unused=True)
    pairs: dict[str, dict[str, list[Pair]]] = {}
    for (encoder, name, one), gradient in zip(places, gradients, strict=True):
        if gradient is not None:
            pair = (one.seen().detach(), one.view(gradient))
            pairs.setdefault(encoder, {}).setdefault(name, []).append(pair)
    return pairs


def _relevance(
    pairs: dict[str, list[Pair]], shown: Maps, mask: Bool[Tensor, "batch token"]
) -> Float[Tensor, "batch token"]:
    """Return how much relevance of each token reaches what the model reads, after all layers."""
    if POOLING in pairs:
        read = _total(featureless((w * g).clamp(min=0), 2) for w, g in pairs[POOLING])
    else:
        read = reading_weights(shown, mask)
    read = read.double()
    for layer in reversed(
        layers_of(pairs)
    ):  # read · (1 + E_last) … (1 + E_first), never token × token products
        step = _total(featureless((w * g).clamp(min=0), 3) for w, g in layer).double()
        read = read + torch.einsum("bq,bqk->bk", read, step)
    return read
