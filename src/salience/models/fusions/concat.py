"""Fusion: put the row vectors side by side."""

import torch
from jaxtyping import Float
from torch import Tensor

from salience.models.slots import Fusion, Tokens

CARD = {
    "key": "concat",
    "kind": "fusion",
    "title": "Concatenation",
    "entry": "Concat",
    "summary": "The encoders' row vectors side by side; the head learns what to take from each.",
    "cost": "none",
    "tiny": {},
}


class Concat(Fusion):
    """Concatenate the encoders' row vectors.

    Args:
        dims: size of each encoder's row vector, by name.
        token_dims: not used.
    """

    def __init__(self, dims: dict[str, int], token_dims: dict[str, int]) -> None:
        super().__init__()
        self.dim = sum(dims.values())

    def forward(self, vectors: dict[str, Tensor], tokens: dict[str, Tokens]) -> Float[Tensor, "batch dim"]:
        """Return the concatenation, in encoder order."""
        return torch.cat(list(vectors.values()), dim=1)
