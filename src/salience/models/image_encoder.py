"""What image encoders share: reading, standardising, cutting in regions, shifting, joining again."""

from abc import abstractmethod
from typing import Any

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from PIL.Image import Resampling
from torch import Tensor, nn

from salience.core.errors import ConfigError
from salience.core.unit import Unit
from salience.data.images import load_image
from salience.data.kinds import KINDS, is_missing
from salience.models.slots import Encoder, Tokens
from salience.nn.watch import show

GRID = KINDS["image"].grid
SAMPLE = 2000  # training images that colour statistics are taken from


class ImageEncoder(Encoder):
    """Encode one image column by a network that its subclass builds.

    A token is one cell of a 4×4 grid of the image, with its pixels as values; its unit is the region.

    Args:
        columns: name of the image column (one).
        size: images are resized to ``size × size`` pixels; rounded down to a multiple of 4, at least 4.
        shift: largest random shift in training, as a share of the size.
        flip: whether training mirrors half of the images.

    Raises:
        ConfigError: ``size`` is below 4.
    """

    kind = "image"
    network: nn.Module

    def __init__(self, columns: list[str], size: int, shift: float, flip: bool) -> None:
        super().__init__(columns)
        if size < GRID:
            raise ConfigError(
                "The image encoder is too small", f"size={size}.", f"Use a size of at least {GRID} pixels."
            )
        self.size = size - size % GRID
        self.shift, self.flip = round(shift * self.size), flip

    @abstractmethod
    def build_network(self) -> nn.Module:
        """Return the network with new parameters; it takes standardised images ``batch channel height width``."""

    def fit(self, frame: pd.DataFrame, target: np.ndarray, generator: torch.Generator) -> None:
        """Learn mean and spread of each colour from at most 2,000 training images."""
        chosen = torch.randperm(len(frame), generator=generator)[:SAMPLE].sort().values.numpy()
        images = [image for image in self.prepare(frame.iloc[chosen]) if image is not None]
        pixels = np.stack(images).reshape(-1, 3) / 255 if images else np.zeros((1, 3))
        self._build(pixels.mean(axis=0).tolist(), np.maximum(pixels.std(axis=0), 1e-2).tolist())

    def _build(self, mean: list[float], std: list[float]) -> None:
        self._colour = {"mean": mean, "std": std}
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)
        self.network = self.build_network()

    def state(self) -> dict[str, Any]:
        """Return the colour statistics."""
        return self._colour

    def restore(self, state: dict[str, Any]) -> None:
        """Rebuild from :meth:`state`."""
        self._build(state["mean"], state["std"])

    def prepare(self, frame: pd.DataFrame) -> list[np.ndarray | None]:
        """Return each image as ``size × size × 3`` bytes, None for a missing one.

        Raises:
            DataError: an image is absent, damaged or too large; the message names row and column.
        """
        column = self.columns[0]
        return [self._pixels(value, f"row {row}, column {column!r}") for row, value in frame[column].items()]

    def _pixels(self, value: Any, where: str) -> np.ndarray | None:
        if is_missing(value):
            return None
        image = load_image(value, where)
        return np.asarray(image.resize((self.size, self.size), Resampling.BILINEAR), dtype=np.uint8)

    def collate(self, examples: list[np.ndarray | None]) -> dict[str, Tensor]:
        """Stack the images and say which are present."""
        blank = np.zeros((self.size, self.size, 3), np.uint8)
        pixels = np.stack([blank if image is None else image for image in examples])
        present = torch.tensor([image is not None for image in examples])
        return {"pixels": torch.from_numpy(pixels), "present": present}

    def _standard(self, batch: dict[str, Tensor]) -> Float[Tensor, "batch height width channel"]:
        image = (batch["pixels"].float() / 255 - self.mean) / self.std
        return image * batch["present"][:, None, None, None]  # a missing image has the mean colour

    def _tokens(
        self, image: Float[Tensor, "batch height width channel"], present: Bool[Tensor, "batch"]
    ) -> Tokens:
        values = rearrange(image, "b (i h) (j w) c -> b (i j) (h w c)", i=GRID, j=GRID)
        unit = torch.arange(GRID * GRID, device=image.device).expand(len(image), -1)
        mask = torch.ones_like(unit, dtype=torch.bool)
        return Tokens(values, mask, torch.where(present[:, None], unit, -1))

    def embed(self, batch: dict[str, Tensor]) -> Tokens:
        """Standardise the colours and cut the image in regions; training shifts and mirrors it."""
        image = self._standard(batch)
        return self._tokens(self._augment(image) if self.training else image, batch["present"])

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
        image = self._standard(batch)
        return self._tokens(image.mean(dim=(1, 2), keepdim=True).expand_as(image), batch["present"])

    def image(self, tokens: Tokens) -> Float[Tensor, "batch channel height width"]:
        """Join the regions to images again."""
        h = self.size // GRID
        return rearrange(tokens.values, "b (i j) (h w c) -> b c (i h) (j w)", i=GRID, j=GRID, h=h, w=h)

    @staticmethod
    def encoded(
        tokens: Tokens, features: Float[Tensor, "batch channel height width"]
    ) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        """Return the regions in context, and the mean and the maximum of each channel.

        The mean alone differs little between images where no batch statistics rescale it, and learns slowly.
        """
        regions = nn.functional.adaptive_avg_pool2d(show("feature_map", features), GRID)
        vector = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        return tokens.with_values(rearrange(regions, "b c i j -> b (i j) c")), vector

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return the regions of the grid."""
        return KINDS["image"].units(self.columns[0], row[self.columns[0]])
