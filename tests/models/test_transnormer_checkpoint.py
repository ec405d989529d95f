"""The layout of the released checkpoints: names, sizes, tying, and what is refused."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from salience.core.errors import ConfigError, IntegrityError
from salience.models.language_models.checkpoint import (
    from_published,
    load_published,
    published_config,
    save_published,
    to_published,
    to_published_config,
)
from salience.models.language_models.transnormer import TransNormer, TransNormerConfig

RELEASED = {  # the default configuration of the released code
    "vocab_size": 64000, "decoder_embed_dim": 1024, "decoder_layers": 24, "decoder_attention_heads": 8,
    "hidden_dim": 1024, "glu_dim": 2816, "no_scale_embedding": False, "norm_type": "simplermsnorm",
    "linear_act_fun": "silu", "bias": False, "init_std": 0.02, "pad_token_id": 0,
    "linear_use_lrpe_list": [1] + [0] * 23, "model_type": "transnormer", "use_cache": True,
}  # fmt: skip
LAYER = [
    "token_mixer.qkvu_proj.weight",
    "token_mixer.out_proj.weight",
    "channel_mixer.l1.weight",
    "channel_mixer.l2.weight",
    "channel_mixer.l3.weight",
]
IDS = torch.tensor([[1, 2, 3, 4, 1, 2]])


def small(**settings):
    torch.manual_seed(0)
    base = {"vocab_size": 11, "dim": 12, "num_layers": 2, "num_heads": 2, "glu_dim": 16, "padding_id": 0}
    return TransNormer(TransNormerConfig(**base | settings))


def test_released_settings_are_the_preset():
    config = published_config(RELEASED)
    assert config == TransNormer.preset_config("385M", padding_id=0, hidden_dim=1024)
    assert published_config(to_published_config(config)) == config
    assert published_config(RELEASED | {"glu_dim": -1}).glu_dim == 1024
    assert not published_config(RELEASED | {"no_scale_embedding": True}).scale_embedding


def test_names_are_the_published_ones():
    found = set(to_published(small()))
    wanted = {f"model.layers.{i}.{name}" for i in range(2) for name in LAYER}
    assert found == wanted | {"model.embed_tokens.weight", "model.layers.0.token_mixer.lrpe.theta"}
    assert "lm_head.weight" in to_published(small(tie_embedding=False))


@pytest.mark.parametrize(
    "settings", [{}, {"tie_embedding": False}, {"lrpe_layers": (0, 1), "hidden_dim": 24}]
)
def test_saved_and_loaded_is_equal(tmp_path, settings):
    model = small(**settings)
    again = load_published(save_published(model, tmp_path / "checkpoint"))
    assert torch.equal(again(IDS), model(IDS))
    assert again.config.tie_embedding == model.config.tie_embedding
    assert (again.lm_head.weight is again.embed_tokens.weight) == model.config.tie_embedding
    assert [name for name, _ in again.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert not list((tmp_path / "checkpoint").glob(".*"))
    again.loss(again(IDS), IDS).backward()
    assert all(p.grad is not None for p in again.parameters())


def folder(path, tensors, *, files=1, suffix=".safetensors", config=None):
    path.mkdir()
    names = sorted(tensors)
    for i in range(files):
        share = {name: tensors[name].clone() for name in names[i::files]}
        if suffix == ".safetensors":
            save_file(share, path / f"model-{i}.safetensors")
        else:
            torch.save(share, path / f"pytorch_model-{i}.bin")
    values = to_published_config(small().config) if config is None else config
    (path / "config.json").write_text(json.dumps(values))
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("files", [1, 3])
def test_one_file_or_several_of_either_form(tmp_path, suffix, files):
    model = small()
    path = folder(tmp_path / "c", to_published(model), files=files, suffix=suffix)
    assert torch.equal(load_published(path)(IDS), model(IDS))


def test_weights_keep_their_type_and_old_extras_are_passed_over(tmp_path):
    tensors = {name: t.bfloat16() for name, t in to_published(small()).items()}
    tensors["model.decoder.version"] = torch.tensor(3)
    model = load_published(folder(tmp_path / "c", tensors))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model(IDS).isfinite().all()


def test_a_head_that_equals_the_embedding_is_tied_and_another_is_not():
    model = small()
    tensors = to_published(model)
    equal = from_published(
        tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, model.config
    )
    assert equal.lm_head.weight is equal.embed_tokens.weight
    other = torch.randn(11, 12)
    free = from_published(tensors | {"lm_head.weight": other}, model.config)
    assert torch.equal(free.lm_head.weight, other)
    assert free.lm_head.weight is not free.embed_tokens.weight


def test_weights_decide_which_layers_have_positions():
    model = small(lrpe_layers=(1,))
    again = from_published(to_published(model), small().config)
    assert again.config.lrpe_layers == (1,)
    assert torch.equal(again(IDS), model(IDS))


def changed(**changes):
    tensors = to_published(small())
    for name, value in changes.items():
        name = name.replace("__", ".")
        tensors.pop(name, None)
        tensors |= {} if value is None else {name: value}
    return tensors


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"model__layers__1__channel_mixer__l2__weight": None},
            r"layers\.1\.channel_mixer\.l2\.weight is missing",
        ),
        ({"model__embed_tokens__weight": None}, r"embed_tokens\.weight is missing"),
        (
            {"model__layers__0__token_mixer__qkv_proj__weight": torch.zeros(3)},
            "unknown. Did you mean 'layers.0.token",
        ),
        (
            {"model__layers__0__channel_mixer__l3__weight": torch.zeros(16, 12)},
            r"has shape \(16, 12\), want \(12, 16\)",
        ),
        ({"model__layers__5__token_mixer__lrpe__theta": torch.zeros(2, 1, 6)}, "lrpe_layers"),
    ],
)
def test_weights_that_do_not_fit_are_named(changes, words):
    with pytest.raises((IntegrityError, ConfigError), match=words):
        from_published(changed(**changes), small().config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decoder_layers": None}, "Missing: decoder_layers"),
        ({"bias": True}, "bias=True"),
        ({"linear_act_fun": "1+elu"}, "linear_act_fun='1\\+elu'"),
        ({"norm_type": "layernorm"}, "norm_type='layernorm'"),
    ],
)
def test_other_variants_are_refused(changes, words):
    values = {name: value for name, value in (RELEASED | changes).items() if value is not None}
    with pytest.raises(ConfigError, match=words):
        published_config(values)


def test_settings_without_a_published_form_are_refused(tmp_path):
    for settings in ({"slopes": "paper"}, {"glu_activation": "silu"}):
        with pytest.raises(ConfigError, match="cannot say"):
            save_published(small(**settings), tmp_path)
    assert not list(tmp_path.iterdir())


def test_absent_damaged_and_unsafe_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IntegrityError, match=r"config\.json is missing"):
        load_published(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(to_published_config(small().config)))
    with pytest.raises(IntegrityError, match="no weights"):
        load_published(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"no tensors")
    with pytest.raises(IntegrityError, match="cannot be read"):
        load_published(tmp_path)
    torch.save({"code": Runs()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(IntegrityError, match="cannot be read"):
        load_published(tmp_path)
    assert not (tmp_path / "ran").exists()
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 9)
    with pytest.raises(IntegrityError, match=r"model\.safetensors cannot be read"):
        load_published(tmp_path)


class Runs:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_file_holds_each_weight_once(tmp_path):
    save_published(small(), tmp_path)
    assert sorted(load_file(tmp_path / "model.safetensors")) == sorted(to_published(small()))
