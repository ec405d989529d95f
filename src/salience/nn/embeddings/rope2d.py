"""Rotary positions on a grid: half of the features turn with the row, half with the column."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.errors import ConfigError

BASE = 10000.0


class RotaryEmbedding2D(nn.Module):
    """Give the cosines and sines by which features are rotated at each cell of a grid.

    The frequencies are 10000^(−j/(J−1)), j = 0 … J−1 with J = head_dim/4, each twice; the first half of the head's
    features uses them with the index of the row, the second half with that of the column. The last grid is kept.

    Args:
        head_dim: features of a head; divisible by 4, for two pairs.

    Raises:
        ConfigError: ``head_dim`` is not divisible by 4.

    Source: the published RALA code (arXiv 2411.07635), whose state dict holds ``angle``.
    """

    angle: Tensor

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        if head_dim < 4 or head_dim % 4:
            raise ConfigError(
                "2-D rotary positions need features in fours",
                f"head_dim={head_dim}.",
                "Choose width and number of heads so that width / heads is divisible by 4.",
            )
        device = (
            torch.get_default_device()
        )  # said aloud, since loading with transformers makes linspace forget it
        frequencies = 1 / BASE ** torch.linspace(0, 1, head_dim // 4, device=device)
        self.register_buffer("angle", frequencies.repeat_interleave(2))
        self._cached: tuple[tuple, tuple[Tensor, Tensor]] | None = None

    def forward(
        self, height: int, width: int
    ) -> tuple[Float[Tensor, "token head_dim"], Float[Tensor, "token head_dim"]]:
        """Return cosines and sines for the cells of a grid, row by row.

        Args:
            height: rows of the grid.
            width: columns of the grid.
        """
        # a loaded state dict or a moved module changes the angles: their version and place are part of the key
        key = (height, width, self.angle.device, self.angle.dtype, self.angle._version, self.angle.data_ptr())
        if self._cached is None or self._cached[0] != key:
            self._cached = (key, self._table(height, width))
        return self._cached[1]

    @torch.inference_mode(False)
    @torch.no_grad()
    def _table(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        angle = self.angle.clone()
        rows = torch.arange(height, device=angle.device, dtype=angle.dtype)[:, None] * angle
        columns = torch.arange(width, device=angle.device, dtype=angle.dtype)[:, None] * angle
        grid = (height, width, len(angle))
        both = torch.cat((rows[:, None].expand(grid), columns[None].expand(grid)), dim=-1).flatten(0, 1)
        return both.cos(), both.sin()
