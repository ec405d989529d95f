"""Model randomisation: whether an explanation changes when the model's weights are drawn anew, layer by layer."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from salience.core.errors import SalienceError, UnsupportedError
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.orders import values_of
from salience.explain.reexplain import asked_by, by_method, explainer_of, why_not
from salience.explain.scores import Scores, spearman

CARD = {
    "key": "randomisation",
    "kind": "metric",
    "title": "Model randomisation",
    "entry": "Randomisation",
    "summary": "Draws the weights anew from the last layer to the first and takes the rank correlation of the explanations before and after; an explanation of the model must change.",
    "convention": "Mean over stages of Spearman's correlation of |φ| before and after the layers down to this one were drawn anew, last layer first.",
    "better": "lower",
    "family": "sanity",
    "needs": "explainer",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "Sanity Checks for Saliency Maps (Adebayo et al., NeurIPS 2018)",
    "year": 2018,
    "url": "https://arxiv.org/abs/1810.03292",
    "source": "paper",
    "faithful": "Cascading, from the output to the input; Spearman's correlation of absolute values; weights are put back bit for bit.",
    "deviates": "Layers are drawn in at most 8 stages; a layer draws as it does when it is built, a bare parameter from a normal distribution of its own mean and spread. A random explanation that does not look at the model gets 1.",
    "cost": "up to eight times the method",
    "defaults": {"stages": 8, "last": False},
}


@dataclass(frozen=True)
class Randomisation:
    """Draw weights anew and explain again.

    Args:
        stages: highest number of stages; layers are shared out over them, from the output on.
        last: whether to give the correlation with the wholly random model alone, in place of the mean over stages.
        explainers: explainers by the name of their method, where they are not those of the registry at their defaults.
    """

    stages: int = 8
    last: bool = False
    explainers: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        within("stages", self.stages, 1)

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the correlation of each explanation, in [−1, 1]; NaN where the values are all alike.

        Raises:
            UnsupportedError: the model is no torch module, or has no weights.
        """
        begin, values, forwards, reasons = perf_counter(), np.full(len(explanations), np.nan), 0, []
        layers = layers_of(model)
        for (method, *_), where in by_method(explanations).items():
            group, explainer = [explanations[i] for i in where], explainer_of(method, self.explainers)
            if explainer is None:
                reasons.append(why_not(method))
                continue
            try:
                values[where], spent = self._group(model, layers, explainer, group, seed, memory_mb)
                forwards += spent
            except SalienceError as error:
                reasons.append(why_not(method, error))
        over = "with the wholly random model" if self.last else f"mean over at most {self.stages} stages"
        convention = (
            f"Spearman's correlation of |φ| before and after layers were drawn anew, last layer first; {over} of "
            f"{len(layers)} {'layer' if len(layers) == 1 else 'layers'}; units without a value are left out."
        )
        return Scores(values, convention, forwards, perf_counter() - begin, "; ".join(reasons))

    def _group(
        self,
        model: Any,
        layers: list[nn.Module],
        explainer: Any,
        group: list[Explanation],
        seed: int,
        memory_mb: int | float,
    ) -> tuple[Float[np.ndarray, " explanation"], int]:
        own, found, forwards = [values_of(e) for e in group], [], 0
        frame, targets = asked_by(model, group)
        with restored(model), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for stage in np.array_split(np.arange(len(layers)), min(self.stages, len(layers))):
                for layer in stage:
                    draw_anew(layers[layer])
                again = explainer.attribute(model, frame, targets, seed=group[0].seed, memory_mb=memory_mb)
                forwards += sum(a.forwards for a in again)
                found.append([rank_correlation(v, a.values) for v, a in zip(own, again, strict=True)])
        return np.array(found[-1]) if self.last else np.mean(found, axis=0), forwards


def layers_of(model: Any) -> list[nn.Module]:
    """Return the modules that have weights of their own, from the output to the input; of an ensemble side by side.

    Raises:
        UnsupportedError: there are none.
    """
    whole = [model] if isinstance(model, nn.Module) else []
    parts = list(getattr(model, "members", {}).values()) or whole
    own = [[m for m in list(p.modules())[::-1] if [*m.parameters(recurse=False)]] for p in parts]
    layers = [layer for abreast in zip_longest(*own) for layer in abreast if layer is not None]
    if not layers:
        raise UnsupportedError(
            "Model randomisation needs a torch module with weights",
            type(model).__name__,
            "Leave the metric 'randomisation' out.",
        )
    return layers


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Put all weights and buffers back afterwards, bit for bit."""
    kept = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                tensor.copy_(kept[name])


@torch.no_grad()
def draw_anew(layer: nn.Module) -> None:
    """Draw the weights of one module anew: as when it was built, or from a normal distribution of like mean and spread."""
    if hasattr(layer, "reset_parameters"):
        layer.reset_parameters()
        return
    for parameter in layer.parameters(recurse=False):
        spread = float(parameter.std()) if parameter.numel() > 1 else float(parameter.abs().sum())
        parameter.normal_(float(parameter.mean()), spread)


def rank_correlation(own: Float[np.ndarray, " unit"], other: Float[np.ndarray, " unit"]) -> float:
    """Return Spearman's correlation of absolute values over the units that have a value in both; NaN if it has none."""
    return spearman(np.abs(own), np.abs(other))
