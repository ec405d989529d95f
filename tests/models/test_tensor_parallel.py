"""Parts of a TransNormer: cut, joined, and computing together what the whole computes."""

import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from salience.core.errors import ConfigError
from salience.models.language_models import tensor_parallel
from salience.models.language_models.tensor_parallel import local_part, merge, split

SCRIPT = Path(__file__).with_name("two_parts.py")


def script():
    spec = spec_from_file_location("two_parts", SCRIPT)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scene():
    return script()


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_cut_and_joined_is_the_whole(scene, parts):
    model = scene.whole()
    state = model.state_dict()
    shares = split(state, model.config, parts)
    joined = merge(shares)
    assert joined.keys() == state.keys()
    assert all(torch.equal(joined[name], tensor) for name, tensor in state.items())
    mixers = sum(t.numel() for name, t in state.items() if "mixer" in name)
    for share in shares:
        assert sum(t.numel() for name, t in share.items() if "mixer" in name) == mixers // parts


def test_a_part_has_whole_heads_of_queries_keys_values_and_gates(scene):
    model = scene.whole()
    name = "layers.1.token_mixer.qkvu_proj.weight"
    second = split(model.state_dict(), model.config, 4)[1][name]
    whole = model.state_dict()[name].view(4, 4, 6, 12)  # q k v u, head, feature, input
    assert torch.equal(second.view(4, 6, 12), whole[:, 1])
    assert local_part(model, 1, 4).layers[1].token_mixer.slopes == model.layers[1].token_mixer.slopes[1:2]


@pytest.mark.parametrize("parts", [0, 3, 8])
def test_parts_that_do_not_divide_are_refused(scene, parts):
    model = scene.whole()
    with pytest.raises(ConfigError, match=f"parts={parts}"):
        split(model.state_dict(), model.config, parts)


@torch.no_grad()
def test_mixers_of_the_parts_add_up_to_the_whole_in_one_process(scene, monkeypatch):
    """The norm inside the token mixer needs the squares of all parts; they are added between two passes."""
    model = scene.whole()
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    layers = [local_part(model, rank, 2).layers[0] for rank in range(2)]
    squares = []
    monkeypatch.setattr(tensor_parallel, "_summed", lambda t, _: squares.append(t) or t)
    for layer in layers:
        layer.token_mixer(x)
    total = squares[0] + squares[2]
    monkeypatch.setattr(tensor_parallel, "_summed", lambda t, _: total if t.shape[-1] == 1 else t)
    parts = [layer.token_mixer(x)[0] for layer in layers]
    whole = model.layers[0]
    torch.testing.assert_close(sum(parts), whole.token_mixer(x)[0])
    torch.testing.assert_close(sum(layer.channel_mixer(x) for layer in layers), whole.channel_mixer(x))
    monkeypatch.setattr(tensor_parallel, "_summed", lambda t, _: t)
    alone = sum(layer.token_mixer(x)[0] for layer in layers)  # each part with a norm of its own
    assert (alone - whole.token_mixer(x)[0]).abs().max() > 1e-2


@pytest.fixture(scope="module")
def halves(tmp_path_factory, warm):
    out = tmp_path_factory.mktemp("parts")
    command = [
        warm.python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python",
        warm.python, SCRIPT, out,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [load_file(out / f"{rank}.safetensors") for rank in (0, 1)]


def test_two_processes_compute_what_one_does(scene, halves):
    wanted = scene.results(scene.whole())
    real = wanted["mask"]
    for half in halves:
        torch.testing.assert_close(half["logits"][real], wanted["logits"][real], atol=1e-10, rtol=0)
        torch.testing.assert_close(half["pieces"][real], wanted["logits"][real], atol=1e-10, rtol=0)


def test_two_processes_have_the_gradients_of_one(scene, halves):
    prefix = "gradient/"
    wanted = scene.results(scene.whole())
    joined = merge([{name: t for name, t in half.items() if name.startswith(prefix)} for half in halves])
    for name, gradient in joined.items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-10, rtol=0, msg=name)
    whole = f"{prefix}embed_tokens.weight"
    assert torch.equal(halves[0][whole], halves[1][whole])
