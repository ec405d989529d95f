"""A training state in one file: weights, optimiser, random numbers, position. Nothing is pickled."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim


@dataclass
class Progress:
    """Say how far training is.

    Attributes:
        epoch: epoch under way, from 0.
        step: batches of that epoch that are done.
        updates: optimiser steps done.
        seconds: training time spent before this process.
        best_score: best validation score so far; higher is better.
        best_epoch: epoch of that score, −1 for none.
        history: one record an epoch.
    """

    epoch: int = 0
    step: int = 0
    updates: int = 0
    seconds: float = 0.0
    best_score: float = -float("inf")
    best_epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)


def save(
    path: Path,
    groups: dict[str, dict[str, Tensor]],
    optimizer: optim.Optimizer,
    progress: Progress,
    fingerprint: str,
) -> None:
    """Write the whole training state to a temporary name, flush it and move it into place.

    Args:
        path: the checkpoint.
        groups: named state dictionaries (``model``, ``best``, ``average``).
        optimizer: its tensors are saved by parameter number and name.
        progress: position and history.
        fingerprint: what data and options the state belongs to.
    """
    tensors = {
        f"{group}/{name}": t.detach().contiguous()
        for group, state in groups.items()
        for name, t in state.items()
    }
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": torch.as_tensor(value) for name, value in state.items()}
    tensors["random"] = torch.get_rng_state()
    header = {"progress": json.dumps(vars(progress)), "fingerprint": fingerprint}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    save_file({name: t.clone() for name, t in tensors.items()}, temporary, metadata=header)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def load(path: Path, fingerprint: str) -> tuple[dict[str, dict[str, Tensor]], Progress] | None:
    """Return the saved groups (``optimizer`` and ``random`` among them) and the position.

    Returns None where there is no checkpoint, it is damaged, or it belongs to other data or options.
    """
    if not path.exists():
        return None
    groups: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("fingerprint") != fingerprint:
                return None
            for key in file.keys():  # noqa: SIM118 - not a dictionary
                group, _, name = key.partition("/")
                groups.setdefault(group, {})[name] = file.get_tensor(key)
    except (SafetensorError, OSError):
        return None
    return groups, Progress(**json.loads(header["progress"]))


def restore_optimizer(optimizer: optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put saved optimiser tensors back."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split("/")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def copy_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's state."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
