"""Gradient: how strongly the answer reacts to a small change of each unit, in either direction."""

from time import perf_counter

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from salience.core.errors import ConfigError, nearest
from salience.explain.attribution import Attribution
from salience.explain.gradients import make_path, take, unit_gradients
from salience.explain.model import WhiteBox
from salience.explain.state import frozen
from salience.explain.target import Target

CARD = {
    "key": "gradient",
    "kind": "explainer",
    "title": "Gradient (saliency)",
    "entry": "Gradient",
    "summary": "Size of the gradient at the row: how strongly the answer reacts to each unit. It has no sign, and says nothing of how much a unit added.",
    "paper": "Deep Inside Convolutional Networks: Visualising Image Classification Models and Saliency Maps (Simonyan, Vedaldi, Zisserman, 2014)",
    "year": 2014,
    "url": "https://arxiv.org/abs/1312.6034",
    "source": "paper, section 3",
    "faithful": "Absolute derivative of the score before softmax.",
    "deviates": "The score is the log-odds, the value or the log-probability of the target. Absolute derivatives in all features of a unit's embedded tokens are added up (pixels and channels of a region, numbers of a word vector); the paper takes the largest of the channels. norm='l2' gives the Euclidean norm of a token, added up over a unit's tokens. For a number it is the reaction to its embedding, not the slope in its own units.",
    "needs": "white_box",
    "complete": False,
    "signed": False,
    "exact_linear": False,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "one forward and backward pass a row",
    "defaults": {"norm": "l1"},
}
NORMS = {"l1": 1, "l2": 2}


class Gradient:
    """Attribute by the size of the gradient in a unit's embedded tokens.

    Args:
        norm: ``"l1"``: sum of absolute derivatives; ``"l2"``: Euclidean norm of each token, summed over tokens.

    Raises:
        ConfigError: another norm.
    """

    def __init__(self, norm: str = "l1") -> None:
        self.norm = check_norm(norm)

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
            path = make_path(model, frame, targets, memory_mb)
            values, output = unit_gradients(
                model,
                path,
                torch.arange(len(frame)),
                lambda pack: {n: take(t, torch.arange(len(frame))[pack]) for n, t in path.tokens.items()},
                lambda name, gradient, pack: size(gradient, self.norm),
            )
        seconds = (perf_counter() - begin) / len(frame)
        return [
            Attribution(line[:count], float(score), None, "none", None, 1, seconds)
            for line, count, score in zip(values, path.units, output, strict=True)
        ]


def check_norm(norm: str) -> str:
    """Return a known norm.

    Raises:
        ConfigError: another norm.
    """
    if norm not in NORMS:
        raise ConfigError(f"Unknown norm {norm!r}", "", nearest(norm, NORMS), code="SAL-C002")
    return norm


def size(gradient: Float[Tensor, "point token dim"], norm: str) -> Float[Tensor, "point token"]:
    """Return the norm of each token's gradient."""
    return torch.linalg.vector_norm(gradient, ord=NORMS[norm], dim=-1)
