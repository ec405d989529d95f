"""Hand-set models and rows with known answers, for tests of explainers, checks and reports.

:class:`LinearToy` is a bag of words plus weighted numbers and categories. Its weights are written down here,
so the exact contribution of every unit is known. It serves both protocols of :mod:`salience.explain.model`:
the black box is plain numpy, the white box is torch with one token a unit.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from salience.core.unit import Unit
from salience.data.words import cut
from salience.models.slots import Tokens
from salience.testing._standin import KINDS, Column, Schema

TEXTS, NUMBERS, CATEGORIES = ("title", "review"), ("age", "price"), ("department",)
MEDIANS = {"age": 40.0, "price": 20.0}
WORDS = {
    "great": 2.0, "love": 1.5, "good": 1.0, "soft": 0.5,
    "awful": -2.0, "poor": -1.5, "bad": -1.0, "thin": -0.5,
    "dress": 0.0, "the": 0.0, "is": 0.0, "fits": 0.25, ",": 0.0, ".": 0.0,
}  # fmt: skip
SLOPES = {"age": 0.02, "price": -0.05}
DEPARTMENTS = {"dresses": 0.75, "tops": -0.5, "shoes": 0.0}
DIRECTIONS = {"binary": (-0.5, 0.5), "multiclass": (-1.0, 0.25, 0.5), "regression": (1.0,)}
CLASSES = {"binary": ("no", "yes"), "multiclass": ("bad", "fair", "good")}
TARGET = {"binary": "recommended", "multiclass": "rating", "regression": "score"}


class ToyFailureError(RuntimeError):
    """Raised on purpose by a toy that was told to fail."""


def toy_schema(task: str = "binary") -> Schema:
    """Return the schema of :func:`toy_frame`.

    Args:
        task: ``"binary"``, ``"multiclass"`` (three classes) or ``"regression"``.
    """
    kinds = [(c, "text", "") for c in TEXTS] + [(c, "number", MEDIANS[c]) for c in NUMBERS]
    kinds += [(c, "category", None) for c in CATEGORIES]
    columns = [Column(name, kind, "input", "toy", 0, 3, (), baseline) for name, kind, baseline in kinds]
    kind = "number" if task == "regression" else "category"
    columns.append(Column(TARGET[task], kind, "target", "toy", 0, 3, (), None))
    classes = list(CLASSES[task]) if task in CLASSES else None
    return Schema(tuple(columns), "classification" if classes else "regression", classes)


def toy_frame(rows: int = 32, seed: int = 0, task: str = "binary") -> pd.DataFrame:
    """Return random rows whose target follows the linear toy with a little noise.

    Args:
        rows: number of rows.
        seed: seed of the rows.
        task: ``"binary"``, ``"multiclass"`` or ``"regression"``.
    """
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "title": [_text(rng, 1, 4) for _ in range(rows)],
            "review": [_text(rng, 2, 10) for _ in range(rows)],
            "age": rng.integers(18, 80, rows).astype(float),
            "price": np.round(rng.uniform(5, 60, rows), 2),
            "department": rng.choice(list(DEPARTMENTS), rows),
        }
    )
    outputs = LinearToy(task).outputs(frame)
    noisy = outputs + rng.gumbel(0, 0.5, outputs.shape)
    if task == "regression":
        frame[TARGET[task]] = noisy[:, 0]
    else:
        frame[TARGET[task]] = [CLASSES[task][i] for i in noisy.argmax(axis=1)]
    return frame


def _text(rng: np.random.Generator, low: int, high: int) -> str:
    return " ".join(rng.choice(list(WORDS), rng.integers(low, high)))


class LinearToy(nn.Module):
    """Add up hand-set weights of words, numbers and categories.

    Args:
        task: ``"binary"``, ``"multiclass"`` or ``"regression"``.
        variant: ``"linear"``; ``"zero"``, where nothing matters; ``"nonlinear"``, where the words saturate
            and interact with the category.
        fail_after: raise :class:`ToyFailureError` after this many calls of the model.
    """

    def __init__(self, task: str = "binary", variant: str = "linear", fail_after: int | None = None) -> None:
        super().__init__()
        self.schema, self.task, self.variant = toy_schema(task), task, variant
        self.fail_after, self.calls, self.rows_seen = fail_after, 0, 0
        self.direction = np.array(DIRECTIONS[task]) * (0.0 if variant == "zero" else 1.0)
        self.bias = np.linspace(-0.1, 0.2, len(self.direction)) * (variant != "zero")
        self.vocabulary = ["", *WORDS]
        self.text = self._table([0.0, *WORDS.values()])
        self.number = self._table([SLOPES[c] for c in NUMBERS])
        self.category = self._table([0.0, *DEPARTMENTS.values()])
        self.dropout = nn.Dropout(0.5)  # evaluation mode must switch it off

    def _table(self, weights: list[float]) -> nn.Parameter:
        table = np.asarray(weights)[:, None] * self.direction
        return nn.Parameter(torch.from_numpy(table))

    def _count(self, rows: int) -> None:
        self.calls += 1
        self.rows_seen += rows
        if self.fail_after is not None and self.calls > self.fail_after:
            raise ToyFailureError("the toy was told to fail")

    # -- known answers -------------------------------------------------------------------------------

    def contributions(self, row: dict[str, Any]) -> np.ndarray:
        """Return what each unit adds to each output of the linear toy, shape (unit, output)."""
        weights = [WORDS.get(w.lower(), 0.0) for c in TEXTS for w in _words(row[c])]
        weights += [SLOPES[c] * (row[c] - MEDIANS[c]) if np.isfinite(row[c]) else 0.0 for c in NUMBERS]
        weights += [DEPARTMENTS.get(row[c], 0.0) for c in CATEGORIES]
        return np.array(weights)[:, None] * self.direction

    # -- black box -----------------------------------------------------------------------------------

    def outputs(self, frame: pd.DataFrame, batch_rows: int = 256) -> np.ndarray:
        """Return logits, or the target, of each row, shape (row, output), in numpy."""
        self._count(len(frame))
        rows = [self._output(row) for row in frame.to_dict("records")]
        return np.array(rows).reshape(len(frame), len(self.direction))

    def _output(self, row: dict[str, Any]) -> np.ndarray:
        parts, words = self.contributions(row), len(self.units(row)) - len(NUMBERS) - len(CATEGORIES)
        result = self.bias + parts.sum(axis=0)
        if self.variant == "nonlinear":
            text, category = parts[:words, -1].sum(), parts[-len(CATEGORIES) :, -1].sum()
            result[-1] += 2 * np.tanh(3 * text) * (1 + category)
        return result

    def predict_proba(self, outputs: np.ndarray) -> np.ndarray:
        """Return class probabilities."""
        exponent = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return exponent / exponent.sum(axis=1, keepdims=True)

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return words, numbers and categories, in this order."""
        kinds = [(c, "text") for c in TEXTS] + [(c, "number") for c in NUMBERS]
        kinds += [(c, "category") for c in CATEGORIES]
        return tuple(unit for column, kind in kinds for unit in KINDS[kind].units(column, row[column]))

    def remove(self, row: dict[str, Any], units: tuple[Unit, ...]) -> dict[str, Any]:
        """Return the row without these units."""
        result = dict(row)
        for column in self.schema.inputs:
            gone = tuple(unit for unit in units if unit.column == column.name)
            if gone:
                result[column.name] = KINDS[column.kind].remove(row[column.name], gone, column.baseline)
        return result

    # -- white box -----------------------------------------------------------------------------------

    def prepare(self, frame: pd.DataFrame) -> list[dict[str, np.ndarray]]:
        """Return indices of words and categories, and distances of numbers from their median."""
        return [self._example(row) for row in frame.to_dict("records")]

    def _example(self, row: dict[str, Any]) -> dict[str, np.ndarray]:
        words = [w.lower() for c in TEXTS for w in _words(row[c])]
        numbers = [row[c] - MEDIANS[c] if np.isfinite(row[c]) else 0.0 for c in NUMBERS]
        categories = [list(DEPARTMENTS).index(row[c]) + 1 if row[c] in DEPARTMENTS else 0 for c in CATEGORIES]
        index = [self.vocabulary.index(w) if w in WORDS else 0 for w in words]
        return {
            "text": np.array(index, int),
            "number": np.array(numbers),
            "category": np.array(categories, int),
        }

    def collate(self, examples: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
        """Pad the words of a batch."""
        longest = max([1, *(len(e["text"]) for e in examples)])
        text = np.full((len(examples), longest), -1)
        for i, example in enumerate(examples):
            text[i, : len(example["text"])] = example["text"]
        batch = {
            name: torch.from_numpy(np.stack([e[name] for e in examples])) for name in ("number", "category")
        }
        return {"text": torch.from_numpy(text), **batch}

    def embed(self, batch: dict[str, Tensor]) -> dict[str, Tokens]:
        """Return one token a unit; its vector is what the unit adds to each output."""
        mask, index = batch["text"] >= 0, batch["text"].clamp(min=0)
        return {
            "text": _tokens(self.text[index], mask),
            "number": _tokens(batch["number"].unsqueeze(-1) * self.number),
            "category": _tokens(self.category[batch["category"]]),
        }

    def baseline(self, batch: dict[str, Tensor]) -> dict[str, Tokens]:
        """Return zeros: an unknown word, the median, a missing category."""
        tokens = self.embed(batch)
        return {name: t.with_values(torch.zeros_like(t.values)) for name, t in tokens.items()}

    def forward_tokens(self, tokens: dict[str, Tokens]) -> Tensor:
        """Return the outputs of a batch of tokens, shape (batch, output)."""
        first = next(iter(tokens.values())).values
        self._count(len(first))
        sums = {n: (self.dropout(t.values) * t.mask.unsqueeze(-1)).sum(1) for n, t in tokens.items()}
        result = torch.from_numpy(self.bias) + sums["text"] + sums["number"] + sums["category"]
        if self.variant != "nonlinear":
            return result
        extra = 2 * torch.tanh(3 * sums["text"][:, -1:]) * (1 + sums["category"][:, -1:])
        return torch.cat([result[:, :-1], result[:, -1:] + extra], dim=1)

    def finish(self, output: Tensor) -> Tensor:
        """Return the outputs as users see them; the toy has no temperature."""
        return output

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the outputs of a batch."""
        return self.forward_tokens(self.embed(batch))

    def unit_offsets(self, row: dict[str, Any]) -> dict[str, int]:
        """Return where each encoder's units begin in ``units(row)``."""
        words = sum(len(_words(row[c])) for c in TEXTS)
        return {"text": 0, "number": words, "category": words + len(NUMBERS)}

    def attention(self, batch: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return source-to-token weights (batch, token, feature) that follow the size of the words' weights."""
        values = self.embed(batch)["text"].values.abs()
        logits = values.masked_fill((batch["text"] < 0).unsqueeze(-1), -torch.inf)
        weights = torch.nan_to_num(logits.softmax(dim=1))
        return {"text": {"source2token": weights}}


def _words(text: str) -> list[str]:
    return [text[start:stop] for start, stop in cut(text)]


def _tokens(values: Tensor, mask: Tensor | None = None) -> Tokens:
    batch, length, _ = values.shape
    mask = torch.ones(batch, length, dtype=torch.bool) if mask is None else mask
    position = torch.arange(length).expand(batch, length)
    return Tokens(values, mask, torch.where(mask, position, -1))
