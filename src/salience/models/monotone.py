"""Verify on actual weights that a model is monotone in the columns that it was asked to be."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from salience.core.errors import UnsupportedError
from salience.core.io import to_plain
from salience.models.fusions.monotone_mlp import MonotoneMLP
from salience.models.slots import Encoder, Head
from salience.nn.blocks.monotone import Mixture
from salience.nn.dropout import Dropout


@dataclass(frozen=True)
class Condition:
    """State one condition of the proof.

    Attributes:
        what: the condition in words.
        holds: whether it is met.
        least: the smallest of the numbers that must not be negative; None where it is not about numbers.
        numbers: how many there are.
    """

    what: str
    holds: bool
    least: float | None = None
    numbers: int = 0


@dataclass(frozen=True)
class Certificate:
    """Say whether the conditions of the proof in :mod:`salience.models.fusions.monotone_mlp` are met.

    Attributes:
        increasing: columns with which the answer may only rise.
        decreasing: columns with which it may only fall.
        conditions: what was verified.
    """

    increasing: tuple[str, ...]
    decreasing: tuple[str, ...]
    conditions: tuple[Condition, ...]

    @property
    def holds(self) -> bool:
        """Whether all conditions are met."""
        return all(condition.holds for condition in self.conditions)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        conditions = [vars(condition) for condition in self.conditions]
        return to_plain(
            {
                "holds": self.holds,
                "increasing": self.increasing,
                "decreasing": self.decreasing,
                "conditions": conditions,
            }
        )

    def __str__(self) -> str:
        named = [f"increasing in {name}" for name in self.increasing]
        named += [f"decreasing in {name}" for name in self.decreasing]
        said = "Proved" if self.holds else "NOT proved"
        lines = [f"{'✓' if c.holds else '✗'} {c.what}" for c in self.conditions]
        return "\n".join([f"{said}: {', '.join(named)}.", *lines])


def directions(model: Any) -> dict[str, int]:
    """Return the columns whose direction is built into a model: 1 increasing, −1 decreasing; none for other models."""
    found = [getattr(part.fusion, "directions", {}) for part in _members(model) if hasattr(part, "fusion")]
    return found[0] if found else {}


def prove(model: Any) -> Certificate:
    """Verify the conditions of the proof on the weights that a model has now.

    Args:
        model: a :class:`~salience.models.table_model.TableModel` with the fusion ``monotone_mlp``, or an ensemble of them: the
            mean of values, or of probabilities, that move one way moves that way.

    Raises:
        UnsupportedError: the model has no such constraint.
    """
    asked = directions(model)
    if not asked:
        raise UnsupportedError(
            "Nothing is to be proved",
            "The model has no column with a direction.",
            'Use model.fusion=monotone_mlp and model.fusion.args.increasing=["column"].',
        )
    conditions = tuple(condition for member in _members(model) for condition in _conditions(member))
    return Certificate(
        tuple(name for name, sign in asked.items() if sign > 0),
        tuple(name for name, sign in asked.items() if sign < 0),
        conditions,
    )


def _members(model: Any) -> list[Any]:
    members = getattr(model, "members", None)
    return list(members.values()) if isinstance(members, nn.ModuleDict) else [model]


@torch.no_grad()
def _conditions(model: Any) -> Iterator[Condition]:
    fusion: MonotoneMLP = model.fusion
    for column, sign in fusion.directions.items():
        encoder = next(e for e in model.encoders.values() if column in e.columns)
        yield _keeps_order(encoder, column)
        yield _has_sign(fusion, model.encoders, column, sign)
    yield _blocked(fusion)
    signs = fusion.sign[fusion.places]
    yield _not_negative(
        "monotone layer 1: weights have the sign of their column", fusion.first.weight * signs
    )
    for i, layer in enumerate(fusion.layers, start=2):
        yield _not_negative(f"monotone layer {i}: weights are not negative", layer.weight)
    rising = all(isinstance(a, Mixture) for a in fusion.activations) and type(fusion.dropout) is Dropout
    yield Condition("activations of the monotone layers rise everywhere", rising)
    yield from _head(model.head)


def _keeps_order(encoder: Encoder, column: str) -> Condition:
    position = encoder.columns.index(column)
    scales = [encoder.scaler.fitted[position]["scale"]]
    slopes = getattr(encoder.embedding, "scale", None)
    if slopes is not None:
        scales += slopes[position].tolist()
    least = min(scales)
    holds = encoder.monotone and least >= 0
    return Condition(
        f"{column}: what the encoder makes of it never falls when it rises", holds, least, len(scales)
    )


def _has_sign(fusion: MonotoneMLP, encoders: Any, column: str, sign: int) -> Condition:
    start = 0
    for name, encoder in encoders.items():
        for other, size in zip(encoder.columns, fusion.layout[name], strict=False):
            if other == column:
                right = bool((fusion.sign[start : start + size] == sign).all())
                return Condition(f"{column}: all of its {size} places are constrained", right and size > 0)
            start += size
    return Condition(f"{column}: its places are known", False)


def _blocked(fusion: MonotoneMLP) -> Condition:
    """Compare what the free branch gets from rows that differ in constrained places alone."""
    rows = torch.randn(4, len(fusion.sign), generator=torch.Generator().manual_seed(0)).to(fusion.sign)
    seen: list[Tensor] = []
    hook = fusion.branch.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        for moved in (rows, rows + (fusion.sign != 0) * 7.0):
            fusion({"rows": moved}, {})
    finally:
        hook.remove()
    return Condition("the free branch does not see constrained places", torch.equal(*seen))


def _not_negative(what: str, values: Tensor) -> Condition:
    least = float(values.min())
    return Condition(what, bool(np.isfinite(least)) and least >= 0, least, values.numel())


def _head(head: Head) -> Iterator[Condition]:
    *hidden, last = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    for i, layer in enumerate(hidden):
        yield _not_negative(f"hidden layer {i + 1} of the head: weights are not negative", layer.weight)
    known = (nn.Linear, nn.ReLU, nn.Dropout)
    yield Condition("activations of the head rise everywhere", all(isinstance(m, known) for m in head.layers))
    if head.task == "classification":
        yield _not_negative(
            "the logit of the first class falls, that of the second rises",
            torch.cat([-last.weight[:1], last.weight[1:]]),
        )
        yield Condition(
            "the temperature is positive", float(head.temperature) > 0, float(head.temperature), 1
        )
    else:
        yield _not_negative("the last layer's weights are not negative", last.weight)
        yield Condition(
            "the standard deviation of the target is positive", float(head.std) > 0, float(head.std), 1
        )
