"""DeepLift's Rescale rule as a change of the backward pass, and a check that a network is made of what it covers.

A row and its neutral input go through the network together. At an elementwise function the gradient is replaced by the
slope between the two: (f(x) − f(x')) / (x − x'). Linear steps keep their gradient. Then multipliers times differences
add up to the change of the output. Whatever mixes two signals in another way has no such slope, and is refused.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from salience.core.errors import UnsupportedError
from salience.explain.gradients import derivatives

# functions of one number, by their names in torch and torch.nn.functional
ELEMENTWISE = frozenset({
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "softsign", "tanhshrink",
    "hardtanh", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "threshold", "tanh", "sigmoid", "logsigmoid",
    "exp", "expm1", "log1p", "sin", "cos", "atan", "erf", "abs", "square",
})  # fmt: skip
IN_PLACE = frozenset(f"{name}_" for name in ELEMENTWISE)
WINDOWS = frozenset({"max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d"})
# steps of the graph that are linear in the one signal that flows in
LINEAR = frozenset({
    "AccumulateGrad", "Addmm", "Mm", "Bmm", "Addbmm", "Baddbmm", "Linear", "Dot", "Mv", "Convolution",
    "MkldnnConvolution", "Add", "Sub", "Rsub", "Neg", "Mul", "Div", "Sum", "Mean", "Cumsum", "View", "UnsafeView",
    "ReshapeAlias", "T", "Transpose", "Permute", "Expand", "Squeeze", "Unsqueeze", "Slice", "Select", "Index",
    "IndexSelect", "Gather", "Split", "SplitWithSizes", "SafeSplit", "Unbind", "Cat", "Stack", "Clone", "Alias", "ToCopy",
    "CopySlices", "Repeat", "Flip", "Roll", "ConstantPadNd", "ReflectionPad1D", "ReflectionPad2D", "ReplicationPad1D",
    "ReplicationPad2D", "AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "UpsampleNearest1D",
    "UpsampleNearest2D", "UpsampleBilinear2D", "PixelShuffle", "MaskedFill", "Where", "NativeBatchNorm", "CudnnBatchNorm",
    "Diagonal", "Tril", "Triu", "AsStrided", "Unfold", "Im2Col", "Col2Im", "Rescale", "RescaleMaximum", "MeanGradient",
})  # fmt: skip
ONE_SIGNAL = frozenset({"Mul", "Div", "Mm", "Bmm", "Addmm", "Dot", "Mv", "Addbmm", "Baddbmm", "Convolution"})
NODES = 32  # of the mean gradient of logsumexp
CLOSE = 64  # machine epsilons (times the size of the number) below which the slope is the derivative


class _Rescale(torch.autograd.Function):
    """A value whose derivative is given for the first half of the batch, and is zero for the second."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return y.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return torch.cat([gradient.chunk(2)[0] * slope, torch.zeros_like(slope)]), None, None


