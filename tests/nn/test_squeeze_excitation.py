"""Squeeze-and-excitation against its definition."""

import pytest
import torch

from salience.nn.attention.channel.squeeze_excitation import SqueezeExcitation


@pytest.mark.parametrize(("channels", "size"), [(1, (1, 1)), (7, (3, 5)), (16, (4, 1))])
def test_matches_the_definition_at_any_size(channels, size):
    module = SqueezeExcitation(channels, reduction=4).double()
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    first, last = module.gate[0], module.gate[2]
    wanted = torch.empty_like(x)
    for b in range(2):
        means = torch.stack([x[b, c].mean() for c in range(channels)])
        hidden = torch.clamp(first.weight @ means + first.bias, min=0)
        gate = 1 / (1 + torch.exp(-(last.weight @ hidden + last.bias)))
        for c in range(channels):
            wanted[b, c] = x[b, c] * gate[c]
    torch.testing.assert_close(module(x), wanted, rtol=1e-12, atol=1e-12)


def test_weights_are_the_ones_used_and_lie_between_zero_and_one():
    module = SqueezeExcitation(6)
    x = torch.randn(3, 6, 4, 4)
    weights = module.weights(x)
    assert bool(((weights > 0) & (weights < 1)).all())
    torch.testing.assert_close(module(x) / x, weights[..., None, None].expand_as(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "reduction"), [(64, 8), (6, 8), (9, 4)])
def test_parameter_count(channels, reduction):
    hidden = max(1, channels // reduction)
    count = sum(p.numel() for p in SqueezeExcitation(channels, reduction).parameters())
    assert count == 2 * channels * hidden + channels + hidden


def test_gradients():
    torch.manual_seed(0)
    module = SqueezeExcitation(5, reduction=2).double()
    x = torch.randn(2, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))
