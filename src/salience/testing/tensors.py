"""Assertions that the conformance checks of encoders, fusions and heads share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

PADDING_TOLERANCE = 1e-5
ATTEMPTS = 3  # a unit that starts dead under one seed lives under another


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a fixed seed inside, and give the caller's random state back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def assert_close(found: Tensor, wanted: Tensor, what: str, tolerance: float = PADDING_TOLERANCE) -> None:
    """Fail if shapes differ or a number is further off than ``tolerance · max(1, largest wanted)``."""
    assert found.shape == wanted.shape, f"{what}: shape {tuple(found.shape)}, want {tuple(wanted.shape)}"
    if not wanted.numel():
        return
    gap = float((found.double() - wanted.double()).abs().max())
    limit = tolerance * max(1.0, float(wanted.double().abs().max()))
    assert gap <= limit, f"{what}: differs by {gap:.2g}, at most {limit:.2g} is allowed"


def assert_equal(found: Tensor, wanted: Tensor, what: str) -> None:
    """Fail unless all numbers are the same."""
    assert torch.equal(found, wanted), f"{what}: the numbers differ"


def assert_finite(values: Tensor, what: str) -> None:
    """Fail if a number is NaN or infinite."""
    bad = int((~values.isfinite()).sum())
    assert not bad, f"{what}: {bad} of {values.numel()} numbers are NaN or infinite"


def assert_every_parameter_learns(
    build: Callable[[int], nn.Module], loss: Callable[[nn.Module], Tensor]
) -> None:
    """Fail if a trainable parameter has no gradient, one that is not finite, or zeros under every seed.

    Args:
        build: returns a module for a seed.
        loss: returns a number that depends on the whole output of the module.
    """
    reached: dict[str, bool] = {}
    for seed in range(ATTEMPTS):
        module = build(seed).train()
        with seeded(seed):
            value = loss(module)
        if value.requires_grad:
            value.backward()
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                reached[name] = reached.get(name, False) or _has_gradient(name, parameter)
    dead = [name for name, alive in reached.items() if not alive]
    assert not dead, f"no gradient reaches {', '.join(dead)}"


def _has_gradient(name: str, parameter: nn.Parameter) -> bool:
    if parameter.grad is None:
        return False
    assert_finite(parameter.grad, f"gradient of {name}")
    return bool(parameter.grad.any())


def weighted_sum(values: Tensor, seed: int = 0) -> Tensor:
    """Return a fixed random combination of all values, so that no symmetry hides a gradient."""
    weights = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed))
    return (values.float() * weights).sum()
