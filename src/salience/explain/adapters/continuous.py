"""A torch module that reads numbers or images, seen as a model of rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from salience.core.errors import ConfigError
from salience.core.unit import Unit
from salience.data.images import load_image
from salience.data.kinds import Image, is_missing, pixel_box
from salience.data.schema import Column, Schema
from salience.explain.adapters.base import Adapted, check_answers
from salience.explain.adapters.raw import Raw
from salience.explain.state import frozen
from salience.models.slots import Tokens

BATCH_NUMBERS = 2**19  # input numbers of one forward pass
ENCODER = "input"


class Continuous(Protocol):
    """Turn a row into numbers in tokens, and tokens into what the module reads.

    ``unit`` gives each token's unit.
    """

    columns: list[Column]
    unit: Int[np.ndarray, " token"]
    dim: int
    neutral_words: str

    def read(
        self, row: dict[str, Any]
    ) -> tuple[Float[np.ndarray, "token dim"], Float[np.ndarray, "token dim"]]:
        """Return the numbers of a row, and the neutral numbers in their place."""

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return the units of a row; a row without units keeps its neutral numbers."""

    def remove(self, row: dict[str, Any], units: Sequence[Unit]) -> dict[str, Any]:
        """Return the row with neutral numbers in place of these units."""

    def shape(self, values: Float[Tensor, "row token dim"]) -> Tensor:
        """Return the module's input."""


