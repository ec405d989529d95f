"""RAVLT: published sizes and costs, hybrid and all-linear keys, checkpoints, padded images, the encoder and its maps."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from salience.api import Predictor
from salience.core.errors import ConfigError, IntegrityError, UnsupportedError
from salience.data.kinds import KINDS
from salience.models.encoders.ravlt import CARD, REGIONS, RAVLTEncoder
from salience.models.ravlt import PRESETS, RAVLT, DropPath, flops, preset

# parameters; then 10⁹ multiply-adds at 224 pixels: convolutions, attention of the hybrid, totals with norms
PUBLISHED = {
    "T": (14_897_768, 2.41, 0.20, 2.63, 2.55),
    "S": (25_591_208, 4.51, 0.37, 4.90, 4.75),
    "B": (48_241_288, 9.80, 0.78, 10.62, 10.38),
    "L": (95_242_440, 16.09, 1.12, 17.26, 16.83),
}
GRID = KINDS["image"].grid


def tiny(**changes):
    torch.manual_seed(0)
    changes = {"dims": [8, 12], "heads": [2, 1], "depths": [2, 1], "classes": 3, "projection": 10, **changes}
    return RAVLT.preset("mini", **changes)


def rough(network):
    """Give every parameter and statistic other numbers than it starts with."""
    torch.manual_seed(1)
    for name, tensor in network.state_dict().items():
        if not name.endswith(("angle", "num_batches_tracked")):
            tensor.copy_(torch.rand_like(tensor) + 0.5 if "var" in name else torch.randn_like(tensor) * 0.3)
    return network.eval()


def norm_operations(config, size=224):
    """Count as fvcore does: five operations a number of a layer norm, two of a batch norm."""
    total = 0

    def count(module, _, output):
        nonlocal total
        total += output.numel() * (5 if isinstance(module, nn.LayerNorm) else 2)

    with torch.device("meta"):
        network = RAVLT(config).eval()
        for module in network.modules():
            if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                module.register_forward_hook(count)
    network(torch.empty(1, 3, size, size, device="meta"))
    return total


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_and_costs(name):
    parameters, convolutions, attention, hybrid, linear = PUBLISHED[name]
    found = {kind: flops(preset(name, attn_per_stage=kind)) for kind in ("l,l,v,v", "l,l,l,l")}
    for counts in found.values():
        assert counts["parameters"] == parameters
        assert counts["convolutions"] / 1e9 == pytest.approx(convolutions, abs=0.006)
    assert found["l,l,v,v"]["attention"] / 1e9 == pytest.approx(attention, abs=0.006)
    gigas = [found["l,l,v,v"][part] / 1e9 for part in ("convolutions", "total")]
    text = (
        f"{parameters / 1e6:.1f} M parameters; multiply-adds: convolutions {gigas[0]:.2f} G, with attention"
    )
    text += f" {gigas[1]:.2f} G (hybrid) or {found['l,l,l,l']['total'] / 1e9:.2f} G (all linear); published"
    assert any(line.startswith(f"{name}: {text}") for line in CARD["sizes"]), text
    norms = norm_operations(PRESETS[name])
    assert (found["l,l,v,v"]["total"] + norms) / 1e9 == pytest.approx(hybrid, abs=0.015)
    assert (found["l,l,l,l"]["total"] + norms) / 1e9 == pytest.approx(linear, abs=0.015)


def test_published_presets_are_hybrids_and_small_ones_linear():
    assert all(PRESETS[name].attn_per_stage == ("l", "l", "v", "v") for name in PUBLISHED)
    assert {part for name in ("mini", "small") for part in PRESETS[name].attn_per_stage} == {"l"}
    titles = [name.split("_", 2)[2] for name in RAVLT.preset("T", depths=[1] * 4).attention_layers()]
    assert titles == ["rank_augmented"] * 2 + ["softmax"] * 2


@pytest.mark.parametrize("name", PUBLISHED)
def test_hybrid_and_all_linear_networks_have_the_same_keys(name):
    with torch.device("meta"):
        hybrid, linear = RAVLT.preset(name), RAVLT.preset(name, attn_per_stage="l,l,l,l")
    shapes = [{n: t.shape for n, t in network.state_dict().items()} for network in (hybrid, linear)]
    assert shapes[0] == shapes[1]


def test_linear_attention_costs_in_proportion_to_pixels_and_softmax_to_their_square():
    for kind, factor in (("l,l", 4), ("v,v", 16)):
        config = preset("mini", attn_per_stage=kind)
        small, big = flops(config, 16)["attention"], flops(config, 32)["attention"]
        assert big / small == pytest.approx(factor, rel=1e-6)


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "pth"])
def test_a_checkpoint_is_loaded(tmp_path, suffix):
    source, other, path = rough(tiny()), tiny(), tmp_path / f"weights.{suffix}"
    state = source.state_dict()
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save({"model": state, "epoch": 3} if suffix == "pth" else state, path)
    other.load_checkpoint(path)
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in state.items())


class Trap:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_bad_checkpoints_are_refused(tmp_path, capsys):
    network = tiny()
    with pytest.raises(IntegrityError, match="no file"):
        network.load_checkpoint(tmp_path / "absent.pt")
    torch.save({**network.state_dict(), "more": torch.ones(1)}, tmp_path / "more.pt")
    with pytest.raises(IntegrityError, match="more"):
        network.load_checkpoint(tmp_path / "more.pt")
    torch.save({"model": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(IntegrityError, match="do not fit"):
        network.load_checkpoint(tmp_path / "trap.pt")
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dims": [8]}, "do not agree"),
        ({"depths": [1, 0]}, "do not agree"),
        ({"attn_per_stage": "l,x"}, "attn_per_stage"),
        ({"norm": "layer"}, "norm"),
        ({"stem_stride": 3}, "stem_stride"),
        ({"heads": [1, 1], "dims": [6, 8]}, "in fours"),
        ({"width": 3}, "no option 'width'"),
    ],
)
def test_impossible_networks_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny(**changes)
    with pytest.raises(ConfigError, match="no preset"):
        preset("XL")


@pytest.mark.parametrize("kind", ["l,l", "v,v"])
@pytest.mark.parametrize("stride", [1, 2, 4])
@torch.no_grad()
def test_a_padded_image_gives_the_numbers_of_the_image_alone(kind, stride):
    network = rough(tiny(attn_per_stage=kind, stem_stride=stride)).double()
    image = torch.randn(1, 3, 17, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    padded = torch.full((1, 3, 24, 29), 5.0, dtype=torch.float64)
    padded[:, :, :17, :12] = image
    mask = torch.zeros(1, 24, 29, dtype=torch.bool)
    mask[:, :17, :12] = True
    torch.testing.assert_close(network(padded, mask), network(image), rtol=0, atol=1e-10)
    assert float((network(padded) - network(image)).abs().max()) > 1e-4


def test_a_mask_with_group_statistics_is_refused():
    with pytest.raises(UnsupportedError, match="padding"):
        tiny(norm="group")(torch.ones(1, 3, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool))


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (33, 16)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_any_image_size_runs(size, stride):
    logits = rough(tiny(stem_stride=stride))(torch.randn(2, 3, *size))
    assert logits.shape == (2, 3) and logits.isfinite().all()


def test_maps_of_a_hybrid_are_named_and_shaped():
    network = rough(tiny(attn_per_stage="l,v"))
    maps = network.attention(torch.randn(2, 3, 8, 6))
    shapes = {name: tuple(weights.shape) for name, weights in maps.items()}
    assert shapes == {
        "stage1_block1_rank_augmented": (2, 2, 48, 48),
        "stage1_block2_rank_augmented": (2, 2, 48, 48),
        "stage2_block1_softmax": (2, 1, 12, 12),
    }
    sums = maps["stage2_block1_softmax"].sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_branches_are_dropped_by_row_and_scaled():
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 1, 1)
    dropped = DropPath(0.25)(x)
    torch.testing.assert_close(dropped.unique(), torch.tensor([0.0, 4 / 3]))
    assert bool((dropped[:, 0] == dropped[:, 1]).all())
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(DropPath(0.25).eval()(x), x)
    rates = [b.drop_path.rate for s in RAVLT.preset("T").layers for b in s.blocks]
    assert rates == pytest.approx(np.linspace(0, 0.1, 12).tolist())


def pictures(count=4, size=8):
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.uint8)
    return pd.DataFrame({"photo": pd.Series([Image.fromarray(p) for p in pixels], dtype=object)})


def fitted(**args):
    torch.manual_seed(0)
    encoder = RAVLTEncoder(["photo"], **{"size": 8, "preset": "mini", **args})
    encoder.fit(pictures(), np.zeros(len(pictures())), torch.Generator().manual_seed(0))
    return encoder.eval()


@pytest.mark.parametrize("kind", ["l,l", "l,v", "v,v"])
def test_the_encoders_maps_give_each_layers_output_back(kind):
    encoder = fitted(changes={"attn_per_stage": kind})
    batch = encoder.collate(encoder.prepare(pictures()))
    layers = encoder.network.attention_layers()
    outputs = {}
    hooks = [
        layer.register_forward_hook(lambda m, args, out, name=name: outputs.update({name: (args[0], out)}))
        for name, layer in layers.items()
    ]
    encoder.encode(encoder.embed(batch))
    for hook in hooks:
        hook.remove()
    maps = encoder.attention(batch)
    assert set(maps) == {*layers, REGIONS}
    for name, layer in layers.items():
        x, out = outputs[name]
        _, _, values, gate = layer.qkvo(x).chunk(4, dim=1)
        heads = values.unflatten(1, (layer.num_heads, -1)).flatten(3)
        mixed = torch.einsum("bhqk,bhdk->bhdq", maps[name], heads).reshape(x.shape)
        rebuilt = layer.proj((mixed + layer.lepe(values)) * gate)
        torch.testing.assert_close(rebuilt, out, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "args"), [(8, {}), (12, {}), (20, {"preset": "small"}), (64, {"preset": "small"})]
)
def test_weights_between_regions_keep_their_sum(size, args):
    encoder = fitted(size=size, **args)
    maps = encoder.attention(encoder.collate(encoder.prepare(pictures(2, size))))
    *_, last = (weights for name, weights in maps.items() if name != REGIONS)
    regions = maps[REGIONS]
    assert regions.shape == (2, GRID**2, GRID**2, last.shape[1])
    torch.testing.assert_close(regions.sum(2).mean(1), last.sum(-1).mean(-1), rtol=1e-4, atol=1e-5)


def test_the_encoder_takes_the_networks_options():
    encoder = fitted(norm="batch", changes={"attn_per_stage": "v,v", "gate": False, "projection": 12})
    assert encoder.dim == 24 and encoder.network.config.norm == "batch"
    assert [layer.title for layer in encoder.network.attention_layers().values()] == ["softmax"] * 2
    assert not any(layer.gate for layer in encoder.network.attention_layers().values())
    with pytest.raises(ConfigError, match="too small"):
        RAVLTEncoder(["photo"], size=3)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_it_learns_to_tell_where_a_bright_spot_is(norm):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60, (96, 8, 8, 3)).astype(np.uint8)
    labels = torch.tensor(rng.integers(0, 2, 96))
    for image, label in zip(pixels, labels.tolist(), strict=True):
        row, column = rng.integers(0, 3, 2) + (4 if label else 0)
        image[row : row + 2, column : column + 2] = (250, 240, 240)
    rows = pd.DataFrame({"photo": pd.Series([Image.fromarray(p) for p in pixels], dtype=object)})
    encoder = fitted(norm=norm, shift=0.0)
    encoder.fit(rows.iloc[:64], np.zeros(64), torch.Generator().manual_seed(0))
    head = nn.Linear(encoder.dim, 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=5e-3)
    batch = encoder.collate(encoder.prepare(rows.iloc[:64]))
    encoder.train()
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(encoder.encode(encoder.embed(batch))[1]), labels[:64]).backward()
        optimizer.step()
    test = encoder.eval().collate(encoder.prepare(rows.iloc[64:]))
    found = head(encoder.encode(encoder.embed(test))[1]).argmax(1)
    assert float((found == labels[64:]).float().mean()) > 0.9


def test_a_table_of_pictures_is_learned_and_explained_by_attention():
    rows = pictures(24).assign(label=["a", "b"] * 12)
    options = [
        "model.image.name=ravlt",
        "model.image.args.preset=mini",
        "model.image.args.size=8",
        "training.epochs=1",
    ]
    predictor = Predictor("label", preset="fast", overrides=options).fit(rows)
    encoder = predictor.model.encoders["image_0"]
    assert isinstance(encoder, RAVLTEncoder)
    (explanation,) = predictor.explain(rows.iloc[:1], method="attention")
    weights = encoder.attention(encoder.collate(encoder.prepare(rows.iloc[:1])))[REGIONS]
    wanted = weights[0].mean((0, 2)).tolist()
    assert explanation.values == pytest.approx(wanted, abs=1e-5)
