"""Gradients of single examples of a convolution's weight."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from salience.training.coherence.parts import Outer, Part

CHUNK_BYTES = 2**22


@dataclass
class Convolution(Part):
    """A use of a 2-D convolution's weight; a 1-D one has height 1.

    Attributes:
        x: inputs, padded.
        g: gradients of the outputs.
        shape: (out, in / groups, height, width) of the weight.
        stride, dilation: of rows and columns.
        groups: independent groups of channels.
    """

    x: Float[Tensor, "batch channel row column"]
    g: Float[Tensor, "batch out row column"]
    shape: tuple[int, int, int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def examples(self) -> int:
        """Return the number of examples."""
        return len(self.x)

    def reduced(self) -> tuple[Tensor, Tensor]:
        """Return squared norms and the sum.

        The weight's gradient is written out for a few examples at a time, one place of the kernel after the other. Where
        the picture has few cells and the weight many numbers, the Gram form is used instead, which needs no such memory.
        """
        cells = self.g.shape[2] * self.g.shape[3]
        columns, outs = self.shape[1] * self.shape[2] * self.shape[3], self.shape[0] // self.groups
        if 2 * cells * (columns + outs) > columns * outs:
            return self._written_out()
        unfolded = self._unfolded(0, self.examples)
        squares = unfolded.reduced()[0] if cells == 1 else _gram(unfolded)
        total = torch.nn.grad.conv2d_weight(
            self.x, self.shape, self.g, self.stride, 0, self.dilation, self.groups
        )
        return squares, total

    def _written_out(self) -> tuple[Tensor, Tensor]:
        a_row = (self.x[0].numel() + self.g[0].numel()) * self.x.element_size()
        rows = max(1, CHUNK_BYTES // a_row)
        squares = self.x.new_empty(self.examples)
        total = self.x.new_zeros(self.shape)
        for start in range(0, self.examples, rows):
            stop = min(start + rows, self.examples)
            block = self.places(start, stop)
            squares[start:stop] = torch.linalg.vecdot(block, block).sum((0, 2, 3))
            total += _ordered(block.sum(1, keepdim=True), self.shape)[0]
        return squares, total

    def block(self, start: int, stop: int) -> Tensor:
        """Return the weight's gradient of some examples."""
        return _ordered(self.places(start, stop), self.shape)

    def places(self, start: int, stop: int) -> Float[Tensor, "place batch group out in"]:
        """Return the gradient of some examples, the places of the kernel first."""
        if self.stride == (1, 1):
            return self._shifted(self.x[start:stop], self.g[start:stop])
        unfolded = self._unfolded(start, stop)
        found = (unfolded.g.mT @ unfolded.a).unflatten(3, (self.shape[1], -1))
        return found.permute(4, 0, 1, 2, 3)

    def _shifted(self, x: Tensor, g: Tensor) -> Tensor:
        """Multiply the output's gradient with the input, moved by each place of the kernel: no copy of the input.

        In rows laid end to end a place is one offset; the columns by which the output is narrower get gradient 0.
        """
        width = x.shape[3]
        length = (g.shape[2] - 1) * width + g.shape[3]
        out = F.pad(g, (0, width - g.shape[3])).unflatten(1, (self.groups, -1)).flatten(3)[..., :length]
        flat = x.unflatten(1, (self.groups, -1)).flatten(3)
        offsets = [
            i * self.dilation[0] * width + j * self.dilation[1]
            for i in range(self.shape[2])
            for j in range(self.shape[3])
        ]
        outs = out.flatten(0, 1)
        found = x.new_empty(len(offsets), len(outs), outs.shape[1], self.shape[1])
        for place, offset in enumerate(offsets):
            moved = flat[..., offset : offset + length].flatten(0, 1).mT
            torch.bmm(outs, moved, out=found[place])
        return found.unflatten(1, (-1, self.groups))

    def _unfolded(self, start: int, stop: int) -> Outer:
        x, g = self.x[start:stop], self.g[start:stop]
        patches = F.unfold(x, self.shape[2:], self.dilation, 0, self.stride)
        a = patches[..., : g.shape[2] * g.shape[3]].unflatten(1, (self.groups, -1)).mT
        return Outer(a, g.flatten(2).unflatten(1, (self.groups, -1)).mT, self.shape)


def _ordered(places: Tensor, shape: tuple[int, ...]) -> Tensor:
    return places.permute(1, 2, 3, 4, 0).reshape(-1, *shape)


def _gram(part: Outer) -> Tensor:
    return ((part.a @ part.a.mT) * (part.g @ part.g.mT)).sum((1, 2, 3))
