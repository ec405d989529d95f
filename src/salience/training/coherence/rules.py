"""What an operation's inputs and output gradient say about the gradients of its weights, one rule a kind of operation."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from salience.ops.piecewise_linear.naive import ramps
from salience.training.coherence.convolution import convolution_part
from salience.training.coherence.parts import Dense, Outer, Part, Rows, wide
from salience.training.coherence.trace import SPREADS, Untraceable, Use

Parts = dict[int, Part]
Rule = Callable[[Use, Tensor, int], Parts | None]


def axis_of(tensor: Tensor | torch.Size, examples: int) -> int:
    """Return the axis along which examples lie: the first whose size is their number, or a multiple of it.

    Raises:
        Untraceable: there is none.
    """
    shape = list(tensor.shape if isinstance(tensor, Tensor) else tensor)
    if examples in shape:
        return shape.index(examples)
    for axis, size in enumerate(shape):
        if size and size % examples == 0:
            return axis
    raise Untraceable(f"no axis of a tensor of shape {tuple(shape)} holds the {examples} examples")


def by_example(tensor: Tensor, examples: int) -> Tensor:
    """Return ``(example, …)``; where several rows of an axis belong to an example, they form an axis of their own."""
    axis = axis_of(tensor, examples)
    if tensor.shape[axis] != examples:
        tensor = tensor.unflatten(axis, (examples, -1))
    return tensor.movedim(axis, 0)


def _tokens(tensor: Tensor, examples: int) -> Tensor:
    """Return ``(example, token, dim)`` of a tensor whose last axis is the features."""
    moved = by_example(wide(tensor), examples)
    return moved.reshape(examples, -1, tensor.shape[-1])


def _argument(use: Use, position: int, name: str, default: Any = None) -> Any:
    return use.args[position] if len(use.args) > position else use.kwargs.get(name, default)


def linear(use: Use, grad: Tensor, examples: int) -> Parts | None:
    """``F.linear``: vectors and sequences."""
    x, weight, bias = (_argument(use, i, n) for i, n in enumerate(("input", "weight", "bias")))
    if use.is_weight(x) or use.is_batched(weight) or x.ndim < 2:
        return None
    g = _tokens(grad, examples)
    parts: Parts = {}
    if use.is_weight(weight):
        parts[id(weight)] = Outer(_tokens(x, examples)[:, None], g[:, None], tuple(weight.shape))
    if use.is_weight(bias):
        parts[id(bias)] = Dense(g[:, 0] if g.shape[1] == 1 else g.sum(1))
    return parts


def matmul(use: Use, grad: Tensor, examples: int) -> Parts | None:
    """``x @ weight``, ``torch.mm`` and ``torch.addmm`` with the weight last and two axes; ``bmm`` with one matrix a group."""
    x, weight = use.args[-2:]
    if use.is_weight(x) or not use.is_weight(weight) or weight.ndim not in (2, 3) or x.ndim < 2:
        return None
    if weight.ndim == 2:
        a, g = _tokens(x, examples)[:, None], _tokens(grad, examples)[:, None]
    elif x.ndim == 3 and len(x) == len(weight):
        a, g = (_grouped(t, examples) for t in (x, grad))
    else:
        return None
    parts: Parts = {id(weight): Outer(a, g, tuple(weight.shape), turned=True)}
    return parts if len(use.args) == 2 else _with_added(use, grad, examples, parts)


def _grouped(tensor: Tensor, examples: int) -> Tensor:
    """Return ``(example, group, token, dim)`` of ``(group, row, dim)``, whose rows are the examples'."""
    rows = tensor.shape[1]
    if rows % examples:
        raise Untraceable(f"{rows} rows of a product of matrices do not belong to {examples} examples")
    return wide(tensor).unflatten(1, (examples, -1)).movedim(1, 0)


