"""DiSAN and Fast-DiSA as modules: sizes, masks, dropout places, maps, errors."""

import pytest
import torch

from salience.core import registry
from salience.core.errors import ConfigError
from salience.nn.attention.self_attention.disa import DiSABlock, DiSAN, evaluating
from salience.nn.attention.self_attention.fast_disa import FastDiSABlock, FastDiSAN
from salience.nn.attention.self_attention.source2token import Source2Token

ENCODERS = {
    "disan-fast": lambda **options: DiSAN(6, 4, op="fast", **options),
    "disan-naive": lambda **options: DiSAN(6, 4, op="naive", **options),
    "fast-disan": lambda **options: FastDiSAN(6, 4, **options),
    "fast-disan-exp": lambda **options: FastDiSAN(6, 4, num_heads=4, score="exp", **options),
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=ENCODERS)
def build(request):
    torch.manual_seed(0)
    return ENCODERS[request.param]


@pytest.fixture
def batch():
    x = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1))
    return x, torch.arange(5) < torch.tensor([5, 3, 1, 0])[:, None]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_of_the_paper():
    assert parameters(DiSABlock(300, 300, "forward")) == 451_500
    assert parameters(Source2Token(600)) == 721_200
    assert parameters(DiSAN(300, 300)) == 2 * 451_500 + 721_200
    assert parameters(DiSABlock(7, 5, "forward")) == 5 * 7 + 4 * 5**2 + 5 * 5


def test_initial_matrices_are_glorot_uniform_and_biases_zero():
    torch.manual_seed(0)
    model = DiSAN(300, 300)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            assert parameter.abs().max() == 0
        else:
            bound = (6 / sum(parameter.shape)) ** 0.5
            assert 0.99 * bound < parameter.abs().max() <= bound


def test_decayed_parameters_are_all_matrices_but_those_of_the_logits():
    model = DiSAN(6, 4)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed = {names[id(p)] for p in model.decayed_parameters()}
    blocks = {
        f"dir_attn_{s}.{p}.weight"
        for s in ("fw", "bw")
        for p in ("dense_map", "linear_fusion_i", "linear_fusion_a")
    }
    assert decayed == blocks | {"sent_enc_attn.dense_map1.weight", "sent_enc_attn.dense_map2.weight"}
    assert all(p.ndim > 1 for p in FastDiSAN(6, 4).decayed_parameters())


def test_shapes_and_zeros_at_padding(build, batch):
    x, mask = batch
    context, sentence = build().eval()(x, mask)
    assert context.shape == (4, 5, 8)
    assert sentence.shape == (4, 8)
    assert context[~mask].abs().max() == 0
    assert sentence[3].abs().max() == 0  # the empty sentence
    assert sentence[:3].abs().min() > 0


