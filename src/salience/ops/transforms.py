"""Whether a function is being transformed, so that an operation must offer more than a backward pass of its own."""

import torch
from torch.autograd import forward_ad


def transformed() -> bool:
    """Return whether a transform of ``torch.func`` or forward mode is at work, or a compiler."""
    active = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    return active or torch.compiler.is_compiling()
