"""A model of a table: encoders → fusion → head."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from salience.core import registry
from salience.core.errors import DataError
from salience.core.metrics import as_predictions
from salience.core.unit import Unit
from salience.data.kinds import KINDS
from salience.data.schema import Schema
from salience.models.slots import Fusion, Head, Tokens
from salience.nn.watch import watching, within

Batch = dict[str, dict[str, Tensor]]
Row = dict[str, Any]
TABULAR = ("number", "category")


@dataclass(frozen=True)
class Part:
    """Name a method and its arguments."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelConfig:
    """Choose the parts of a table model.

    Attributes:
        text, image, number, category: encoder of each kind of column.
        fusion: how encoders are joined.
        text_columns: ``"joint"`` reads all text columns as one sequence, ``"separate"`` each by its own encoder.
        hidden: sizes of the head's hidden layers; none for what suits the fusion: 128 after ``concat`` and
            ``attention_pool``, no layer after a backbone, which is a network of its own.
        dropout: share of the head's activations dropped in training.
        label_smoothing: share of the target spread over all classes.
        class_weights: ``"equal"`` or ``"balanced"`` (inverse class frequency).
    """

    text: Part = Part("disan")
    image: Part = Part("se_resnet")
    number: Part = Part("piecewise_linear")
    category: Part = Part("category_embedding")
    fusion: Part = Part("concat")
    text_columns: str = "joint"
    hidden: tuple | None = None
    dropout: float = 0.2
    label_smoothing: float = 0.0
    class_weights: str = "equal"


def column_groups(schema: Schema, text_columns: str) -> dict[str, tuple[str, list[str]]]:
    """Return encoder name → (kind, columns): one group for numbers, one for categories, the rest as asked."""
    by_kind: dict[str, list[str]] = {}
    for column in schema.inputs:
        by_kind.setdefault(column.kind, []).append(column.name)
    groups: dict[str, tuple[str, list[str]]] = {}
    for kind in KINDS:
        columns = by_kind.get(kind, [])
        joint = kind in TABULAR or (kind == "text" and text_columns == "joint")
        if columns and joint:
            groups[kind] = (kind, columns)
        else:
            groups |= {f"{kind}_{i}": (kind, [name]) for i, name in enumerate(columns)}
    return groups


