"""What torch modules return, as logits."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from salience.core.errors import ConfigError, nearest
from salience.explain.adapters.base import SUM_TOLERANCE, TINY, wrong_shape

ANSWERS = ("logits", "probabilities")


@dataclass(frozen=True)
class Raw:
    """Turn what a module returns into logits, or into a number a row.

    Attributes:
        classes: names of the classes; None for a number.
        answers: ``"logits"`` or ``"probabilities"``.
        source: the module, for messages.
    """

    classes: list[str] | None
    answers: str
    source: str

    def __post_init__(self) -> None:
        if self.answers not in ANSWERS:
            raise ConfigError(f"Unknown answers {self.answers!r}", "", nearest(self.answers, ANSWERS))

    @property
    def width(self) -> int:
        """Number of outputs: classes, or one."""
        return len(self.classes) if self.classes else 1

    def logits(self, answer: Any, rows: int) -> Float[Tensor, "row output"]:
        """Return outputs of an answer; gradients pass through.

        An answer may be a tensor, an object with ``logits``, or a tuple whose first entry it is. One column for two
        classes is the logit (or probability) of the second.

        Raises:
            ConfigError: another shape than (rows, outputs), or probabilities that are none (SAL-M003).
        """
        found = _tensor(answer, self.source)
        if found.ndim == 1 or (found.ndim == 2 and found.shape[1] == 1 and self.width == 2):
            found = self._one_column(found.reshape(-1, 1))
        if tuple(found.shape) != (rows, self.width):
            raise wrong_shape(tuple(found.shape), rows, self.classes, self.source)
        if self.classes is None or self.answers == "logits":
            return found
        return self._log(found)

    def _one_column(self, found: Float[Tensor, "row 1"]) -> Tensor:
        if self.width != 2:
            return found
        first = torch.zeros_like(found) if self.answers == "logits" else 1 - found
        return torch.cat([first, found], dim=1)

    def _log(self, shares: Float[Tensor, "row output"]) -> Tensor:
        total = shares.detach().sum(1)
        off = (total - 1).abs().max() if len(total) else torch.zeros(())
        if off > SUM_TOLERANCE or bool((shares.detach() < -SUM_TOLERANCE).any()):
            raise ConfigError(
                f"{self.source} answers with numbers that are no probabilities",
                f"A row sums to {total[(total - 1).abs().argmax()]:.4g}.",
                "Leave out answers='probabilities' if these are logits.",
                code="SAL-M003",
            )
        return shares.clamp(min=TINY).log()


def _tensor(answer: Any, source: str) -> Tensor:
    found = getattr(answer, "logits", answer)
    found = found[0] if isinstance(found, tuple | list) and found else found
    if not isinstance(found, Tensor):
        raise ConfigError(
            f"{source} does not answer with a tensor",
            f"{type(answer).__name__}.",
            "Return logits (rows, classes), or say how to get them: forward=lambda module, …: module(…).scores.",
            code="SAL-M003",
        )
    return found
