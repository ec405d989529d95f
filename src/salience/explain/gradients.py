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

ACTIVATIONS = 48  # what a network keeps for backward, in multiples of its input: a rule of thumb


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
    capacity = max(1, int(memory_mb * 2**20 / max(_row_bytes(model, tokens), 1)))
    return Path(tokens, baseline, targets, unit, [len(model.units(row)) for row in rows], capacity)


def _row_bytes(model: WhiteBox, tokens: dict[str, Any]) -> int:
    """Return the memory of a forward and backward pass of one row: the model's own estimate, or a rule of thumb."""
    if hasattr(model, "row_bytes"):
        return model.row_bytes(tokens)
    return sum(t.values[0].numel() * t.values.element_size() for t in tokens.values()) * ACTIVATIONS


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


def scores_at(
    model: WhiteBox, path: Path, rows: Int[np.ndarray, " line"], nodes: Float[np.ndarray, " line"]
) -> Float[np.ndarray, " line"]:
    """Return the explained quantity at points of the path; 0 is the neutral input, 1 the row.

    Args:
        model: white box in evaluation mode.
        path: rows and neutral inputs.
        rows: which row's path, for each point.
        nodes: position of each point, in [0, 1].
    """
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), path.capacity):
            pack = slice(start, start + path.capacity)
            points, _ = _points(path, torch.as_tensor(rows[pack]), torch.as_tensor(nodes[pack]))
            output = model.finish(model.forward_tokens(points)).double()
            parts.append(score(output, [path.targets[i] for i in rows[pack]]).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros(0)


def ends(model: WhiteBox, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the explained quantity at the rows and at their neutral inputs."""
    rows = np.arange(len(path.targets))
    return tuple(scores_at(model, path, rows, np.full(len(rows), end)) for end in (1.0, 0.0))


def along_path(
    model: WhiteBox,
    path: Path,
    rows: Int[np.ndarray, " line"],
    nodes: Float[np.ndarray, "line step"],
    weights: Float[np.ndarray, "line step"],
) -> list[Float[np.ndarray, " unit"]]:
    """Return for each line ``Σ_s weight_s · ∇score(x' + node_s (x − x')) · (x − x')``, summed to the row's units.

    Lines × steps are packed into as few forward passes as the path's capacity allows.

    Args:
        model: white box in evaluation mode.
        path: rows and neutral inputs.
        rows: which row's path, for each line.
        nodes: positions on the path, in [0, 1]; 1 is the row.
        weights: weight of each position.
    """
    unit = {name: found[rows] for name, found in path.unit.items()}
    total = {name: torch.zeros(found.shape, dtype=torch.float64) for name, found in unit.items()}
    order = np.arange(len(rows)).repeat(nodes.shape[1])
    line, row, node, weight = (
        torch.as_tensor(x) for x in (order, rows[order], nodes.ravel(), weights.ravel())
    )
    for start in range(0, len(line), path.capacity):
        pack = slice(start, start + path.capacity)
        for name, part in _step(model, path, row[pack], node[pack]).items():
            total[name].index_add_(0, line[pack], part.cpu().double() * weight[pack, None])
    return unit_sums([path.units[i] for i in rows], unit, total)


def _points(path: Path, row: Tensor, node: Tensor) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return points of the path, and the distance from neutral input to row."""
    points, distance = {}, {}
    for name, tokens in path.tokens.items():
        end, start = _take(tokens, row), _take(path.baseline[name], row)
        distance[name] = end.values - start.values
        share = node.to(end.values).reshape(-1, 1, 1)
        points[name] = end.with_values(
            torch.where(share == 1, end.values, start.values + share * distance[name])
        )
    return points, distance


def _step(model: WhiteBox, path: Path, row: Tensor, node: Tensor) -> dict[str, Float[Tensor, "row token"]]:
    points, distance = _points(path, row, node)
    points = {name: t.with_values(t.values.requires_grad_(True)) for name, t in points.items()}
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
