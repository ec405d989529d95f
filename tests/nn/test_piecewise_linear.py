"""Piecewise linear embedding: parity with the authors' package, digits at large offsets, the encoder's policies."""

import numpy as np
import pandas as pd
import pytest
import torch

from salience.models.encoders.piecewise_linear import FARTHEST, PiecewiseLinearEncoder
from salience.nn.embeddings.piecewise_linear import PiecewiseLinearEmbedding, quantile_edges

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


def fitted(values, **args):
    encoder = PiecewiseLinearEncoder(["x"], **{"dim": 3, "n_bins": 4, **args})
    encoder.fit(pd.DataFrame({"x": np.asarray(values, dtype=float)}), np.zeros(len(values)), torch.Generator().manual_seed(0))
    return encoder.eval()


def embedded(encoder, values):
    frame = pd.DataFrame({"x": np.asarray(values, dtype=float)})
    return encoder.embed(encoder.collate(encoder.prepare(frame))).values[:, 0].detach()


def test_missing_has_its_own_vector_where_training_had_missing_cells():
    encoder = fitted([1, 2, np.nan, 4])
    torch.nn.init.ones_(encoder.missing)
    found = embedded(encoder, [np.nan, np.inf, -np.inf, 2])
    assert torch.equal(found[:3], torch.ones(3, 3))
    assert not torch.equal(found[3], torch.ones(3))


def test_missing_acts_like_the_median_where_training_had_none():
    encoder = fitted([1, 2, 3, 4, 50])
    torch.nn.init.ones_(encoder.missing)
    found = embedded(encoder, [np.nan, 3.0])
    torch.testing.assert_close(found[0], found[1])
    neutral = encoder.baseline({"values": torch.zeros(1, 1)}).values[0, 0]
    torch.testing.assert_close(neutral, found[1])


@pytest.mark.parametrize("constant", [3.0, 0.1, 1e9 + 0.1, 0.0])
def test_all_values_of_a_constant_column_are_alike(constant):
    encoder = fitted([constant] * 7)
    found = embedded(encoder, [constant, constant + 1, -1e12])
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_values_of_a_column_without_training_values_count_as_missing():
    encoder = fitted([np.nan] * 3)
    torch.nn.init.ones_(encoder.missing)
    assert torch.equal(embedded(encoder, [5.0, np.nan]), torch.ones(2, 3))


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1.0, 1e12, 1e307])
def test_units_of_measurement_do_not_matter(scale):
    values = np.array([1.0, 2.0, 2.5, 4.0, 8.0])
    torch.manual_seed(0)
    plain = fitted(values)
    other = fitted(values * scale)
    other.load_state_dict(plain.state_dict())
    torch.testing.assert_close(embedded(other, values * scale), embedded(plain, values), rtol=1e-5, atol=1e-5)


def test_far_values_are_cut_before_they_overflow():
    encoder = fitted([1.0, 2.0, 3.0])
    far = encoder.prepare(pd.DataFrame({"x": [1e300, -1e300, 1e6]}))
    assert [float(v[0]) for v in far[:2]] == [FARTHEST, -FARTHEST]
    assert torch.isfinite(embedded(encoder, [1e300, -1e300])).all()


def test_bins_narrower_than_float32_are_joined():
    values = [0.0, 1.0, 1.0 + 1e-9, 1.0 + 2e-9, 5.0]
    encoder = fitted(values, n_bins=4)
    gaps = np.diff(encoder.state()["columns"][0]["edges"])
    assert len(gaps) == 2 and gaps.min() > 0.1


def test_timestamps_keep_their_digits():
    seconds = 1.7e9 + np.arange(100)
    encoder = fitted(seconds, n_bins=8)
    ready = np.concatenate(encoder.prepare(pd.DataFrame({"x": seconds})))
    wanted = (np.arange(100) - 49.5) / np.arange(100).std()
    np.testing.assert_allclose(ready, wanted, atol=1e-6)
