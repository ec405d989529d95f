"""Piecewise linear embedding: parity with the authors' package, digits at large offsets."""

import numpy as np
import pytest
import torch

from salience.data.bins import quantile_edges
from salience.nn.embeddings.piecewise_linear import PiecewiseLinearEmbedding

pytestmark = pytest.mark.filterwarnings("ignore:The .-th feature has just two bin edges")


def columns(rows=400):
    """Return four columns: normal, many ties, few values, two values; their numbers of bins differ."""
    rng = np.random.default_rng(0)
    ties = np.where(rng.random(rows) < 0.6, 0.0, rng.gamma(2, 3, rows))
    return np.stack(
        [rng.normal(5, 2, rows), ties, rng.integers(0, 5, rows), rng.integers(0, 2, rows)], axis=1
    ).astype(np.float64)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def pair(edges, dim):
    rtdl = pytest.importorskip("rtdl_num_embeddings")
    ours = PiecewiseLinearEmbedding(edges, dim)
    bins = [torch.tensor(e) for e in edges]
    theirs = rtdl.PiecewiseLinearEmbeddings(bins, dim, activation=False, version="B")
    torch.nn.init.normal_(theirs.linear.weight)
    with torch.no_grad():
        ours.linear_weight.copy_(theirs.linear0.weight)
        ours.linear_bias.copy_(theirs.linear0.bias)
        ours.weight.copy_(theirs.linear.weight)
    return ours, theirs


def probes(edges):
    """Return values on, between and far outside the edges of each feature."""
    rng = np.random.default_rng(1)
    spread = np.stack(
        [rng.uniform(e[0] - 3 * (e[-1] - e[0]), e[-1] + 3 * (e[-1] - e[0]), 300) for e in edges], 1
    )
    on = np.stack([rng.choice(e, 60) for e in edges], 1)
    return np.concatenate([spread, on])


@pytest.mark.parametrize("n_bins", [2, 7, 48])
def test_quantile_edges_equal_the_package_bit_for_bit(n_bins):
    rtdl = pytest.importorskip("rtdl_num_embeddings")
    values = columns()
    theirs = rtdl.compute_bins(torch.from_numpy(values), n_bins)
    for column, edges in zip(values.T, theirs, strict=True):
        np.testing.assert_array_equal(quantile_edges(column, n_bins), edges.numpy())


@pytest.mark.parametrize("n_bins", [2, 7, 48])
def test_outputs_and_gradients_equal_the_package_in_float64(float64, n_bins):
    edges = [quantile_edges(c, n_bins) for c in columns().T]
    assert len({len(e) for e in edges}) > 1
    ours, theirs = pair(edges, 6)
    x = torch.from_numpy(probes(edges))
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, wanted = ours(a), theirs(b)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    for mine, other in (
        (ours.weight, theirs.linear.weight),
        (ours.linear_weight, theirs.linear0.weight),
        (ours.linear_bias, theirs.linear0.bias),
    ):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-12, atol=1e-10)
    inside = torch.from_numpy(~np.isin(x.numpy(), np.concatenate(edges)))  # on an edge the slope is a choice
    torch.testing.assert_close(a.grad[inside], b.grad[inside], rtol=1e-11, atol=1e-11)


def test_outputs_equal_the_package_in_float32():
    values = columns()
    edges = [quantile_edges((c - c.mean()) / c.std(), 16).astype(np.float32) for c in values.T]
    ours, theirs = pair(edges, 4)
    with torch.no_grad():
        ours.weight.mul_(0.1), theirs.linear.weight.mul_(0.1)
    x = torch.from_numpy(np.clip(probes(edges), -2, 2).astype(np.float32))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=3e-6)


def test_ramps_follow_the_definition_component_by_component():
    edges = np.array([0.0, 1.0, 3.0, 4.0])
    module = PiecewiseLinearEmbedding([edges, np.array([0.0, 2.0])], 2)
    x = torch.tensor([[-1.0, -1.0], [0.5, 1.0], [2.0, 2.0], [6.0, 5.0]])
    wanted_first = [[-1, 0, 0], [0.5, 0, 0], [1, 0.5, 0], [1, 1, 3]]
    wanted_single = [-0.5, 0.5, 1.0, 2.5]
    torch.testing.assert_close(module.ramps(x)[:, 0], torch.tensor(wanted_first, dtype=torch.float32))
    torch.testing.assert_close(module.ramps(x)[:, 1, -1], torch.tensor(wanted_single))
    assert not module.ramps(x)[:, 1, :-1].any()


def test_large_offsets_keep_their_digits_where_a_weight_and_bias_lose_them():
    edges = 1e9 + 64.0 * np.arange(0, 50, 5)  # 64 is the float32 spacing there
    x = 1e9 + 64.0 * np.arange(50)
    module = PiecewiseLinearEmbedding([edges], 1)
    found = module.ramps(torch.tensor(x, dtype=torch.float32)[:, None])[:, 0].double().numpy()
    z = (x[:, None] - edges[:-1]) / np.diff(edges)
    low, high = np.zeros(9), np.ones(9)
    low[0], high[-1] = -np.inf, np.inf
    np.testing.assert_allclose(found, np.clip(z, low, high), atol=1e-6)
    width = torch.tensor(np.diff(edges), dtype=torch.float32)
    left = torch.tensor(edges[:-1], dtype=torch.float32)
    affine = torch.addcmul(-left / width, 1 / width, torch.tensor(x, dtype=torch.float32)[:, None])
    assert float((affine.double() - torch.from_numpy(z)).abs().max()) > 0.04


def test_starts_as_a_linear_embedding():
    module = PiecewiseLinearEmbedding([np.array([0.0, 1.0, 2.0])], 3)
    x = torch.tensor([[0.3], [7.0]])
    torch.testing.assert_close(module(x)[:, 0], x * module.linear_weight + module.linear_bias)
