"""Gradients of single examples, one after the other or vectorised by torch.func: exact for any module, and slow."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from salience.training.coherence.totals import Gradients

Loss = Callable[[Any, Any], Tensor]


def pieces(batch: Any, examples: int) -> list[Any] | None:
    """Cut a batch in batches of one example, along the first axis of its tensors; None where that cannot be done."""
    leaves, form = tree_flatten(batch)
    cut = [isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == examples for leaf in leaves]
    if not any(cut):
        return None
    return [
        tree_unflatten([leaf[i : i + 1] if c else leaf for leaf, c in zip(leaves, cut, strict=True)], form)
        for i in range(examples)
    ]


def guessed_examples(batch: Any) -> int:
    """Return the commonest length of a batch's tensors; 0 where it has none."""
    lengths = [len(leaf) for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim]
    return max(set(lengths), key=lengths.count, default=0)


def loop(
    module: nn.Module,
    loss: Loss,
    batch: Any,
    examples: int,
    names: dict[str, nn.Parameter],
) -> Gradients:
    """Return sums and squared norms by one backward pass an example.

    A batch that can be cut is cut; else each loss goes back through the graph of the whole batch.

    Args:
        module: the model.
        loss: gives one loss an example.
        batch: what ``loss`` takes.
        examples: number of examples in it.
        names: the parameters, by name.
    """
    sums = {name: torch.zeros_like(p, dtype=wide(p)) for name, p in names.items()}
    squares = {name: torch.zeros(examples, dtype=torch.float64) for name in names}
    for i, found in enumerate(alone(module, loss, batch, examples, names, range(examples))):
        for name, gradient in zip(names, found, strict=True):
            if gradient is not None:
                gradient = gradient.to(wide(gradient))
                sums[name] += gradient
                squares[name][i] = gradient.square().sum().double()
    return Gradients(sums, squares)


def alone(
    module: nn.Module,
    loss: Loss,
    batch: Any,
    examples: int,
    names: dict[str, nn.Parameter],
    rows: Iterable[int],
) -> Iterator[tuple[Tensor | None, ...]]:
    """Yield the gradients of some examples of a batch; of parameters that are not used, None."""
    cut = pieces(batch, examples)
    whole = loss(module, batch) if cut is None else torch.zeros(())
    for i in rows:
        one = whole[i] if cut is None else loss(module, cut[i]).sum()
        if not one.requires_grad:
            yield (None,) * len(names)
            continue
        found = torch.autograd.grad(one, list(names.values()), retain_graph=cut is None, allow_unused=True)
        yield tuple(None if g is None else g.detach() for g in found)


def norms_alone(
    module: nn.Module,
    loss: Loss,
    batch: Any,
    examples: int,
    names: dict[str, nn.Parameter],
    rows: Iterable[int],
) -> dict[str, Tensor]:
    """Return the squared norms of some examples of a batch, name by name, each measured alone."""
    lines = [
        [torch.zeros(()) if g is None else torch.linalg.vector_norm(g.to(wide(g))).square() for g in found]
        for found in alone(module, loss, batch, examples, names, rows)
    ]
    return {n: torch.stack(v).double() for n, v in zip(names, zip(*lines, strict=True), strict=True)}


def wide(tensor: Tensor) -> torch.dtype:
    """Return the type in which sums are taken: float32, or float64 for float64."""
    return torch.promote_types(tensor.dtype, torch.float32)
