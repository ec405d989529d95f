"""TransNormer and its softmax twin: sizes, settings, caches, weights, learning."""

import copy
import json

import pytest
import torch
from einops import rearrange

from salience.core.errors import ConfigError, UnsupportedError
from salience.models.language_models.transformer import Transformer
from salience.models.language_models.transnormer import TransNormer, TransNormerConfig

MODELS = [TransNormer, Transformer]
PUBLISHED = {"385M": 385.0e6, "1B": 0.992e9, "3B": 2.876e9, "7B": 6.781e9, "13B": 12.62e9, "65B": 63.53e9}
SMALL = {"vocab_size": 11, "dim": 12, "num_layers": 3, "num_heads": 2, "glu_dim": 16}


def small(entry=TransNormer, **settings):
    torch.manual_seed(0)
    model = entry(entry.Config(**SMALL | settings)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(10)
    return model


def ids_of(batch=2, tokens=9):
    return torch.randint(11, (batch, tokens), generator=torch.Generator().manual_seed(1))


def on_meta(entry, name):
    with torch.device("meta"):
        return entry.preset(name)


@pytest.mark.parametrize("entry", MODELS)
@pytest.mark.parametrize("name", TransNormer.PRESETS)
def test_presets_have_as_many_parameters_as_the_formula_says(entry, name):
    model = on_meta(entry, name)
    assert sum(p.numel() for p in model.parameters()) == model.config.num_parameters()


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_the_published_sizes(name):
    """Counts of the table, which are with 50,272 tokens."""
    found = TransNormer.preset_config(name, vocab_size=50272).num_parameters()
    assert found == pytest.approx(PUBLISHED[name], rel=5e-4)


def test_released_sizes():
    assert TransNormer.preset_config("385M").num_parameters() == pytest.approx(399e6, rel=2e-3)
    assert TransNormer.preset_config("TNL3-15B").num_parameters() == pytest.approx(14.83e9, rel=5e-4)
    tiny = TransNormer.preset_config("tiny")
    assert tiny.num_parameters() - tiny.vocab_size * tiny.dim == pytest.approx(0.92e6, rel=1e-2)


@pytest.mark.parametrize("name", TransNormer.PRESETS)
def test_twins_have_as_many_parameters_within_one_percent(name):
    ours, twin = (entry.preset_config(name).num_parameters() for entry in MODELS)
    assert twin == pytest.approx(ours, rel=1e-2)


def test_positions_are_in_the_first_layer_and_slopes_fall_with_depth():
    model = on_meta(TransNormer, "385M")
    assert [layer.token_mixer.lrpe is not None for layer in model.layers] == [True] + [False] * 23
    first, second, last = (model.layers[i].token_mixer.slopes[0] for i in (0, 1, 23))
    assert (first, last) == pytest.approx((0.5 * 1.00001, 0.5e-5), rel=1e-6)
    assert second == pytest.approx(0.5 * (1 - 1 / 23 + 1e-5))
    names = [name for name, _ in model.named_parameters()]
    assert not [name for name in names if "slope" in name or "norm" in name]


def test_start_is_the_published_one():
    torch.manual_seed(0)
    model = TransNormer.preset("tiny", padding_id=0)
    matrices = [p for name, p in model.named_parameters() if "theta" not in name]
    assert all(float(p.detach().std()) == pytest.approx(0.02, rel=0.02) for p in matrices)
    assert not model.embed_tokens.weight[0].any()
    model.loss(model(torch.tensor([[0, 3]])), torch.tensor([[3, 4]])).backward()
    assert model.lm_head.weight is model.embed_tokens.weight
    ids = torch.tensor([[5, 6]])
    torch.testing.assert_close(model.embed(ids), model.embed_tokens.weight[ids] * 128**0.5)


def test_settings_switch_scale_and_tying():
    model = small(scale_embedding=False, tie_embedding=False)
    ids = ids_of()
    torch.testing.assert_close(model.embed(ids), model.embed_tokens.weight[ids])
    assert model.lm_head.weight is not model.embed_tokens.weight
    assert sum(p.numel() for p in model.parameters()) == model.config.num_parameters()


@pytest.mark.parametrize("settings", [{"hidden_dim": 24}, {"lrpe_layers": (0, 2)}, {"lrpe_layers": ()}])
def test_formula_holds_for_variants(settings):
    model = small(**settings)
    assert sum(p.numel() for p in model.parameters()) == model.config.num_parameters()


@pytest.mark.parametrize("slopes", ["alibi", "geometric", "paper"])
def test_slopes_change_the_numbers_and_modes_do_not(slopes):
    ids = ids_of()
    model = small(slopes=slopes, num_heads=3)
    logits = model(ids)
    other = small(slopes=slopes, num_heads=3, mode="quadratic")
    torch.testing.assert_close(other(ids), logits)
    if slopes != "alibi":
        assert (small(num_heads=3)(ids) - logits).abs().max() > 1e-3


@pytest.mark.parametrize("entry", MODELS)
def test_settings_survive_json(entry):
    config = entry.preset_config("small", vocab_size=99)
    assert entry.Config.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dim": 0}, "dim=0"),
        ({"padding_id": 11}, "below vocab_size"),
        ({"num_heads": 5}, "divides the width"),
        ({"slopes": "alibo"}, "Did you mean 'alibi'"),
        ({"mask_mode": "hf"}, "'skip' or 'tnl'"),
        ({"glu_activation": "relu"}, "Unknown activation"),
        ({"lrpe_layers": (3,)}, "lrpe_layers"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        small(**settings)


def test_unknown_presets_and_settings_are_refused():
    with pytest.raises(ConfigError, match="'385M'"):
        TransNormer.preset("385")
    with pytest.raises(ConfigError, match="vocab_size"):
        TransNormer.preset("tiny", vocab=9)


@pytest.mark.parametrize("entry", MODELS)
def test_misuse_of_masks_and_caches_is_refused(entry):
    model, ids = small(entry), ids_of()
    with pytest.raises(ConfigError, match="one value a token"):
        model(ids, attention_mask=torch.ones(2, 8))
    with pytest.raises(ConfigError, match="have no mask"):
        model(ids[:1], attention_mask=torch.ones(1, 9), cu_seqlens=torch.tensor([0, 9]))
    with pytest.raises(ConfigError, match="got 2"):
        model(ids, cache=model.new_cache(3))
    with pytest.raises(UnsupportedError, match="without a cache"):
        model.forward_embedded(model.embed(ids), cache=model.new_cache(2), need_weights=True)


def test_weights_of_every_layer_give_the_output_before_its_norm():
    model = small(lrpe_layers=(0, 2))
    ids = ids_of()
    mask = torch.rand(2, 9, generator=torch.Generator().manual_seed(2)) < 0.7
    seen = []
    for layer in model.layers:
        mixer = layer.token_mixer
        mixer.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        mixer.qkvu_proj.register_forward_hook(lambda _, inputs, out: seen.append(out.chunk(4, dim=-1)[2]))
    _, maps = model.forward_embedded(model.embed(ids), attention_mask=mask, need_weights=True)
    for weights, values, out in zip(maps, seen[::2], seen[1::2], strict=True):
        v = rearrange(values, "b n (h d) -> b h n d", h=2)
        torch.testing.assert_close(rearrange(weights @ v, "b h n d -> b n (h d)"), out, atol=1e-12, rtol=0)
    assert any((weights < 0).any() for weights in maps)


def test_packed_sequences_leave_a_state_each():
    model, ids = small(), ids_of(1)
    packed = model.new_cache(2)
    model(ids[:, :7], cu_seqlens=torch.tensor([0, 3, 7]), cache=packed)
    for row, (a, b) in enumerate(((0, 3), (3, 7))):
        alone = model.new_cache(1)
        model(ids[:, a:b], cache=alone)
        assert packed.position[row] == alone.position[0] == b - a
        for ours, want in zip(packed.states, alone.states, strict=True):
            torch.testing.assert_close(ours.S[row], want.S[0])


@torch.no_grad()
def test_memory_of_the_state_is_constant_and_that_of_the_twin_grows():
    sizes = {}
    for entry in MODELS:
        model = small(entry)
        cache = model.new_cache(1)
        model(ids_of(1, 10), cache=cache)
        before = cache.nbytes()
        model(ids_of(1, 500), cache=cache)
        sizes[entry] = cache.nbytes() / before
        assert cache.position.tolist() == [510]
    assert sizes[TransNormer] == 1
    assert sizes[Transformer] > 40


def test_published_padding_is_a_setting():
    ids = ids_of()
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, 2:4] = False
    model = small(mask_mode="tnl")
    cache = model.new_cache(2)
    logits = model(ids, attention_mask=mask, cache=cache)
    assert cache.position.tolist() == [9, 9]
    assert (logits - small()(ids, attention_mask=mask))[0, 4:].abs().max() > 1e-3
    pieces, cache = [], model.new_cache(2)
    for part in (slice(0, 3), slice(3, 9)):
        pieces.append(model(ids[:, part], attention_mask=mask[:, part], cache=cache))
    torch.testing.assert_close(torch.cat(pieces, dim=1), logits)


@pytest.mark.parametrize("entry", MODELS)
def test_it_learns_a_sequence(entry):
    torch.manual_seed(0)
    model = entry(entry.Config(**SMALL | {"dim": 24}))
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3]])
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(60):
        loss = model.loss(model(ids[:, :-1]), ids[:, 1:])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1


@pytest.mark.parametrize("entry", MODELS)
def test_a_copy_and_a_cast_model_work(entry):
    model, ids = small(entry).float(), ids_of()
    logits = model(ids)
    torch.testing.assert_close(copy.deepcopy(model)(ids), logits)
    half = copy.deepcopy(model).bfloat16()(ids)
    assert half.dtype == torch.bfloat16
    assert (half.float() - logits).abs().mean() < 0.05 * logits.abs().mean() + 0.05


def test_default_settings_are_those_of_tiny():
    assert TransNormerConfig() == TransNormer.preset_config("tiny")
