"""In which precision sums over tokens are taken."""

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor


def exact_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of sums and states: float64 for float64 inputs, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def wide(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return float32 for 16-bit numbers, and anything wider as it is."""
    return x.to(exact_dtype(x))


def full_precision(device: torch.device) -> AbstractContextManager:
    """Switch autocast off inside: means, softmax and sums over all tokens lose too much in 16 bits."""
    on = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else nullcontext()
