"""Dropout with cheap random bits: on a processor, torch's own takes longer than the layers around it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEVELS = 2**16  # of the rate: each number is dropped by 16 random bits of its own


class Dropout(nn.Dropout):
    """Set a random share of numbers to zero in training and scale the others up, as ``nn.Dropout``.

    On a processor four decisions are cut from one random 64-bit integer, so the rate is rounded to a multiple of
    2⁻¹⁶; the scale is that of the rounded rate, so the mean is kept. Elsewhere it is ``nn.Dropout``.

    Args:
        p: share that is dropped, in [0, 1).
    """

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Drop numbers in training; in evaluation return the input."""
        dropped = round(self.p * LEVELS)
        if not self.training or not 0 < dropped < LEVELS or x.device.type != "cpu" or self.inplace:
            return super().forward(x)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - LEVELS // 2
        return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))
