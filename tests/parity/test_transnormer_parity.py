"""Our TransNormer against nanoTransNormer, the released model's layers, and MiniMax's lightning attention.

The first two are stored tensors, see ``make_transnormer_fixture.py``; the last runs if transformers is installed.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from salience.models.language_models.transnormer import TransNormer, TransNormerConfig
from salience.ops import linear_attention
from salience.ops.linear.slopes import decay_slopes

TOLERANCE = 1e-10  # float64; the fixture holds no float32 rounding but that of generation
LAYERS, HEADS = 3, 3


@pytest.fixture(scope="module")
def stored():
    with np.load(Path(__file__).with_name("transnormer_fixture.npz")) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def part(stored, prefix):
    return {name.removeprefix(prefix): t for name, t in stored.items() if name.startswith(prefix)}


def model_of(**settings):
    base = {"vocab_size": 19, "dim": 12, "num_layers": LAYERS, "num_heads": HEADS, "glu_dim": 24}
    return TransNormer(TransNormerConfig(**base | settings)).double()


@pytest.fixture(scope="module")
def nano(stored):
    """nanoTransNormer: no scale of the embedding, and LRPE in every layer but the first."""
    model = model_of(scale_embedding=False, lrpe_layers=(1, 2))
    names = {"transnormer.wte": "embed_tokens", "transnormer.h": "layers", "lm_head": "lm_head"}
    weights = part(stored, "nano/weight/")
    ours = {
        new + name.removeprefix(old): t
        for name, t in weights.items()
        for old, new in names.items()
        if name.startswith(old)
    }
    model.load_state_dict(ours)
    return model


def test_nano_logits_and_gradient(nano, stored):
    found = part(stored, "nano/")
    logits = nano(found["ids"])
    torch.testing.assert_close(logits.detach(), found["logits"], rtol=0, atol=TOLERANCE)
    loss = nano.loss(logits.double(), found["target"])
    gradient = torch.autograd.grad(loss, nano.embed_tokens.weight)[0]
    torch.testing.assert_close(gradient, found["gradient"], rtol=0, atol=TOLERANCE)


def test_nano_with_positions_in_the_first_layer_is_another_model(nano, stored):
    """The setting for its bug matters: with LRPE where its comment wants it the logits differ."""
    other = model_of(scale_embedding=False)
    other.load_state_dict(nano.state_dict(), strict=False)
    found = part(stored, "nano/")
    assert (other(found["ids"]) - found["logits"]).abs().max() > 0.1


def released_model(stored, **settings):
    model = model_of(glu_dim=16, **settings)
    weights = part(stored, "released/weight/")
    missing = model.load_state_dict({f"layers.{name}": t for name, t in weights.items()}, strict=False)
    assert missing.missing_keys == ["embed_tokens.weight", "lm_head.weight"]
    assert not missing.unexpected_keys
    model.final_norm = torch.nn.Identity()
    return model


def test_released_layers_in_training(stored):
    found = part(stored, "released/")
    model = released_model(stored)
    x = found["x"].double().requires_grad_()
    output, _ = model.features(x)
    gradient = torch.autograd.grad((output * found["projection"]).sum(), x)[0]
    torch.testing.assert_close(output.detach(), found["output"], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(gradient, found["gradient"], rtol=0, atol=TOLERANCE)


def test_released_layers_under_padding(stored):
    """With ``mask_mode="tnl"`` padding is what it is there; with ours it is not."""
    found = part(stored, "released/")
    x, mask = found["x"].double(), found["padding"].bool()
    output, _ = released_model(stored, mask_mode="tnl").features(x, attention_mask=mask)
    torch.testing.assert_close(output, found["padded"], rtol=0, atol=TOLERANCE)
    ours, _ = released_model(stored).features(x, attention_mask=mask)
    assert (ours - found["padded"])[mask].abs().max() > 0.01


@torch.no_grad()
def test_released_layers_in_generation(stored):
    """Each layer alone in fp32, as there: blocks, then token by token with the state."""
    found = part(stored, "released/")
    model = released_model(stored).float()
    for layer, wanted in zip(model.layers, found["generated"], strict=True):
        state, pieces = None, []
        for x in found["x"].split([36, 1, 1, 1, 1], dim=1):
            output, state, _ = layer(x, state=state, keep_state=True)
            pieces.append(output)
        torch.testing.assert_close(torch.cat(pieces, dim=1), wanted, rtol=1e-6, atol=1e-6)


def test_fixture_is_not_trivial(stored):
    """Outputs are far from zero, and tokens far back matter: decay, gate and positions are all exercised."""
    assert stored["nano/logits"].std() > 0.5
    assert (stored["released/output"] - stored["released/padded"]).abs().max() > 0.1
    assert stored["released/gradient"][:, 0].abs().max() > 0.01


@pytest.fixture
def minimax():
    modeling = pytest.importorskip("transformers.models.minimax.modeling_minimax")

    def build(layer, heads=3, layers=4):
        config = modeling.MiniMaxConfig(
            hidden_size=24, num_attention_heads=heads, num_hidden_layers=layers, head_dim=6, block_size=7,
            layer_types=["linear_attention"] * layers,
        )  # fmt: skip
        torch.manual_seed(layer)
        module = modeling.MiniMaxLightningAttention(config, layer).double()
        slopes = decay_slopes(heads, layer, layers, "geometric")[:, None, None]
        module.slope_rate = slopes
        module.query_decay, module.key_decay, module.diagonal_decay = module.decay_factors(slopes)
        return module

    return build


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_minimax_lightning_attention(minimax, layer):
    """The operator with MiniMax's slopes, against its layer before norm and gate; queries, keys, values a head."""
    module = minimax(layer)
    x = torch.randn(2, 30, 24, dtype=torch.float64)
    seen = {}
    module.norm.register_forward_pre_hook(lambda _, inputs: seen.update(out=inputs[0]))
    _, state = module(x, None, None)
    packed = torch.nn.functional.silu(module.qkv_proj(x)).unflatten(-1, (3, 18))
    q, k, v = packed.split(6, dim=-1)
    log_decay = -decay_slopes(3, layer, 4, "geometric")
    for mode in ("chunk", "recurrent", "quadratic"):
        ours = linear_attention(q, k, v, log_decay=log_decay, output_final_state=True, mode=mode)
        torch.testing.assert_close(ours.out.flatten(2), seen["out"], rtol=0, atol=1e-10)
        torch.testing.assert_close(ours.state.S, state, rtol=0, atol=1e-10)


def test_geometric_slopes_are_those_of_minimax(minimax):
    modeling = pytest.importorskip("transformers.models.minimax.modeling_minimax")
    for layer in range(4):
        config = modeling.MiniMaxConfig(
            hidden_size=24, num_attention_heads=3, num_hidden_layers=4, head_dim=6,
            layer_types=["linear_attention"] * 4,
        )  # fmt: skip
        theirs = modeling.MiniMaxLightningAttention(config, layer).slope_rate.flatten()
        torch.testing.assert_close(decay_slopes(3, layer, 4, "geometric").float(), theirs)
