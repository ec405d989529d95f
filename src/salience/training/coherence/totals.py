"""What every method gathers: sums of gradients, squared norms of examples, and products between groups of examples."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

GROUPS, GROUP_BYTES, GRAM_BLOCK = 16, 512 * 2**20, 2**15


@dataclass
class Gradients:
    """Hold what one batch gives.

    Attributes:
        sums: name of a parameter → sum of the examples' gradients.
        squares: name of a parameter → squared gradient norm of each example, float64.
    """

    sums: dict[str, Tensor]
    squares: dict[str, Float[Tensor, " batch"]]

    @property
    def examples(self) -> int:
        """Return the number of examples."""
        return len(next(iter(self.squares.values())))


@dataclass
class Totals:
    """Add up batches: gradient sums of a few groups of batches, squared norms of all examples.

    Batch b belongs to group b mod ``groups``; only these sums are kept, never a gradient an example.

    Args:
        groups: number of groups at most; fewer where that many copies of the parameters would take over 512 MiB.
    """

    groups: int = GROUPS
    sums: list[dict[str, Tensor]] = field(default_factory=list)
    members: list[list[int]] = field(default_factory=list)
    squares: list[dict[str, np.ndarray]] = field(default_factory=list)

    def add(self, batch: Gradients) -> None:
        """Take one batch in."""
        if not self.squares:
            bytes_a_copy = sum(t.numel() * _width(t).itemsize for t in batch.sums.values())
            self.groups = max(1, min(self.groups, GROUP_BYTES // max(bytes_a_copy, 1)))
        position = len(self.squares) % self.groups
        self.squares.append({name: s.detach().double().cpu().numpy() for name, s in batch.squares.items()})
        wide = {name: t.detach().to(_width(t)) for name, t in batch.sums.items()}
        if position == len(self.sums):
            self.sums.append(wide)
            self.members.append([])
        else:
            for name, value in wide.items():
                self.sums[position][name] += value
        self.members[position].append(len(self.squares) - 1)

    def gather(self, processes: Any) -> None:
        """Add up what the processes of a group have measured, each on its own examples.

        Gradient sums and squared norms travel apart: α is no mean of the processes' α. The examples' norms follow one
        another in the order of the processes.

        Args:
            processes: a group of ``torch.distributed``.
        """
        dist = torch.distributed
        theirs: list[Any] = [None] * dist.get_world_size(processes)
        dist.all_gather_object(theirs, (self.squares, self.members), group=processes)
        groups = max(len(members) for _, members in theirs)
        while len(self.sums) < groups:
            self.sums.append({name: torch.zeros_like(t) for name, t in self.sums[0].items()})
        for group in self.sums:
            for tensor in group.values():
                dist.all_reduce(tensor, group=processes)
        self.squares, self.members = [], [[] for _ in range(groups)]
        for squares, members in theirs:
            for position, batches in enumerate(members):
                self.members[position] += [len(self.squares) + b for b in batches]
            self.squares += squares

    @property
    def names(self) -> list[str]:
        """Return the names of the parameters."""
        return list(self.sums[0]) if self.sums else []

    def norms(self, names: Iterable[str]) -> np.ndarray:
        """Return the squared gradient norm of every example over some parameters, in the order given."""
        names = list(names)
        parts = [np.sum([batch[name] for name in names], axis=0) for batch in self.squares]
        return np.concatenate(parts) if parts else np.zeros(0)

    def products(self) -> dict[str, np.ndarray]:
        """Return name → (group, group) inner products of the groups' gradient sums, float64."""
        return {name: _gram([group[name] for group in self.sums]) for name in self.names}

    def group_sizes(self) -> np.ndarray:
        """Return the number of examples of each group."""
        first = self.names[0]
        return np.array([sum(len(self.squares[b][first]) for b in m) for m in self.members])

    def group_norms(self) -> np.ndarray:
        """Return the sum of squared norms of each group."""
        of_batch = [sum(float(v.sum()) for v in batch.values()) for batch in self.squares]
        return np.array([sum(of_batch[b] for b in m) for m in self.members])


def _width(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _gram(parts: list[Tensor]) -> np.ndarray:
    """Return inner products in float64; a block at a time, so that no copy of the parameters is made."""
    flat = [part.flatten() for part in parts]
    gram = torch.zeros(len(flat), len(flat), dtype=torch.float64, device=flat[0].device)
    for start in range(0, len(flat[0]), GRAM_BLOCK):
        block = torch.stack([part[start : start + GRAM_BLOCK] for part in flat]).double()
        gram += block @ block.mT
    return gram.cpu().numpy()
