"""RALA and RAVLT against results of the published code (see make_ravlt_fixture.py)."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from salience.models.ravlt import RAVLT
from salience.nn.attention.linear.rank_augmented import RankAugmentedAttention, SoftmaxAttention
from salience.nn.embeddings.rope2d import RotaryEmbedding2D

HERE = Path(__file__).parent
SETTINGS = {
    "rala_one_head": (RankAugmentedAttention, 64, 1),
    "rala_two_heads": (RankAugmentedAttention, 128, 2),
    "softmax": (SoftmaxAttention, 256, 4),
}


@pytest.fixture(scope="module")
def maker():
    """Return what makes the fixture: the same drawn weights and images serve both sides."""
    return runpy.run_path(str(HERE / "make_ravlt_fixture.py"))


@pytest.fixture(scope="module")
def published():
    with np.load(HERE / "ravlt_fixture.npz") as archive:
        return {name: archive[name] for name in archive.files}


def at(path: str, layer: nn.Module) -> nn.Module:
    """Return a module that holds a layer under a dotted name."""
    for part in reversed(path.split(".")):
        holder = nn.Module()
        holder.add_module(part, layer)
        layer = holder
    return holder


@pytest.mark.parametrize("name", SETTINGS)
@torch.no_grad()
def test_layers(name, maker, published):
    entry, dim, heads = SETTINGS[name]
    stage, block, size = maker["LAYERS"][name]
    layer, rotary = entry(dim, heads).double().eval(), RotaryEmbedding2D(dim // heads).double()
    maker["fill"](at(f"layers.{stage}.blocks.{block}.attn", layer))
    x = torch.from_numpy(maker["draw"](f"tokens {stage} {block}", (1, dim, *size)))
    wanted = torch.from_numpy(published[name])
    torch.testing.assert_close(layer(x, rotary(*size)), wanted, rtol=0, atol=1e-10)
    assert float(wanted.std()) > 0.5


@pytest.fixture(scope="module")
def network(maker):
    network = RAVLT.preset("T").eval()
    with torch.no_grad():
        maker["fill"](network)
    return network


def test_names_and_shapes_of_the_state_dict(network, published):
    found = sorted(f"{name} {tuple(t.shape)}" for name, t in network.state_dict().items())
    assert found == sorted(published["names"].tolist())
    assert len(found) == 302


@torch.no_grad()
def test_logits(network, maker, published):
    image = torch.from_numpy(maker["draw"]("image", maker["IMAGE"])).float()
    wanted = torch.from_numpy(published["logits"])
    torch.testing.assert_close(network(image), wanted, rtol=0, atol=1e-4)
    assert float(wanted.std()) > 1


@torch.no_grad()
def test_an_all_linear_network_loads_the_same_weights_and_gives_other_logits(network, maker, published):
    with torch.device("meta"):
        linear = RAVLT.preset("T", attn_per_stage="l,l,l,l").eval()
    linear.load_state_dict(network.state_dict(), strict=True, assign=True)
    image = torch.from_numpy(maker["draw"]("image", maker["IMAGE"])).float()
    assert float((linear(image) - torch.from_numpy(published["logits"])).abs().max()) > 0.1