def _with_added(use: Use, grad: Tensor, examples: int, parts: Parts) -> Parts | None:
    added = use.args[0]
    if use.kwargs or not use.is_weight(added):
        return None if use.kwargs else parts
    lined = _lined(grad, examples, axis=1 if grad.ndim == 3 else 0)
    parts[id(added)] = Dense(_fold(lined, added.shape))
    return parts


def _fold(values: Tensor, shape: torch.Size) -> Tensor:
    """Add up ``(example, …)`` over axes that a weight of this shape was spread over."""
    rest = values.shape[1:]
    if len(shape) > len(rest):
        raise Untraceable("a weight has more axes than what it is combined to")
    lead = len(rest) - len(shape)
    spread = [i for i, size in enumerate(shape) if size == 1 and rest[lead + i] != 1]
    if any(size not in (1, rest[lead + i]) for i, size in enumerate(shape)):
        raise Untraceable("a weight has an entry of its own for each example of the batch")
    axes = [*range(1, 1 + lead), *(1 + lead + i for i in spread)]
    return (values.sum(axes) if axes else values).reshape(len(values), *shape)


def convolution(use: Use, grad: Tensor, examples: int) -> Parts | None:
    """``F.conv1d``, ``F.conv2d`` and ``F.conv3d`` with groups, stride, dilation and padding."""
    x, weight, bias = (_argument(use, i, n) for i, n in enumerate(("input", "weight", "bias")))
    if use.is_weight(x) or use.is_batched(weight) or x.ndim != weight.ndim:
        return None
    parts: Parts = {}
    g = by_example(wide(grad), examples)
    if g.ndim != x.ndim:
        return None
    if use.is_weight(bias):
        parts[id(bias)] = Dense(g.flatten(2).sum(2))
    if use.is_weight(weight):
        parts[id(weight)] = _convolved(use, wide(x), g, weight)
    return parts