class _RescaleMaximum(torch.autograd.Function):
    """Maxima of windows. Where one rises, its change goes to the row's largest place, else to the neutral input's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, place: Tensor) -> Tensor:
        """Take flattened input (line, place), maxima (line, window) and where they were found (line, window)."""
        (here, there), (up, down), (first, second) = x.chunk(2), y.chunk(2), place.chunk(2)
        change = up - down
        giver = torch.where(change >= 0, first, second)
        step = (here - there).gather(-1, giver)
        ctx.save_for_backward(torch.where(step == 0, 1.0, change / torch.where(step == 0, 1.0, step)), giver)
        ctx.size = x.shape[-1]
        return y.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        slope, giver = ctx.saved_tensors
        given = gradient.chunk(2)[0] * slope
        mine = given.new_zeros(*given.shape[:-1], ctx.size).scatter_add_(-1, giver, given)
        return torch.cat([mine, torch.zeros_like(mine)]), None, None


class _MeanGradient(torch.autograd.Function):
    """``logsumexp`` over the last axis, with its gradient averaged on the line between row and neutral input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        here, there = x.chunk(2)
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        total = torch.zeros_like(here)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            between = torch.where(here == there, here, there + node * (here - there))  # −∞ stays −∞
            total += weight * between.softmax(-1)
        ctx.save_for_backward(total)
        return x.logsumexp(-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (shares,) = ctx.saved_tensors
        return torch.cat([gradient.chunk(2)[0].unsqueeze(-1) * shares, torch.zeros_like(shares)])


class Rescaling(TorchFunctionMode):
    """Inside the block, elementwise functions and maxima of signals get the Rescale rule.

    ``logsumexp`` and ``log_softmax`` over the last axis, which turn logits to log-odds and log-probabilities, get the
    mean of their gradient between row and neutral input.

    A signal is a tensor that requires a gradient: weights must not.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        signal = args[0] if args else kwargs.get("input")
        if not (isinstance(signal, Tensor) and signal.requires_grad and signal.is_floating_point()):
            return function(*args, **kwargs)
        if name in ELEMENTWISE or name in IN_PLACE:
            return _elementwise(function, name, signal, args[1:], kwargs)
        if name in WINDOWS and not kwargs.get("return_indices"):
            return _windows(function, signal, args[1:], kwargs)
        if name in ("amax", "max") and (len(args) > 1 or "dim" in kwargs):
            return _largest(signal, name, args[1:], kwargs)
        if name in ("logsumexp", "log_softmax") and _over_last(signal, args[1:], kwargs):
            total = _MeanGradient.apply(signal)
            return total if name == "logsumexp" else signal - total.unsqueeze(-1)
        return function(*args, **kwargs)


def _over_last(signal: Tensor, args: tuple, kwargs: dict[str, Any]) -> bool:
    dim = kwargs.get("dim", args[0] if args else None)
    return signal.ndim > 1 and dim in (-1, signal.ndim - 1) and not kwargs.get("keepdim")


def _elementwise(function: Any, name: str, signal: Tensor, args: tuple, kwargs: dict[str, Any]) -> Tensor:
    kwargs.pop("inplace", None)
    kwargs.pop("input", None)
    if name in IN_PLACE:
        function = getattr(torch, name.removesuffix("_"), None) or getattr(
            torch.nn.functional, name.removesuffix("_")
        )
    leaf = signal.detach().requires_grad_(True)
    found = function(leaf, *args, **kwargs)
    (derivative,) = torch.autograd.grad(found.sum(), leaf)
    found = found.detach()
    return _Rescale.apply(signal, found, _slope(leaf.detach(), found, derivative))


def _slope(x: Tensor, y: Tensor, derivative: Tensor) -> Tensor:
    """Return the slope between row and neutral input; where the two all but agree, the derivative at the row."""
    (here, there), (up, down) = x.chunk(2), y.chunk(2)
    near = CLOSE * torch.finfo(x.dtype).eps * torch.maximum(here.abs(), there.abs()).clamp(min=1.0)
    step = here - there
    even = step.abs() <= near
    return torch.where(even, derivative.chunk(2)[0], (up - down) / torch.where(even, 1.0, step))


def _windows(function: Any, signal: Tensor, args: tuple, kwargs: dict[str, Any]) -> Tensor:
    kwargs.pop("input", None)
    found, place = function(signal.detach(), *args, **{**kwargs, "return_indices": True})
    axes = 2 if not function.__name__.endswith("1d") else 1
    axes = 3 if function.__name__.endswith("3d") else axes
    keep = signal.ndim - axes
    flat = _RescaleMaximum.apply(signal.flatten(keep), found.flatten(keep), place.flatten(keep))
    return flat.reshape(found.shape)


def _largest(signal: Tensor, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Return ``amax`` or ``max`` over axes, as maxima of one window a line."""
    dim = kwargs.get("dim", args[0] if args else None)
    keep = kwargs.get("keepdim", args[1] if len(args) > 1 else False)
    axes = [d % signal.ndim for d in ([dim] if isinstance(dim, int) else dim or range(signal.ndim))]
    if 0 in axes:
        raise _refused("a maximum over rows")
    rest = [d for d in range(signal.ndim) if d not in axes]
    lines = signal.permute(*rest, *axes).flatten(len(rest))
    found, place = lines.detach().max(-1, keepdim=True)
    value = _RescaleMaximum.apply(lines, found, place)[..., 0]
    for axis in sorted(axes) if keep else []:
        value = value.unsqueeze(axis)
    if name == "amax":
        return value
    return torch.return_types.max((value, place.reshape(value.shape)))


def check_graph(output: Tensor) -> None:
    """Refuse a graph in which something else than linear steps and the Rescale rule lies between input and output.

    Raises:
        UnsupportedError: a product or quotient of two signals, softmax, normalisation over features, and the like.
    """
    waiting, met = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in met:
            continue
        met.add(node)
        flows = [found for found, _ in node.next_functions if found is not None]
        name = (
            node.name().split("::")[-1].removesuffix("Backward").rstrip("0123456789").removesuffix("Backward")
        )
        _check_step(node, name.lstrip("_"), len(flows))
        waiting += flows


def _check_step(node: Any, name: str, flows: int) -> None:
    if name not in LINEAR or (name in ONE_SIGNAL and not _one_signal(node, name)):
        raise _refused(name)
    if name.endswith("BatchNorm") and getattr(node, "_saved_training", False):
        raise _refused("batch statistics")


def _one_signal(node: Any, name: str) -> bool:
    """Tell whether only one factor depends on the input; the divisor never may."""
    signals = [found is not None for found, _ in node.next_functions]
    if name == "Div":
        return not signals[1] if len(signals) > 1 else True
    factors = signals[1:] if name in ("Addmm", "Addbmm", "Baddbmm") else signals[:2]
    return sum(factors) <= 1


def _refused(what: str) -> UnsupportedError:
    return UnsupportedError(
        "DeepLift's rules do not cover this network",
        f"It holds {what}, which is neither linear nor a function of one number nor a maximum.",
        "Use method='integrated_gradients'.",
    )


def multipliers(
    forward: Callable[[list[Tensor]], Float[Tensor, " two_batch"]],
    rows: list[Float[Tensor, "batch token dim"]],
    neutral: list[Float[Tensor, "batch token dim"]],
) -> tuple[list[Float[Tensor, "batch token dim"]], Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Return DeepLift's multipliers of each input, and what is explained at the rows and at the neutral inputs.

    Args:
        forward: from inputs, rows first and then as many neutral ones, to one number each.
        rows: the inputs.
        neutral: neutral inputs of the same shapes.

    Raises:
        UnsupportedError: the network holds what the rules do not cover.
    """
    leaves = [torch.cat([a, b]).detach().requires_grad_(True) for a, b in zip(rows, neutral, strict=True)]
    with torch.enable_grad(), Rescaling():
        found = forward(leaves)
    if found.requires_grad:
        check_graph(found)
    gradients = derivatives(found.chunk(2)[0], leaves)
    here, there = found.detach().chunk(2)
    return [g.chunk(2)[0] for g in gradients], here, there
