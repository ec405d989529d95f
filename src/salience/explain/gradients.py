"""Gradients of the explained quantity at points near a row or on the way from a neutral input, summed to units."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salience.explain.attribution import Attribution
from salience.explain.baselines import Baselines, describe, make_baseline
from salience.explain.model import WhiteBox
from salience.explain.rows import records
from salience.explain.target import Target, score

ACTIVATIONS = 48  # what a network keeps for backward, in multiples of its input: a rule of thumb
TokenMeasure = Callable[[str, Tensor, slice], Float[Tensor, "point token"]]


@dataclass(frozen=True)
class Path:
    """The two ends of the paths of a group of rows: one path a row and baseline, all rows of a baseline together.

    Attributes:
        tokens: embedded rows, by encoder, once a baseline.
        baseline: neutral inputs of the same shape.
        targets: one a path.
        unit: for each encoder, index of each token's unit in ``units(row)``; −1 for none.
        units: number of units of each path's row.
        capacity: rows of one forward pass that the memory budget allows.
        baselines: number of neutral inputs of each row.
    """

    tokens: dict[str, Any]
    baseline: dict[str, Any]
    targets: list[Target]
    unit: dict[str, Int[Tensor, "path token"]]
    units: list[int]
    capacity: int
    baselines: int = 1


def make_path(
    model: WhiteBox,
    frame: pd.DataFrame,
    targets: Sequence[Target],
    memory_mb: int | float,
    baselines: Baselines | None = None,
) -> Path:
    """Embed rows and their neutral inputs.

    Args:
        model: white box in evaluation mode.
        frame: canonical rows, at least one.
        targets: one a row.
        memory_mb: memory for one forward and backward pass, in MiB.
        baselines: names of the neutral inputs; the model's own if not given.
    """
    rows = records(model, frame)
    batch = model.collate(model.prepare(frame))
    chosen = baselines or Baselines()
    with torch.no_grad():
        tokens = model.embed(batch)
        ends = [make_baseline(model, batch, tokens, frame, chosen, draw) for draw in range(len(chosen.names))]
    unit = unit_index(model, rows, tokens)
    capacity = max(1, int(memory_mb * 2**20 / max(_row_bytes(model, tokens), 1)))
    count = len(ends)
    return Path(
        {name: _joined([t] * count) for name, t in tokens.items()},
        {name: _joined([end[name] for end in ends]) for name in tokens},
        [*targets] * count,
        {name: index.repeat(count, 1) for name, index in unit.items()},
        [len(model.units(row)) for row in rows] * count,
        capacity,
        count,
    )


def _joined(parts: Sequence[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    return parts[0].joined(parts)


def take(tokens: Any, rows: Int[Tensor, " point"]) -> Any:
    """Return the tokens of some rows."""
    return tokens.take(rows.to(tokens.values.device))


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
        rows: which path, for each point.
        nodes: position of each point, in [0, 1].
    """
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), path.capacity):
            pack = slice(start, start + path.capacity)
            points = _points(path, torch.as_tensor(rows[pack]), torch.as_tensor(nodes[pack]))
            output = model.finish(model.forward_tokens(points)).double()
            parts.append(score(output, [path.targets[i] for i in rows[pack]]).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros(0)


def ends(model: WhiteBox, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the explained quantity at the rows and at their neutral inputs."""
    rows = np.arange(len(path.targets))
    output, neutral = (scores_at(model, path, rows, np.full(len(rows), end)) for end in (1.0, 0.0))
    return output, neutral


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
        rows: which path, for each line.
        nodes: positions on the path, in [0, 1]; 1 is the row.
        weights: weight of each position.
    """
    line = np.arange(len(rows)).repeat(nodes.shape[1])
    row, node = torch.as_tensor(rows[line]), torch.as_tensor(nodes.ravel())

    def points(pack: slice) -> dict[str, Any]:
        return _points(path, row[pack], node[pack])

    def measure(name: str, gradient: Tensor, pack: slice) -> Tensor:
        return (gradient * distance(path, name, row[pack])).sum(-1)

    values, _ = unit_gradients(model, path, row, points, measure)
    total = np.zeros((len(rows), values.shape[1]))
    np.add.at(total, line, values * weights.reshape(-1, 1))
    return [found[: path.units[i]] for found, i in zip(total, rows, strict=True)]


def distance(path: Path, name: str, row: Int[Tensor, " point"]) -> Float[Tensor, "point token dim"]:
    """Return row minus neutral input of an encoder's tokens."""
    return take(path.tokens[name], row).values - take(path.baseline[name], row).values


def _points(path: Path, row: Int[Tensor, " point"], node: Float[Tensor, " point"]) -> dict[str, Any]:
    points = {}
    for name, tokens in path.tokens.items():
        end, start = take(tokens, row), take(path.baseline[name], row).values
        share = node.to(end.values).reshape(-1, 1, 1)
        between = start + share * (end.values - start)
        points[name] = end.with_values(torch.where(share == 1, end.values, between))
    return points


def unit_gradients(
    model: WhiteBox,
    path: Path,
    row: Int[Tensor, " point"],
    points: Callable[[slice], dict[str, Any]],
    measure: TokenMeasure,
) -> tuple[Float[np.ndarray, "point unit"], Float[np.ndarray, " point"]]:
    """Return what a measure of the gradient gives each unit at each point, and the explained quantity there.

    Args:
        model: white box in evaluation mode.
        path: rows; its capacity says how many points one forward and backward pass holds.
        row: which path each point belongs to.
        points: from a slice of the points to their tokens, by encoder.
        measure: from an encoder's name, the gradient (point, token, dim) and the slice to one number a token.

    Returns:
        One line a point, as wide as the row with most units; and one number a point.
    """
    width = max(path.units, default=0)
    values, scores = np.zeros((len(row), width)), np.zeros(len(row))
    for start in range(0, len(row), path.capacity):
        pack = slice(start, start + path.capacity)
        targets = [path.targets[i] for i in row[pack].tolist()]
        scores[pack], gradients = score_gradients(model, points(pack), targets)
        for name, gradient in gradients.items():
            values[pack] += sums(path.unit[name][row[pack]], measure(name, gradient, pack), width)
    return values, scores


def score_gradients(
    model: WhiteBox, tokens: dict[str, Any], targets: Sequence[Target]
) -> tuple[Float[np.ndarray, " point"], dict[str, Float[Tensor, "point token dim"]]]:
    """Return the explained quantity at points, and its gradient in their tokens; zero where the model ignores them."""
    leaves = {n: t.with_values(t.values.detach().requires_grad_(True)) for n, t in tokens.items()}
    with torch.enable_grad():
        found = score(model.finish(model.forward_tokens(leaves)).double(), targets)
    gradients = derivatives(found, [t.values for t in leaves.values()])
    return found.detach().cpu().numpy(), dict(zip(leaves, gradients, strict=True))


def derivatives(found: Float[Tensor, " point"], places: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of a sum at each tensor of its graph; zero where it does not depend on it."""
    if not found.requires_grad or not places:
        return [torch.zeros_like(place) for place in places]
    gradients = torch.autograd.grad(found.sum(), list(places), allow_unused=True)
    pairs = zip(places, gradients, strict=True)
    return [torch.zeros_like(place) if g is None else g for place, g in pairs]


def sums(
    unit: Int[Tensor, "point token"], values: Float[Tensor, "point token"], width: int
) -> Float[np.ndarray, "point unit"]:
    """Return the sum of token values for each unit; tokens of unit −1 count for none."""
    total = torch.zeros(len(values), width + 1, dtype=torch.float64)  # the last one takes what is no unit's
    total.scatter_add_(1, torch.where(unit >= 0, unit, width), values.detach().cpu().double())
    return total[:, :width].numpy()


def path_attributions(
    model: WhiteBox,
    path: Path,
    values: Sequence[Float[np.ndarray, " unit"]],
    output: Float[np.ndarray, " path"],
    neutral: Float[np.ndarray, " path"],
    spent: Int[np.ndarray, " path"],
    seconds: float,
    baselines: Baselines,
    *,
    complete: bool,
) -> list[Attribution]:
    """Return one attribution a row: the mean over its baselines, each of which is kept as evidence.

    Args:
        model: the explained model.
        path: paths of all rows and baselines.
        values: one array a path.
        output: explained quantity at the row, for each path.
        neutral: explained quantity at the neutral input.
        spent: evaluations of the model for each path.
        seconds: time for all.
        baselines: their names, for the words.
        complete: whether the values should add up to the change, so that a gap is stated.
    """
    words, count = describe(model, baselines.names), len(values) // path.baselines
    each = seconds / max(int(spent.sum()), 1)
    result = []
    for i in range(count):
        own = range(i, len(values), count)
        found = np.stack([values[j] for j in own])
        mean, start = found.mean(axis=0), float(neutral[i::count].mean())
        gap = float(mean.sum() - (output[i] - start)) if complete else None
        forwards = int(spent[i::count].sum())
        evidence = {"by_baseline": found} if path.baselines > 1 else {}
        result.append(
            Attribution(mean, float(output[i]), start, words, gap, forwards, each * forwards, evidence)
        )
    return result
