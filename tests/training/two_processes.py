"""What test_processes.py starts under torchrun: every process writes what it saw to a file of its own."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from small_model import CostlyModel, SmallModel, small_rows, train

from salience.training import checkpoint
from salience.training.loop import Trainer, TrainingConfig

WEIGHTED = {"class_weights": [0.2, 1.0, 3.0], "label_smoothing": 0.1}
BATCHES = {"even": 16, "odd": 7, "one row": 1}
TRAINING = {"epochs": 3, "batch_size": 10, "average": 0.9}


def gradients(rows: int, parts: int, kind: type[SmallModel] = SmallModel) -> dict[str, torch.Tensor]:
    """Return the gradients of one batch, worked through in parts by all processes."""
    trainer = Trainer(kind(**WEIGHTED), TrainingConfig(accumulate=parts))
    trainer.examples, trainer.target = small_rows(rows)
    trainer._backward(np.arange(rows))
    return {name: p.grad.clone() for name, p in trainer.core.named_parameters()}


class StopHereError(Exception):
    """Stand in for a kill."""


def interrupted(folder: Path, updates: int, **options: object) -> None:
    """Train with a checkpoint after every step, and break off in all processes after some updates."""
    original = Trainer._update_average

    def update(self: Trainer) -> None:
        original(self)
        if self.progress.updates == updates:
            raise StopHereError

    Trainer._update_average = update
    try:
        train(
            SmallModel(dropout=0.5), trainer={"folder": folder}, checkpoint_seconds=0.0, **TRAINING, **options
        )
    except StopHereError:
        pass
    finally:
        Trainer._update_average = original


def resumed(folder: Path, **options: object) -> bool:
    """Say whether a training that was broken off ends with the weights of one that was not, bit for bit."""
    whole, _ = train(SmallModel(dropout=0.5), **TRAINING, **options)
    interrupted(folder, 8, **options)
    again, _ = train(SmallModel(dropout=0.5), trainer={"folder": folder}, **TRAINING, **options)
    return all(torch.equal(t, whole.state_dict()[name]) for name, t in again.state_dict().items())


def main(out: Path) -> None:
    """Run every scene."""
    torch.set_num_threads(1)
    writes: list[str] = []
    original = checkpoint.save
    checkpoint.save = lambda path, *rest: (writes.append(str(path)), original(path, *rest))
    tensors = {}
    for name, rows in BATCHES.items():
        for parts in (1, 3):
            tensors |= {f"gradient/{name}/{parts}/{n}": t for n, t in gradients(rows, parts).items()}
    tensors |= {f"costly/{n}": t for n, t in gradients(7, 2, CostlyModel).items()}
    facts = {}
    for sharding in ("ddp", "fsdp"):
        model, history = train(
            SmallModel(), trainer={"folder": out / sharding}, sharding=sharding, **TRAINING
        )
        tensors |= {f"weights/{sharding}/{n}": t.clone() for n, t in model.state_dict().items()}
        facts[sharding] = {"log_loss": [e["log_loss"] for e in history.epochs], "best": history.best_epoch}
        facts[f"{sharding} resumed"] = resumed(out / f"{sharding} resumed", sharding=sharding)
    model = SmallModel()
    trainer = Trainer(model, TrainingConfig(sharding="fsdp"))
    facts["share"] = sum(p.to_local().numel() for p in trainer.core.parameters()) / sum(
        p.numel() for p in model.parameters()
    )
    limited, _ = train(
        SmallModel(), epochs=50, trainer={"time_limit": 0.0 if trainer.accelerator.is_main_process else 1e9}
    )
    tensors |= {f"weights/limited/{n}": t.clone() for n, t in limited.state_dict().items()}
    facts["writes"] = len(writes)
    rank = trainer.accelerator.process_index
    (out / f"{rank}.json").write_text(json.dumps(facts))
    save_file(tensors, out / f"{rank}.safetensors")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
