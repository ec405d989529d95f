"""DeepLift: the change of the answer from a neutral input, handed back through slopes in place of gradients."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from salience.core.errors import UnsupportedError
from salience.explain.attribution import Attribution
from salience.explain.baselines import NEUTRAL, Baselines
from salience.explain.gradients import Path, make_path, path_attributions, sums, take
from salience.explain.model import WhiteBox
from salience.explain.rescale import multipliers
from salience.explain.state import frozen
from salience.explain.target import Target, score

CARD = {
    "key": "deep_lift",
    "kind": "explainer",
    "title": "DeepLift (Rescale rule)",
    "entry": "DeepLift",
    "summary": "One pass: slopes between the row and a neutral input take the place of gradients, so that values add up. For networks of linear steps, functions of one number and maxima; refuses others.",
    "paper": "Learning Important Features Through Propagating Activation Differences (Shrikumar, Greenside, Kundaje, ICML 2017)",
    "year": 2017,
    "url": "https://arxiv.org/abs/1704.02685",
    "source": "paper, sections 3.1 to 3.5.1",
    "faithful": "Multipliers, chain rule and Rescale rule; at a maximum the change goes to the place that decides it.",
    "deviates": "The rule acts on functions of the forward pass, written as modules or not. Where the two inputs agree, the derivative stands in. Log-odds and log-probabilities are no linear functions of logits: logsumexp gets its mean gradient between the two inputs. RevealCancel is not offered. Softmax attention, layer and group normalisation, gates and products of two signals have no slope, and are refused.",
    "needs": "white_box",
    "variant": "linear",
    "complete": True,
    "signed": True,
    "exact_linear": True,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "one forward and backward pass of a row and its neutral input together",
    "defaults": {"baseline": "neutral"},
}
TOLERANCE = 0.01  # as a share of the change, or of a tenth of the sum of absolute values where that is more


class DeepLift:
    """Attribute by DeepLift's Rescale rule.

    Args:
        baseline: name of the neutral input, or several whose values are averaged; see
            :data:`salience.explain.baselines.WORDS`.
        background: training rows, for the baselines that need them.

    Raises:
        ConfigError: an unknown baseline.
    """

    def __init__(
        self, baseline: str | Sequence[str] = NEUTRAL, background: pd.DataFrame | None = None
    ) -> None:
        self.baselines = Baselines.of(baseline, background)

    def attribute(
        self,
        model: WhiteBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row; see :mod:`salience.explain.model` for what the model must offer.

        Raises:
            UnsupportedError: the network holds what the rules do not cover, or the values do not add up.
        """
        if not len(frame):
            return []
        begin, baselines = perf_counter(), self.baselines.seeded(seed)
        with frozen(model):
            path = make_path(model, frame, targets, memory_mb, baselines)
            values, output, neutral = _contributions(model, path)
        spent, seconds = np.full(len(values), 2), perf_counter() - begin
        _check_sums(values, output - neutral)
        return path_attributions(
            model, path, values, output, neutral, spent, seconds, baselines, complete=True
        )


def _contributions(model: WhiteBox, path: Path) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return values, and the quantity at row and neutral input, of each path."""
    count, width = len(path.targets), max(path.units, default=0)
    values, ends = np.zeros((count, width)), np.zeros((2, count))
    size = max(1, path.capacity // 2)  # row and neutral input go together
    for start in range(0, count, size):
        row = torch.arange(start, min(count, start + size))
        parts, ends[:, row.numpy()] = _pack(model, path, row)
        for name, part in parts.items():
            values[row.numpy()] += sums(path.unit[name][row], part, width)
    return [line[:units] for line, units in zip(values, path.units, strict=True)], *ends


def _pack(
    model: WhiteBox, path: Path, row: Tensor
) -> tuple[dict[str, Float[Tensor, "row token"]], Float[np.ndarray, "2 row"]]:
    here = {name: take(tokens, row) for name, tokens in path.tokens.items()}
    there = {name: take(tokens, row).values for name, tokens in path.baseline.items()}
    both = {name: t.joined([t, t]) for name, t in here.items()}
    targets = [path.targets[i] for i in row.tolist()] * 2

    def forward(leaves: list[Tensor]) -> Tensor:
        tokens = {n: t.with_values(x) for (n, t), x in zip(both.items(), leaves, strict=True)}
        return score(model.finish(model.forward_tokens(tokens)).double(), targets)

    found, up, down = multipliers(forward, [t.values for t in here.values()], list(there.values()))
    parts = {
        name: (multiplier * (here[name].values - there[name])).sum(-1)
        for name, multiplier in zip(here, found, strict=True)
    }
    return parts, torch.stack([up, down]).cpu().numpy()


def _check_sums(values: Sequence[np.ndarray], change: np.ndarray) -> None:
    gaps = np.array([v.sum() for v in values]) - change
    sizes = np.array([np.abs(v).sum() for v in values])
    worst = np.abs(gaps) - TOLERANCE * np.maximum(np.abs(change), 0.1 * sizes) - 1e-4
    if len(worst) and worst.max() > 0:
        i = int(worst.argmax())
        raise UnsupportedError(
            "DeepLift's values do not add up for this network",
            f"They sum to {change[i] + gaps[i]:.4g} where the answer changes by {change[i]:.4g}: something in it is "
            "hidden from the rules, such as a step that depends on the input without a gradient.",
            "Use method='integrated_gradients'.",
        )
