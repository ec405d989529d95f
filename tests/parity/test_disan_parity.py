"""DiSAN against tensors of the published TensorFlow code (see make_disan_fixture.py)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from salience.nn.attention.self_attention.disa import DiSAN

TOLERANCE = 1e-5
PLACES = {
    "ct_attn/dir_attn_{}/bn_dense_map/linear_map": "dir_attn_{}.dense_map",
    "ct_attn/dir_attn_{}/attention/linear_dependent": "dir_attn_{}.linear_dependent",
    "ct_attn/dir_attn_{}/attention/linear_head": "dir_attn_{}.linear_head",
    "ct_attn/dir_attn_{}/output/linear_fusion_i": "dir_attn_{}.linear_fusion_i",
    "ct_attn/dir_attn_{}/output/linear_fusion_a": "dir_attn_{}.linear_fusion_a",
}


def published_names():
    """Published variable → our parameter; the published kernels are (in, out)."""
    names = {}
    for theirs, ours in PLACES.items():
        for side in ("fw", "bw"):
            names[theirs.format(side) + "/W"] = ours.format(side) + ".weight"
            names[theirs.format(side) + "/bias"] = ours.format(side) + ".bias"
    for side in ("fw", "bw"):
        names[f"ct_attn/dir_attn_{side}/attention/f_bias"] = f"dir_attn_{side}.f_bias"
        names[f"ct_attn/dir_attn_{side}/output/o_bias"] = f"dir_attn_{side}.o_bias"
    for i in (1, 2):
        theirs = f"sent_enc_attn/multi_dimensional_attention/bn_dense_map{i}/linear_map"
        names[f"{theirs}/W"] = f"sent_enc_attn.dense_map{i}.weight"
        names[f"{theirs}/bias"] = f"sent_enc_attn.dense_map{i}.bias"
    return names


@pytest.fixture(scope="module")
def published():
    with np.load(Path(__file__).with_name("disan_fixture.npz")) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


@pytest.fixture(scope="module", params=["fast", "naive"])
def model(request, published):
    dim = published["x"].shape[-1]
    model = DiSAN(dim, dim, op=request.param).eval()
    stored = {n.removeprefix("weight/"): t for n, t in published.items() if n.startswith("weight/")}
    names = published_names()
    state = {names[n]: t.T if t.ndim == 2 else t for n, t in stored.items()}
    model.load_state_dict(state, strict=True)
    return model


def test_output_and_input_gradient(model, published):
    x = published["x"].clone().requires_grad_()
    _, sentence = model(x, published["mask"])
    gradient = torch.autograd.grad((sentence * published["projection"]).sum(), x)[0]
    torch.testing.assert_close(sentence.detach(), published["output"], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(gradient, published["gradient"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("ours", "theirs"), [("forward", "fw"), ("backward", "bw")])
def test_attention_maps_and_gates_of_real_tokens(model, published, ours, theirs):
    maps = model.attention(published["x"], published["mask"])
    real = published["mask"]
    for got, want in (
        (maps[f"token2token_{ours}"], published[f"{theirs}_attn"]),
        (maps[f"gate_{ours}"], published[f"{theirs}_gate"]),
    ):
        torch.testing.assert_close(got[real], want[real], rtol=0, atol=TOLERANCE)


def test_source_to_token_map(model, published):
    got = model.attention(published["x"], published["mask"])["source2token"]
    torch.testing.assert_close(got, published["attn"], rtol=0, atol=TOLERANCE)


def test_fixture_is_not_trivial(published):
    """Attention in the fixture differs between keys and features, and the output is far from zero."""
    assert published["output"].std() > 0.5
    last_query = published["fw_attn"][0, -1, :-1]
    assert last_query.std(dim=0).min() > 0.02
    assert last_query.std(dim=1).min() > 0.02
