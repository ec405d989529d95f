"""Any other operation: its own vector-Jacobian product, an example at a time, vectorised where torch can."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from salience.training.coherence.parts import BLOCK_BYTES, Dense, wide
from salience.training.coherence.rules import Parts, axis_of
from salience.training.coherence.trace import Untraceable, Use, tensors_in


def any_operation(use: Use, examples: int) -> Parts:
    """Return the gradients of every weight of a use, written out.

    The operation is run on one example at a time, whose axes stay where they are, at the size of one example.

    Raises:
        Untraceable: the output for one example is not that example's part of the output.
    """
    if examples > 1 and use.name in ("batch_norm", "native_batch_norm"):
        raise Untraceable("batch normalisation mixes the examples of a batch")
    weights = {key: w for key, w in _arguments(use) if use.is_weight(w)}
    batched = {key: t for key, t in _arguments(use) if use.is_batched(t)}
    cut = {key: _cut(t, examples) for key, t in batched.items()}
    grads = [
        _cut(torch.zeros(shape) if g is None else g, examples)
        for g, shape in zip(use.grads, use.outs, strict=True)
    ]
    size = sum(w.numel() * 8 for w in weights.values())
    rows = max(1, BLOCK_BYTES // max(size, 1))
    blocks = []
    for start in range(0, examples, rows):
        part = slice(start, start + rows)
        blocks.append(_products(use, weights, {k: t[part] for k, t in cut.items()}, [g[part] for g in grads]))
    joined = {key: torch.cat([block[key] for block in blocks]) for key in weights}
    return {key: Dense(wide(values)) for key, values in joined.items()}


def _arguments(use: Use) -> list[tuple[int, Tensor]]:
    return [(id(t), t) for t in tensors_in((use.args, use.kwargs))]


def _cut(tensor: Tensor, examples: int) -> Tensor:
    axis = axis_of(tensor, examples)
    return tensor.detach().unflatten(axis, (examples, -1)).movedim(axis, 0)


def _products(
    use: Use, weights: dict[int, Tensor], batched: dict[int, Tensor], grads: list[Tensor]
) -> dict[int, Tensor]:
    keys = list(batched)

    def product(*rows: Tensor) -> tuple[Tensor, ...]:
        own, theirs = dict(zip(keys, rows, strict=False)), rows[len(keys) :]
        run = lambda *ws: _run(use, dict(zip(weights, ws, strict=True)) | own, theirs)  # noqa: E731
        return torch.func.vjp(run, *weights.values())[1](theirs)

    rows = (*batched.values(), *grads)
    try:
        found = torch.func.vmap(product)(*rows)
    except (RuntimeError, NotImplementedError):  # no rule for vmap: one after the other
        each = [
            _one(use, weights, dict(zip(keys, row, strict=False)), row[len(keys) :])
            for row in zip(*rows, strict=True)
        ]
        found = tuple(torch.stack(values) for values in zip(*each, strict=True))
    return dict(zip(weights, found, strict=True))


def _run(use: Use, values: dict[int, Tensor], grads: Any) -> tuple[Tensor, ...]:
    """Run the operation with other tensors in the place of some; return its differentiable outputs."""
    swap = lambda value: values.get(id(value), value)  # noqa: E731
    out = use.func(*tree_map(swap, use.args), **tree_map(swap, use.kwargs))
    outs = tuple(t for t in tensors_in(out) if t.is_floating_point())
    if [o.shape for o in outs] != [g.shape for g in grads]:
        raise Untraceable(f"{use.name} does not work through one example at a time")
    return outs


def _one(use: Use, weights: dict[int, Tensor], own: dict[int, Tensor], grads: Any) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        leaves = {key: w.detach().requires_grad_() for key, w in weights.items()}
        outs = _run(use, leaves | own, grads)
        kept = [(o, g) for o, g in zip(outs, grads, strict=True) if o.requires_grad]
        found = (
            torch.autograd.grad(
                [o for o, _ in kept], list(leaves.values()), [g for _, g in kept], allow_unused=True
            )
            if kept
            else [None] * len(leaves)
        )
    return tuple(torch.zeros_like(w) if g is None else g for g, w in zip(found, leaves.values(), strict=True))
