"""Leave a model as it was found, also when it throws."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import nn

_FROZEN: ContextVar[frozenset[int]] = ContextVar(
    "frozen", default=frozenset()
)  # models in whose context we are


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """Put a model in evaluation mode with constant weights, and restore everything afterwards.

    Restored are the mode of every module, ``requires_grad`` and ``.grad`` of every parameter, and the random
    state of torch, numpy and Python. No hook is registered, so none is left. A model that is no torch module
    keeps its own state; the random state is restored all the same. Inside of itself, for the same model, it does nothing.
    """
    if id(model) in _FROZEN.get():
        yield
        return
    outer = _FROZEN.set(_FROZEN.get() | {id(model)})
    try:
        with _restored(model):
            yield
    finally:
        _FROZEN.reset(outer)


@contextmanager
def _restored(model: Any) -> Iterator[None]:
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    gradients = [(p.requires_grad, p.grad) for p in parameters]
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = sorted({p.device.index or 0 for p in parameters if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            if any(modes):
                model.eval()
            for parameter in parameters:
                if parameter.requires_grad:
                    parameter.requires_grad_(False)
            yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                if module.training is not mode:  # setting an attribute of a module is slow
                    module.training = mode
            for parameter, (required, gradient) in zip(parameters, gradients, strict=True):
                if parameter.requires_grad is not required:
                    parameter.requires_grad_(required)
                if parameter.grad is not gradient:
                    parameter.grad = gradient
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
