"""Run functions of the project under Triton's interpreter, in a process of its own.

Triton reads ``TRITON_INTERPRET`` when it is first imported, and another test may have imported it before. So a worker
process with the variable set answers calls: it imports a function, calls it, and returns outputs and gradients. Messages
are tensors and plain values; they are read with ``weights_only=True``.
"""

import contextlib
import importlib
import io
import os
import struct
import subprocess
import sys
import traceback
from typing import Any

import torch
from torch import Tensor


class Interpreter:
    """Call functions in a worker process where Triton's kernels run on the CPU."""

    def __init__(self) -> None:
        environment = {
            **os.environ,
            "TRITON_INTERPRET": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "error",
        }
        command = [sys.executable, __file__]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def __call__(self, function: str, *arguments: Any, weights=None, settings=None, **options: Any) -> dict:
        """Call ``"module:function"``; return ``outputs``, ``grads`` and ``saved`` (shapes kept for the backward pass).

        ``weights``, one tensor or None an output, make the scalar whose gradients with respect to all floating-point
        tensors are returned, in the order of the arguments, then of the options; without, the call tracks none.
        ``settings`` maps ``"module:NAME"`` to a value for this call.
        """
        request = {"function": function, "arguments": arguments, "options": options}
        _send(self.process.stdin, request | {"weights": weights, "settings": settings or {}})
        answer = _receive(self.process.stdout)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self) -> None:
        """End the worker."""
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def _send(stream: io.BufferedIOBase, message: dict) -> None:
    buffer = io.BytesIO()
    torch.save(message, buffer)
    stream.write(struct.pack("<Q", len(buffer.getvalue())) + buffer.getvalue())
    stream.flush()


def _receive(stream: io.BufferedIOBase) -> dict:
    size = stream.read(8)
    if len(size) < 8:
        raise EOFError("the other process has ended")
    return torch.load(io.BytesIO(stream.read(struct.unpack("<Q", size)[0])), weights_only=True)


def _find(path: str) -> Any:
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def _tensors(outputs: Any) -> list[Tensor]:
    """Return the tensors of a tuple, or of a result with ``out`` and ``state``."""
    if hasattr(outputs, "out"):
        return [outputs.out] + ([outputs.state.S] if outputs.state is not None else [])
    return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]


def _tracked(values: list, wanted: bool) -> list[Tensor]:
    found = [x for x in values if isinstance(x, Tensor) and x.is_floating_point()]
    return [x.requires_grad_() for x in found] if wanted else []


def _answer(request: dict) -> dict:
    function = _find(request["function"])
    arguments, options, weights = request["arguments"], request["options"], request["weights"]
    inputs = _tracked([*arguments, *options.values()], weights is not None)
    with torch.set_grad_enabled(weights is not None):
        outputs = _tensors(function(*arguments, **options))
    grads, saved = [], []
    if weights is not None:
        node = outputs[0].grad_fn
        saved = [tuple(x.shape) for x in getattr(node, "saved_tensors", ()) if x is not None]
        total = sum((x * w).sum() for x, w in zip(outputs, weights, strict=True) if w is not None)
        grads = list(torch.autograd.grad(total, inputs, allow_unused=True))
    return {"outputs": [x.detach() for x in outputs], "grads": grads, "saved": saved}


@contextlib.contextmanager
def _set(settings: dict):
    before = {path: _find(path) for path in settings}
    _assign(settings)
    try:
        yield
    finally:
        _assign(before)


def _assign(values: dict) -> None:
    for path, value in values.items():
        module, name = path.split(":")
        setattr(importlib.import_module(module), name, value)


def main() -> None:
    """Answer requests until the stream ends."""
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get into the answers
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # also fills torch.empty with NaN
    while True:
        try:
            request = _receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            with _set(request["settings"]):
                _send(stdout, _answer(request))
        except Exception:
            _send(stdout, {"error": traceback.format_exc()})


if __name__ == "__main__":
    main()
