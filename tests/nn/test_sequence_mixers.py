"""Gated linear attention and causal softmax attention against quadratic references."""

import pytest
import torch
from einops import rearrange
from torch.nn.functional import silu

from salience.core.errors import ConfigError, UnsupportedError
from salience.nn.attention.linear.gated_linear_attention import GatedLinearAttention
from salience.nn.attention.self_attention.causal_softmax import CausalSoftmaxAttention

SLOPES = [0.5, 0.01, 0.1]
MASK = torch.tensor([[0, 1, 1, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1, 1]], dtype=torch.bool)


def linear(**options):
    torch.manual_seed(0)
    return GatedLinearAttention(6, 3, SLOPES, **options).double()


def softmax():
    torch.manual_seed(0)
    return CausalSoftmaxAttention(12, 3).double()


def tokens(mixer, batch=2, length=8):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, length, mixer.out_proj.out_features, dtype=torch.float64, generator=generator)


def reference(mixer, x):
    """Write the published equations out, with n × n weights."""
    q, k, v, u = mixer.qkvu_proj(x).chunk(4, dim=-1)
    q, k, v = (rearrange(t, "b n (h d) -> b h n d", h=3) for t in (silu(q), silu(k), v))
    step = torch.arange(x.shape[1], dtype=torch.float64)
    back = step[:, None] - step[None, :]
    scores = q @ k.transpose(-1, -2)
    if mixer.lrpe is not None:
        turn = torch.cos(mixer.lrpe.theta[:, 0, None, None, :] * back[..., None])
        scores = torch.einsum("bhtd,bhsd,htsd->bhts", q, k, turn)
    slope = torch.tensor(SLOPES, dtype=torch.float64)[:, None, None]
    weights = scores * torch.exp(-slope * back.clamp(min=0)) * (back >= 0)
    out = rearrange(weights @ v, "b h n d -> b n (h d)")
    normed = out / (out.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return mixer.out_proj(u * normed), weights, v


@pytest.mark.parametrize("lrpe", [False, True])
@pytest.mark.parametrize("mode", ["auto", "chunk", "recurrent", "quadratic"])
def test_linear_mixer_is_the_published_equations(lrpe, mode):
    mixer = linear(lrpe=lrpe, mode=mode)
    x = tokens(mixer)
    y, _, weights = mixer(x, need_weights=True)
    wanted, wanted_weights, _ = reference(mixer, x)
    torch.testing.assert_close(y, wanted, atol=1e-10, rtol=0)
    torch.testing.assert_close(weights, wanted_weights, atol=1e-10, rtol=0)


@pytest.mark.parametrize("packed", [False, True])
def test_weights_times_values_are_the_output_before_the_norm(packed):
    mixer = linear(lrpe=True)
    x = tokens(mixer, 1 if packed else 2)
    layout = {"cu_seqlens": torch.tensor([0, 3, 8])} if packed else {"mask": MASK}
    seen = {}
    mixer.norm.register_forward_pre_hook(lambda _, inputs: seen.update(out=inputs[0]))
    _, _, weights = mixer(x, need_weights=True, **layout)
    v = rearrange(mixer.qkvu_proj(x).chunk(4, dim=-1)[2], "b n (h d) -> b h n d", h=3)
    rebuilt = rearrange(weights @ v, "b h n d -> b n (h d)")
    torch.testing.assert_close(rebuilt, seen["out"], atol=1e-12, rtol=0)


@pytest.mark.parametrize("make", [lambda: linear(lrpe=True), softmax], ids=["linear", "softmax"])
class TestBoth:
    def test_gradients(self, make):
        mixer = make()
        x = tokens(mixer, 2, 4).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: mixer(x, mask=MASK[:, :4])[0], x, fast_mode=True)

    def test_padding_takes_no_part(self, make):
        mixer = make()
        x = tokens(mixer).requires_grad_()
        y = mixer(x, mask=MASK)[0]
        torch.testing.assert_close(y[0, MASK[0]], mixer(x[:1, MASK[0]])[0][0])
        assert not y[~MASK].any()
        y[MASK].square().sum().backward()
        assert not x.grad[~MASK].any()
        assert x.grad[MASK].abs().sum(-1).min() > 0

    @pytest.mark.parametrize("cut", range(1, 8))
    def test_any_split_equals_the_whole(self, make, cut):
        mixer = make()
        x = tokens(mixer)
        first, state, _ = mixer(x[:, :cut], mask=MASK[:, :cut], keep_state=True)
        second, after, _ = mixer(x[:, cut:], mask=MASK[:, cut:], state=state, keep_state=True)
        torch.testing.assert_close(torch.cat([first, second], dim=1), mixer(x, mask=MASK)[0])
        assert after.position.tolist() == MASK.sum(1).tolist()

    def test_gradients_flow_through_the_state(self, make):
        mixer = make()
        x = tokens(mixer).requires_grad_()
        _, state, _ = mixer(x[:, :4], keep_state=True)
        later = mixer(x[:, 4:], state=state, keep_state=True)[0]
        found = torch.autograd.grad(later.sum(), x)[0]
        wanted = torch.autograd.grad(mixer(x)[0][:, 4:].sum(), x)[0]
        torch.testing.assert_close(found, wanted)

    def test_packed_equals_separate(self, make):
        mixer = make()
        x = tokens(mixer, 1)
        found, _, weights = mixer(x, cu_seqlens=torch.tensor([0, 1, 5, 8]), need_weights=True)
        parts = [mixer(x[:, a:b])[0] for a, b in ((0, 1), (1, 5), (5, 8))]
        torch.testing.assert_close(found, torch.cat(parts, dim=1))
        assert not weights[:, :, 5:, :5].any()

    def test_position_can_be_given(self, make):
        """Only distances count: the same tokens later in time give the same."""
        mixer = make()
        x = tokens(mixer)
        later = torch.arange(50, 58)[None]
        torch.testing.assert_close(mixer(x, position=later)[0], mixer(x)[0], atol=1e-5, rtol=1e-5)


