"""Dropout: rate, scale, mean, seed, evaluation, and the same gradient as what was computed."""

import pytest
import torch

from salience.nn.dropout import Dropout


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5, 0.9])
def test_the_asked_share_is_dropped_at_every_place_of_the_random_integers(rate):
    torch.manual_seed(0)
    dropped = (Dropout(rate)(torch.ones(40_000, 4)) == 0).float().mean(0)
    spread = (rate * (1 - rate) / 40_000) ** 0.5
    assert ((dropped - rate).abs() < 5 * spread).all()


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    dropped = (Dropout(0.3)(torch.ones(40_000, 8)) == 0).double()
    together = torch.corrcoef(dropped.T) - torch.eye(8)
    assert together.abs().max() < 5 / 40_000**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_what_is_kept_is_scaled_so_that_the_mean_stays(dtype):
    torch.manual_seed(0)
    found = Dropout(0.25)(torch.full((3, 5, 7), 2.0, dtype=dtype))
    assert found.dtype == dtype
    assert set(found.unique().tolist()) == {0.0, float(torch.tensor(2 / 0.75, dtype=dtype))}


def test_gradient_passes_where_numbers_were_kept():
    torch.manual_seed(0)
    x = torch.randn(9, 11, requires_grad=True)
    y = Dropout(0.5)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, torch.where(y == 0, 0.0, 2.0))


def test_evaluation_and_rate_zero_return_the_input_itself():
    x = torch.randn(3, 4)
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(Dropout(0.0)(x), x)


def test_the_seed_decides():
    x = torch.ones(50, 3)
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(Dropout(0.5)(x))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
