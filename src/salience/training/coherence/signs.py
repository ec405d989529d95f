"""Squared gradient norms by random signs: any architecture, a few backward passes, no hooks.

With independent signs ε_i, E‖Σ ε_i g_i‖² = Σ‖g_i‖². Each draw is one backward pass of the batch.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from salience.training.coherence.per_example import Loss, wide
from salience.training.coherence.result import NO_GRADIENT, Coherence, by_layers, shares, unbiased


def estimate(
    module: nn.Module,
    loss: Loss,
    batches: Iterable[Any],
    names: dict[str, nn.Parameter],
    *,
    draws: int,
    seed: int,
    notes: tuple[str, ...] = (),
) -> Coherence:
    """Return coherence with Σ‖g_i‖² estimated by ``draws`` random signs an example.

    The standard error of α comes from the spread of the draws; the numerator is exact.
    """
    generator = torch.Generator().manual_seed(seed)
    signed = [{name: torch.zeros_like(p, dtype=wide(p)) for name, p in names.items()} for _ in range(draws)]
    whole = {name: torch.zeros_like(p, dtype=wide(p)) for name, p in names.items()}
    m = 0
    for batch in batches:
        losses = loss(module, batch)
        m += len(losses)
        weights = [torch.ones_like(losses)] + [_signs(losses, generator) for _ in range(draws)]
        for k, (weight, into) in enumerate(zip(weights, [whole, *signed], strict=True)):
            found = torch.autograd.grad(
                losses, list(names.values()), weight, retain_graph=k < draws, allow_unused=True
            )
            for name, gradient in zip(names, found, strict=True):
                if gradient is not None:
                    into[name] += gradient
    top = {name: _square(t) for name, t in whole.items()}
    drawn = {name: np.array([_square(one[name]) for one in signed]) for name in names}
    return _answer(top, drawn, m, notes)


def _signs(losses: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    signs = torch.randint(0, 2, (len(losses),), generator=generator) * 2 - 1
    return signs.to(losses)


def _square(tensor: torch.Tensor) -> float:
    return float(tensor.double().square().sum())


def _answer(top: dict[str, float], drawn: dict[str, np.ndarray], m: int, notes: tuple[str, ...]) -> Coherence:
    squares = {name: float(values.mean()) for name, values in drawn.items()}
    of_draw = np.sum(list(drawn.values()), axis=0)
    over, under = sum(top.values()), float(of_draw.mean())
    times = over / under if under > 0 else math.nan
    error = float(of_draw.std(ddof=1) / math.sqrt(len(of_draw))) if len(of_draw) > 1 else math.nan
    return Coherence(
        alpha=times / m,
        m=m,
        m_coherence=times,
        unbiased=unbiased(times, m),
        active_share=math.nan,
        active_alpha=math.nan,
        by_layer=shares(by_layers(top), by_layers(squares), m),
        by_parameter=shares(top, squares, m),
        squared_norms=np.zeros(0),
        gradient_squared_norm=over / m**2,
        interval=None,
        method="signs",
        reason=NO_GRADIENT if math.isnan(times) else "Random signs do not give the norms of single examples.",
        notes=notes,
        standard_error=times / m * error / under if under > 0 else math.nan,
    )
