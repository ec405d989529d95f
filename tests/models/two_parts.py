"""What test_tensor_parallel.py starts under torchrun: each process holds one half of the model."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from salience.models.language_models.tensor_parallel import local_part
from salience.models.language_models.transnormer import TransNormer, TransNormerConfig


def whole() -> TransNormer:
    """Return the model that is cut."""
    torch.manual_seed(0)
    config = TransNormerConfig(
        vocab_size=11, dim=12, num_layers=3, num_heads=4, glu_dim=16, hidden_dim=24, lrpe_layers=(0, 2)
    )
    model = TransNormer(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10 if parameter.dim() == 2 else 1)
    return model


def results(model: TransNormer) -> dict[str, torch.Tensor]:
    """Return logits of a padded batch, read in pieces too, and the gradients of its loss."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(11, (2, 9), generator=generator)
    mask = torch.rand(2, 9, generator=generator) < 0.8
    cache = model.new_cache(2)
    with torch.no_grad():
        pieces = [
            model(ids[:, part], attention_mask=mask[:, part], cache=cache) for part in (slice(4), slice(4, 9))
        ]
    logits = model(ids, attention_mask=mask)
    model.loss(logits[:, :-1], ids[:, 1:].masked_fill(~mask[:, 1:], -100)).backward()
    gradients = {f"gradient/{name}": p.grad for name, p in model.named_parameters()}
    return {"logits": logits.detach(), "pieces": torch.cat(pieces, dim=1), "mask": mask} | gradients


def main(out: Path) -> None:
    """Write the results of this process."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank, parts = torch.distributed.get_rank(), torch.distributed.get_world_size()
    save_file(results(local_part(whole(), rank, parts)), out / f"{rank}.safetensors")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
