"""How well each example's gradient agrees with the mean gradient, without any gradient of a single example.

The product s_i = g_i · ḡ is the derivative of the example's loss along ḡ, so that one pass in forward mode gives it for all
examples of a batch. High: easy; about zero: hard, or fitted; negative: a step that helps the others hurts it, as with a
wrong label.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from salience.core.errors import ConfigError
from salience.training.coherence.measure import Exact, checked, trainable
from salience.training.coherence.per_example import Loss, alone
from salience.training.coherence.quiet import quiet
from salience.training.coherence.totals import Totals

Direction = dict[str, Tensor]
ALONE = "per example"


@dataclass(frozen=True)
class Alignment:
    """Hold one number an example, in the order of the batches.

    Attributes:
        products: s_i = g_i · ḡ, in units of squared gradients; their mean is ‖ḡ‖².
        squared_norms: ‖g_i‖².
        gradient_squared_norm: ‖ḡ‖².
        method: ``"forward mode"``, or what stood in for it: ``"reverse mode twice"``, ``"per example"``; all are exact.
        reason: why another method stood in; "" if none did.
        gap: difference between the mean of ``products`` and ‖ḡ‖², which are equal, as a share of the products' mean size.
    """

    products: np.ndarray
    squared_norms: np.ndarray
    gradient_squared_norm: float
    method: str
    reason: str = ""
    gap: float = field(default=math.nan)

    @property
    def cosine(self) -> np.ndarray:
        """Return the cosine of g_i and ḡ; NaN for an example without a gradient."""
        return _ratio(self.products, self.squared_norms * self.gradient_squared_norm)

    @property
    def others(self) -> np.ndarray:
        """Return g_i · mean of the *other* examples' gradients: (m s_i − ‖g_i‖²)/(m − 1), unbiased for small m."""
        m = len(self.products)
        if m < 2:
            return np.full(m, math.nan)
        return (m * self.products - self.squared_norms) / (m - 1)

    @property
    def cosine_with_others(self) -> np.ndarray:
        """Return the cosine of g_i and the mean gradient of the other examples, in [−1, 1]."""
        m = len(self.products)
        whole = m**2 * self.gradient_squared_norm - 2 * m * self.products + self.squared_norms
        return _ratio(self.others, self.squared_norms * np.maximum(whole, 0) / max(m - 1, 1) ** 2)