class ContinuousModel(Adapted, nn.Module):
    """A white box around a module that reads numbers.

    Args:
        module: the module.
        reader: makes numbers of rows.
        forward: calls the module with its input.
        raw: makes outputs of what the module returns.
        schema: columns, target and classes.
    """

    def __init__(self, module: nn.Module, reader: Continuous, forward: Any, raw: Raw, schema: Schema) -> None:
        super().__init__()
        self.module, self.reader, self.call, self.raw, self.schema = module, reader, forward, raw, schema
        self.try_out()

    @property
    def neutral_words(self) -> str:
        """The neutral input, in words."""
        return self.reader.neutral_words

    def try_out(self) -> None:
        """Call the module once with zeros.

        Raises:
            ConfigError: the call fails, or its answer has another shape than (rows, outputs) (SAL-M003).
        """
        x = self.reader.shape(self._tensor(np.zeros((2, len(self.reader.unit), self.reader.dim))))
        with frozen(self), torch.no_grad():
            try:
                answer = self.call(self.module, x)
            except Exception as error:
                raise ConfigError(
                    "The module cannot be called with this input",
                    f"A trial call with the shape {tuple(x.shape)} failed: {type(error).__name__}: {error}",
                    "Say how it is called: forward=lambda module, x: module(…).",
                    code="SAL-M003",
                ) from error
            self.raw.logits(answer, len(x))

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return cells or regions."""
        return self.reader.units(row)

    def remove(self, row: dict[str, Any], units: Sequence[Unit]) -> dict[str, Any]:
        """Return the row with neutral numbers in place of these units."""
        return self.reader.remove(row, units)

    def outputs(self, frame: pd.DataFrame) -> Float[np.ndarray, "row output"]:
        """Return logits of each class, or the predicted number, in evaluation mode."""
        rows = frame[[column.name for column in self.reader.columns]].to_dict("records")
        found = self.outputs_without(rows, [np.zeros((1, len(self.units(row))), dtype=bool) for row in rows])
        return np.concatenate(found) if found else np.zeros((0, self.raw.width))

    @torch.no_grad()
    def outputs_without(
        self, rows: Sequence[dict[str, Any]], removed: Sequence[Bool[np.ndarray, "set unit"]]
    ) -> list[Float[np.ndarray, "set output"]]:
        """Return the outputs of rows without sets of their units, as ``outputs`` of ``remove`` would."""
        parts: list[np.ndarray] = []
        with frozen(self):
            for values in self._packed(rows, removed):
                output = self.raw.logits(self.call(self.module, self.reader.shape(values)), len(values))
                found = output.double().cpu().numpy()
                parts.append(check_answers(found, len(values), self.schema.classes, self.raw.source))
        whole = np.concatenate(parts) if parts else np.zeros((0, self.raw.width))
        return np.split(whole, np.cumsum([len(sets) for sets in removed])[:-1]) if len(removed) else []

    def _packed(
        self, rows: Sequence[dict[str, Any]], removed: Sequence[Bool[np.ndarray, "set unit"]]
    ) -> Iterator[Float[Tensor, "line token dim"]]:
        room = capacity = max(1, BATCH_NUMBERS // max(1, len(self.reader.unit) * self.reader.dim))
        waiting: list[Tensor] = []
        for row, sets in zip(rows, removed, strict=True):
            values, neutral = map(self._tensor, self.reader.read(row))
            start = 0
            while start < len(sets):
                part = sets[start : start + room]
                gone = np.pad(part, ((0, 0), (0, 1)))[:, self.reader.unit if part.shape[1] else [-1]]
                taken = torch.from_numpy(gone).to(values.device)[..., None]
                waiting.append(torch.where(taken, neutral, values))
                start, room = start + len(part), room - len(part)
                if not room:
                    yield torch.cat(waiting)
                    waiting, room = [], capacity
        if waiting:
            yield torch.cat(waiting)

    def _tensor(self, values: np.ndarray) -> Tensor:
        like = next((p for p in self.module.parameters() if p.is_floating_point()), torch.zeros(()))
        return torch.tensor(values).to(like)

    # -- white box -----------------------------------------------------------------------------------

    def prepare(self, frame: pd.DataFrame) -> list[Any]:
        """Return numbers, neutral numbers and units of each row."""
        rows = frame[[column.name for column in self.reader.columns]].to_dict("records")
        none = np.full_like(self.reader.unit, -1)
        return [(*self.reader.read(row), self.reader.unit if self.units(row) else none) for row in rows]

    def collate(self, examples: list[Any]) -> dict[str, Tensor]:
        """Stack the rows."""
        values, neutral, unit = (np.stack(part) for part in zip(*examples, strict=True))
        found = {"values": self._tensor(values), "neutral": self._tensor(neutral)}
        return {**found, "unit": torch.from_numpy(unit).to(found["values"].device)}

    def embed(self, batch: dict[str, Tensor]) -> dict[str, Tokens]:
        """Return the numbers."""
        mask = torch.ones_like(batch["unit"], dtype=torch.bool)
        return {ENCODER: Tokens(batch["values"], mask, batch["unit"])}

    def baseline(self, batch: dict[str, Tensor]) -> dict[str, Tokens]:
        """Return the neutral numbers."""
        return self.embed({**batch, "values": batch["neutral"]})

    def forward_tokens(self, tokens: dict[str, Tokens]) -> Float[Tensor, "batch output"]:
        """Return outputs of numbers."""
        values = tokens[ENCODER].values
        return self.raw.logits(self.call(self.module, self.reader.shape(values)), len(values))

    def finish(self, output: Tensor) -> Tensor:
        """Return the outputs as they are."""
        return output

    def unit_offsets(self, row: dict[str, Any]) -> dict[str, int]:
        """Return where the units begin: at the first."""
        return {ENCODER: 0}


class FeatureInput:
    """Say which numbers a row gives, in the order of the module's features [batch, features].

    Args:
        features: a frame of number columns, whose medians are the neutral values; or names of columns, which are
            neutral at 0.
        neutral: other neutral values, by column.
    """

    dim = 1

    def __init__(
        self, features: pd.DataFrame | Sequence[str], *, neutral: Mapping[str, float] | None = None
    ) -> None:
        given = dict(neutral or {})
        if isinstance(features, pd.DataFrame):
            given = features.median(numeric_only=True).fillna(0.0).to_dict() | given
        names = [str(name) for name in features]
        self.columns = [Column(n, "number", "input", baseline=float(given.get(n, 0.0))) for n in names]
        unknown = sorted(set(given) - set(names))
        if unknown or not names:
            raise ConfigError(
                "The neutral values name columns that are no features"
                if unknown
                else "There are no features",
                ", ".join(unknown[:6]),
                f"Features: {', '.join(names[:12])}." if names else "Name the columns.",
            )
        self.unit = np.arange(len(names))
        self.neutral_words = (
            "training medians" if isinstance(features, pd.DataFrame) else "the neutral values"
        )

    def read(self, row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return the cells, a missing one as its neutral value, and the neutral values."""
        neutral = np.array([[column.baseline] for column in self.columns])
        values = np.array([[row[column.name]] for column in self.columns], dtype=np.float64)
        return np.where(np.isfinite(values), values, neutral), neutral

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return the cells."""
        from salience.data.kinds import KINDS

        return tuple(u for c in self.columns for u in KINDS["number"].units(c.name, row[c.name]))

    def remove(self, row: dict[str, Any], units: Sequence[Unit]) -> dict[str, Any]:
        """Return the row with neutral values in these cells."""
        neutral = {column.name: column.baseline for column in self.columns}
        return {**row, **{unit.column: neutral[unit.column] for unit in units}}

    def shape(self, values: Float[Tensor, "row token 1"]) -> Float[Tensor, "row token"]:
        """Return the features of each row."""
        return values.squeeze(-1)


class ImageInput:
    """Say how the picture of a row becomes a tensor [batch, channel, height, width].

    A picture is resized, divided by 255, and standardised. Units are the regions of a grid; a removed region gets
    the mean colour of the picture.

    Args:
        size: height and width, in pixels; one number for a square.
        channels: 3 for colours, 1 for grey.
        mean, std: by which values in [0, 1] are standardised, one number or one a channel.
        grid: regions a side.
        column: name of the image column.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        *,
        channels: int = 3,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        grid: int = 4,
        column: str = "image",
    ) -> None:
        self.height, self.width = (size, size) if isinstance(size, int) else size
        if channels not in (1, 3) or not 1 <= grid <= min(self.height, self.width):
            raise ConfigError(
                "An image is read with 1 or 3 channels, in regions of a pixel or more",
                f"channels={channels}, grid={grid}, {self.height} × {self.width} pixels.",
                "Give channels=1 for grey, 3 for colours, and at most as many regions a side as pixels.",
                code="SAL-C005",
            )
        self.dim, self.kind = channels, Image(grid)
        self.columns = [Column(column, "image", "input")]
        self.mean, self.std = (np.broadcast_to(np.asarray(x, float), channels) for x in (mean, std))
        self.neutral_words = "the mean colour"
        self.unit = self._regions().ravel()

    def _regions(self) -> Int[np.ndarray, "height width"]:
        region = np.zeros((self.height, self.width), dtype=np.int64)
        for i, unit in enumerate(self.kind.units("", True)):
            left, top, right, bottom = pixel_box(unit.locator, (self.width, self.height))
            region[top:bottom, left:right] = i
        return region

    def _picture(self, value: Any) -> Any:
        from PIL.Image import Resampling

        picture = load_image(value).convert("L" if self.dim == 1 else "RGB")
        return picture.resize((self.width, self.height), Resampling.BILINEAR)

    def read(self, row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels and the mean colour; a missing picture is grey throughout."""
        value = row[self.columns[0].name]
        if is_missing(value):
            blank = np.zeros((len(self.unit), self.dim))
            return blank, blank
        pixels = np.asarray(self._picture(value), dtype=np.float64).reshape(-1, self.dim)
        colour = pixels.mean(axis=0).round()  # whole numbers, as in a picture with removed regions
        values, neutral = ((x / 255 - self.mean) / self.std for x in (pixels, colour))
        return values, np.broadcast_to(neutral, values.shape)

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return the regions of the grid; none for a missing picture."""
        name = self.columns[0].name
        return () if is_missing(row[name]) else self.kind.units(name, row[name])

    def remove(self, row: dict[str, Any], units: Sequence[Unit]) -> dict[str, Any]:
        """Return the row with the mean colour in these regions, at the size that the module reads."""
        name = self.columns[0].name
        if not units or is_missing(row[name]):
            return row
        return {**row, name: self.kind.remove(self._picture(row[name]).convert("RGB"), units)}

    def shape(self, values: Float[Tensor, "row token dim"]) -> Float[Tensor, "row dim height width"]:
        """Return the pictures of each row."""
        return values.transpose(1, 2).reshape(len(values), self.dim, self.height, self.width)
