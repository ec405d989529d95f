"""Let explainers see tensors inside a forward pass: attention weights and feature maps, as parts of the graph.

A module that has something to show calls :func:`show` on the very tensor that it goes on with, so that a gradient in it
exists. Outside a :func:`watching` block that costs a look-up. Modules that never form their weights, such as streamed
attention, ask :func:`watched` and take their plain path while someone looks.

Names say what a tensor is, after its view:

- ``token2token…`` (batch, query, key, feature…): weights of a layer. ``layer<i>`` in the name is the place of the layer;
  maps without it, or of one layer, work side by side.
- ``source2token`` (batch, token, feature…): learned weights that pool tokens to one vector.
- ``pooling`` (batch, token): fixed weights that do so.
- ``context`` (batch, token, dim): tokens in context, from which the answer is computed.
- ``feature_map`` (batch, channel, height, width): likewise for images.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from torch import Tensor

View = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Shown:
    """Hold a tensor of the graph.

    Attributes:
        tensor: as the module uses it.
        view: brings it, or its gradient, to the axes that its name promises.
    """

    tensor: Tensor
    view: View

    def seen(self) -> Tensor:
        """Return the tensor with the axes that its name promises."""
        return self.view(self.tensor)


@dataclass
class Watch:
    """Collect what is shown: part of the model → name → tensors, in the order of their calls."""

    shown: dict[str, dict[str, list[Shown]]] = field(default_factory=dict)
    part: str = ""
    prefix: str = ""  # of the names of parts, inside a member of an ensemble


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


def watched() -> bool:
    """Tell whether someone looks."""
    return _WATCH.get() is not None


@contextmanager
def watching() -> Iterator[Watch]:
    """Collect what modules show inside the block."""
    watch = Watch()
    token = _WATCH.set(watch)
    try:
        yield watch
    finally:
        _WATCH.reset(token)


@contextmanager
def within(part: str) -> Iterator[None]:
    """Name the part of the model, such as the encoder, that shows what is shown inside the block."""
    watch = _WATCH.get()
    if watch is None:
        yield
        return
    before = watch.part
    watch.part = part if part.startswith(watch.prefix) else watch.prefix + part
    try:
        yield
    finally:
        watch.part = before


@contextmanager
def inside(prefix: str) -> Iterator[None]:
    """Put a member's name before the names of the parts that show something inside the block."""
    watch = _WATCH.get()
    if watch is None:
        yield
        return
    before, watch.prefix = watch.prefix, prefix
    try:
        yield
    finally:
        watch.prefix = before


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def show(name: str, tensor: Tensor, view: View = _as_it_is) -> Tensor:
    """Return the tensor, after keeping it for whoever looks.

    Args:
        name: what it is, see the top of this module.
        tensor: the tensor that the caller goes on with.
        view: from its axes to those that the name promises.
    """
    watch = _WATCH.get()
    if watch is not None:
        watch.shown.setdefault(watch.part, {}).setdefault(name, []).append(Shown(tensor, view))
    return tensor
