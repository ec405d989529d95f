"""Hand-set models and rows with known answers, for tests of explainers, checks and reports.

:class:`LinearToy` is a bag of words plus weighted numbers, categories and image regions. Its weights are written
down here, so the exact contribution of every unit is known. It serves both protocols of
:mod:`salience.explain.model`: the black box is plain numpy, the white box is torch with one token a unit.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from salience.core.metrics import as_predictions
from salience.core.unit import Unit
from salience.data.images import load_image
from salience.data.kinds import KINDS
from salience.data.schema import Column, Schema
from salience.data.words import words as cut_words
from salience.models.slots import Tokens
from salience.nn.watch import show, watched, within

TEXTS, IMAGES, NUMBERS, CATEGORIES = ("title", "review"), ("photo",), ("age", "price"), ("department",)
MEDIANS = {"age": 40.0, "price": 20.0}
WORDS = {
    "great": 2.0, "love": 1.5, "good": 1.0, "soft": 0.5,
    "awful": -2.0, "poor": -1.5, "bad": -1.0, "thin": -0.5,
    "dress": 0.0, "the": 0.0, "is": 0.0, "fits": 0.25, ",": 0.0, ".": 0.0,
}  # fmt: skip
SLOPES = {"age": 0.02, "price": -0.05}
DEPARTMENTS = {"dresses": 0.75, "tops": -0.5, "shoes": 0.0}
GRID = KINDS["image"].grid
REGIONS = np.linspace(-1.0, 2.0, GRID * GRID)
DIRECTIONS = {
    "binary": (-0.5, 0.5), "multiclass": (-1.0, 0.25, 0.5), "regression": (1.0,),
    "multi-label": (1.0, -0.75, 0.5), "multi-regression": (1.0, -5.0),
}  # fmt: skip
CLASSES = {"binary": ("no", "yes"), "multiclass": ("bad", "fair", "good")}
TARGET = {"binary": "recommended", "multiclass": "rating", "regression": "score"}
TARGETS = {"multi-label": ("liked", "returned", "shared"), "multi-regression": ("score", "complaints")}
Row = dict[str, Any]


class ToyFailureError(RuntimeError):
    """Raised on purpose by a toy that was told to fail."""


def toy_schema(task: str = "binary", *, image: bool = False) -> Schema:
    """Return the schema of :func:`toy_frame`.

    Args:
        task: ``"binary"``, ``"multiclass"`` (three classes), ``"regression"``, ``"multi-label"`` or
            ``"multi-regression"``.
        image: whether there is an image column.
    """
    inputs = [(c, "text", "") for c in TEXTS] + [(c, "image", None) for c in IMAGES if image]
    inputs += [(c, "number", MEDIANS[c]) for c in NUMBERS] + [(c, "category", None) for c in CATEGORIES]
    columns = [Column(name, kind, "input", baseline=neutral) for name, kind, neutral in inputs]
    targets = TARGETS.get(task) or (TARGET[task],)
    columns += [Column(t, "number" if task.endswith("regression") else "category", "target") for t in targets]
    classes = list(CLASSES[task]) if task in CLASSES else None
    return Schema(tuple(columns), "classification" if classes else task, classes)


def toy_frame(rows: int = 32, seed: int = 0, task: str = "binary", *, image: bool = False) -> pd.DataFrame:
    """Return random rows whose target follows the linear toy with a little noise.

    Args:
        rows: number of rows.
        seed: seed of the rows.
        task: as for :func:`toy_schema`.
        image: whether there is an image column, of 8 × 8 pixels.
    """
    rng = np.random.default_rng(seed)
    cells = {
        "title": [_text(rng, 1, 4) for _ in range(rows)],
        "review": [_text(rng, 2, 10) for _ in range(rows)],
        "age": rng.integers(18, 80, rows).astype(float),
        "price": np.round(rng.uniform(5, 60, rows), 2),
        "department": rng.choice(list(DEPARTMENTS), rows).astype(object),
    }
    if image:
        cells["photo"] = [_photo(rng) for _ in range(rows)]
    frame = pd.DataFrame(cells)
    outputs = LinearToy(task, image=image).outputs(frame)
    noisy = outputs + rng.gumbel(0, 0.5, outputs.shape)
    if task in TARGETS:
        answers = noisy if task == "multi-regression" else (noisy > 0).astype(int)
        return frame.assign(**dict(zip(TARGETS[task], answers.T, strict=True)))
    if task == "regression":
        return frame.assign(**{TARGET[task]: noisy[:, 0]})
    return frame.assign(**{TARGET[task]: [CLASSES[task][i] for i in noisy.argmax(axis=1)]})


def _text(rng: np.random.Generator, low: int, high: int) -> str:
    return " ".join(rng.choice(list(WORDS), rng.integers(low, high)))


def _photo(rng: np.random.Generator) -> Any:
    """Return a grey picture whose regions are flat and whose mean is a whole number, so that filling is exact."""
    from PIL import Image

    levels = rng.integers(40, 200, GRID * GRID)
    levels[-1] += -levels.sum() % (GRID * GRID)
    pixels = levels.reshape(GRID, GRID).repeat(2, axis=0).repeat(2, axis=1).astype(np.uint8)
    return Image.fromarray(pixels).convert("RGB")


def _brightness(image: Any) -> np.ndarray:
    """Return the mean brightness of each region, in [0, 1]."""
    pixels = np.asarray(load_image(image), dtype=float).mean(axis=2) / 255
    rows = np.array_split(pixels, GRID, axis=0)
    return np.array([part.mean() for row in rows for part in np.array_split(row, GRID, axis=1)])


class LinearToy(nn.Module):
    """Add up hand-set weights of words, image regions, numbers and categories.

    Args:
        task: as for :func:`toy_schema`.
        variant: ``"linear"``; ``"zero"``, where nothing matters; ``"nonlinear"``, where the words saturate
            and interact with the category.
        image: whether there is an image column.
        fail_after: raise :class:`ToyFailureError` after this many calls of the model.
    """

    def __init__(
        self,
        task: str = "binary",
        variant: str = "linear",
        *,
        image: bool = False,
        fail_after: int | None = None,
    ) -> None:
        super().__init__()
        self.schema, self.task, self.variant = toy_schema(task, image=image), task, variant
        self.fail_after, self.calls, self.rows_seen = fail_after, 0, 0
        self.direction = np.array(DIRECTIONS[task]) * (variant != "zero")
        self.bias = np.linspace(-0.1, 0.2, len(self.direction)) * (variant != "zero")
        self.vocabulary = ["", *WORDS]
        self.text = self._table([0.0, *WORDS.values()])
        self.number = self._table([SLOPES[c] for c in NUMBERS])
        self.category = self._table([0.0, *DEPARTMENTS.values()])
        self.region = self._table(REGIONS)
        self.dropout = nn.Dropout(0.5)  # evaluation mode must switch it off

    def _table(self, weights: Any) -> nn.Parameter:
        table = np.asarray(weights, dtype=float)[:, None] * self.direction
        return nn.Parameter(torch.from_numpy(table))

    def _count(self, rows: int) -> None:
        self.calls += 1
        self.rows_seen += rows
        if self.fail_after is not None and self.calls > self.fail_after:
            raise ToyFailureError("the toy was told to fail")

    @property
    def groups(self) -> dict[str, list[str]]:
        """Columns of each encoder, in the order of the units."""
        kinds = ("text", "image", "number", "category")
        found = {kind: [c.name for c in self.schema.inputs if c.kind == kind] for kind in kinds}
        return {kind: columns for kind, columns in found.items() if columns}

    # -- known answers -------------------------------------------------------------------------------

    def contributions(self, row: Row) -> np.ndarray:
        """Return what each unit adds to each output of the linear toy, shape (unit, output)."""
        parts = self._parts(row)
        return np.concatenate([value - neutral for value, neutral in parts.values()])

    def _parts(self, row: Row) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return for each encoder the value of every unit and of its neutral input, (unit, output)."""
        values = {
            "text": [WORDS.get(w.lower(), 0.0) for c in TEXTS for w in cut_words(row[c])],
            "number": [SLOPES[c] * (row[c] - MEDIANS[c]) if np.isfinite(row[c]) else 0.0 for c in NUMBERS],
            "category": [DEPARTMENTS.get(row[c], 0.0) for c in CATEGORIES],
        }
        neutral = {name: np.zeros(len(found)) for name, found in values.items()}
        if "image" in self.groups:
            light = _brightness(row["photo"]) if row["photo"] is not None else np.zeros(0)
            values["image"] = light * REGIONS[: len(light)]
            neutral["image"] = light.sum() / max(len(light), 1) * REGIONS[: len(light)]
        return {
            n: tuple(np.reshape(x, (-1, 1)) * self.direction for x in (values[n], neutral[n]))
            for n in self.groups
        }

    # -- black box -----------------------------------------------------------------------------------

    def outputs(self, frame: pd.DataFrame) -> np.ndarray:
        """Return logits, or the target, of each row, shape (row, output), in numpy."""
        self._count(len(frame))
        rows = [self._output(row) for row in frame.to_dict("records")]
        return np.array(rows).reshape(len(frame), len(self.direction))

    def _output(self, row: Row) -> np.ndarray:
        sums = {name: values.sum(axis=0) for name, (values, _) in self._parts(row).items()}
        result = self.bias + sum(sums.values())
        if self.variant == "nonlinear":
            result[-1] += 2 * np.tanh(3 * sums["text"][-1]) * (1 + sums["category"][-1])
        return result

    def predict_proba(self, outputs: np.ndarray) -> np.ndarray:
        """Return the probabilities of classes or labels."""
        return as_predictions(self.schema.task, outputs)

    def units(self, row: Row) -> tuple[Unit, ...]:
        """Return words, image regions, numbers and categories, in this order."""
        return tuple(
            u for kind, columns in self.groups.items() for c in columns for u in KINDS[kind].units(c, row[c])
        )

    def remove(self, row: Row, units: tuple[Unit, ...]) -> Row:
        """Return the row without these units."""
        result, gone = dict(row), {}
        for unit in units:
            gone.setdefault(unit.column, []).append(unit)
        for column in self.schema.inputs:
            if column.name in gone:
                cells = KINDS[column.kind]
                result[column.name] = cells.remove(row[column.name], gone[column.name], column.baseline)
        return result

    # -- white box -----------------------------------------------------------------------------------

    def prepare(self, frame: pd.DataFrame) -> list[dict[str, np.ndarray]]:
        """Return indices of words and categories, distances of numbers from their median, brightness."""
        return [self._example(row) for row in frame.to_dict("records")]

    def _example(self, row: Row) -> dict[str, np.ndarray]:
        words = [w.lower() for c in TEXTS for w in cut_words(row[c])]
        index = [self.vocabulary.index(w) if w in WORDS else 0 for w in words]
        numbers = [row[c] - MEDIANS[c] if np.isfinite(row[c]) else 0.0 for c in NUMBERS]
        known = list(DEPARTMENTS)
        categories = [known.index(row[c]) + 1 if row[c] in DEPARTMENTS else 0 for c in CATEGORIES]
        light = np.full(GRID * GRID, np.nan)
        if "image" in self.groups and row["photo"] is not None:
            light = _brightness(row["photo"])
        return {
            "text": np.array(index, int),
            "image": light,
            "number": np.array(numbers),
            "category": np.array(categories, int),
        }

    def collate(self, examples: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
        """Pad the words of a batch."""
        longest = max([1, *(len(e["text"]) for e in examples)])
        text = np.full((len(examples), longest), -1)
        for i, example in enumerate(examples):
            text[i, : len(example["text"])] = example["text"]
        cells = {n: torch.from_numpy(np.stack([e[n] for e in examples])) for n in examples[0] if n != "text"}
        return {"text": torch.from_numpy(text), **cells}

    def embed(self, batch: dict[str, Tensor]) -> dict[str, Tokens]:
        """Return one token a unit; its vector is what the unit adds to each output."""
        return self._tokens(batch, torch.nan_to_num(batch["image"]), 1.0)

    def baseline(self, batch: dict[str, Tensor]) -> dict[str, Tokens]:
        """Return unknown words, the mean brightness, medians, missing categories."""
        light = torch.nan_to_num(batch["image"])
        return self._tokens(batch, light.mean(dim=1, keepdim=True).expand_as(light), 0.0)

    def _tokens(self, batch: dict[str, Tensor], light: Tensor, scale: float) -> dict[str, Tokens]:
        found = {
            "text": _tokens(scale * self.text[batch["text"].clamp(min=0)], batch["text"] >= 0),
            "image": _tokens(light.unsqueeze(-1) * self.region, batch["image"].isfinite()),
            "number": _tokens(scale * batch["number"].unsqueeze(-1) * self.number),
            "category": _tokens(scale * self.category[batch["category"]]),
        }
        return {name: found[name] for name in self.groups}

    def forward_tokens(self, tokens: dict[str, Tokens]) -> Tensor:
        """Return the outputs of a batch of tokens, shape (batch, output)."""
        self._count(len(tokens["text"].values))
        sums = {n: self._sum(n, t) for n, t in tokens.items()}
        result = torch.from_numpy(self.bias) + sum(sums.values())
        if self.variant != "nonlinear":
            return result
        extra = 2 * torch.tanh(3 * sums["text"][:, -1:]) * (1 + sums["category"][:, -1:])
        return torch.cat([result[:, :-1], result[:, -1:] + extra], dim=1)

    def _sum(self, name: str, tokens: Tokens) -> Tensor:
        """Return the sum of the tokens; words and regions as a pool by weights whose gradients are contributions."""
        values = self.dropout(tokens.values) * tokens.mask.unsqueeze(-1)
        if not watched() or name not in ("text", "image"):
            return values.sum(1)
        with within(name):
            weights = show("source2token", _pooling(tokens).detach().requires_grad_(True))
            show("context", values)
        return (weights * (values / weights.detach().clamp(min=1e-300))).sum(1)

    def finish(self, output: Tensor) -> Tensor:
        """Return the outputs as users see them; the toy has no temperature."""
        return output

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the outputs of a batch."""
        return self.forward_tokens(self.embed(batch))

    def unit_offsets(self, row: Row) -> dict[str, int]:
        """Return where each encoder's units begin in ``units(row)``."""
        offsets, start = {}, 0
        for kind, columns in self.groups.items():
            offsets[kind] = start
            start += sum(len(KINDS[kind].units(c, row[c])) for c in columns)
        return offsets

    def attention(self, batch: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return weights (batch, token, feature) of words and regions that follow the size of their values."""
        return {
            n: {"source2token": _pooling(t)} for n, t in self.embed(batch).items() if n in ("text", "image")
        }

    def rationale(self, batch: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return the words that add something: the toy gives the same answer without all others."""
        words = self.embed(batch)["text"]
        reads = (words.values != 0).any(-1) & words.mask
        return {"text": {"selected": reads.double(), "probability": reads.double()}}


def _pooling(tokens: Tokens) -> Tensor:
    logits = tokens.values.abs().masked_fill(~tokens.mask.unsqueeze(-1), -torch.inf)
    return torch.nan_to_num(logits.softmax(dim=1))


def _tokens(values: Tensor, mask: Tensor | None = None) -> Tokens:
    batch, length, _ = values.shape
    mask = torch.ones(batch, length, dtype=torch.bool) if mask is None else mask
    position = torch.arange(length).expand(batch, length)
    return Tokens(values, mask, torch.where(mask, position, -1))