def test_published_padding_goes_on_in_time():
    """With ``mask_mode="tnl"`` padding only loses its value: what follows decays and turns as if it were real."""
    mixer = linear(lrpe=True, mask_mode="tnl")
    x = tokens(mixer)
    found = mixer(x, mask=MASK, need_weights=True)[2]
    assert not found.isnan().any()
    ours = linear(lrpe=True)(x, mask=MASK)[0]
    published = mixer(x, mask=MASK)[0]
    assert (published - ours)[0, 4:].abs().max() > 1e-3
    torch.testing.assert_close(published[1], ours[1])


def test_state_of_the_linear_mixer_is_float32_in_bfloat16_and_of_fixed_size():
    mixer = linear().bfloat16()
    x = torch.randn(1, 300, 6).bfloat16()
    y, state, _ = mixer(x, keep_state=True)
    assert y.dtype == torch.bfloat16 and y.isfinite().all()
    assert state.S.dtype == torch.float32
    assert mixer.log_decay(x).dtype == torch.float32
    _, longer, _ = mixer(x, state=state, keep_state=True)
    assert longer.S.shape == state.S.shape == (1, 3, 2, 2)


def test_softmax_is_torchs_attention_of_rotated_tokens():
    """Rows of weights add up to one, and the weights give the output."""
    mixer = softmax()
    x = tokens(mixer)
    y, _, weights = mixer(x, need_weights=True)
    torch.testing.assert_close(y, mixer(x)[0])
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 8, dtype=torch.float64))
    v = rearrange(mixer.qkv_proj(x).chunk(3, dim=-1)[2], "b n (h d) -> b h n d", h=3)
    torch.testing.assert_close(mixer.out_proj(rearrange(weights @ v, "b h n d -> b n (h d)")), y)


@torch.no_grad()
def test_softmax_state_doubles_its_room_and_spares_the_past():
    mixer = softmax()
    x = tokens(mixer, 1)
    _, state, _ = mixer(x[:, :4], keep_state=True)
    before = state.k[:, :, :4].clone()
    rooms = []
    for t in range(4, 8):
        _, state, _ = mixer(x[:, t : t + 1], state=state, keep_state=True)
        rooms.append(state.k.shape[2])
    assert rooms == [8, 8, 8, 8]
    torch.testing.assert_close(state.k[:, :, :4], before)


def test_softmax_refuses_a_state_of_packed_sequences():
    mixer = softmax()
    with pytest.raises(UnsupportedError, match="attention_mask"):
        mixer(tokens(mixer, 1), cu_seqlens=torch.tensor([0, 8]), keep_state=True)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: GatedLinearAttention(6, 4, [0.1] * 4), "divides the width"),
        (lambda: GatedLinearAttention(6, 3, [0.1]), "one slope a head"),
        (lambda: GatedLinearAttention(6, 3, SLOPES, mask_mode="hf"), "'skip' or 'tnl'"),
        (lambda: CausalSoftmaxAttention(9, 3), "multiple of twice"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(build, words):
    with pytest.raises(ConfigError, match=words):
        build()


def test_mixed_precision_works_forward_and_backward_inside_its_context():
    mixer = linear(lrpe=True).float()
    x = tokens(mixer).float()
    whole = mixer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        y, state, _ = mixer(x, keep_state=True)
        y.float().square().sum().backward()
    assert state.S.dtype == torch.float32
    assert (y - whole).abs().max() < 0.05 * whole.abs().max() + 0.02
    assert all(p.grad.isfinite().all() and p.grad.any() for p in mixer.parameters())


def test_training_works_after_inference_mode():
    mixer = linear()
    x = tokens(mixer)
    with torch.inference_mode():
        mixer(x)
    mixer(x)[0].sum().backward()
    assert mixer.qkvu_proj.weight.grad.any()


@pytest.mark.parametrize("edges", [[0, 3], [1, 8], [0, 5, 5, 8], [0, 5, 3, 8]])
def test_boundaries_that_do_not_fit_are_refused(edges):
    for mixer in (linear(), softmax()):
        with pytest.raises(ConfigError, match="rise from 0"):
            mixer(tokens(mixer, 1), cu_seqlens=torch.tensor(edges))


def test_packed_sequences_are_one_row():
    for mixer in (linear(), softmax()):
        with pytest.raises(ConfigError, match="along the token axis"):
            mixer(tokens(mixer, 2), cu_seqlens=torch.tensor([0, 8]))
