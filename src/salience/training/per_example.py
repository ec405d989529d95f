"""One gradient an example, all of them kept: for small models, and as the reference of cheaper ways."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree

from salience.core.errors import UnsupportedError

Losses = Callable[[nn.Module, Any], Float[Tensor, " example"]]


class _Losses(nn.Module):
    """Make a function of a module and a batch a module, so that its parameters can be put in from outside."""

    def __init__(self, module: nn.Module, losses: Losses) -> None:
        super().__init__()
        self.module, self.losses = module, losses

    def forward(self, batch: Any) -> Float[Tensor, " example"]:
        return self.losses(self.module, batch)


def per_example_gradients(
    module: nn.Module, losses: Losses, batch: Any, *, chunk: int = 32
) -> dict[str, Float[Tensor, "example *shape"]]:
    """Return the gradient of each example's loss by each trainable parameter, by name.

    Args:
        module: what is differentiated; dropout and the like draw anew for each example.
        losses: ``losses(module, batch)`` is one loss an example, for a batch of any number of rows.
        batch: tensors in tuples, lists or dictionaries, an example a line.
        chunk: examples worked on at once, to save memory; the result takes examples × parameters numbers.

    Raises:
        UnsupportedError: the module does what ``torch.func.vmap`` cannot map over (SAL-T003).
    """
    objective = _Losses(module, losses)
    parameters = {f"module.{n}": p for n, p in module.named_parameters() if p.requires_grad}

    def loss(weights: dict[str, Tensor], example: Any) -> Float[Tensor, ""]:
        one = _pytree.tree_map(lambda t: t[None], example)
        return torch.func.functional_call(objective, weights, (one,)).sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0), chunk_size=chunk, randomness="different")
    detached = {name: p.detach() for name, p in parameters.items()}
    try:
        found = each(detached, batch)
    except RuntimeError as error:
        raise UnsupportedError(
            "Gradients of single examples cannot be taken at once",
            str(error).splitlines()[0][:200],
            "Give gradients of your own, or use groups of rows: collect() after each backward pass.",
            code="SAL-T003",
        ) from None
    return {name.removeprefix("module."): t.detach() for name, t in found.items()}
