"""Several models of one table that differ in their seed and answer together: probabilities, or values, are averaged."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.unit import Unit
from salience.data.schema import Schema
from salience.models.slots import Encoder, Head, Tokens
from salience.models.table_model import Batch, ModelConfig, Row, TableModel
from salience.nn.watch import inside

T = TypeVar("T")


class Ensemble(nn.Module):
    """Answer by the mean probability, or the mean value, of models of the same table.

    It offers what a :class:`~salience.models.table_model.TableModel` offers to predict, to explain and to audit. The
    inputs of all members stand side by side, as ``"member0.number"``; a unit of a row is the same unit in each of them,
    so what it contributes is added up over members, and gradients pass through the mean.

    Source: Gorishniy et al., NeurIPS 2022, who average five seeds. One temperature is fitted to the joined answer.

    Args:
        members: trained models of one schema and configuration, at least one.
    """

    def __init__(self, members: list[TableModel]) -> None:
        super().__init__()
        self.members = nn.ModuleDict({f"member{number}": member for number, member in enumerate(members)})
        self.schema: Schema = members[0].schema
        self.config: ModelConfig = members[0].config
        self.groups = members[0].groups

    @property
    def head(self) -> Head:
        """The first member's head: it joins outputs of members, and its temperature is the ensemble's."""
        return self.members["member0"].head

    @property
    def encoders(self) -> dict[str, Encoder]:
        """The encoders of all members, by the name of their input."""
        return _together(_named(key, dict(member.encoders)) for key, member in self.members.items())

    def state(self) -> dict[str, Any]:
        """Return what the members' encoders learned besides tensors."""
        return {key: member.state() for key, member in self.members.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Rebuild the members from :meth:`state`; tensors are loaded afterwards."""
        for key, member in self.members.items():
            member.restore(state[key])

    def prepare(self, frame: pd.DataFrame) -> list[Row]:
        """Return one compact example a row of canonical cells, for every member."""
        rows: list[Row] = [{} for _ in range(len(frame))]
        for key, member in self.members.items():
            for row, example in zip(rows, member.prepare(frame), strict=True):
                row |= _named(key, example)
        return rows

    def length(self, example: Row) -> int:
        """Return the number of tokens of the longest encoder input."""
        return max(member.length(_of(key, example)) for key, member in self.members.items())

    def collate(self, examples: list[Row]) -> Batch:
        """Join examples to tensors, on the members' device."""
        parts = (_named(k, m.collate([_of(k, e) for e in examples])) for k, m in self.members.items())
        return _together(parts)

    def embed(self, batch: Batch) -> dict[str, Tokens]:
        """Return the continuous input of every member's encoders."""
        return _together(_named(k, m.embed(_of(k, batch))) for k, m in self.members.items())

    def baseline(self, batch: Batch) -> dict[str, Tokens]:
        """Return the neutral input of every member's encoders."""
        return _together(_named(k, m.baseline(_of(k, batch))) for k, m in self.members.items())

    def forward_tokens(self, tokens: dict[str, Tokens]) -> Float[Tensor, "batch output"]:
        """Return the joined raw output: the logarithm of the mean probability, or the mean standardised target."""
        found = []
        for key, member in self.members.items():
            with inside(f"{key}."):
                found.append(member.forward_tokens(_of(key, tokens)))
        return self.head.join(torch.stack(found, dim=1))

    def finish(self, output: Float[Tensor, "batch output"]) -> Float[Tensor, "batch output"]:
        """Return outputs as users see them."""
        return self.head.finish(output)

    @torch.no_grad()
    def outputs(
        self, frame: pd.DataFrame, *, calibrated: bool = True, batch_tokens: int = 16_384
    ) -> np.ndarray:
        """Return outputs for canonical rows, as :meth:`TableModel.outputs` does."""
        found = [
            member.outputs(frame, calibrated=False, batch_tokens=batch_tokens)
            for member in self.members.values()
        ]
        joined = self.head.join(torch.from_numpy(np.stack(found, axis=1)))
        return (self.head.finish(joined) if calibrated else joined).double().numpy()

    @property
    def selects(self) -> bool:
        """Whether an encoder chooses what it reads."""
        return self._first.selects

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return self._first.n_outputs

    @property
    def _first(self) -> TableModel:
        return self.members["member0"]

    def predict_proba(self, outputs: np.ndarray) -> np.ndarray:
        """Return class probabilities from logits."""
        return self._first.predict_proba(outputs)

    def units(self, row: Row) -> tuple[Unit, ...]:
        """Return all units of a canonical row: members cut the same rows into the same units."""
        return self._first.units(row)

    def unit_offsets(self, row: Row) -> dict[str, int]:
        """Return where each encoder's units start in :meth:`units` of that row."""
        return _together(_named(key, self._first.unit_offsets(row)) for key in self.members)

    def remove(self, row: Row, units: tuple[Unit, ...] | list[Unit]) -> Row:
        """Return the row without these units, each column's neutral value in their place."""
        return self._first.remove(row, units)

    def attention(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Return the attention maps of every member's encoders, without those that have none."""
        return _together(_named(k, m.attention(_of(k, batch))) for k, m in self.members.items())

    def rationale(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Return what encoders of members that select read, without those that read all."""
        return _together(_named(k, m.rationale(_of(k, batch))) for k, m in self.members.items())


def make_model(schema: Schema, config: ModelConfig, seeds: int) -> TableModel | Ensemble:
    """Return an untrained model without parameters, an ensemble for more than one seed."""
    if seeds == 1:
        return TableModel(schema, config)
    return Ensemble([TableModel(schema, config) for _ in range(seeds)])


def _named(key: str, parts: Mapping[str, T]) -> dict[str, T]:
    return {f"{key}.{name}": part for name, part in parts.items()}


def _of(key: str, parts: Mapping[str, T]) -> dict[str, T]:
    return {name[len(key) + 1 :]: part for name, part in parts.items() if name.startswith(f"{key}.")}


def _together(parts: Any) -> dict[str, Any]:
    return {name: part for found in parts for name, part in found.items()}
