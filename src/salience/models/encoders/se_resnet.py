"""Image encoder: a small residual network with squeeze-and-excitation."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.unit import Unit
from salience.data.kinds import KINDS, load_image
from salience.models.slots import Encoder, Tokens
from salience.nn.attention.channel.squeeze_excitation import SqueezeExcitation

CARD = {
    "key": "se_resnet",
    "kind": "encoder",
    "title": "Small residual network with squeeze-and-excitation",
    "entry": "SEResNetEncoder",
    "summary": "Three stages of residual blocks, each block gated by channel; for images of 16 to 64 pixels.",
    "paper": "Deep Residual Learning (He et al., 2016); Squeeze-and-Excitation Networks (Hu, Shen, Sun, 2018)",
    "year": 2018,
    "url": "https://arxiv.org/abs/1709.01507",
    "deviates": "Group normalisation in place of batch normalisation: no running statistics, any batch size.",
    "kinds": ["image"],
    "cost": "O(pixels × width²) a row",
    "defaults": {"size": 32, "width": 32, "blocks": 2},
    "tiny": {"size": 8, "width": 8, "blocks": 1},
}
GRID = 4


class Block(nn.Module):
    """Add a gated pair of 3×3 convolutions to the input.

    Args:
        channels_in: channels of the input.
        channels: channels of the output.
        stride: step of the first convolution.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        groups = min(8, channels)
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False),
            nn.GroupNorm(groups, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.GroupNorm(groups, channels),
            SqueezeExcitation(channels),
        )
        same = stride == 1 and channels_in == channels
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch out h w"]:
        """Return the block's output."""
        return torch.relu(self.skip(x) + self.body(x))


class SEResNetEncoder(Encoder):
    """Encode one image column.

    A token is one cell of a 4×4 grid of the image, with its pixels as values; its unit is the region.

    Args:
        columns: name of the image column (one).
        size: images are resized to ``size × size`` pixels; a multiple of 4.
        width: channels of the first stage; each of the three stages doubles it.
        blocks: residual blocks a stage.
        shift: largest random shift in training, as a share of the size.
        flip: whether training mirrors half of the images.
    """

    kind = "image"

    def __init__(
        self,
        columns: list[str],
        size: int = 32,
        width: int = 32,
        blocks: int = 2,
        shift: float = 0.1,
        flip: bool = False,
    ) -> None:
        super().__init__(columns)
        self.size, self.width, self.blocks, self.dim = size - size % GRID, width, blocks, 4 * width
        self.shift, self.flip = int(round(shift * size)), flip

    def fit(self, frame: pd.DataFrame, generator: torch.Generator) -> None:
        """Learn mean and spread of each colour from at most 2,000 training images."""
        images = np.stack(self.prepare(frame.iloc[:2000])).astype(np.float64) / 255
        present = images[images.reshape(len(images), -1).max(1) > 0] if len(images) else images
        present = present if len(present) else images
        self._build(
            present.mean(axis=(0, 1, 2)).tolist(), np.maximum(present.std(axis=(0, 1, 2)), 1e-3).tolist()
        )

    def _build(self, mean: list[float], std: list[float]) -> None:
        self._colour = {"mean": mean, "std": std}
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)
        layers: list[nn.Module] = [
            nn.Conv2d(3, self.width, 3, 1, 1, bias=False),
            nn.GroupNorm(min(8, self.width), self.width),
            nn.ReLU(),
        ]
        channels = self.width
        for stage in range(3):
            for block in range(self.blocks):
                out = self.width * 2**stage
                layers.append(Block(channels, out, 2 if stage and not block else 1))
                channels = out
        self.network = nn.Sequential(*layers)

    def state(self) -> dict[str, Any]:
        """Return the colour statistics."""
        return self._colour

    def restore(self, state: dict[str, Any]) -> None:
        """Rebuild from :meth:`state`."""
        self._build(state["mean"], state["std"])

    def prepare(self, frame: pd.DataFrame) -> list[np.ndarray]:
        """Return each image as ``size × size × 3`` bytes; a missing image is black."""
        return [self._pixels(value, row) for row, value in enumerate(frame[self.columns[0]])]

    def _pixels(self, value: Any, row: int) -> np.ndarray:
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return np.zeros((self.size, self.size, 3), np.uint8)
        image = load_image(value, f"row {row}, column {self.columns[0]!r}")
        return np.asarray(image.resize((self.size, self.size)), dtype=np.uint8)

    def collate(self, examples: list[np.ndarray]) -> dict[str, Tensor]:
        """Stack the images."""
        return {"pixels": torch.from_numpy(np.stack(examples))}

    def _tokens(self, image: Float[Tensor, "batch height width channel"]) -> Tokens:
        values = rearrange(image, "b (i h) (j w) c -> b (i j) (h w c)", i=GRID, j=GRID)
        unit = torch.arange(GRID * GRID, device=image.device).expand(len(image), -1)
        return Tokens(values, torch.ones_like(unit, dtype=torch.bool), unit)

    def embed(self, batch: dict[str, Tensor]) -> Tokens:
        """Standardise the colours and cut the image in regions; training shifts and mirrors it."""
        image = (batch["pixels"].float() / 255 - self.mean) / self.std
        return self._tokens(self._augment(image) if self.training else image)

    def _augment(self, image: Float[Tensor, "batch height width channel"]) -> Tensor:
        if self.shift:
            down, right = torch.randint(-self.shift, self.shift + 1, (2,)).tolist()
            image = image.roll((down, right), dims=(1, 2))
        if self.flip:
            mirrored = torch.rand(len(image), 1, 1, 1, device=image.device) < 0.5
            image = torch.where(mirrored, image.flip(2), image)
        return image

    def baseline(self, batch: dict[str, Tensor]) -> Tokens:
        """Return images of the mean colour of each image, as removing every region does."""
        image = (batch["pixels"].float() / 255 - self.mean) / self.std
        return self._tokens(image.mean(dim=(1, 2), keepdim=True).expand_as(image))

    def encode(self, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        """Join the regions, run the network, and pool."""
        h = self.size // GRID
        image = rearrange(tokens.values, "b (i j) (h w c) -> b c (i h) (j w)", i=GRID, j=GRID, h=h, w=h)
        features = self.network(image)
        regions = nn.functional.adaptive_avg_pool2d(features, GRID)
        return tokens.with_values(rearrange(regions, "b c i j -> b (i j) c")), features.mean(dim=(2, 3))

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return the regions of the grid."""
        return KINDS["image"].units(self.columns[0], row[self.columns[0]])
