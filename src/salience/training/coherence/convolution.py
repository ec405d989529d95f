"""Gradients of single examples of a convolution's weight, in any number of dimensions."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from salience.training.coherence.parts import Part

FEW_CELLS = 64
CHUNK_BYTES = (
    2**26
)  # of unfolded inputs on an accelerator; a processor takes one example at a time, in its cache


@dataclass
class Convolution(Part):
    """A use of a convolution's weight.

    Attributes:
        x: inputs, padded, the channels last.
        g: gradients of the outputs.
        shape: (out, in / groups, kernel …) of the weight.
        stride, dilation: along each axis.
    """

    x: Float[Tensor, "batch group *cell channel"]
    g: Float[Tensor, "batch group out *cell"]
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def examples(self) -> int:
        """Return the number of examples."""
        return len(self.x)

    @property
    def kernel(self) -> tuple[int, ...]:
        """Return the size of the kernel."""
        return self.shape[2:]

    def reduced(self) -> tuple[Tensor, Tensor]:
        """Return squared norms and the sum.

        The weight's gradient is written out for one example after the other; that takes as many multiplications as
        their sum, which needs no pass of its own. Where the output has few cells, the Gram form is cheaper.
        """
        cells, outs = math.prod(self.g.shape[3:]), self.g.shape[2]
        entered = math.prod(self.x.shape[2:-1])
        columns = self.shape[1] * math.prod(self.kernel)
        gram = entered**2 * self.shape[1] + cells**2 * (outs + math.prod(self.kernel))
        if cells > FEW_CELLS or 2 * gram > cells * columns * outs:
            return self._written_out()
        return self._gram(), self._sum()

    def _written_out(self) -> tuple[Tensor, Tensor]:
        squares: list[Tensor] = []
        total = torch.zeros(())
        for start in range(0, self.examples, self._rows()):
            block = self._products(slice(start, start + self._rows()))
            squares.append(torch.linalg.vector_norm(block.flatten(1), dim=1).square())
            together = block.sum(0) if len(block) > 1 else block[0]
            total = total.add_(together) if start else together
        return torch.cat(squares), self._ordered(total[None])[0]

    def _rows(self) -> int:
        if not self.x.is_cuda:
            return 1
        one = self.shape[1] * math.prod(self.kernel) * math.prod(self.g.shape[3:]) * self.x.element_size()
        return max(1, CHUNK_BYTES // one)

    def block(self, start: int, stop: int) -> Tensor:
        """Return the weight's gradient of some examples."""
        return self._ordered(self._products(slice(start, stop)))

    def _ordered(self, block: Float[Tensor, "batch group out column"]) -> Tensor:
        shaped = block.unflatten(3, (*self.kernel, self.shape[1])).flatten(1, 2)
        return shaped.movedim(-1, 2)

    def _products(self, rows: slice) -> Float[Tensor, "batch group out column"]:
        return self.g[rows].flatten(3) @ self._patches(self.x[rows])

    def _patches(self, x: Tensor) -> Float[Tensor, "batch group cell column"]:
        """Return what the kernel sees at each cell, kernel before channel, so that runs of channels are copied."""
        lead, inner = x.stride()[:2], x.stride()[2:-1]
        steps = [s * n for s, n in zip(inner, self.stride, strict=True)]
        apart = [s * n for s, n in zip(inner, self.dilation, strict=True)]
        sizes = (*x.shape[:2], *self.g.shape[3:], *self.kernel, x.shape[-1])
        seen = x.as_strided(sizes, (*lead, *steps, *apart, x.stride(-1)), x.storage_offset())
        return seen.reshape(*x.shape[:2], math.prod(self.g.shape[3:]), -1)

    def _sum(self) -> Tensor:
        whole = self._patches(self.x).transpose(0, 1).flatten(1, 2)
        return self._ordered((self.g.flatten(3).movedim(0, 2).flatten(2) @ whole)[None])[0]

    def _gram(self) -> Tensor:
        """Return ⟨A Aᵀ, G Gᵀ⟩. Products of patches are sums of products of cells, one for each place of the kernel."""
        cells = self.x.flatten(2, -2)
        plane = self.x.shape[2:-1]
        products = (cells @ cells.mT).unflatten(3, plane).unflatten(2, plane)
        patches = torch.zeros((), device=cells.device)
        for place in (
            torch.cartesian_prod(*(torch.arange(k) for k in self.kernel)).reshape(-1, len(plane)).tolist()
        ):
            seen = tuple(
                slice(at * d, at * d + s * (n - 1) + 1, s)
                for at, d, s, n in zip(place, self.dilation, self.stride, self.g.shape[3:], strict=True)
            )
            part = products[(slice(None), slice(None), *seen, *seen)]
            patches = part + patches  # of all places so far
        outs = self.g.flatten(3)
        return (patches.reshape(*outs.shape[:2], outs.shape[3], -1) * (outs.mT @ outs)).sum((1, 2, 3))


def convolution_part(
    x: Float[Tensor, "batch channel *cell"],
    g: Float[Tensor, "batch out *cell"],
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Convolution:
    """Return the part of a use: the input padded by these cells before and after, its channels moved to the end."""
    split = x.unflatten(1, (groups, -1)).movedim(2, -1)
    plane = [size + before + after for size, (before, after) in zip(x.shape[2:], padding, strict=True)]
    padded = x.new_zeros(len(x), groups, *plane, split.shape[-1])
    inner = tuple(slice(b, b + size) for size, (b, _) in zip(x.shape[2:], padding, strict=True))
    padded[(slice(None), slice(None), *inner)] = split
    return Convolution(padded, g.unflatten(1, (groups, -1)), shape, stride, dilation)
