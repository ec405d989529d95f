"""SmoothGrad: gradients averaged over noisy copies of the row, so that kinks of the network cancel."""

import hashlib
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from salience.core.errors import ConfigError, nearest
from salience.core.stats import generator
from salience.explain.attribution import Attribution
from salience.explain.baselines import NEUTRAL, Baselines, describe
from salience.explain.gradients import Path, make_path, scores_at, take, unit_gradients
from salience.explain.methods.gradient import check_norm, size
from salience.explain.model import WhiteBox
from salience.explain.rows import records
from salience.explain.state import frozen
from salience.explain.target import Target

CARD = {
    "key": "smooth_grad",
    "kind": "explainer",
    "title": "SmoothGrad",
    "entry": "SmoothGrad",
    "summary": "Mean of the gradient over noisy copies of the row; with its standard error. Unsigned, or signed as gradient × input.",
    "paper": "SmoothGrad: removing noise by adding noise (Smilkov, Thorat, Kim, Viégas, Wattenberg, 2017)",
    "year": 2017,
    "url": "https://arxiv.org/abs/1706.03825",
    "source": "paper, section 3",
    "faithful": "Gaussian noise on the input, its standard deviation a share of the input's range (15 %), 50 samples, mean of the maps.",
    "deviates": "Noise is on the embedded tokens that belong to units; the range is that of the row's own tokens, for each encoder. With of='gradient' absolute values are taken before the mean, as implementations do; of='gradient_x_input' averages signed gradients times the row's distance from the neutral input.",
    "needs": "white_box",
    "complete": False,
    "signed": False,
    "exact_linear": False,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "50 forward and backward passes a row, packed over rows and samples",
    "defaults": {"of": "gradient", "samples": 50, "noise": 0.15, "norm": "l1", "baseline": "neutral"},
}
VARIANTS = ("gradient", "gradient_x_input")


class SmoothGrad:
    """Attribute by gradients at noisy copies of the row.

    The noise of a row depends on the seed and the row alone. Evidence holds ``standard_errors`` of the mean, a unit each.

    Args:
        of: ``"gradient"`` (unsigned, as in :mod:`salience.explain.methods.gradient`) or ``"gradient_x_input"`` (signed).
        samples: noisy copies of a row, at least 1.
        noise: standard deviation of the noise, as a share of the range of the row's embedded values.
        norm: ``"l1"`` or ``"l2"``, for ``of="gradient"``.
        baseline: name of the neutral input, for ``of="gradient_x_input"``.
        background: training rows, for the baselines that need them.

    Raises:
        ConfigError: an unknown option, fewer than one sample, or negative noise.
    """

    def __init__(
        self,
        of: str = "gradient",
        samples: int = 50,
        noise: float = 0.15,
        norm: str = "l1",
        baseline: str = NEUTRAL,
        background: pd.DataFrame | None = None,
    ) -> None:
        if of not in VARIANTS:
            raise ConfigError(f"Unknown variant of={of!r}", "", nearest(of, VARIANTS), code="SAL-C002")
        if samples < 1 or not noise >= 0:
            raise ConfigError(
                "SmoothGrad needs samples and noise",
                f"samples={samples}, noise={noise}.",
                "Give samples >= 1 and noise >= 0.",
                code="SAL-C005",
            )
        self.of, self.samples, self.noise, self.norm = of, samples, noise, check_norm(norm)
        self.signed = of == "gradient_x_input"
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
        """Return one attribution a row; see :mod:`salience.explain.model` for what the model must offer."""
        if not len(frame):
            return []
        begin = perf_counter()
        with frozen(model):
            path = make_path(model, frame, targets, memory_mb, self.baselines.seeded(seed))
            ends = [scores_at(model, path, np.arange(len(frame)), np.full(len(frame), 1.0))]
            if self.signed:
                ends.append(scores_at(model, path, np.arange(len(frame)), np.zeros(len(frame))))
            found = self._sampled(model, path, _names(model, frame), seed)
        words = describe(model, self.baselines.names) if self.signed else "none"
        seconds = (perf_counter() - begin) / len(frame)
        forwards = self.samples + len(ends)
        return [
            Attribution(
                found[i, :, :count].mean(axis=0), float(ends[0][i]), float(ends[1][i]) if self.signed else None,
                words, None, forwards, seconds, {"standard_errors": standard_errors(found[i, :, :count])},
            )
            for i, count in enumerate(path.units)
        ]  # fmt: skip

    def _sampled(
        self, model: WhiteBox, path: Path, names: Sequence[str], seed: int
    ) -> Float[np.ndarray, "row sample unit"]:
        row = torch.arange(len(names)).repeat_interleave(self.samples)
        spread = {name: self.noise * _range(tokens) for name, tokens in path.tokens.items()}

        def points(pack: slice) -> dict[str, Any]:
            lines = list(zip(row[pack].tolist(), range(len(row))[pack], strict=True))
            return {
                name: _noisy(
                    take(tokens, row[pack]),
                    spread[name][row[pack].to(spread[name].device)],
                    [generator(seed, "smooth_grad", names[i], name, str(j % self.samples)) for i, j in lines],
                )
                for name, tokens in path.tokens.items()
            }

        def measure(name: str, gradient: Tensor, pack: slice) -> Tensor:
            if not self.signed:
                return size(gradient, self.norm)
            own = row[pack].to(gradient.device)
            return (gradient * (path.tokens[name].values[own] - path.baseline[name].values[own])).sum(-1)

        values, _ = unit_gradients(model, path, row, points, measure)
        return values.reshape(len(names), self.samples, -1)


def standard_errors(values: Float[np.ndarray, "sample unit"]) -> Float[np.ndarray, " unit"]:
    """Return the standard error of the mean over samples; NaN for one sample."""
    if len(values) < 2:
        return np.full(values.shape[1], np.nan)
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def _names(model: WhiteBox, frame: pd.DataFrame) -> list[str]:
    """Return a name of each row that depends on its units alone, so that a batch changes no noise."""
    labels = ("\x1f".join(unit.label for unit in model.units(row)) for row in records(model, frame))
    return [hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest() for label in labels]


def _own(tokens: Any) -> Tensor:
    return (tokens.mask & (tokens.unit >= 0)).unsqueeze(-1)


def _range(tokens: Any) -> Float[Tensor, " row"]:
    """Return the largest minus the smallest number of each row's tokens; 0 for a row without tokens."""
    own, values = _own(tokens), tokens.values
    high = torch.where(own, values, -torch.inf).flatten(1).amax(1)
    low = torch.where(own, values, torch.inf).flatten(1).amin(1)
    return torch.where(high >= low, high - low, 0.0)


def _noisy(tokens: Any, spread: Float[Tensor, " point"], draws: Sequence[np.random.Generator]) -> Any:
    """Return tokens with noise on those that belong to units, wherever padding puts them."""
    values, own = tokens.values.clone(), _own(tokens)[..., 0]
    for i, draw in enumerate(draws):
        places = own[i].nonzero()[:, 0]
        noise = draw.standard_normal((len(places), values.shape[2]))
        values[i, places] += spread[i] * torch.from_numpy(noise).to(values)
    return tokens.with_values(values)
