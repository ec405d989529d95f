"""Grad-CAM: feature maps weighted by how the answer reacts to them, from the last place where there is still a where."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from salience.core.errors import ConfigError, UnsupportedError, nearest
from salience.explain.attribution import Attribution
from salience.explain.gradients import derivatives, make_path, take
from salience.explain.maps import unit_weights
from salience.explain.model import WhiteBox
from salience.explain.state import frozen
from salience.explain.target import Target, score
from salience.nn.watch import show, watching, within

CARD = {
    "key": "grad_cam",
    "kind": "explainer",
    "title": "Grad-CAM",
    "entry": "GradCAM",
    "summary": "Feature maps of the last layer with places, weighted by their mean gradient; what speaks for the target alone.",
    "paper": "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization (Selvaraju et al., ICCV 2017)",
    "year": 2017,
    "url": "https://arxiv.org/abs/1610.02391",
    "source": "paper, section 3; elementwise=True: Draelos, Carin (HiResCAM, 2020)",
    "faithful": "ReLU of the sum of feature maps, each weighted by its gradient's mean over places. After mean pooling and one linear layer it is CAM, divided by the number of places.",
    "deviates": "For text and language models the maps are the tokens in context before pooling, or before the last layer. A region gets the mean of the map's cells in it, each by its share of the region; the paper enlarges the map to pixels.",
    "needs": "white_box",
    "complete": False,
    "signed": False,
    "rectified": True,
    "exact_linear": False,
    "uses_target": True,
    "kinds": ["text", "image"],
    "tasks": ["classification", "regression"],
    "cost": "one forward and backward pass a row",
    "defaults": {"elementwise": False, "relu": True, "layer": None},
}
MAP, CONTEXT = "feature_map", "context"


class GradCAM:
    """Attribute by gradient-weighted feature maps. Units that no map covers, such as numbers, get NaN.

    Args:
        elementwise: weigh each place of a map by its own gradient in place of the mean; exact where a linear step follows.
        relu: whether only what speaks for the target is shown.
        layer: name of a submodule whose output is the map, such as ``"features.12"``: (batch, channel, height, width) for
            images, (batch, token, dim) for text. By default what the encoders show, else the last convolution.
    """

    def __init__(self, elementwise: bool = False, relu: bool = True, layer: str | None = None) -> None:
        self.elementwise, self.relu, self.layer = elementwise, relu, layer
        self.signed = not relu

    def attribute(
        self,
        model: WhiteBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row; see :mod:`salience.nn.watch` for what encoders show.

        Raises:
            UnsupportedError: the model shows no maps and has no convolution, or a map does not fit the row's units.
            ConfigError: there is no such layer.
        """
        if not len(frame):
            return []
        begin, found = perf_counter(), []
        with frozen(model):
            path = make_path(model, frame, targets, memory_mb)
            for start in range(0, len(frame), path.capacity):
                pack = slice(start, start + path.capacity)
                rows = torch.arange(len(frame))[pack]
                tokens = {name: take(t, rows) for name, t in path.tokens.items()}
                found += self._pack(model, frame.iloc[pack], tokens, targets[pack])
        seconds = (perf_counter() - begin) / len(frame)
        return [Attribution(values, output, None, "none", None, 1, seconds) for values, output in found]

    def _pack(
        self, model: WhiteBox, frame: pd.DataFrame, tokens: dict[str, Any], targets: Sequence[Target]
    ) -> list[tuple[np.ndarray, float]]:
        leaves = {n: t.with_values(t.values.detach().requires_grad_(True)) for n, t in tokens.items()}
        with torch.enable_grad(), watching() as watch, _showing(model, self.layer, tokens):
            output = score(model.finish(model.forward_tokens(leaves)).double(), targets)
        maps = [
            (name, key, one.tensor)
            for name, shown in watch.shown.items()
            for key in (MAP, CONTEXT)
            for one in shown.get(key, ())
            if name in tokens
        ]
        if not maps:
            raise _no_maps(model)
        gradients = derivatives(output, [found for *_, found in maps])
        weights: dict[str, Tensor] = {}
        for (name, key, found), gradient in zip(maps, gradients, strict=True):
            cam = self._tokens(key, found.detach(), gradient, tokens[name].mask)
            weights[name] = weights[name] + cam if name in weights else cam
        values = unit_weights(model, frame, tokens, weights)
        return list(zip(values, output.tolist(), strict=True))

    def _tokens(
        self, key: str, found: Tensor, gradient: Tensor, mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token"]:
        if key == MAP:
            cam = self._weighted(found.flatten(2).mT, gradient.flatten(2).mT, None)
            return _regions(cam.reshape(len(found), *found.shape[2:]), mask.shape[1])
        length = mask.shape[1]  # what follows is the text that is asked about
        return self._weighted(found[:, :length], gradient[:, :length], mask)

    def _weighted(
        self,
        found: Float[Tensor, "batch place channel"],
        gradient: Float[Tensor, "batch place channel"],
        mask: Bool[Tensor, "batch place"] | None,
    ) -> Float[Tensor, "batch place"]:
        weight = gradient
        if not self.elementwise:
            real = torch.ones_like(gradient[..., :1]) if mask is None else mask.unsqueeze(-1).to(gradient)
            weight = (gradient * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)
        total = (weight * found).sum(-1)
        return total.clamp(min=0) if self.relu else total


def _regions(cam: Float[Tensor, "batch height width"], regions: int) -> Float[Tensor, "batch region"]:
    """Return the mean of a map in each region of a square grid, every cell by the share of the region that it fills."""
    grid = round(regions**0.5)
    if grid * grid != regions:
        raise UnsupportedError(
            "The feature map does not fit the image's regions",
            f"{regions} regions are no square grid.",
            "Use method='integrated_gradients'.",
        )
    rows, columns = (_shares(size, grid).to(cam) for size in cam.shape[1:])
    return torch.einsum("rh,bhw,cw->brc", rows, cam, columns).flatten(1)


def _shares(cells: int, grid: int) -> Float[Tensor, "region cell"]:
    """Return which share of each of ``grid`` equal intervals each of ``cells`` intervals fills; rows add up to one."""
    edges, ends = torch.arange(grid + 1) / grid, torch.arange(cells + 1) / cells
    low = torch.maximum(edges[:-1, None], ends[None, :-1])
    high = torch.minimum(edges[1:, None], ends[None, 1:])
    return (high - low).clamp(min=0) * grid


@contextmanager
def _showing(model: Any, layer: str | None, tokens: dict[str, Any]) -> Iterator[None]:
    """Let a submodule's output be shown, where one was named, or where the model has a convolution and shows nothing."""
    if not isinstance(model, nn.Module) or (layer is None and _shows(model)):
        yield
        return
    name = _last_convolution(model) if layer is None else _known(model, layer)
    if name is None:
        yield
        return
    path = set(name.split("."))
    encoder = next((n for n in tokens if path.issuperset(n.split("."))), next(iter(tokens)))

    def answer(module: nn.Module, inputs: Any, output: Any) -> Any:
        with within(encoder):
            return show(MAP if output.ndim == 4 else CONTEXT, output)

    handle = model.get_submodule(name).register_forward_hook(answer)
    try:
        yield
    finally:
        handle.remove()


def _shows(model: nn.Module) -> bool:
    """Tell whether the model is one of ours, whose encoders show their maps themselves."""
    return not any(isinstance(m, nn.Conv2d) for m in model.modules()) or hasattr(model, "encoders")


def _last_convolution(model: nn.Module) -> str | None:
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return names[-1] if names else None


def _known(model: nn.Module, layer: str) -> str:
    names = dict(model.named_modules())
    if layer not in names or not layer:
        raise ConfigError(f"Unknown layer {layer!r}", "", nearest(layer, list(names)), code="SAL-C002")
    return layer


def _no_maps(model: Any) -> UnsupportedError:
    return UnsupportedError(
        "This model shows no feature maps",
        f"{type(model).__name__} has neither tokens in context nor a convolution.",
        "Name one with options={'layer': …}, or use method='integrated_gradients'.",
    )
