"""Gradients of single examples in the form in which they come, and their squared norms without writing them out.

A part is what one use of a weight gives to its gradient, for all examples of a batch. Every part knows its squared norms
and its sum over examples, and can write out a block of examples for what has no short cut.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK_BYTES = 32 * 2**20
GRAM_SPEED = 0.7  # how much dearer a multiplication is in the many small products of the Gram form


def wide(tensor: Tensor) -> Tensor:
    """Return at least float32, so that squares of half precision do not overflow."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class Part(ABC):
    """One use of a weight."""

    @abstractmethod
    def block(self, start: int, stop: int) -> Float[Tensor, "batch *shape"]:
        """Return the gradients of some examples, written out."""

    @abstractmethod
    def reduced(self) -> tuple[Float[Tensor, " batch"], Float[Tensor, " *shape"]]:
        """Return the squared norm of each example's gradient, and the sum of the gradients."""


def squared(tensor: Tensor, axis: int) -> Tensor:
    """Return the squared norm along an axis, without a squared copy."""
    return torch.linalg.vector_norm(tensor, dim=axis).square()


def reduce_blocks(
    block: Callable[[int, int], Tensor], examples: int, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Return squared norms and the sum of gradients that are written out block by block."""
    numbers = math.prod(shape)
    rows = max(1, BLOCK_BYTES // max(1, numbers * 8))
    squares: list[Tensor] = []
    total = torch.zeros(())
    for start in range(0, examples, rows):
        found = block(start, min(start + rows, examples))
        squares.append(squared(found.flatten(1), 1))
        total = total + found.sum(0) if start else found.sum(0)
    return torch.cat(squares), total


@dataclass
class Dense(Part):
    """Gradients that are small enough to be there: biases, norms, scales."""

    values: Float[Tensor, "batch *shape"]

    def block(self, start: int, stop: int) -> Tensor:
        """Return some examples."""
        return self.values[start:stop]

    def reduced(self) -> tuple[Tensor, Tensor]:
        """Return squared norms and the sum."""
        return squared(self.values.flatten(1), 1), self.values.sum(0)


@dataclass
class Outer(Part):
    """Gradients Σ_t g_t a_tᵀ of a linear map, in ``group`` independent groups.

    Attributes:
        a: inputs.
        g: gradients of the outputs.
        shape: shape of the weight; its entries are (group, out, in), or (group, in, out) if ``turned``.
        turned: whether the weight has its inputs first.
    """

    a: Float[Tensor, "batch group token in"]
    g: Float[Tensor, "batch group token out"]
    shape: tuple[int, ...]
    turned: bool = False

    @property
    def examples(self) -> int:
        """Return the number of examples."""
        return len(self.a)

    def block(self, start: int, stop: int) -> Tensor:
        """Return Σ_t g_t a_tᵀ of some examples."""
        a, g = self.a[start:stop], self.g[start:stop]
        return (a.mT @ g if self.turned else g.mT @ a).reshape(stop - start, *self.shape)

    def reduced(self) -> tuple[Tensor, Tensor]:
        """Return squared norms and the sum, by the cheaper of two forms.

        With T tokens, D inputs and O outputs, ‖Σ_t g_t a_tᵀ‖² = ⟨A Aᵀ, G Gᵀ⟩ takes T²(D + O) multiplications beside
        the sum over examples; writing Σ_t g_t a_tᵀ out takes TDO and gives the sum as well.
        """
        tokens, dims = self.a.shape[2], (self.a.shape[3], self.g.shape[3])
        if tokens == 1:
            squares = (squared(self.a, 3) * squared(self.g, 3)).sum((1, 2))
            return squares, self._sum()
        if tokens * sum(dims) > GRAM_SPEED * dims[0] * dims[1]:
            return reduce_blocks(self.block, self.examples, self.shape)
        squares = ((self.a @ self.a.mT) * (self.g @ self.g.mT)).sum((1, 2, 3))
        return squares, self._sum()

    def _sum(self) -> Tensor:
        first, second = (self.a, self.g) if self.turned else (self.g, self.a)
        if first.shape[1] == 1:
            return (first.flatten(0, 2).mT @ second.flatten(0, 2)).reshape(self.shape)
        one, other = (t.transpose(0, 1).flatten(1, 2) for t in (first, second))
        return (one.mT @ other).reshape(self.shape)

    def beside(self, other: "Outer") -> "Outer":
        """Return both uses of one weight as one: their tokens one after the other."""
        return Outer(
            torch.cat([self.a, other.a], 2), torch.cat([self.g, other.g], 2), self.shape, self.turned
        )


@dataclass
class Rows(Part):
    """Gradients of a table whose rows were looked up.

    Attributes:
        example: which example looked up.
        index: which row.
        g: gradient of what was found.
        shape: shape of the table.
        examples: number of examples.
    """

    example: Int[Tensor, " line"]
    index: Int[Tensor, " line"]
    g: Float[Tensor, "line dim"]
    shape: tuple[int, ...]
    examples: int

    def block(self, start: int, stop: int) -> Tensor:
        """Return whole tables of some examples."""
        kept = (self.example >= start) & (self.example < stop)
        flat = self.g.new_zeros((stop - start) * self.shape[0], self.g.shape[1])
        flat.index_add_(0, (self.example[kept] - start) * self.shape[0] + self.index[kept], self.g[kept])
        return flat.view(stop - start, *self.shape)

    def reduced(self) -> tuple[Tensor, Tensor]:
        """Return squared norms and the sum: what one example does to one row is added up first."""
        keys, position = torch.unique(self.example * self.shape[0] + self.index, return_inverse=True)
        rows = self.g.new_zeros(len(keys), self.g.shape[1]).index_add_(0, position, self.g)
        squares = self.g.new_zeros(self.examples)
        squares.index_add_(0, keys // self.shape[0], squared(rows, 1))
        total = self.g.new_zeros(self.shape[0], self.g.shape[1])
        total.index_add_(0, keys % self.shape[0], rows)
        return squares, total.view(self.shape)
