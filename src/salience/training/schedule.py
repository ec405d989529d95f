"""Which parameters decay, and the learning rate of each step."""

import math
from typing import Any

from torch import nn


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group trainable parameters by weight decay.

    Matrices decay by ``weight_decay``; biases (also those of many layers at once, which are matrices), norms, single
    vectors and embeddings do not; a module with an attribute ``weight_decay`` sets that of its own parameters, as
    first layers of columns and periodic coefficients do.
    """
    decays: dict[int, float] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            free = parameter.ndim < 2 or name.endswith("bias") or isinstance(module, nn.Embedding)
            usual = 0.0 if free or decays.get(id(parameter)) == 0.0 else weight_decay
            decays[id(parameter)] = getattr(module, "weight_decay", usual)
    groups: dict[float, list[nn.Parameter]] = {weight_decay: [], 0.0: []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault(decays[id(parameter)], []).append(parameter)
    return [{"params": parameters, "weight_decay": decay} for decay, parameters in groups.items()]


def rate_at(update: int, total: int, peak: float, warmup: float, floor: float = 0.0) -> float:
    """Return the learning rate of an update: linear warm-up, then a cosine to a floor.

    Args:
        update: number of the update, from 0.
        total: updates of the whole training.
        peak: highest rate.
        warmup: share of the updates in which the rate rises.
        floor: rate at the end, as a share of the peak.
    """
    warm = max(1, round(warmup * total))
    if update < warm:
        return peak * (update + 1) / warm
    done = min(1.0, (update - warm) / max(1, total - warm))
    low = floor * peak
    return low + (peak - low) * 0.5 * (1 + math.cos(math.pi * done))
