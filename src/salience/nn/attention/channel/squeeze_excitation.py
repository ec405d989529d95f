"""Squeeze-and-excitation: one gate a channel, from the channel means."""

from jaxtyping import Float
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate in (0, 1) computed from the means of all channels.

    Args:
        channels: number of channels.
        reduction: ratio of channels to hidden units; at least one unit is kept.

    Source:
        Hu, Shen, Sun: Squeeze-and-Excitation Networks (CVPR 2018), section 3.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.gate = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def weights(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel"]:
        """Return the gates."""
        return self.gate(x.mean(dim=(2, 3)))

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        """Return the scaled map."""
        return x * self.weights(x)[..., None, None]
