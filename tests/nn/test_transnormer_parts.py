"""Slopes, norm, LRPE, rotary positions and the gated linear unit, against their equations."""

import math

import pytest
import torch
from torch import nn

from salience.core.errors import ConfigError
from salience.nn.blocks.sglu import SGLU
from salience.nn.embeddings.lrpe import LRPE
from salience.nn.embeddings.positions import token_positions
from salience.nn.embeddings.rotary import rotary_angles, rotate
from salience.nn.norms.simple_rms_norm import SimpleRMSNorm
from salience.ops.linear.slopes import decay_slopes

ALIBI = {
    1: [2**-8],
    3: [2**-4, 2**-8, 2**-2],
    8: [2**-h for h in range(1, 9)],
    12: [2**-h for h in range(1, 9)] + [2 ** -(h + 0.5) for h in range(4)],
}


@pytest.mark.parametrize("heads", ALIBI)
def test_alibi_slopes_are_in_the_trained_order(heads):
    found = decay_slopes(heads, 0, 6)
    assert (found / (1 + 1e-5)).tolist() == pytest.approx(ALIBI[heads], rel=1e-12)


@pytest.mark.parametrize("heads", [1, 3, 8, 12])
def test_geometric_slopes_do_not_interpolate(heads):
    found = decay_slopes(heads, 0, 6, "geometric") / (1 + 1e-5)
    assert found.tolist() == pytest.approx([2 ** (-8 * h / heads) for h in range(1, heads + 1)], rel=1e-12)


@pytest.mark.parametrize("heads", [1, 3, 8, 12])
def test_paper_slopes_are_equation_ten(heads):
    found = decay_slopes(heads, 2, 6, "paper")
    wanted = [8 * h / heads * (1 - 2 / 6) for h in range(1, heads + 1)]
    assert found.tolist() == pytest.approx(wanted, rel=1e-12)


def test_the_last_layer_hardly_decays_and_one_layer_does_not_divide_by_zero():
    assert decay_slopes(8, 5, 6).tolist() == pytest.approx([1e-5 * s for s in ALIBI[8]], rel=1e-6)
    for kind in ("alibi", "geometric", "paper"):
        alone = decay_slopes(8, 0, 1, kind)
        assert alone.isfinite().all() and (alone > 0).all()
    assert decay_slopes(8, 0, 1).tolist() == pytest.approx([1.00001 * s for s in ALIBI[8]], rel=1e-12)


@pytest.mark.parametrize("arguments", [(0,), (4, 3, 3), (4, -1, 3)])
def test_slopes_refuse_what_is_no_layer_or_head(arguments):
    with pytest.raises(ConfigError, match="counted from 0"):
        decay_slopes(*arguments)


def test_slopes_suggest_the_nearest_kind():
    with pytest.raises(ConfigError, match="Did you mean 'alibi'"):
        decay_slopes(4, kind="aliby")


def test_norm_is_its_equation_and_its_gradient_the_published_one():
    x = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    dy = torch.randn(3, 7, dtype=torch.float64)
    rstd = (x.detach().square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    unit = x.detach() * rstd
    y = SimpleRMSNorm()(x)
    torch.testing.assert_close(y.detach(), unit)
    wanted = rstd * (dy - unit * (unit * dy).mean(-1, keepdim=True))
    torch.testing.assert_close(torch.autograd.grad(y, x, dy)[0], wanted)


def test_norm_keeps_zero_and_the_type_and_sums_in_float32():
    norm = SimpleRMSNorm()
    assert not norm(torch.zeros(2, 5)).any()
    x = (torch.randn(4, 512) * 300).half()
    y = norm(x)  # the sum of squares is beyond float16
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.float(), norm(x.float()), atol=2e-3, rtol=2e-3)