def _convolved(use: Use, x: Tensor, g: Tensor, weight: Tensor) -> Part:
    axes = weight.ndim - 2
    stride, dilation = (_sizes(_argument(use, i, n, 1), axes) for i, n in ((3, "stride"), (5, "dilation")))
    asked = _argument(use, 4, "padding", 0)
    if asked == "same":
        whole = [(k - 1) * d for k, d in zip(weight.shape[2:], dilation, strict=True)]
        padding = tuple((n // 2, n - n // 2) for n in whole)
    else:
        padding = tuple((n, n) for n in _sizes(0 if asked == "valid" else asked, axes))
    groups = _argument(use, 6, "groups", 1)
    return convolution_part(x, g, tuple(weight.shape), stride, padding, dilation, groups)


def _sizes(value: Any, axes: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    return values if len(values) == axes else values * axes


def embedding(use: Use, grad: Tensor, examples: int) -> Parts | None:
    """``F.embedding``: rows that an example looks up several times are added up before they are squared."""
    names = ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq")
    index, weight, padding, largest, _, by_frequency = (_argument(use, i, n) for i, n in enumerate(names))
    if by_frequency or largest is not None:
        raise Untraceable("an embedding scales gradients by the batch (max_norm or scale_grad_by_freq)")
    return {id(weight): _rows(index, grad, tuple(weight.shape), examples, padding)}


def _rows(index: Tensor, grad: Tensor, shape: tuple[int, ...], examples: int, padding: int | None) -> Rows:
    by_row = by_example(index, examples).reshape(examples, -1)
    example = torch.arange(examples, device=index.device)[:, None].expand_as(by_row).flatten()
    g = by_example(wide(grad), examples).reshape(len(example), -1)
    flat = by_row.flatten() % shape[0]
    if padding is not None:
        kept = flat != padding % shape[0]
        example, flat, g = example[kept], flat[kept], g[kept]
    return Rows(example, flat, g, shape, examples)


def lookup(use: Use, grad: Tensor, examples: int) -> Parts | None:
    """``table[index]`` with one tensor of indices, or ``index_select`` of rows."""
    weight, index = use.args[0], use.args[-1]
    if not use.is_weight(weight) or not isinstance(index, Tensor) or index.dtype == torch.bool:
        return None
    if use.name == "index_select" and use.args[1] != 0:
        return None
    return {id(weight): _rows(index, grad, tuple(weight.shape), examples, None)}


def embedding_bag(use: Use, grad: Tensor, examples: int) -> Parts | None:
    """``F.embedding_bag``: sums and means of bags, given as a matrix or with offsets."""
    names = ("input", "weight", "offsets", "max_norm", "norm_type", "scale_grad_by_freq", "mode", "sparse")
    index, weight, offsets, largest, _, by_frequency, mode, _ = (
        _argument(use, i, n) for i, n in enumerate(names)
    )
    scale, padding = _argument(use, 8, "per_sample_weights"), _argument(use, 10, "padding_idx")
    if by_frequency or largest is not None or not use.is_weight(weight) or use.is_weight(scale):
        raise Untraceable("an embedding bag scales gradients by the batch, or its weights are trained")
    if mode == "max" or len(grad) != examples or _argument(use, 9, "include_last_offset", False):
        raise Untraceable("an embedding bag takes the largest value, or its bags are not the examples")
    bag = _bags(index, offsets)
    index, kept = index.flatten(), torch.ones(index.numel(), dtype=torch.bool, device=index.device)
    if padding is not None:
        kept = index != padding % len(weight)
    g = wide(grad)[bag]
    if mode != "sum":
        size = torch.bincount(bag[kept], minlength=examples).clamp(min=1)
        g = g / size[bag, None]
    if scale is not None:
        g = g * scale.flatten()[:, None]
    return {id(weight): Rows(bag[kept], index[kept], g[kept], tuple(weight.shape), examples)}


def _bags(index: Tensor, offsets: Tensor | None) -> Tensor:
    """Return the bag of each index."""
    if offsets is None:
        return torch.arange(len(index), device=index.device).repeat_interleave(index.shape[1])
    return torch.searchsorted(offsets, torch.arange(len(index), device=index.device), right=True) - 1


def norm(use: Use, grad: Tensor, examples: int) -> Parts | None:
    """Layer, group, batch, instance and root-mean-square norms: the normalised input times the output's gradient."""
    if use.name == "batch_norm" and _argument(use, 5, "training", False):
        raise Untraceable("batch normalisation mixes the examples of a batch")
    x, names = use.args[0], NORMS[use.name]
    if not use.is_batched(x):
        return None
    bound = dict(zip(names, use.args[1:], strict=False)) | use.kwargs
    parts: Parts = {}
    if use.is_weight(bound.get("weight")):
        without = bound | {name: None for name in ("weight", "bias") if name in names}
        normal = use.func(x.detach(), **without)
        values = wide(normal).mul_(wide(grad))
        parts[id(bound["weight"])] = Dense(_channels(use, values, bound["weight"].shape, examples))
    if use.is_weight(bound.get("bias")):
        parts[id(bound["bias"])] = Dense(_channels(use, wide(grad), bound["bias"].shape, examples))
    return parts


def _channels(use: Use, values: Tensor, shape: torch.Size, examples: int) -> Tensor:
    """Add up what belongs to an example and a number of the weight."""
    if use.name in ("layer_norm", "rms_norm"):
        return _fold(_lined(values, examples), shape)
    if axis_of(values, examples) != 0:
        raise Untraceable(f"{use.name} is given examples along another axis than the first")
    rows = values.flatten(2).sum(2) if values.ndim > 2 else values
    return rows.unflatten(0, (examples, -1)).sum(1)


NORMS = {
    "layer_norm": ("normalized_shape", "weight", "bias", "eps"),
    "rms_norm": ("normalized_shape", "weight", "eps"),
    "group_norm": ("num_groups", "weight", "bias", "eps"),
    "batch_norm": ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "instance_norm": (
        "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps",
    ),
}  # fmt: skip


def elementwise(use: Use, grad: Tensor, examples: int) -> Parts | None:
    """Operations that combine entry with entry: the weight is spread to the output's shape, and folded back."""
    tensors = [v for v in (*use.args, *use.kwargs.values()) if isinstance(v, Tensor)]
    found = {id(v): v for v in tensors if use.is_weight(v)}
    spread = {key: v.expand(grad.shape).detach().requires_grad_() for key, v in found.items()}
    if use.name in ADDED and use.kwargs:  # a factor
        return None
    grads: Sequence[Tensor]
    if use.name in ADDED:
        grads = [grad if use.name not in SUBTRACTED or v is use.args[0] else -grad for v in found.values()]
    else:
        with torch.enable_grad():
            args = [spread.get(id(v), v) for v in use.args]
            out = use.func(*args, **{k: spread.get(id(v), v) for k, v in use.kwargs.items()})
            grads = torch.autograd.grad(out, list(spread.values()), grad)
    return {
        key: Dense(_fold(_lined(g, examples), v.shape))
        for (key, v), g in zip(found.items(), grads, strict=True)
    }


def _lined(grad: Tensor, examples: int, axis: int | None = None) -> Tensor:
    """Return ``(example, …)`` with the batch axis kept in place at its example's size, so that a weight's axes still fit."""
    axis = axis_of(grad, examples) if axis is None else axis
    return wide(grad).unflatten(axis, (examples, -1)).movedim(axis, 0)


ADDED = {"add", "__add__", "__radd__", "add_", "__iadd__", "sub", "__sub__", "sub_", "__isub__"}
SUBTRACTED = {"sub", "__sub__", "sub_", "__isub__"}
ELEMENTWISE = ADDED | {
    "mul", "multiply", "div", "divide", "true_divide", "rsub", "where", "addcmul", "addcdiv", "lerp", "maximum", "minimum",
    "pow", "atan2", "__mul__", "__truediv__", "__rsub__", "__rtruediv__", "__rdiv__",
}  # fmt: skip


def spread(use: Use, grad: Tensor, examples: int) -> Parts | None:
    """``weight.expand(examples, …)``: what is given to each example."""
    weight = use.args[0]
    return (
        {id(weight): Dense(_fold(_lined(grad, examples, axis=0), weight.shape))}
        if use.is_weight(weight)
        else None
    )


def piecewise_linear(use: Use, grad: Tensor, examples: int) -> Parts | None:
    """The piecewise linear embedding of numbers: one product of ramps and matrix a feature."""
    x, weight, slope, bias, bins = use.args[:5]
    if use.is_weight(x) or not use.is_weight(weight):
        return None
    numbers = _tokens(x, examples)
    g = _tokens(grad.flatten(-2), examples).unflatten(2, (x.shape[-1], -1))
    entered = ramps(numbers, bins).transpose(1, 2)
    parts: Parts = {id(weight): Outer(entered, g.transpose(1, 2), tuple(weight.shape), turned=True)}
    if use.is_weight(slope):
        parts[id(slope)] = Dense((g * numbers[..., None]).sum(1))
    if use.is_weight(bias):
        parts[id(bias)] = Dense(g.sum(1))
    return parts


RULES: dict[str, Rule] = {
    "_PiecewiseLinear": piecewise_linear,
    **dict.fromkeys(SPREADS, spread),
    "linear": linear,
    "matmul": matmul, "__matmul__": matmul, "mm": matmul, "addmm": matmul, "bmm": matmul, "baddbmm": matmul,
    "conv1d": convolution, "conv2d": convolution, "conv3d": convolution,
    "embedding": embedding, "__getitem__": lookup, "index_select": lookup, "embedding_bag": embedding_bag,
    **dict.fromkeys(NORMS, norm),
    **dict.fromkeys(ELEMENTWISE, elementwise),
}  # fmt: skip
