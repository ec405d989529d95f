"""A training state in one file: weights, optimiser, random numbers, position. Nothing is pickled."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from salience.core.io import dumps

FORMAT = "1"
Groups = dict[str, dict[str, Tensor]]


@dataclass
class Progress:
    """Say how far training is.

    Attributes:
        epoch: epoch under way, from 0.
        step: batches of that epoch that are done.
        updates: optimiser steps done.
        loss: sum of the batch losses of that epoch.
        seconds: training time spent before this process.
        best_score: best validation score so far, higher is better; none before the first.
        best_epoch: epoch of that score, −1 for none.
        history: one record an epoch.
        stopped: why training ended; empty while it has not.
        scaler: state of the loss scaler of 16-bit training; empty for none.
    """

    epoch: int = 0
    step: int = 0
    updates: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    best_score: float | None = None
    best_epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""
    scaler: dict[str, Any] = field(default_factory=dict)


def save(path: Path, groups: Groups, progress: Progress, fingerprint: str) -> None:
    """Write the whole training state to a temporary name, flush it and move it into place.

    Args:
        path: the checkpoint.
        groups: named groups of named tensors; a group's name has no slash.
        progress: position and history.
        fingerprint: what data and options the state belongs to.
    """
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().contiguous().clone()
        for group, state in groups.items()
        for name, tensor in state.items()
    }
    position = dumps(vars(progress), indent=None)
    header = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "progress": position,
        "digest": tensor_digest(tensors, position),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    save_file(tensors, temporary, metadata=header)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def load(path: Path, fingerprint: str) -> tuple[Groups, Progress] | None:
    """Return the saved groups and the position.

    Returns None where there is no checkpoint, it is damaged, or it belongs to other data or options.
    """
    if not path.is_file():
        return None
    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT or header.get("fingerprint") != fingerprint:
                return None
            for key in file.keys():  # noqa: SIM118 - not a dictionary
                tensors[key] = file.get_tensor(key)
        progress = Progress(**json.loads(header["progress"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    if header.get("digest") != tensor_digest(tensors, header["progress"]):
        return None
    groups: Groups = {}
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = tensor
    return groups, progress


def tensor_digest(tensors: dict[str, Tensor], text: str) -> str:
    """Return the SHA-256 of a text and of the names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def data_digest(values: Iterable[Any]) -> str:
    """Return the SHA-256 of prepared rows: nested dictionaries, sequences, arrays, tensors and plain values.

    What has a ``digest`` of its own, as rows on disk do, is not read.
    """
    digest = hashlib.sha256()
    for part in _chunks(values):
        digest.update(part)
    return digest.hexdigest()


def _chunks(value: Any) -> Iterable[Any]:
    if isinstance(digest := getattr(value, "digest", None), str):
        value = digest
    if isinstance(value, Tensor):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype} {value.shape}\n".encode()
        yield np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    elif isinstance(value, dict):
        for key in value:
            yield f"{key}:".encode()
            yield from _chunks(value[key])
    elif isinstance(value, list | tuple | np.ndarray):
        yield f"{len(value)}[".encode()
        for item in value:
            yield from _chunks(item)
    else:
        yield value if isinstance(value, bytes) else f"{value!r}\n".encode()