def _ratio(over: np.ndarray, squared: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(squared > 0, over / np.sqrt(squared), math.nan)


def alignment(
    module: nn.Module, loss: Loss, batches: Iterable[Any], *, train: bool = False, seed: int = 0
) -> Alignment:
    """Measure the agreement of every example with the mean gradient of all.

    One backward pass a batch gives ḡ and the norms, then one forward-mode pass a batch gives the products.

    Args:
        module, loss, train, seed: as for :func:`~salience.training.coherence.coherence`.
        batches: gone through twice; kept in memory where it is an iterator.

    Raises:
        ConfigError, UnsupportedError: as for :func:`~salience.training.coherence.coherence`.
    """
    batches = batches if isinstance(batches, list | tuple) else list(batches)
    names = trainable(module)
    if not batches:
        raise ConfigError("There is no batch to measure alignment on", "", "Give at least one batch.")
    with quiet(module, train=train, seed=seed), torch.enable_grad():
        exact = Exact(module, checked(loss), names, "exact", check=2)
        totals = Totals(groups=1)
        for batch in batches:
            totals.add(exact.gradients(batch))
        norms = totals.norms(totals.names)
        mean = {name: (total / len(norms)).to(names[name]) for name, total in totals.sums[0].items()}
    square = sum(float(t.double().square().sum()) for t in mean.values())
    along = Along(module, loss, names, mean)
    with quiet(module, train=train, seed=seed):
        products, gap = _products(along, batches, square)
    if gap > _tolerance(names) and along.method != ALONE:
        along.reason = f"No {along.method}: a part of the model has no second derivative, and does not say so"
        along.method = ALONE
        with quiet(module, train=train, seed=seed):
            products, gap = _products(along, batches, square)
    return Alignment(products, norms, square, along.method, along.reason, gap)


def _products(along: "Along", batches: Iterable[Any], square: float) -> tuple[np.ndarray, float]:
    """Return s of every example, and how far their mean is from ‖ḡ‖², as a share of their mean size."""
    products = np.concatenate([along(batch).double().cpu().numpy() for batch in batches])
    size = max(float(np.abs(products).mean()), square)
    return products, abs(float(products.mean()) - square) / size if size else 0.0


def _tolerance(names: dict[str, nn.Parameter]) -> float:
    return 1e-8 if all(p.dtype == torch.float64 for p in names.values()) else 1e-3


class Along:
    """Return the derivative of every example's loss along a direction of the weights.

    Args:
        module: the model.
        loss: one loss an example.
        names: the parameters, by name.
        direction: one tensor a parameter.
    """

    def __init__(
        self, module: nn.Module, loss: Loss, names: dict[str, nn.Parameter], direction: Direction
    ) -> None:
        self.wrapped, self.loss = Wrapped(module, loss), loss
        self.module, self.names, self.direction = module, names, direction
        self.method, self.reason = "forward mode", ""

    def __call__(self, batch: Any) -> Tensor:
        """Return one number an example; where a way fails, the next one takes over."""
        ways: dict[str, Callable[[Any], Tensor]] = {
            "forward mode": self._forward,
            "reverse mode twice": self._twice,
            ALONE: self._alone,
        }
        names = list(ways)
        for name in names[names.index(self.method) :]:
            self.method = name
            try:
                return ways[name](batch)
            except (RuntimeError, NotImplementedError) as error:
                if name == names[-1]:
                    raise
                self.reason = self.reason or f"No {name}: {next(iter(str(error).splitlines()), '')[:160]}"
        raise AssertionError

    def _with(self, tensors: Direction, batch: Any) -> Tensor:
        return torch.func.functional_call(
            self.wrapped, {f"module.{name}": t for name, t in tensors.items()}, (batch,)
        )

    def _forward(self, batch: Any) -> Tensor:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _no_fast_path(), forward_ad.dual_level():
            _load_rules()
            dual = {n: forward_ad.make_dual(p.detach(), self.direction[n]) for n, p in self.names.items()}
            losses = self._with(dual, batch)
            tangent = forward_ad.unpack_dual(losses).tangent
        return torch.zeros_like(losses) if tangent is None else tangent

    def _twice(self, batch: Any) -> Tensor:
        """Differentiate Σ v_i g_i · ḡ by v."""
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            losses = self.loss(self.module, batch)
            v = torch.ones_like(losses, requires_grad=True)
            grads = torch.autograd.grad(
                losses, list(self.names.values()), v, create_graph=True, allow_unused=True
            )
            pairs = zip(grads, self.direction.values(), strict=True)
            total = torch.stack([(g * d).sum() for g, d in pairs if g is not None]).sum()
            return torch.autograd.grad(total, v)[0]

    def _alone(self, batch: Any) -> Tensor:
        with torch.enable_grad():
            examples = len(self.loss(self.module, batch))
            every = alone(self.module, self.loss, batch, examples, self.names, range(examples))
            found = [
                sum(
                    (g * d).sum()
                    for g, d in zip(grads, self.direction.values(), strict=True)
                    if g is not None
                )
                for grads in every
            ]
        return torch.stack([torch.as_tensor(value) for value in found])


def _load_rules() -> None:
    """Let torch load its rules of forward mode, which it does with a warning about its own code."""
    with warnings.catch_warnings(action="ignore"):
        forward_ad.make_dual(torch.zeros(()), torch.zeros(()))


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """Keep transformer layers from their fused kernel for inference, which has no forward mode."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


class Wrapped(nn.Module):
    """A model and its loss as one module, so that the weights of both can be replaced for a call."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, batch: Any) -> Tensor:
        """Return the losses."""
        return self.loss(self.module, batch)


def stiffness(
    module: nn.Module, loss: Loss, batches: Iterable[Any], squared_norms: np.ndarray, *, seed: int = 0
) -> float:
    """Return the mean cosine of pairs of examples' gradients (Fort et al. 2019), by one more backward pass a batch.

    Args:
        module, loss, batches, seed: as measured before.
        squared_norms: those of :class:`~salience.training.coherence.Coherence`, in the same order; examples without a
            gradient are left out.

    Returns:
        (‖Σ g_i/‖g_i‖‖² − m)/(m(m − 1)); NaN for fewer than two examples with a gradient.
    """
    names = trainable(module)
    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in names.items()}
    with np.errstate(divide="ignore"):
        weight = np.where(squared_norms > 0, 1 / np.sqrt(squared_norms), 0.0)
    m, start = int((weight > 0).sum()), 0
    with quiet(module, seed=seed), torch.enable_grad():
        for batch in batches:
            losses = loss(module, batch)
            part = torch.as_tensor(weight[start : start + len(losses)]).to(losses)
            start += len(losses)
            found = torch.autograd.grad(losses, list(names.values()), part, allow_unused=True)
            for name, gradient in zip(names, found, strict=True):
                if gradient is not None:
                    total[name] += gradient
    square = sum(float(t.square().sum()) for t in total.values())
    return (square - m) / (m * (m - 1)) if m > 1 else math.nan
