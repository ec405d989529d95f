"""Run the published Lightning Attention-2 kernels once, in Triton's interpreter, and store their tensors.

    pip install lightning-attn==0.0.5
    python tests/parity/make_lightning2_fixture.py

The package (MIT) is the published Triton code. Its state is not handed out, so only outputs and gradients are stored.
"""

import argparse
import os
from pathlib import Path

import numpy as np

os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

import torch
from lightning_attn.ops.triton.lightning_attn2 import lightning_attn2

BATCH, HEADS, TOKENS, DIM, VALUE = 1, 2, 70, 16, 8  # a block of 64 and a part
SLOPES = (0.5, 0.0039)  # the fastest and the slowest of a trained first layer


def record(seed: int) -> dict[str, np.ndarray]:
    """Return inputs, slopes, output and gradients of a random projection, head before token."""
    generator = torch.Generator().manual_seed(seed)

    def normal(width: int) -> torch.Tensor:
        return torch.randn(BATCH, HEADS, TOKENS, width, generator=generator)

    inputs = {"q": normal(DIM) / DIM**0.5, "k": normal(DIM) / DIM**0.5, "v": normal(VALUE)}
    projection = normal(VALUE)
    slopes = torch.tensor(SLOPES)
    tracked = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    out = lightning_attn2(*tracked.values(), slopes[:, None, None])
    gradients = torch.autograd.grad((out * projection).sum(), list(tracked.values()))
    results = {"slopes": slopes, "projection": projection, "out": out.detach()} | inputs
    results |= {f"grad_{name}": x for name, x in zip(inputs, gradients, strict=True)}
    return {name: x.numpy() for name, x in results.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    target = Path(__file__).with_name("lightning2_fixture.npz")
    np.savez_compressed(target, **record(parser.parse_args().seed))


if __name__ == "__main__":
    main()
