"""Watch a forward pass: which operations use a trained weight, with what, and what gradient their output gets.

Every call of a torch function that takes a parameter is seen, whatever module it stands in, so that tied weights, modules
called twice, parameters held directly and weights computed from parameters need no rule of their own. The operation then runs
with the weight cut from the graph: the backward pass computes gradients of activations alone, and the gradients of weights
come from here.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

CONSTANT = "_coherence_constant"
ISOMETRIES = {
    "t", "transpose", "permute", "view", "reshape", "contiguous", "flatten", "unflatten", "unsqueeze", "squeeze", "clone",
    "movedim", "swapaxes", "view_as", "__get__", "adjoint",
}  # fmt: skip
ADDS = {"add_", "__iadd__", "sub_", "__isub__"}
SPREADS = {"expand", "expand_as", "broadcast_to", "repeat"}
LOOKS = {
    "type_as",
    "new_zeros",
    "new_ones",
    "new_empty",
    "new_full",
    "new_tensor",
    "zeros_like",
    "ones_like",
    "empty_like",
}


class Untraceable(Exception):
    """The gradients of examples cannot be told from one pass; the message says why."""


@dataclass(eq=False)
class Weight:
    """A parameter, or what was computed from parameters alone.

    Attributes:
        tensor: the tensor.
        roots: the parameters it was computed from; itself for a parameter.
        rearranged: whether it is the entries of one parameter, in some order.
        uses: operations that take it together with the batch.
        users: for a parameter: itself and the weights computed from it, where they are used.
    """

    tensor: Tensor
    roots: list["Weight"] = field(default_factory=list)
    rearranged: bool = True
    uses: list["Use"] = field(default_factory=list)
    users: list["Weight"] = field(default_factory=list)

    def used_by(self, use: "Use") -> None:
        """Note a use."""
        self.uses.append(use)
        for root in self.roots:
            if self not in root.users:
                root.users.append(self)

    @property
    def alone(self) -> bool:
        """Whether one operation says all about the gradient of the parameter behind it."""
        root = self.roots[0]
        return self.rearranged and len(self.uses) == 1 and len(root.users) == 1


@dataclass(eq=False)
class Use:
    """One call that takes weights and the batch.

    Attributes:
        func: what was called; ``name`` is its name.
        args, kwargs: its arguments, the weights cut from the graph.
        weights: the weights among them.
        constant: ids of tensors that are the same for all examples.
        outs: shapes of the outputs that are differentiable.
        grads: gradient of each output, once the backward pass has been there.
        done: called when a gradient has come.
    """

    func: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    weights: dict[int, Weight]
    constant: set[int]
    outs: list[torch.Size] = field(default_factory=list)
    grads: list[Tensor | None] = field(default_factory=list)
    done: Callable[["Use"], None] | None = None

    def receive(self, position: int, grad: Tensor) -> None:
        """Keep the gradient of an output."""
        self.grads[position] = grad.detach()
        if self.done is not None and all(g is not None for g in self.grads):
            self.done(self)

    def finish(self) -> None:
        """Let go of all that it held."""
        self.args, self.kwargs, self.grads, self.done = (), {}, [], None

    def is_weight(self, value: Any) -> bool:
        """Say whether an argument is a trained weight."""
        return id(value) in self.weights

    def is_batched(self, value: Any) -> bool:
        """Say whether an argument differs between examples."""
        return isinstance(value, Tensor) and not self.is_weight(value) and id(value) not in self.constant


class Tap(torch.autograd.Function):
    """Give an output without a graph a place in it, so that its gradient is computed."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, anchor: Tensor) -> Tensor:
        """Return the output itself."""
        ctx.mark_dirty(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        """End here."""
        return None, None


class Trace(TorchFunctionMode):
    """Record the uses of weights in a forward pass.

    Args:
        parameters: what is trained, by name.
        module: the model; its buffers and frozen parameters are the same for all examples.
        examples: number of examples, so that a weight that is given to each of them is known as such.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], module: nn.Module, examples: int) -> None:
        super().__init__()
        self.examples = examples
        self.parameters = {name: Weight(p) for name, p in parameters.items()}
        for weight in self.parameters.values():
            weight.roots.append(weight)
        self.weights = {id(w.tensor): w for w in self.parameters.values()}
        held = [*module.buffers(), *(p for p in module.parameters() if id(p) not in self.weights)]
        self.fixed = {id(t) for t in held}
        self.uses: list[Use] = []
        self.anchor = torch.zeros((), requires_grad=True)
        self.leaves: list[Tensor] = [self.anchor]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a torch function, and look at what it takes."""
        return self.seen(func, getattr(func, "__name__", ""), args, kwargs or {})

    def seen(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a function; record it where it takes a weight together with the batch."""
        tensors = list(tensors_in((args, kwargs)))
        weights = {id(t): self.weights[id(t)] for t in tensors if id(t) in self.weights}
        if weights and torch.is_grad_enabled() and name not in LOOKS:
            fixed = {id(t) for t in tensors if id(t) not in weights and self._constant(t)}
            mixed = len(weights) + len(fixed) < len({id(t) for t in tensors})
            if mixed or (name in SPREADS and self._spread(args[0], func, args, kwargs)):
                return self._use(func, name, args, kwargs, weights, fixed)
            return self._derive(name, func(*args, **kwargs), weights)
        out = func(*args, **kwargs)
        self._mark(name, args, out, all(self._constant(t) for t in tensors))
        return out

    def _spread(self, weight: Tensor, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Say whether a weight is repeated along a first axis of as many places as there are examples."""
        with torch.no_grad():
            shape = func(weight.detach(), *args[1:], **kwargs).shape
        own = (1,) * (len(shape) - weight.ndim) + tuple(weight.shape)
        fits = all(size in (1, whole) for size, whole in zip(own, shape, strict=True))
        return fits and own[0] == 1 and shape[0] == self.examples

    def _constant(self, tensor: Tensor) -> bool:
        return id(tensor) in self.fixed or id(tensor) in self.weights or hasattr(tensor, CONSTANT)

    def _mark(self, name: str, args: tuple[Any, ...], out: Any, constant: bool) -> None:
        target = args[0] if name == "__setitem__" and args else out
        for tensor in tensors_in(target):
            if constant:
                setattr(tensor, CONSTANT, True)
            elif hasattr(tensor, CONSTANT):  # written into
                delattr(tensor, CONSTANT)

    def _derive(self, name: str, out: Any, weights: dict[int, Weight]) -> Any:
        """Register what was computed from weights alone."""
        roots = list({id(r): r for weight in weights.values() for r in weight.roots}.values())
        kept = name in ISOMETRIES and len(weights) == 1 and next(iter(weights.values())).rearranged
        for tensor in tensors_in(out):
            if not tensor.requires_grad:
                setattr(tensor, CONSTANT, True)
            elif id(tensor) not in self.weights:
                same = kept and tensor.numel() == roots[0].tensor.numel()
                self.weights[id(tensor)] = Weight(tensor, roots, same)
        return out

    def _use(self, func: Any, name: str, args: Any, kwargs: Any, weights: Any, fixed: set[int]) -> Any:
        if _writes(name) and args and id(args[0]) in weights:
            raise Untraceable(f"a weight is written into by {name}")
        if _writes(name) and name not in ADDS:
            raise Untraceable(f"a weight changes an activation in place by {name}")
        cut = {key: w.tensor.detach() for key, w in weights.items()}
        swap = lambda value: cut.get(id(value), value)  # noqa: E731
        args, kwargs = tree_map(swap, tuple(args)), tree_map(swap, kwargs)
        own = {id(cut[key]): w for key, w in weights.items()}
        use = Use(func, name, args, kwargs, own, fixed)
        out = self._tapped(use, func(*args, **kwargs))
        if use.outs:
            self.uses.append(use)
            for weight in weights.values():
                weight.used_by(use)
        return out

    def _tapped(self, use: Use, out: Any) -> Any:
        def tap(value: Any) -> Any:
            if not isinstance(value, Tensor) or not value.is_floating_point():
                return value
            if not value.requires_grad:  # a view cannot be given a place in the graph, its copy can
                value = Tap.apply(value.clone() if value._is_view() else value, self.anchor)
            tapped = value
            position = len(use.outs)
            use.outs.append(value.shape)
            use.grads.append(None)
            tapped.register_hook(lambda grad: use.receive(position, grad))
            return tapped

        found = tree_map(tap, out)
        self._mark(use.name, use.args, found, False)
        return found

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch torch functions and custom autograd functions."""
        plain = torch.autograd.Function.__dict__["apply"]

        def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            with torch._C.DisableTorchFunction():
                return self.seen(lambda *a, **k: plain.__func__(cls, *a, **k), cls.__name__, args, kwargs)

        torch.autograd.Function.apply = classmethod(apply)  # type: ignore[method-assign, assignment]
        try:
            with self:
                yield
        finally:
            torch.autograd.Function.apply = plain  # type: ignore[method-assign]

    def check_reached(self, losses: Tensor) -> None:
        """See that no weight is reached by a way that was not seen, and note the other leaves of the graph.

        Raises:
            Untraceable: one is.
        """
        names = {id(w.tensor): name for name, w in self.parameters.items()}
        waiting, met = [losses.grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node is None or node in met:
                continue
            met.add(node)
            leaf = getattr(node, "variable", None)
            if id(leaf) in names:
                raise Untraceable(f"{names[id(leaf)]!r} is used by code that torch functions do not show")
            if leaf is not None and leaf is not self.anchor:
                self.leaves.append(leaf)
            waiting.extend(following for following, _ in node.next_functions)


def _writes(name: str) -> bool:
    return name == "__setitem__" or name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))


def tensors_in(value: Any) -> Iterable[Tensor]:
    """Yield the tensors of nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
