"""Linear attention against tensors of the published Lightning Attention-2 kernels (see make_lightning2_fixture.py)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from salience.ops import linear_attention

TOLERANCE = 1e-5
SPLIT = 37  # inside a block of the published kernel
CORE = "salience.ops.linear.triton:linear_attention_triton"


@pytest.fixture(scope="module")
def published():
    """Stored tensors, token before head."""
    with np.load(Path(__file__).with_name("lightning2_fixture.npz")) as archive:
        stored = {name: torch.from_numpy(archive[name]) for name in archive.files}
    return {name: x.transpose(1, 2).contiguous() if x.dim() == 4 else x for name, x in stored.items()}


def assert_same(published, out, gradients):
    torch.testing.assert_close(out.float(), published["out"], rtol=0, atol=TOLERANCE)
    for name, gradient in zip("qkv", gradients, strict=True):
        torch.testing.assert_close(gradient.float(), published[f"grad_{name}"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("mode", ["quadratic", "chunk", "recurrent"])
def test_output_and_gradients_on_the_cpu(published, mode):
    """In float64, so that all of the difference is the published kernels' own rounding."""
    tracked = [published[name].double().requires_grad_() for name in "qkv"]
    out = linear_attention(*tracked, log_decay=-published["slopes"].double(), mode=mode).out
    gradients = torch.autograd.grad((out * published["projection"]).sum(), tracked)
    assert_same(published, out.detach(), gradients)


def test_output_and_gradients_of_the_triton_kernels(published, interpreter):
    inputs = [published[name] for name in "qkv"]
    weights = [published["projection"], None]
    answer = interpreter(CORE, *inputs, -published["slopes"], weights=weights)
    assert_same(published, answer["outputs"][0], answer["grads"][:3])


@pytest.mark.parametrize("mode", ["quadratic", "chunk", "recurrent"])
def test_our_state_continues_the_published_output(published, mode):
    """The published state has one more decay than ours; handed on at a split, ours must give the same output."""
    state, outs = None, []
    for part in (slice(0, SPLIT), slice(SPLIT, None)):
        q, k, v = (published[name][:, part] for name in "qkv")
        result = linear_attention(
            q, k, v, log_decay=-published["slopes"], mode=mode, initial_state=state, output_final_state=True
        )
        outs.append(result.out)
        state = result.state
    torch.testing.assert_close(torch.cat(outs, 1), published["out"], rtol=0, atol=TOLERANCE)


def test_the_state_of_the_triton_kernels_continues_the_published_output(published, interpreter):
    state, outs = None, []
    for part in (slice(0, SPLIT), slice(SPLIT, None)):
        out, state = interpreter(
            CORE, *(published[name][:, part] for name in "qkv"), -published["slopes"], state
        )["outputs"]
        outs.append(out)
    torch.testing.assert_close(torch.cat(outs, 1), published["out"], rtol=0, atol=TOLERANCE)


def test_fixture_is_not_trivial(published):
    """Outputs are not small, and the decay matters: without it they differ by far more than the tolerance."""
    out = linear_attention(*(published[name] for name in "qkv"), mode="quadratic").out
    assert published["out"].abs().max() > 1
    assert (out - published["out"]).abs().max() > 0.1
