"""Activation functions by the names that the papers use, shared by the blocks of this folder."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from salience.core.errors import ConfigError, nearest

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"elu": F.elu, "relu": F.relu, "selu": F.selu}


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """Return the function of that name; raise `ConfigError` for any other name than elu, relu, selu."""
    if name not in ACTIVATIONS:
        raise ConfigError("Unknown activation", f"activation={name!r}.", nearest(name, ACTIVATIONS))
    return ACTIVATIONS[name]
