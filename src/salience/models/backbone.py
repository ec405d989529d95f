"""What backbones of tables share: rows side by side, layers, and where members start apart."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.errors import ConfigError
from salience.nn.dropout import Dropout

Columns = dict[str, list[int]]
NUMBER = "number"  # name of the encoder of numbers


def side_by_side(vectors: dict[str, Float[Tensor, "batch _"]]) -> Float[Tensor, "batch dim"]:
    """Return the encoders' row vectors as one, in encoder order."""
    return torch.cat(list(vectors.values()), dim=1)


class Block(nn.Sequential):
    """Apply a linear layer, ReLU and dropout.

    Args:
        linear: the linear layer.
        dropout: share of activations dropped in training, in [0, 1).
    """

    def __init__(self, linear: nn.Module, dropout: float) -> None:
        super().__init__(linear, nn.ReLU(), Dropout(dropout))


def perceptron(sizes: list[int], dropout: float) -> nn.Sequential:
    """Return one block a pair of sizes that follow each other."""
    return nn.Sequential(*(Block(nn.Linear(a, b), dropout) for a, b in pairwise(sizes)))


def first_scales(columns: Columns, embedded: bool, members: int) -> Float[Tensor, "member dim"]:
    """Return the random factors of the input with which members start apart: one a member and column.

    Args:
        columns: how many places of the row vector each column takes, by encoder; a text or an image is one column.
        embedded: see :func:`has_embeddings`.
        members: number of members.

    Source:
        The package ``tabm`` 0.0.3 (facts): normal where numbers are embedded, random signs where they are not; all
        places of one column's vector share a factor.

    Raises:
        ConfigError: fewer than two members.
    """
    if members < 2:
        raise ConfigError("An ensemble needs two members", f"Got {members}.", "Use fusion mlp for one.")
    sizes = [size for part in columns.values() for size in part]
    shape = (members, len(sizes))
    signs = torch.randint(2, shape).to(torch.get_default_dtype()) * 2 - 1
    return (torch.randn(shape) if embedded else signs).repeat_interleave(torch.tensor(sizes), dim=1)


def has_embeddings(dims: dict[str, int], token_dims: dict[str, int]) -> bool:
    """Tell whether numbers are embedded, or texts and images are there, whose vectors are embeddings."""
    return token_dims.get(NUMBER, 1) > 1 or len(dims) > len(token_dims)
