"""Progress of long work: silent in a library, a bar where a face asked for one."""

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Listener(Protocol):
    """Receive progress; the command line draws a bar from it."""

    def start(self, stage: str, total: int | None) -> Any:
        """Begin a stage and return a handle for it."""

    def advance(self, handle: Any, note: str) -> None:
        """Count one step, with a short note such as ``"AUROC 0.95"``."""

    def finish(self, handle: Any) -> None:
        """End the stage."""

    def tell(self, topic: str, value: Any) -> None:
        """Show something that was found out on the way, such as the schema."""


_listener: ContextVar[Listener | None] = ContextVar("salience_progress", default=None)


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Send progress to ``listener`` inside the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(topic: str, value: Any) -> None:
    """Show something that was found out on the way, before the work is done: ``tell("schema", schema)``."""
    listener = _listener.get()
    if listener:
        listener.tell(topic, value)


class Stage:
    """One stage of work, as a context manager: ``with Stage("train", 100) as stage: stage.step("loss 0.3")``."""

    def __init__(self, name: str, total: int | None = None) -> None:
        self.name, self.total = name, total
        self._listener, self._handle = _listener.get(), None

    def __enter__(self) -> "Stage":
        if self._listener:
            self._handle = self._listener.start(self.name, self.total)
        return self

    def step(self, note: str = "") -> None:
        """Count one step."""
        if self._listener:
            self._listener.advance(self._handle, note)

    def __exit__(self, *exception: object) -> None:
        if self._listener:
            self._listener.finish(self._handle)


def track(items: Iterable[T], stage: str, total: int | None = None) -> Iterator[T]:
    """Yield the items and count each as a step of a stage."""
    length = total if total is not None else (len(items) if isinstance(items, Sized) else None)
    with Stage(stage, length) as progress:
        for item in items:
            yield item
            progress.step()