def test_lrpe_products_depend_on_the_distance_only():
    lrpe = LRPE(2, 3).double()
    q, k = torch.randn(1, 1, 2, 3, dtype=torch.float64), torch.randn(1, 1, 2, 3, dtype=torch.float64)

    def product(t, s):
        encoded = (lrpe(x, lrpe.factors(torch.tensor([[p]]))) for x, p in ((q, t), (k, s)))
        return torch.linalg.vecdot(*encoded)

    wanted = (q * k * torch.cos(lrpe.theta[:, 0] * 5)).sum(-1)
    torch.testing.assert_close(product(9, 4), wanted)
    torch.testing.assert_close(product(100_005, 100_000), wanted)


def test_lrpe_starts_at_the_published_frequencies_and_learns():
    lrpe = LRPE(2, 3)
    wanted = [10000 ** (-2 * j / 6) for j in range(6)]
    assert lrpe.theta.flatten().tolist() == pytest.approx(wanted, rel=1e-6)
    x = torch.randn(1, 4, 2, 3, dtype=torch.float64)
    position = torch.arange(4)[None]
    lrpe.double()
    assert torch.autograd.gradcheck(
        lambda theta: _encoded(lrpe, theta, x, position), lrpe.theta, fast_mode=True
    )


def _encoded(lrpe, theta, x, position):
    return torch.func.functional_call(_Encode(lrpe), {"lrpe.theta": theta}, (x, position))


class _Encode(nn.Module):
    def __init__(self, lrpe):
        super().__init__()
        self.lrpe = lrpe

    def forward(self, x, position):
        return self.lrpe(x, self.lrpe.factors(position))


def test_lrpe_is_exact_far_from_the_start():
    lrpe = LRPE(1, 4)
    cos, sin = lrpe.factors(torch.tensor([[1_000_003]]))
    angles = [1_000_003 * theta for theta in lrpe.theta.double().flatten().tolist()]
    assert cos.flatten().tolist() == pytest.approx([math.cos(a) for a in angles], abs=1e-6)
    assert sin.flatten().tolist() == pytest.approx([math.sin(a) for a in angles], abs=1e-6)


def test_rotation_keeps_lengths_and_depends_on_the_distance_only():
    q, k = torch.randn(2, 1, 1, 2, 6, dtype=torch.float64)

    def turned(x, position):
        return rotate(x, rotary_angles(torch.tensor([[position]]), 6).double())

    torch.testing.assert_close(turned(q, 7).norm(dim=-1), q.norm(dim=-1))
    near = torch.linalg.vecdot(turned(q, 7), turned(k, 3))
    torch.testing.assert_close(torch.linalg.vecdot(turned(q, 14), turned(k, 10)), near, atol=1e-5, rtol=1e-5)
    assert (torch.linalg.vecdot(turned(q, 7), turned(k, 4)) - near).abs().max() > 1e-3


def test_positions_count_real_tokens_in_rows_packs_and_continuations():
    assert token_positions(3).tolist() == [[0, 1, 2]]
    assert token_positions(2, start=torch.tensor([5, 0])).tolist() == [[5, 6], [0, 1]]
    packed = token_positions(5, cu_seqlens=torch.tensor([0, 2, 5]), start=torch.tensor([10, 0]))
    assert packed.tolist() == [[10, 11, 0, 1, 2]]
    mask = torch.tensor([[0, 0, 1, 0, 1], [1, 1, 1, 0, 0]]).bool()
    found = token_positions(5, mask=mask)
    assert found[0, mask[0]].tolist() == [0, 1] and found[1, mask[1]].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("activation", "function"), [("none", lambda x: x), ("silu", nn.functional.silu)])
def test_sglu_is_its_equation(activation, function):
    block = SGLU(4, 6, activation).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    w1, w2, w3 = (layer.weight for layer in (block.l1, block.l2, block.l3))
    torch.testing.assert_close(block(x), (function(x @ w1.T) * (x @ w2.T)) @ w3.T)
    assert sum(p.numel() for p in block.parameters()) == 3 * 4 * 6


def test_sglu_refuses_unknown_activations():
    with pytest.raises(ConfigError, match="'silu'"):
        SGLU(4, 6, "sill")
