"""The hard Kumaraswamy distribution against quadrature, frequencies and numerical gradients, in float64."""

import numpy as np
import pytest
import torch
from scipy import integrate, special

from salience.nn.hard_kumaraswamy import LARGEST, SMALLEST, UNIFORM, HardKumaraswamy, log_one_minus_exp

SHAPES = [(0.5, 0.5), (1.0, 1.0), (2.0, 5.0), (5.0, 1.5), (0.2, 3.0), (3.0, 0.2)]


def gate(a, b, dtype=torch.float64):
    return HardKumaraswamy(torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype))


def stretched_cdf(t, a, b):
    k = (t + 0.1) / 1.2
    return 1 - (1 - k**a) ** b


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_masses_of_zero_one_and_between_are_those_of_the_distribution_function(a, b):
    found = gate(a, b)
    zero, one = float(found.probability_zero()), float(found.probability_one())
    assert zero == pytest.approx(stretched_cdf(0.0, a, b), abs=1e-12)
    assert one == pytest.approx(1 - stretched_cdf(1.0, a, b), abs=1e-12)
    between, _ = integrate.quad(
        lambda z: float(found.log_density(z + torch.zeros((), dtype=torch.float64)).exp()), 0, 1
    )
    assert zero + between + one == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_density_is_the_slope_of_the_distribution_function(a, b):
    z, step = torch.linspace(0.05, 0.95, 7, dtype=torch.float64), 1e-6
    slope = (stretched_cdf(z + step, a, b) - stretched_cdf(z - step, a, b)) / (2 * step)
    torch.testing.assert_close(gate(a, b).log_density(z).exp(), slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_mean_of_the_stretched_variable(a, b):
    mean = b * special.beta(1 + 1 / a, b)
    assert float(gate(a, b).mean()) == pytest.approx(np.clip(-0.1 + 1.2 * mean, 0, 1), abs=1e-12)


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_samples_have_the_stated_frequencies(a, b):
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(200_000, dtype=torch.float64, generator=generator)
    found = gate(a, b)
    z = found.sample(uniform)
    spread = 4 * 0.5 / np.sqrt(len(uniform))
    assert float((z == 0).double().mean()) == pytest.approx(float(found.probability_zero()), abs=spread)
    assert float((z == 1).double().mean()) == pytest.approx(float(found.probability_one()), abs=spread)
    middle = stretched_cdf(0.5, a, b)
    assert float((z <= 0.5).double().mean()) == pytest.approx(middle, abs=spread)


def test_own_uniform_numbers_stay_in_their_range_and_follow_the_seed():
    found = HardKumaraswamy(torch.ones(50_000), torch.ones(50_000))
    torch.manual_seed(3)
    z = found.sample()
    torch.manual_seed(3)
    assert torch.equal(found.sample(), z)
    share = (float(found.probability_zero()[0]) - UNIFORM[0]) / (UNIFORM[1] - UNIFORM[0])
    assert float((z == 0).double().mean()) == pytest.approx(share, abs=0.01)


def test_sample_is_the_inverse_of_the_distribution_function_and_rises():
    uniform = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    z = gate(2.0, 3.0).sample(uniform)
    inside = (z > 0) & (z < 1)
    assert int(inside.sum()) > 50
    torch.testing.assert_close(torch.as_tensor(stretched_cdf(z[inside], 2.0, 3.0)), uniform[inside])
    assert bool((z.diff() >= 0).all())


def test_gradients_with_fixed_uniform_numbers():
    torch.manual_seed(0)
    a = (torch.rand(6, dtype=torch.float64) + 0.5).requires_grad_()
    b = (torch.rand(6, dtype=torch.float64) + 0.5).requires_grad_()
    uniform = torch.tensor([0.3, 0.4, 0.5, 0.6, 0.45, 0.55], dtype=torch.float64)
    z = torch.rand(6, dtype=torch.float64) * 0.8 + 0.1
    for quantity in (
        lambda a, b: HardKumaraswamy(a, b).sample(uniform),
        lambda a, b: HardKumaraswamy(a, b).probability_zero(),
        lambda a, b: HardKumaraswamy(a, b).probability_one(),
        lambda a, b: HardKumaraswamy(a, b).log_density(z),
        lambda a, b: HardKumaraswamy(a, b).mean(),
    ):
        assert torch.autograd.gradcheck(quantity, (a, b))
    inside = HardKumaraswamy(a, b).sample(uniform)
    assert bool(((inside > 0) & (inside < 1)).all()), "the check must not sit where the gradient is zero"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_shapes_are_finite_forward_and_backward(dtype):
    ends = torch.tensor([0.0, SMALLEST, 1.0, LARGEST, 1e4], dtype=dtype)
    a, b = (x.reshape(-1).clone().requires_grad_() for x in torch.meshgrid(ends, ends, indexing="ij"))
    found = HardKumaraswamy(a, b)
    for uniform in UNIFORM:
        numbers = [
            found.sample(torch.full_like(a, uniform)),
            found.probability_zero(),
            found.probability_one(),
        ]
        numbers += [found.most_likely()]
        total = sum(n.sum() for n in numbers)
        assert all(bool(((n >= 0) & (n <= 1)).all()) for n in numbers)
        for gradient in torch.autograd.grad(total, (a, b), retain_graph=True):
            assert bool(gradient.isfinite().all())


def test_most_likely_is_the_kind_of_value_with_the_highest_probability():
    found = gate([0.05, 20.0, 3.0, 0.5], [20.0, 0.05, 3.0, 0.5])
    zero, one = found.probability_zero(), found.probability_one()
    kinds = torch.stack([zero, one, 1 - zero - one]).argmax(0).tolist()
    assert kinds == [0, 1, 2, 2]
    values = found.most_likely()
    assert values.tolist()[:2] == [0.0, 1.0]
    torch.testing.assert_close(values[2:], found.mean()[2:])


def test_float32_agrees_with_float64():
    for a, b in SHAPES:
        single, double = gate(a, b, torch.float32), gate(a, b)
        assert float(single.probability_zero()) == pytest.approx(float(double.probability_zero()), rel=1e-5)
        assert float(single.mean()) == pytest.approx(float(double.mean()), rel=1e-5)
    x = torch.tensor([-1e-6, -1.0, -40.0], dtype=torch.float64)
    wanted = [np.log(-np.expm1(-1e-6)), np.log1p(-np.exp(-1.0)), -np.exp(-40.0)]
    torch.testing.assert_close(
        log_one_minus_exp(x), torch.tensor(wanted, dtype=torch.float64), atol=1e-15, rtol=1e-9
    )
