"""Sensitivity: how far an explanation moves when the embedded input moves a little."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from salience.core.errors import SalienceError, UnsupportedError
from salience.core.stats import generator
from salience.explain.explanation import Explanation
from salience.explain.model import WhiteBox
from salience.explain.options import within
from salience.explain.orders import values_of
from salience.explain.reexplain import asked_by, by_method, explainer_of, why_not
from salience.explain.scores import Scores
from salience.explain.state import frozen

CARD = {
    "key": "sensitivity_max",
    "kind": "metric",
    "title": "Sensitivity (maximum)",
    "entry": "SensitivityMax",
    "summary": "Largest relative change of the explanation over small random changes of the embedded input.",
    "convention": "max over 10 draws of ‖φ(x + δ) − φ(x)‖₂ / ‖φ(x)‖₂, δ uniform in [−0.02, 0.02] on every number of the embedded input; a norm of 0 counts as 1.",
    "better": "lower",
    "family": "robustness",
    "scale_free": False,
    "needs": "explainer",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "On the (In)fidelity and Sensitivity of Explanations (Yeh et al., NeurIPS 2019)",
    "year": 2019,
    "url": "https://arxiv.org/abs/1901.09392",
    "source": "paper",
    "faithful": "Maximum over uniform draws in a ball of the maximum norm; relative to the norm of the explanation.",
    "deviates": "The ball is in the embedded input, since words cannot move a little; a method that does not start there gets NaN. A draw moves the tokens of all rows alike.",
    "cost": "ten times the method",
    "defaults": {"radius": 0.02, "draws": 10, "mean": False},
}


@dataclass(frozen=True)
class SensitivityMax:
    """Explain again and again, with a little noise.

    Args:
        radius: half the width of the noise, in units of the embedded input.
        draws: number of draws.
        mean: whether to average over draws (average sensitivity) in place of the maximum.
        explainers: explainers by the name of their method, where they are not those of the registry at their defaults.
    """

    radius: float = 0.02
    draws: int = 10
    mean: bool = False
    explainers: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        within("radius", self.radius, 0)
        within("draws", self.draws, 1)

    def scores(
        self,
        model: WhiteBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the sensitivity of each explanation, at least 0; NaN where its method does not read the embedded input."""
        begin, values, forwards, reasons = perf_counter(), np.full(len(explanations), np.nan), 0, []
        for (method, *_), where in by_method(explanations).items():
            group, explainer = [explanations[i] for i in where], explainer_of(method, self.explainers)
            if explainer is None:
                reasons.append(why_not(method))
                continue
            try:
                values[where], spent = self._group(model, explainer, group, seed, memory_mb)
                forwards += spent
            except SalienceError as error:
                reasons.append(why_not(method, error))
        over = "mean" if self.mean else "maximum"
        convention = (
            f"{over} over {self.draws} draws of ‖φ(x + δ) − φ(x)‖₂ / ‖φ(x)‖₂ over the units that have a value, δ uniform "
            f"in ±{self.radius:g} on every number of the embedded input; a norm of 0 counts as 1."
        )
        return Scores(
            values,
            convention[0].upper() + convention[1:],
            forwards,
            perf_counter() - begin,
            "; ".join(reasons),
        )

    def _group(
        self, model: WhiteBox, explainer: Any, group: list[Explanation], seed: int, memory_mb: int | float
    ) -> tuple[Float[np.ndarray, " explanation"], int]:
        own = [values_of(e) for e in group]
        moved, forwards = [], 0
        frame, targets = asked_by(model, group)
        with frozen(model):
            prepared = model.prepare(frame)
            for draw in range(self.draws):
                noisy = Noisy(model, self.radius, seed, draw, frame, prepared)
                found = explainer.attribute(noisy, frame, targets, seed=group[0].seed, memory_mb=memory_mb)
                forwards += sum(a.forwards for a in found)
                moved.append([relative_change(v, a.values) for v, a in zip(own, found, strict=True)])
        return np.mean(moved, axis=0) if self.mean else np.max(moved, axis=0), forwards


def relative_change(own: Float[np.ndarray, " unit"], other: Float[np.ndarray, " unit"]) -> float:
    """Return ``‖other − own‖₂ / ‖own‖₂`` over the units that have a value in both; a norm of 0 counts as 1."""
    known = np.isfinite(own) & np.isfinite(other)
    return float(np.linalg.norm(other[known] - own[known]) / (np.linalg.norm(own[known]) or 1.0))


class Noisy:
    """A white box whose embedded input is moved a little; it cannot be called on raw rows, which would not be moved.

    Args:
        model: the model.
        radius: half the width of the uniform noise.
        seed: seed of the noise.
        draw: number of the draw.
        frame: the rows of every draw.
        prepared: what ``model.prepare`` makes of them, once for all draws.
    """

    def __init__(
        self,
        model: WhiteBox,
        radius: float,
        seed: int,
        draw: int,
        frame: pd.DataFrame,
        prepared: list[Any],
    ) -> None:
        self.model, self.radius, self.seed, self.draw = model, radius, seed, draw
        self.frame, self.prepared = frame, prepared
        for name in _shared(model):
            setattr(self, name, getattr(model, name))

    def prepare(self, frame: pd.DataFrame) -> list[Any]:
        """Return one example a row; those of all rows are at hand."""
        return self.prepared if frame is self.frame else self.model.prepare(frame)

    def embed(self, batch: Any) -> dict[str, Any]:
        """Return the embedded input plus noise, the same for a token of every row."""
        found = self.model.embed(batch)
        return {name: tokens.with_values(self._moved(name, tokens.values)) for name, tokens in found.items()}

    def _moved(self, name: str, values: Tensor) -> Tensor:
        rng = generator(self.seed, "noise", name, str(self.draw))
        noise = rng.uniform(
            -self.radius, self.radius, tuple(values.shape[1:])
        )  # a shorter row takes the beginning
        return values + torch.as_tensor(noise, dtype=values.dtype, device=values.device)

    def outputs(self, frame: Any) -> np.ndarray:
        """Refuse.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            "Sensitivity needs a method that starts from the embedded input",
            "The method calls the model on raw rows.",
            "Leave it out, or take another metric.",
        )


def _shared(model: WhiteBox) -> Iterator[str]:
    """Yield what is passed on as it is; attention maps are not, since they are read without the noise."""
    names = ("schema", "predict_proba", "units", "unit_offsets", "remove", "collate", "baseline")
    for name in (*names, "forward_tokens", "finish", "neutral_words", "row_bytes"):
        if hasattr(model, name):
            yield name
