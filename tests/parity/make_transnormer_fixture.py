"""Run nanoTransNormer and the published TransNormer block once and store their tensors.

    git clone https://github.com/Doraemonzzz/nanoTransNormer
    python tests/parity/make_transnormer_fixture.py nanoTransNormer RELEASED

RELEASED is a folder with the Python files of a released TransNormerLLM checkpoint: ``modeling_transnormer.py`` and
the files that it imports, which need an old transformers. Both codes are imported unchanged and run on the CPU; both
import triton, and use none of it. Weights are random numbers, much wider than the published start, so that gates and
decay matter. Their norms round to float32; in training ``Tensor.float`` is made to keep float64, so that the stored
tensors hold the published equations and not the rounding, which a chain of norms enlarges.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import torch

BATCH, TOKENS, VOCAB, LAYERS, HEADS, DIM, GLU = 2, 40, 19, 3, 3, 12, 16
DECODED = 4  # last tokens of the second half that are read one by one
BLOCK = (
    16  # tokens of a block in the published inference, 256 there; smaller, so that blocks join in 40 tokens
)


def drawn(module: torch.nn.Module, generator: torch.Generator) -> None:
    """Set every matrix to random numbers of spread 1/sqrt(inputs); positions keep their start."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "theta" not in name:
                parameter.copy_(
                    torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5
                )


@contextmanager
def exact() -> Iterator[None]:
    """Let ``x.float()`` give float64."""
    before = torch.Tensor.float
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.Tensor.float = before


def record_nano(checkout: Path, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Return tokens, weights, logits and the gradient of the embedding table of the whole small model."""
    sys.path.insert(0, str(checkout))
    published = import_module("transnormer")
    config = published.TransNormerConfig(
        vocab_size=VOCAB, n_layer=LAYERS, n_head=HEADS, n_embd=DIM, use_triton=False
    )
    model = published.TransNormer(config).train()
    drawn(model, generator)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    model.double().slopes = model.slopes.double()
    ids = torch.randint(VOCAB, (BATCH, TOKENS), generator=generator)
    target = torch.randint(VOCAB, (BATCH, TOKENS), generator=generator)
    with exact():
        logits, loss, _ = model(ids, target)
        loss.backward()
    found = {
        "ids": ids,
        "target": target,
        "logits": logits,
        "loss": loss,
        "gradient": model.lm_head.weight.grad,
    }
    return found | {f"weight/{name}": value for name, value in weights.items()}


def load_released(folder: Path) -> ModuleType:
    """Import ``modeling_transnormer.py`` of a folder as part of a package."""
    os.environ["use_triton"] = "False"  # noqa: SIM112 - the published name
    package = ModuleType("released")
    package.__path__ = [str(folder)]
    sys.modules["released"] = package
    return import_module("released.modeling_transnormer")


def record_released(folder: Path, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Return inputs, weights and outputs of a stack of published layers, in training and in generation."""
    published = load_released(folder)
    published.BLOCK = BLOCK
    layers = torch.nn.ModuleList(released_layer(published, index) for index in range(LAYERS))
    drawn(layers, generator)
    weights = {f"weight/{name}": value.clone() for name, value in layers.state_dict().items()}
    slopes = published.TransnormerModel._build_slope_tensor(HEADS).double()
    rates = [slopes * (1 - index / (LAYERS - 1) + 1e-5) for index in range(LAYERS)]
    x = torch.randn(BATCH, TOKENS, DIM, generator=generator)
    projection = torch.randn(BATCH, TOKENS, DIM, generator=generator)
    padding = torch.ones(BATCH, TOKENS, dtype=torch.long)
    padding[0, :5], padding[1, 30:33] = 0, 0
    found = {"x": x, "projection": projection, "padding": padding, "generated": generated(layers, x, rates)}
    layers.double().train()
    given = x.double().requires_grad_()
    with exact():
        found["output"] = stacked(layers, given, rates, None)
        (found["output"] * projection).sum().backward()
        found["padded"] = stacked(layers, x.double(), rates, padding)
    found["gradient"] = given.grad
    return found | weights


def released_layer(published: ModuleType, index: int) -> torch.nn.Module:
    """Return one published layer; the first has LRPE."""
    config = SimpleNamespace(
        decoder_embed_dim=DIM, hidden_dim=DIM, decoder_attention_heads=HEADS, glu_dim=GLU, bias=False,
        linear_act_fun="silu", norm_type="simplermsnorm", linear_use_lrpe=int(index == 0),
    )  # fmt: skip
    return published.TransnormerDecoderLayer(config)


def stacked(
    layers: torch.nn.ModuleList, x: torch.Tensor, rates: list, padding: torch.Tensor | None
) -> torch.Tensor:
    """Run the layers as their model does in training: distances times the slope, exponentiated."""
    step = torch.arange(TOKENS)
    back = (step[None, :] - step[:, None]).double()
    distance = back.masked_fill(back > 0, float("-inf"))
    for layer, rate in zip(layers, rates, strict=True):
        x = layer(x, attn_mask=distance, attn_padding_mask=padding, slope_rate=rate)[0]
    return x


@torch.no_grad()
def generated(layers: torch.nn.ModuleList, x: torch.Tensor, rates: list) -> torch.Tensor:
    """Run each layer alone as in generation: most tokens at once, the last ones one by one from the state before."""
    layers.eval()
    outputs = []
    for layer, rate in zip(layers, rates, strict=True):
        state, pieces = None, []
        for part in x.split([TOKENS - DECODED] + [1] * DECODED, dim=1):
            output, state = layer(part, past_key_value=state, use_cache=True, slope_rate=rate.float())
            pieces.append(output)
        outputs.append(torch.cat(pieces, dim=1))
    return torch.stack(outputs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("nano", type=Path, help="a checkout of nanoTransNormer")
    parser.add_argument("released", type=Path, help="the folder of a released checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(arguments.seed)
    nano = record_nano(arguments.nano, generator)
    released = record_released(arguments.released, generator)
    tensors = {f"nano/{k}": v for k, v in nano.items()} | {f"released/{k}": v for k, v in released.items()}
    arrays = {name: value.detach().numpy() for name, value in tensors.items()}
    np.savez_compressed(Path(__file__).with_name("transnormer_fixture.npz"), **arrays)


if __name__ == "__main__":
    main()
