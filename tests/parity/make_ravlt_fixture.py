"""Run the published RALA code once and store its results, so that the parity test needs none of it.

    git clone https://github.com/qhfan/RALA
    python tests/parity/make_ravlt_fixture.py RALA/classfication/RALA.py

The published file is run, never copied: it has no licence. Its imports of ``timm`` and ``fvcore`` are served by
stand-ins, of which a forward pass in evaluation mode needs none. Weights are not stored either: both sides fill every
entry of the state dict by :func:`fill`, from a generator that the entry's name seeds.
"""

import argparse
import sys
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

SEED = 0
IMAGE = (2, 3, 64, 96)  # not square, so that rows and columns cannot be mistaken for each other
LAYERS = {"rala_one_head": (0, 0, (8, 12)), "rala_two_heads": (1, 1, (5, 7)), "softmax": (2, 3, (4, 6))}


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return standard normal numbers that depend on the name alone, in float64."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode())]).standard_normal(shape)


def fill(module: nn.Module) -> None:
    """Give every weight, bias, scale and running statistic a number seeded by its name; angles stay.

    The weights of a matrix or convolution have the spread that keeps the size of its input; scales and variances
    are positive and differ from one; ``gamma`` lies around 0.3.
    """
    for name, tensor in module.state_dict().items():
        if name.endswith(("angle", "num_batches_tracked")):
            continue
        values = draw(name, tuple(tensor.shape))
        last = name.rpartition(".")[2]
        if last.startswith("gamma"):
            values = 0.3 + 0.1 * values
        elif last == "running_var" or (last == "weight" and tensor.ndim == 1):
            values = np.exp(0.2 * values)
        elif last == "weight":
            values = values / np.sqrt(np.prod(tensor.shape[1:]))
        else:
            values = 0.1 * values
        tensor.copy_(torch.from_numpy(values))


def load_published(path: Path) -> ModuleType:
    """Run the published file with stand-ins for what it imports from timm and fvcore."""
    names = {
        "timm.models.layers": {"DropPath": nn.Identity, "trunc_normal_": nn.init.trunc_normal_},
        "timm.models.registry": {"register_model": lambda function: function},
        "timm.models.vision_transformer": {"_cfg": dict},
        "fvcore.nn": {"FlopCountAnalysis": None, "flop_count_table": None},
    }
    for parent in ("timm", "timm.models", "fvcore"):
        sys.modules[parent] = ModuleType(parent)
    for module, members in names.items():
        sys.modules[module] = ModuleType(module)
        sys.modules[module].__dict__.update(members)
    published = ModuleType("published_rala")
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), published.__dict__)
    return published


@torch.no_grad()
def layer_output(model: nn.Module, stage: int, block: int, size: tuple[int, int]) -> Tensor:
    """Return what one attention layer makes of drawn tokens at positions of a grid of ``size``."""
    layer = model.layers[stage]
    attention = layer.blocks[block].attn
    dim = attention.qkvo.in_channels
    position = layer.RoPE(size)
    x = torch.from_numpy(draw(f"tokens {stage} {block}", (1, dim, *size)))
    return attention(x, *position)


@torch.no_grad()
def record(path: Path) -> dict[str, np.ndarray]:
    """Return the names and shapes of the state dict, logits, and outputs of three layers."""
    published = load_published(path)
    model = published.RAVLT_T().eval()
    fill(model)
    image = torch.from_numpy(draw("image", IMAGE)).float()
    logits = model(image)
    names = [f"{name} {tuple(t.shape)}" for name, t in model.state_dict().items()]
    model.double()
    fill(model)
    exact = model(image.double())
    outputs = {name: layer_output(model, *where) for name, where in LAYERS.items()}
    results = {"logits": logits, "exact_logits": exact, **outputs}
    return {"names": np.array(names), **{name: t.numpy() for name, t in results.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="the published RALA.py")
    arguments = parser.parse_args()
    np.savez_compressed(Path(__file__).with_name("ravlt_fixture.npz"), **record(arguments.file))


if __name__ == "__main__":
    main()