def test_every_parameter_gets_a_gradient(build, batch):
    x, mask = batch
    model = build()
    context, sentence = model(x, mask)
    (context.square().sum() + sentence.square().sum()).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_rows_do_not_depend_on_their_batch_or_padding(build, batch):
    x, mask = batch
    model = build().eval()
    context, sentence = model(x, mask)
    for row, length in enumerate((5, 3, 1)):
        alone_context, alone = model(x[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(alone[0], sentence[row], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone_context[0], context[row, :length], rtol=0, atol=1e-5)


def test_padding_content_has_no_influence(build, batch):
    x, mask = batch
    model = build().eval()
    poisoned = x.masked_fill(~mask[..., None], 1e4)
    for a, b in zip(model(x, mask), model(poisoned, mask), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_forward_features_see_the_past_and_backward_features_the_future(build, batch):
    x, _ = batch
    mask = torch.ones(4, 5, dtype=torch.bool)
    model = build().eval()
    changed = x.clone()
    changed[:, 2] += 1.0
    moved = (model(changed, mask)[0] - model(x, mask)[0]).abs().amax(dim=0)
    forward, backward = moved[:, :4].amax(dim=1), moved[:, 4:].amax(dim=1)
    assert forward[:2].max() < 1e-6
    assert forward[2:].min() > 1e-5
    assert backward[3:].max() < 1e-6
    assert backward[:3].min() > 1e-5


def test_attention_maps_are_those_of_the_forward_pass(build, batch):
    x, mask = batch
    model = build(dropout=0.5).train()
    maps = model.attention(x, mask)
    assert maps["token2token_forward"].shape == (4, 5, 5, 4)
    assert maps["gate_backward"].shape == (4, 5, 4)
    assert maps["source2token"].shape == (4, 5, 8)
    context, sentence = model.eval()(x, mask)
    torch.testing.assert_close((maps["source2token"] * context).sum(dim=1), sentence)
    torch.testing.assert_close(
        maps["source2token"].sum(dim=1), mask.any(dim=1)[:, None].float().expand(-1, 8)
    )


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_block_output_follows_from_its_maps(direction, batch):
    x, mask = batch
    block = DiSABlock(6, 4, direction, dropout=0.0)
    weights, gate = block.attention(x, mask)
    h, _, _ = block.hidden(x)
    context = torch.einsum("bjid,bid->bjd", weights, h)
    rebuilt = (gate * h + (1 - gate) * context) * mask[..., None]
    torch.testing.assert_close(block(x, mask), rebuilt, rtol=0, atol=1e-6)


def test_fast_block_output_follows_from_its_maps(batch):
    x, mask = batch
    block = FastDiSABlock(6, 8, dropout=0.0)
    weights, gate = block.attention(x, mask)
    values = block.scores(x)[-1].transpose(1, 2).flatten(2)
    context = torch.einsum("bjid,bid->bjd", weights, values)
    rebuilt = (gate * values + (1 - gate) * context) * mask[..., None]
    torch.testing.assert_close(block(x, mask), rebuilt, rtol=0, atol=1e-6)


def test_attention_restores_the_mode_of_every_part(build, batch):
    model = build().train()
    model.sent_enc_attn.eval()
    model.attention(*batch)
    assert model.training
    assert not model.sent_enc_attn.training
    with pytest.raises(RuntimeError, match="planned"), evaluating(model):
        raise RuntimeError("planned")
    assert model.training
    assert not model.sent_enc_attn.training


def test_dropout_acts_in_training_only_and_follows_the_seed(build, batch):
    model = build(dropout=0.5)

    def sentence(seed):
        torch.manual_seed(seed)
        return model(*batch)[1]

    assert torch.equal(sentence(1), sentence(1))
    assert not torch.equal(sentence(1), sentence(2))
    model.eval()
    assert torch.equal(sentence(1), sentence(2))


def test_dropout_reaches_inputs_of_linear_maps_but_not_values():
    """With everything dropped that may be, hidden tokens are the bias alone; they still pass as values."""
    block = DiSABlock(3, 4, "forward", dropout=1.0)
    with torch.no_grad():
        block.dense_map.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    output = block(torch.randn(2, 3, 3), torch.ones(2, 3, dtype=torch.bool))
    hidden = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(2, 3, 4)
    share = torch.tensor([0.5, 1.0, 1.0]).view(1, 3, 1)  # gate one half; the first token has no context
    torch.testing.assert_close(output, hidden * share)


def test_bfloat16_autocast_is_finite(build, batch):
    model = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        context, sentence = model(*batch)
        loss = context.square().mean() + sentence.square().mean()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_diagonal_block_sees_all_other_tokens():
    block = DiSABlock(3, 3, "diagonal").eval()
    weights, _ = block.attention(torch.randn(1, 4, 3), torch.ones(1, 4, dtype=torch.bool))
    assert weights[0].diagonal().abs().max() == 0
    assert (weights[0] > 0).sum() == 4 * 3 * 3


def test_bad_arguments_say_what_to_do():
    with pytest.raises(ConfigError, match=r"op='fsat'.*Did you mean 'fast'"):
        DiSAN(4, 4, op="fsat")
    with pytest.raises(ConfigError, match=r"activation='elus'.*Did you mean 'elu'"):
        DiSAN(4, 4, activation="elus")
    with pytest.raises(ConfigError, match=r"'up'.*Valid names: backward, diagonal, forward"):
        DiSABlock(4, 4, "up")
    with pytest.raises(ConfigError, match="dim=9, num_heads=2"):
        FastDiSABlock(4, 9)
    with pytest.raises(ConfigError, match="score='softmax'"):
        FastDiSAN(4, 4, score="softmax")


@pytest.mark.parametrize("key", ["disa", "fast_disa", "source2token"])
def test_cards_build_a_tiny_module(key):
    card = registry.card("attention", key)
    module = registry.load("attention", key)(**card.get("tiny"))
    tiny = card.get("tiny")
    x = torch.randn(2, 3, tiny.get("dim_in", tiny["dim"]))
    assert all(torch.isfinite(t).all() for t in module(x, torch.ones(2, 3, dtype=torch.bool)))
