"""Which parameters decay, and the learning rate of each step."""

import math
from typing import Any

from torch import nn


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split trainable parameters in decayed matrices and the rest (biases, norms, embeddings)."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim >= 2 and id(p) not in embeddings]
    kept = {id(p) for p in decayed}
    others = [p for p in parameters if id(p) not in kept]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def rate_at(update: int, total: int, peak: float, warmup: float) -> float:
    """Return the learning rate of an update: linear warm-up, then a cosine to zero.

    Args:
        update: number of the update, from 0.
        total: updates of the whole training.
        peak: highest rate.
        warmup: share of the updates in which the rate rises.
    """
    warm = max(1, round(warmup * total))
    if update < warm:
        return peak * (update + 1) / warm
    done = min(1.0, (update - warm) / max(1, total - warm))
    return peak * 0.5 * (1 + math.cos(math.pi * done))
