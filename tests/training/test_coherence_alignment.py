"""Alignment of examples with the mean gradient, beside written-out gradients."""

import numpy as np
import pytest
import torch
from coherence_models import case, classified
from torch import nn
from torch.autograd.function import once_differentiable

from salience.core.errors import ConfigError
from salience.training.coherence import alignment, coherence, stiffness

ROWS = 7
FORWARD = ["mlp", "held", "numbers", "cnn, batch norm", "transformer", "lstm", "tied"]
OTHERWISE = {"own backward": "reverse mode twice", "bag": "per example", "weight norm": "reverse mode twice"}


def written_out(net, batch):
    names = [p for p in net.parameters() if p.requires_grad]
    found = []
    for one in classified(net, batch):
        parts = torch.autograd.grad(one, names, retain_graph=True, allow_unused=True)
        pairs = zip(parts, names, strict=True)
        found.append(torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs]))
    return torch.stack(found).numpy()


@pytest.mark.parametrize("name", [*FORWARD, *OTHERWISE])
def test_products_equal_those_of_written_out_gradients(name):
    net, batch = case(name, rows=ROWS)
    found = alignment(net, classified, [batch])
    assert found.method == OTHERWISE.get(name, "forward mode") and bool(found.reason) == (name in OTHERWISE)
    g = written_out(net, batch)
    np.testing.assert_allclose(found.products, g @ g.mean(0), rtol=1e-10, atol=1e-14)
    others = [g[i] @ np.delete(g, i, axis=0).mean(0) for i in range(ROWS)]
    np.testing.assert_allclose(found.others, others, rtol=1e-9, atol=1e-12)
    unit = lambda v: v / np.linalg.norm(v)  # noqa: E731
    kept = np.flatnonzero(found.squared_norms > 1e-20)
    np.testing.assert_allclose(found.cosine[kept], [unit(g[i]) @ unit(g.mean(0)) for i in kept], rtol=1e-9)
    left = [unit(g[i]) @ unit(np.delete(g, i, axis=0).mean(0)) for i in kept]
    np.testing.assert_allclose(found.cosine_with_others[kept], left, rtol=1e-7)
    assert found.gap < 1e-12


class Once(torch.autograd.Function):
    """A backward pass that cannot be differentiated, which torch overlooks on the way to the products."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return (x * weight).sin()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        slope = grad * (x * weight).cos()
        return slope * weight, (slope * x).sum(0)


def test_a_missing_second_derivative_is_noticed():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.weight, self.out = nn.Linear(5, 4), nn.Parameter(torch.ones(4)), nn.Linear(4, 3)

        def forward(self, x):
            return self.out(Once.apply(self.first(x), self.weight))

    _, batch = case("mlp", rows=ROWS)
    net = Net().double()
    found = alignment(net, classified, [batch])
    g = written_out(net, batch)
    np.testing.assert_allclose(found.products, g @ g.mean(0), rtol=1e-10, atol=1e-14)
    assert found.method == "per example" and found.reason and found.gap < 1e-12


def test_batches_make_no_difference():
    net, (x, y) = case("mlp", rows=9)
    whole = alignment(net, classified, [(x, y)])
    parts = alignment(net, classified, iter([(x[:4], y[:4]), (x[4:], y[4:])]))
    np.testing.assert_allclose(parts.products, whole.products, rtol=1e-12)
    with pytest.raises(ConfigError, match="no batch"):
        alignment(net, classified, [])


def test_a_flipped_label_is_against_the_others():
    torch.manual_seed(0)
    x = torch.randn(60, 4, dtype=torch.float64)
    y = (x[:, 0] > 0).long()
    y[:3] = 1 - y[:3]
    net = nn.Linear(4, 2).double()
    with torch.no_grad():
        net.weight.zero_()
        net.bias.zero_()
    found = alignment(net, classified, [(x, y)])
    assert set(np.argsort(found.cosine_with_others)[:3]) == {0, 1, 2}
    assert (found.cosine_with_others[:3] < 0).all()


def test_stiffness_is_the_mean_cosine_of_pairs():
    net, (x, y) = case("mlp", rows=ROWS)
    g = written_out(net, (x, y))
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    norms = coherence(net, classified, [(x, y)]).squared_norms
    found = stiffness(net, classified, [(x[:3], y[:3]), (x[3:], y[3:])], norms)
    assert found == pytest.approx(((g @ g.T).sum() - ROWS) / (ROWS * (ROWS - 1)))