class TableModel(nn.Module):
    """Join one encoder a group of columns, a fusion and a head.

    Args:
        schema: columns and task, fitted on training rows.
        config: names and arguments of the parts.
    """

    def __init__(self, schema: Schema, config: ModelConfig) -> None:
        super().__init__()
        self.schema, self.config = schema, config
        self.groups = column_groups(schema, config.text_columns)
        if not self.groups:
            raise DataError(
                "There is no input column", f"Target {schema.target.name!r} only.", "Keep a column."
            )
        self.encoders = nn.ModuleDict()
        for name, (kind, columns) in self.groups.items():
            part = getattr(config, kind)
            self.encoders[name] = registry.load("encoder", part.name)(columns, **part.args)
        self.fusion: Fusion
        self.head: Head

    def fit_parts(self, train: pd.DataFrame, target: np.ndarray, generator: torch.Generator) -> None:
        """Learn vocabularies and bins from training rows, and build all parameters."""
        for encoder in self.encoders.values():
            encoder.fit(train, target, generator)
        self._build_top(self._class_weights(target))
        if self.head.task in ("regression", "multi-regression"):
            self.head.fit_target(target)

    def _class_weights(self, target: np.ndarray) -> list[float] | None:
        if self.schema.task != "classification" or self.config.class_weights != "balanced":
            return None
        counts = np.bincount(target, minlength=len(self.schema.classes or []))
        return (len(target) / (len(counts) * np.maximum(counts, 1))).tolist()

    def _build_top(self, class_weights: list[float] | None = None) -> None:
        dims = {name: encoder.dim for name, encoder in self.encoders.items()}
        token_dims = {n: e.token_dim for n, e in self.encoders.items() if self.groups[n][0] in TABULAR}
        fusion = registry.load("fusion", self.config.fusion.name)
        columns = {name: encoder.column_dims() for name, encoder in self.encoders.items()}
        layout = {"columns": columns} if fusion.knows_columns else {}
        self.fusion = fusion(dims, token_dims, **layout, **self.config.fusion.args)
        asked = self.config.hidden
        args: dict[str, Any] = {
            "hidden": self.fusion.head_hidden if asked is None else tuple(asked),
            "dropout": self.config.dropout,
            "members": self.fusion.members,
        }
        if self.schema.task == "classification":
            args |= {"class_weights": class_weights, "label_smoothing": self.config.label_smoothing}
        self.head = registry.load("head", self.schema.task)(self.fusion.dim, self.n_outputs, **args)
        self.fusion.bind(dict(self.encoders), self.head)

    def state(self) -> dict[str, Any]:
        """Return what the encoders learned besides tensors."""
        return {name: encoder.state() for name, encoder in self.encoders.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Rebuild parts from :meth:`state`; tensors are loaded afterwards."""
        for name, encoder in self.encoders.items():
            encoder.restore(state[name])
        self._build_top()

    def prepare(self, frame: pd.DataFrame) -> list[Row]:
        """Return one compact example a row of canonical cells."""
        parts = {name: encoder.prepare(frame) for name, encoder in self.encoders.items()}
        return [dict(zip(parts, examples, strict=True)) for examples in zip(*parts.values(), strict=True)]

    def length(self, example: Row) -> int:
        """Return the number of tokens of the longest encoder input."""
        return max(self.encoders[name].length(part) for name, part in example.items())

    def collate(self, examples: list[Row]) -> Batch:
        """Join examples to tensors, on the model's device."""
        device = next(self.parameters()).device
        return {
            name: {
                key: value.to(device) for key, value in encoder.collate([e[name] for e in examples]).items()
            }
            for name, encoder in self.encoders.items()
        }

    def embed(self, batch: Batch) -> dict[str, Tokens]:
        """Return every encoder's continuous input."""
        return {name: encoder.embed(batch[name]) for name, encoder in self.encoders.items()}

    def baseline(self, batch: Batch) -> dict[str, Tokens]:
        """Return every encoder's neutral input."""
        return {name: encoder.baseline(batch[name]) for name, encoder in self.encoders.items()}

    def forward_tokens(self, tokens: dict[str, Tokens]) -> Float[Tensor, "batch output"]:
        """Return raw outputs from embedded inputs: those of members joined to one answer."""
        return self.head.join(self._raw(self._encoded(tokens)))

    def _raw(self, encoded: dict[str, tuple[Tokens, Tensor]]) -> Float[Tensor, "batch *member output"]:
        return self.head(self._fused(encoded))

    def _fused(self, encoded: dict[str, tuple[Tokens, Tensor]]) -> Float[Tensor, "batch *member dim"]:
        vectors = {name: vector for name, (_, vector) in encoded.items()}
        return self.fusion(vectors, {name: context for name, (context, _) in encoded.items()})

    def _encoded(self, tokens: dict[str, Tokens]) -> dict[str, tuple[Tokens, Tensor]]:
        return {name: self._encode(name, tokens[name]) for name in self.encoders}

    def _encode(self, name: str, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        with within(name):
            return self.encoders[name].encode(tokens)

    def forward(self, batch: Batch) -> Float[Tensor, "batch *member output"]:
        """Return what the head's loss takes: logits, or the standardised target, of every member."""
        return self._raw(self._encoded(self.embed(batch)))

    def _forward_once(self, batch: Batch) -> Float[Tensor, "batch output"]:
        """Return joined outputs; what several rows share is encoded once, as a picture beside changed words."""
        if len(self.encoders) == 1:
            return self.forward_tokens(self.embed(batch))
        encoded = {}
        for name, encoder in self.encoders.items():
            first, row = _distinct(batch[name])
            context, vector = self._encode(name, encoder.embed(first))
            encoded[name] = (context, vector) if row is None else (context.take(row), vector[row])
        return self.head.join(self._raw(encoded))

    def finish(self, output: Float[Tensor, "batch output"]) -> Float[Tensor, "batch output"]:
        """Return outputs as users see them."""
        return self.head.finish(output)

    @torch.no_grad()
    def outputs(
        self, frame: pd.DataFrame, *, calibrated: bool = True, batch_tokens: int = 16_384
    ) -> np.ndarray:
        """Return outputs for canonical rows, in evaluation mode, in the order given.

        Args:
            frame: canonical input columns.
            calibrated: False for logits before temperature and the standardised target.
            batch_tokens: rows × longest length × members of a batch; rows of like length go together.

        Returns:
            float64 array ``(row, output)``: logits, or the targets in their own units.
        """
        result = np.zeros((len(frame), self.n_outputs))
        with _evaluation(self):
            for index, batch in self._batches(frame, batch_tokens // self.fusion.members):
                output = self._forward_once(batch)
                result[index] = (self.finish(output) if calibrated else output).double().cpu().numpy()
        return result

    def _batches(self, frame: pd.DataFrame, batch_tokens: int) -> Iterator[tuple[np.ndarray, Batch]]:
        """Yield positions and batches of rows of like length."""
        examples = self.prepare(frame)
        lengths = np.array([self.length(e) for e in examples], dtype=int)
        order = np.argsort(lengths, kind="stable")
        for index in _like_length(order, lengths, batch_tokens):
            yield index, self.collate([examples[i] for i in index])

    @torch.no_grad()
    def diagnostics(self, frame: pd.DataFrame, *, batch_tokens: int = 16_384) -> dict[str, float]:
        """Return the means of the encoders' numbers to watch, as ``"<encoder>/<name>"``; none if there are none.

        Args:
            frame: canonical input columns.
            batch_tokens: rows × longest length of a batch.
        """
        if not self.selects or not len(frame):
            return {}
        totals: dict[str, float] = {}
        with _evaluation(self):
            for _, batch in self._batches(frame, batch_tokens):
                for name, encoder in self.encoders.items():
                    for key, values in encoder.diagnostics(batch[name]).items():
                        key = f"{name}/{key}"
                        totals[key] = totals.get(key, 0.0) + float(values.double().sum())
        return {key: total / len(frame) for key, total in totals.items()}

    @property
    def selects(self) -> bool:
        """Whether an encoder chooses what it reads."""
        return any(encoder.selects for encoder in self.encoders.values())

    def auxiliary_loss(
        self, output: Float[Tensor, "batch output"], target: Tensor
    ) -> Float[Tensor, ""] | None:
        """Return what encoders add to the loss of the batch that was just worked through, in training; often none.

        The rows' parts are summed and divided by the head's weight, as the loss itself is, so that a batch that is
        worked through in parts or by several processes has the same gradient.
        """
        if not self.selects:
            return None
        row_losses = self.head.row_losses(output, target).detach()
        extra = [encoder.auxiliary_loss(row_losses) for encoder in self.encoders.values()]
        found = [rows.sum() for rows in extra if rows is not None]
        return torch.stack(found).sum() / self.head.weight(target) if found else None

    def pretrain(self, train: Callable[[str, list[str], Part], "TableModel"]) -> None:
        """Train what encoders need before the rest.

        Args:
            train: from an encoder's name, its columns and another encoder for them to a trained model of these
                columns alone.
        """
        for name, encoder in self.encoders.items():

            def train_first(key: str, args: dict[str, Any], name: str = name) -> TableModel:
                return train(name, self.encoders[name].columns, Part(key, args))

            encoder.pretrain(train_first)

    @property
    def n_outputs(self) -> int:
        """Number of outputs: classes, labels, or targets."""
        return len(self.schema.outputs)

    def predict_proba(self, outputs: np.ndarray) -> np.ndarray:
        """Return the probability of each class, or of each label, from logits."""
        return as_predictions(self.schema.task, outputs)

    def units(self, row: Row) -> tuple[Unit, ...]:
        """Return all units of a canonical row, encoder by encoder."""
        return tuple(unit for encoder in self.encoders.values() for unit in encoder.units(row))

    def unit_offsets(self, row: Row) -> dict[str, int]:
        """Return where each encoder's units start in :meth:`units` of that row."""
        offsets, start = {}, 0
        for name, encoder in self.encoders.items():
            offsets[name] = start
            start += len(encoder.units(row))
        return offsets

    def remove(self, row: Row, units: tuple[Unit, ...] | list[Unit]) -> Row:
        """Return the row without these units, each column's neutral value in their place."""
        by_column: dict[str, list[Unit]] = {}
        for unit in units:
            by_column.setdefault(unit.column, []).append(unit)
        columns = {c.name: c for c in self.schema.inputs}
        changed = {
            name: KINDS[columns[name].kind].remove(self._seen(row, name), removed, columns[name].baseline)
            for name, removed in by_column.items()
        }
        return {**row, **changed}

    def _seen(self, row: Row, column: str) -> Any:
        """Return a cell; a text only up to its last word that is read, so that removing words moves no others in."""
        encoder = next(e for e in self.encoders.values() if column in e.columns)
        if encoder.kind != "text":
            return row[column]
        return row[column][: max((u.locator[1] for u in encoder.units(row) if u.column == column), default=0)]

    def attention(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Return attention maps by encoder name, without those that have none; a fusion's beside the encoder's own."""
        maps = {name: encoder.attention(batch[name]) for name, encoder in self.encoders.items()}
        if self.fusion.attends:
            encoded = self._encoded(self.embed(batch))
            with watching() as watch:
                self._fused(encoded)
            for name, found in watch.shown.items():
                maps[name] = maps[name] | {key: shown[0].seen() for key, shown in found.items()}
        return {name: found for name, found in maps.items() if found}

    def rationale(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Return what encoders that select read, by encoder name, without those that read all."""
        found = {name: encoder.rationale(batch[name]) for name, encoder in self.encoders.items()}
        return {name: parts for name, parts in found.items() if parts}


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _distinct(batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Int[Tensor, "batch"] | None]:
    """Return the rows of an encoder's batch that differ, and which of them each row is; None if all differ.

    Tensors on another device than the CPU are not looked at.
    """
    if any(tensor.is_cuda for tensor in batch.values()):
        return batch, None
    flat = [tensor.reshape(len(tensor), -1).contiguous().numpy() for tensor in batch.values()]
    position: dict[tuple[bytes, ...], int] = {}
    keys = zip(*([line.tobytes() for line in part] for part in flat), strict=True)
    row = [position.setdefault(key, len(position)) for key in keys]
    if len(position) == len(row):
        return batch, None
    first = np.unique(row, return_index=True)[1]
    return {name: tensor[first] for name, tensor in batch.items()}, torch.tensor(row)


def _like_length(order: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    batches, start = [], 0
    for stop in range(1, len(order) + 1):
        full = stop == len(order) or (stop + 1 - start) * max(lengths[order[stop]], 1) > batch_tokens
        if full:
            batches.append(order[start:stop])
            start = stop
    return batches
