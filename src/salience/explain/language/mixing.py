"""Which earlier tokens each head of each layer took in for the next token: exact effective weights.

A layer of linear attention has no softmax, but its output at a position is a weighted sum of the values before it, and
the weights can be computed exactly: decayed, signed, with position encoding. Weights times values give the output of
the head back, before normalisation and gate. For softmax attention the same view holds the softmax weights.

Read them for what they are. They say what one layer mixed, not why the model answers: the output is normalised, gated
and passed through later layers. Rollout, which multiplies the maps of layers, rests on weights that are positive and
sum to one; these do neither, so no rollout is offered.
"""

from dataclasses import dataclass
from html import escape
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import nn

from salience.core.errors import ConfigError
from salience.core.unit import Unit
from salience.explain import markup
from salience.explain.explanation import NEXT_TOKEN, Explanation
from salience.explain.language.reading import CONTEXT, visible
from salience.explain.language.view import LanguageView
from salience.explain.state import frozen


@dataclass(frozen=True)
class Mixing:
    """Hold with which weight every head took in every part of a context, at its last position.

    Attributes:
        context: the text.
        units: words or tokens.
        weights: sum of the weights of each unit's tokens, signed.
        token_weights: the weights of single tokens, as the model used them, with what stands before the context.
        prediction: the token that the model expects next.
        probability: its probability.
        seconds: time of the forward pass.
    """

    context: str
    units: tuple[Unit, ...]
    weights: Float[np.ndarray, "layer head unit"]
    token_weights: Float[np.ndarray, "layer head token"]
    prediction: str
    probability: float
    seconds: float

    def explanation(self, layer: int, head: int) -> Explanation:
        """Return the weights of one head as an explanation, with its words and marks.

        Args:
            layer: position of the layer, from 0.
            head: position of the head, from 0.

        Raises:
            ConfigError: there is no such layer or head.
        """
        layers, heads, _ = self.weights.shape
        if not (0 <= layer < layers and 0 <= head < heads):
            raise ConfigError(
                "There is no such head",
                f"layer={layer}, head={head}",
                f"Layers are 0 to {layers - 1}, heads 0 to {heads - 1}.",
                code="SAL-C005",
            )
        return Explanation(
            units=self.units, values=tuple(self.weights[layer, head].tolist()), inputs={CONTEXT: self.context},
            kinds={CONTEXT: "text"}, row=0, method="effective_weights", target=f"layer {layer}, head {head}",
            quantity="weight", prediction=self.prediction, probability=self.probability, output=None,
            baseline_output=None, baseline="none", forwards=1, seconds=self.seconds, target_column=NEXT_TOKEN,
        )  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """Return one line a layer, head and unit: weight, and share of the head's absolute weights."""
        size = np.abs(self.weights)
        share = size / np.maximum(size.sum(-1, keepdims=True), np.finfo(float).tiny)
        layer, head, unit = np.indices(self.weights.shape).reshape(3, -1)
        return pd.DataFrame(
            {
                "layer": layer,
                "head": head,
                "position": unit,
                "unit": [self.units[i].label for i in unit],
                "weight": self.weights.ravel(),
                "share": share.ravel(),
            }
        )

    def to_html(self) -> str:
        """Return the context once a head, marked by its weights; each head has a scale of its own."""
        layers, heads, _ = self.weights.shape
        parts = [f"<style>{markup.STYLE}</style>", f"<p>{escape(self._title())}</p>"]
        for layer in range(layers):
            parts.append(f"<h4>Layer {layer}</h4>")
            parts += [self._head_html(layer, head) for head in range(heads)]
        legend = markup.legend_html("positive weight: adds the value", "negative weight: takes it away")
        caution = "These weights are exact, but one layer is only a part of the model."
        note = f'<p class="sal-note">{caution}</p>'
        return f'<section class="sal" aria-label="Effective weights">{"".join(parts)}{legend}{note}</section>'

    def _title(self) -> str:
        return f"The model expects “{self.prediction}” next, with probability {self.probability:.2g}."

    def _head_html(self, layer: int, head: int) -> str:
        values = self.weights[layer, head].tolist()
        marked = markup.text_html(self.context, self.units, values, markup.scale_of(values))
        return f'<p><span class="sal-name">head {head}</span>{marked}</p>'

    def _repr_html_(self) -> str:
        return self.to_html()

    def __str__(self) -> str:
        lines = [self._title()]
        for layer, head in np.ndindex(*self.weights.shape[:2]):
            top = [f"{unit.label} {markup.signed(v)}" for unit, v in self.explanation(layer, head).top(4)]
            lines.append(f"layer {layer}, head {head}:  {', '.join(top)}")
        return "\n".join(lines)


def mixing(model: nn.Module, tokenizer: Any, context: str, *, units: str = "words") -> Mixing:
    """Return the effective weights of every head of every layer at the last position of a context.

    Memory is linear in the length of the context for linear attention: no token × token matrix is made.

    Args:
        model: a language model whose ``features`` gives ``need_weights="last"``.
        tokenizer: the one it was trained with.
        context: the text before the predicted token.
        units: ``"words"`` or ``"tokens"``.
    """
    begin = perf_counter()
    view = LanguageView(model, tokenizer, units=units)
    with frozen(view), torch.no_grad():
        logits, weights = view.mixed(view.collate([view.reading(context)]))
    chances, found = logits[0].double().softmax(-1), weights[0].double().cpu().numpy()
    reading = view.reading(context)
    unit = np.array(reading.unit, dtype=int)
    pooled = np.zeros((*found.shape[:2], len(reading.units)))
    np.add.at(pooled, (..., unit[unit >= 0]), found[..., found.shape[-1] - len(unit) :][..., unit >= 0])
    best = int(chances.argmax())
    return Mixing(
        context, reading.units, pooled, found, visible(tokenizer.token_text(best)), float(chances[best]),
        perf_counter() - begin,
    )  # fmt: skip
