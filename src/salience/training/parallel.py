"""Devices, precision and several processes: what the loop needs of accelerate and torch.distributed.

Under ``torchrun`` every process runs the same program. DDP keeps a whole model in each; FSDP keeps a slice of
every parameter, gradient and optimiser state, and gathers the parameters for each step.
"""

import copy
import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from salience.core.errors import ConfigError, UnsupportedError, nearest

PRECISIONS = ("no", "bf16", "fp16")
SHARDINGS = ("ddp", "fsdp")


class Objective(nn.Module):
    """Return the mean loss of a batch: the one module that DDP or FSDP wraps.

    The model itself stays as it is, so that it can be evaluated, explained and saved without a wrapper.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Any, target: Tensor) -> Tensor:
        """Run the model and its head's loss, and add what parts of the model ask for beside it."""
        output = self.model(batch)
        loss = self.model.head.loss(output, target)
        if not hasattr(self.model, "auxiliary_loss"):
            return loss
        extra = self.model.auxiliary_loss(output, target)
        return loss if extra is None else loss + extra


def accelerator(mixed_precision: str) -> Accelerator:
    """Return accelerate's view of devices and processes.

    Raises:
        ConfigError: an unknown precision.
        UnsupportedError: a precision that this device does not have, or processes that do not find each other.
    """
    if mixed_precision not in PRECISIONS:
        raise ConfigError(
            f"Unknown mixed precision {mixed_precision!r}", "", nearest(mixed_precision, PRECISIONS)
        )
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != mixed_precision:
        AcceleratorState._reset_state()  # shared by the process, and else fixed by the first training
    try:
        helper = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=mixed_precision)
    except ValueError as error:
        raise _unavailable(mixed_precision, str(error)) from None
    if mixed_precision == "fp16" and helper.scaler is None:
        raise _unavailable(
            "fp16", f"On {helper.device.type} there is no loss scaling, so gradients would vanish."
        )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if helper.num_processes != started:
        raise UnsupportedError(
            "The processes that torchrun started do not train together",
            f"{started} were started, {helper.num_processes} joined.",
            "Start the run without torchrun.",
        )
    return helper


def _unavailable(mixed_precision: str, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"Mixed precision {mixed_precision!r} is not available",
        why,
        "Use training.mixed_precision=no, or bf16 where the processor has it.",
    )


def objective(model: nn.Module, sharding: str, helper: Accelerator) -> Objective:
    """Return the objective to train: around the model, or around a sharded copy of it."""
    if sharding not in SHARDINGS:
        raise ConfigError(f"Unknown sharding {sharding!r}", "", nearest(sharding, SHARDINGS))
    if sharding == "ddp" or helper.num_processes == 1:
        return Objective(model)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(helper.device.type, (helper.num_processes,))
    return fully_shard(Objective(copy.deepcopy(model)), mesh=mesh)


def whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gather slices to whole tensors, in all processes at once; others are returned as they are."""
    return {name: t.full_tensor() if hasattr(t, "full_tensor") else t for name, t in tensors.items()}


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a whole tensor cut as a parameter is, in all processes at once."""
    if not hasattr(parameter, "placements") or tensor.shape != parameter.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)


def from_main(helper: Accelerator, value: Any) -> Any:
    """Return what the main process has, in every process: decisions that depend on a clock must agree."""
    return value if helper.num_processes == 1 else broadcast_object_list([value])[0]


def from_all(helper: Accelerator, value: Any) -> list[Any]:
    """Return what every process has, by number of process."""
    values = [value] * helper.num_processes
    if helper.num_processes > 1:
        torch.distributed.all_gather_object(values, value)
    return values


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of this process's random numbers."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Put random numbers back to a saved state."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
