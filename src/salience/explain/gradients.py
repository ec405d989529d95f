"""Gradients along the straight path from the neutral input to a row, summed to units."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salience.explain.model import WhiteBox
from salience.explain.rows import records
from salience.explain.target import Target, score

ACTIVATIONS = (
    48  # what a network keeps for backward, in multiples of its input, unless it says: a rule of thumb
)


@dataclass(frozen=True)
class Path:
    """The two ends of the path of a group of rows.

    Attributes:
        tokens: embedded rows, by encoder.
        baseline: neutral inputs of the same shape.
        targets: one a row.
        unit: for each encoder, index of each token's unit in ``units(row)``; −1 for none.
        units: number of units of each row.
        capacity: rows of one forward pass that the memory budget allows.
    """

    tokens: dict[str, Any]
    baseline: dict[str, Any]
    targets: list[Target]
    unit: dict[str, Int[Tensor, "row token"]]
    units: list[int]
    capacity: int

    def select(self, rows: list[int]) -> "Path":
        """Return the path of some of the rows."""
        take = torch.as_tensor(rows)
        return Path(
            {n: _take(t, take) for n, t in self.tokens.items()},
            {n: _take(t, take) for n, t in self.baseline.items()},
            [self.targets[i] for i in rows],
            {n: u[take] for n, u in self.unit.items()},
            [self.units[i] for i in rows],
            self.capacity,
        )


def _take(tokens: Any, rows: Tensor) -> Any:
    rows = rows.to(tokens.values.device)
    return type(tokens)(tokens.values[rows], tokens.mask[rows], tokens.unit[rows])


def make_path(model: WhiteBox, frame: pd.DataFrame, targets: list[Target], memory_mb: int | float) -> Path:
    """Embed rows and their neutral inputs.

    Args:
        model: white box in evaluation mode.
        frame: canonical rows.
        targets: one a row.
        memory_mb: memory for one forward and backward pass, in MiB.
    """
    rows = records(model, frame)
    batch = model.collate(model.prepare(frame))
    with torch.no_grad():
        tokens, baseline = model.embed(batch), model.baseline(batch)
    unit = unit_index(model, rows, tokens)
    kept = getattr(model, "activations", ACTIVATIONS)
    row_bytes = sum(t.values[0].numel() * t.values.element_size() for t in tokens.values()) * kept
    capacity = max(1, int(memory_mb * 2**20 / max(row_bytes, 1)))
    return Path(tokens, baseline, targets, unit, [len(model.units(row)) for row in rows], capacity)


def unit_index(
    model: WhiteBox, rows: list[dict[str, Any]], tokens: dict[str, Any]
) -> dict[str, Int[Tensor, "row token"]]:
    """Return, for each encoder, the index in ``units(row)`` of every token's unit; −1 for none."""
    offsets, index = [model.unit_offsets(row) for row in rows], {}
    for name, found in tokens.items():
        local, real = found.unit.cpu(), found.mask.cpu()
        start = torch.tensor([offset[name] for offset in offsets]).reshape(-1, 1)
        index[name] = torch.where((local >= 0) & real, local + start, -1)
    return index


def ends(model: WhiteBox, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the explained quantity at the rows and at their neutral inputs."""
    with torch.no_grad():
        return tuple(_score(model, tokens, path) for tokens in (path.tokens, path.baseline))


def _score(model: WhiteBox, tokens: dict[str, Any], path: Path) -> np.ndarray:
    parts = []
    for start in range(0, len(path.targets), path.capacity):
        rows = torch.arange(start, min(start + path.capacity, len(path.targets)))
        output = model.finish(model.forward_tokens({n: _take(t, rows) for n, t in tokens.items()}))
        parts.append(score(output.double(), path.targets[start : start + path.capacity]).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros(0)


def along_path(
    model: WhiteBox, path: Path, nodes: Float[np.ndarray, " step"], weights: Float[np.ndarray, " step"]
) -> list[Float[np.ndarray, " unit"]]:
    """Return ``Σ_s weight_s · ∇score(x' + node_s (x − x')) · (x − x')``, summed to the units of each row.

    Rows × steps are packed into as few forward passes as the path's capacity allows.

    Args:
        model: white box in evaluation mode.
        path: rows and neutral inputs.
        nodes: positions on the path, in [0, 1]; 1 is the row.
        weights: weight of each position.
    """
    names, rows = list(path.tokens), len(path.targets)
    total = {n: torch.zeros(path.unit[n].shape, dtype=torch.float64) for n in names}
    row = torch.arange(rows).repeat_interleave(len(nodes))
    node, weight = (torch.as_tensor(np.tile(values, rows)) for values in (nodes, weights))
    for start in range(0, len(row), path.capacity):
        pack = slice(start, start + path.capacity)
        for name, part in _step(model, path, row[pack], node[pack]).items():
            total[name].index_add_(0, row[pack], part.cpu().double() * weight[pack, None])
    return unit_sums(path.units, path.unit, total)


def _step(model: WhiteBox, path: Path, row: Tensor, node: Tensor) -> dict[str, Float[Tensor, "row token"]]:
    points, distance = {}, {}
    for name, tokens in path.tokens.items():
        end, start = _take(tokens, row), _take(path.baseline[name], row)
        distance[name] = end.values - start.values
        share = node.to(end.values).reshape(-1, 1, 1)
        points[name] = end.with_values((start.values + share * distance[name]).requires_grad_(True))
    with torch.enable_grad():
        output = model.finish(model.forward_tokens(points))
        total = score(output, [path.targets[i] for i in row.tolist()]).sum()
    leaves = [tokens.values for tokens in points.values()]
    if not total.requires_grad:  # the model ignores its input
        return {n: torch.zeros(d.shape[:2]) for n, d in distance.items()}
    gradients = torch.autograd.grad(total, leaves, allow_unused=True)
    return {
        name: torch.zeros(distance[name].shape[:2])
        if gradient is None
        else (gradient * distance[name]).sum(-1)
        for name, gradient in zip(points, gradients, strict=True)
    }


def unit_sums(
    units: list[int],
    index: dict[str, Int[Tensor, "row token"]],
    values: dict[str, Float[Tensor, "row token"]],
) -> list[Float[np.ndarray, " unit"]]:
    """Return the sum of token values for each unit of each row.

    Args:
        units: number of units of each row.
        index: unit of each token, by encoder, from :func:`unit_index`.
        values: one number a token, by encoder.
    """
    result = [np.zeros(count) for count in units]
    for name, numbers in values.items():
        where, found = index[name].numpy(), numbers.double().cpu().numpy()
        for i, sums in enumerate(result):
            real = where[i] >= 0
            np.add.at(sums, where[i][real], found[i][real])
    return result
