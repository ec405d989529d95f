"""Piecewise linear encoding and embedding: the definition, digits at large offsets, states, traps."""

import numpy as np
import pytest
import torch

from salience.core.errors import ConfigError
from salience.nn.embeddings.piecewise_linear import PiecewiseLinearEmbedding, PiecewiseLinearEncoding
from salience.training.schedule import decay_groups

EDGES = [np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.0, 2.0])]
X = torch.tensor([[-1.0, -1.0], [0.5, 1.0], [2.0, 2.0], [6.0, 5.0]])


def random_embedding(edges=EDGES, dim=3, **options):
    torch.manual_seed(0)
    module = PiecewiseLinearEmbedding(edges, dim, **options)
    torch.nn.init.normal_(module.weight)
    return module


def test_encoding_follows_the_definition_component_by_component():
    wanted = [[-1, 0, 0, -0.5], [0.5, 0, 0, 0.5], [1, 0.5, 0, 1], [1, 1, 3, 2.5]]
    torch.testing.assert_close(PiecewiseLinearEncoding(EDGES)(X), torch.tensor(wanted, dtype=torch.float32))


def test_clipping_keeps_values_between_the_outer_edges():
    wanted = [[0, 0, 0, 0], [0.5, 0, 0, 0.5], [1, 0.5, 0, 1], [1, 1, 1, 1]]
    clipped = PiecewiseLinearEncoding(EDGES, clip=True)
    torch.testing.assert_close(clipped(X), torch.tensor(wanted, dtype=torch.float32))
    far = torch.tensor([[torch.inf, -torch.inf]])
    torch.testing.assert_close(clipped(far), torch.tensor([[1.0, 1.0, 1.0, 0.0]]))


@pytest.mark.parametrize("clip", [False, True])
def test_clip_changes_nothing_inside(clip):
    module, other = random_embedding(clip=clip), random_embedding()
    x = torch.tensor([[0.1, 0.3], [3.9, 1.9]])
    torch.testing.assert_close(module(x), other(x))
    assert torch.equal(module(torch.tensor([[9.0, 9.0]])), other(torch.tensor([[9.0, 9.0]]))) is not clip


@pytest.mark.parametrize("offset", [0.0, 1e9, -1e9])
def test_numbers_in_float64_keep_their_digits_at_any_offset(offset):
    edges = np.cumsum([0.0, 1.0, 0.5, 2.0, 0.25, 1.0])
    x = torch.linspace(-1, 6, 71, dtype=torch.float64)[:, None]
    near, far = PiecewiseLinearEncoding([edges]), PiecewiseLinearEncoding([edges + offset])
    torch.testing.assert_close(far(x + offset), near(x), rtol=1e-6, atol=2e-6)


def test_float32_at_large_offsets_loses_no_more_than_the_numbers_themselves():
    edges = 1e9 + 64.0 * np.arange(0, 50, 5)  # 64 is the float32 spacing there
    x = 1e9 + 64.0 * np.arange(50)
    found = PiecewiseLinearEncoding([edges])(torch.tensor(x, dtype=torch.float32)[:, None]).double().numpy()
    z = (x[:, None] - edges[:-1]) / np.diff(edges)
    low, high = np.zeros(9), np.ones(9)
    low[0], high[-1] = -np.inf, np.inf
    np.testing.assert_allclose(found, np.clip(z, low, high), atol=1e-6)
    width = torch.tensor(np.diff(edges), dtype=torch.float32)
    left = torch.tensor(edges[:-1], dtype=torch.float32)
    affine = torch.addcmul(-left / width, 1 / width, torch.tensor(x, dtype=torch.float32)[:, None])
    assert float((affine.double() - torch.from_numpy(z)).abs().max()) > 0.04


def test_integers_beyond_float32_are_told_apart():
    first = 2**40
    module = PiecewiseLinearEncoding([np.array([first, first + 1.0, first + 2.0])])
    found = module(first + torch.arange(3)[:, None])
    assert torch.equal(found, torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]))


def test_version_b_starts_as_a_linear_embedding_and_version_a_does_not():
    x = torch.tensor([[0.3, 1.0], [7.0, 9.0]])
    b = PiecewiseLinearEmbedding(EDGES, 3)
    torch.testing.assert_close(b(x), torch.addcmul(b.linear.bias, b.linear.weight, x.unsqueeze(-1)))
    torch.manual_seed(0)
    a = PiecewiseLinearEmbedding(EDGES, 300, "A")
    bound = 3**-0.5
    assert 0.99 * bound < a.weight.abs().max() <= bound
    assert 0.9 * bound < a.bias.abs().max() <= bound


@pytest.mark.parametrize("version", ["A", "B"])
@pytest.mark.parametrize("shape", [(), (7,), (2, 3), (0,)], ids=["row", "batch", "two", "empty"])
def test_batch_axes_are_free(version, shape):
    module = random_embedding(version=version)
    x = torch.randn(*shape, 2)
    found = module(x)
    assert found.shape == (*shape, 2, 3)
    assert PiecewiseLinearEncoding(EDGES)(x).shape == (*shape, 4)
    alone = [module(row) for row in x.reshape(-1, 2)]
    for one, together in zip(alone, found.reshape(-1, 2, 3), strict=True):
        torch.testing.assert_close(one, together)


def test_relu_is_taken_of_the_ramps_alone_in_version_b():
    module = random_embedding(activation=True)
    ramps = torch.stack(
        [
            PiecewiseLinearEncoding([e])(X[:, [i]]) @ module.weight[i, : len(e) - 1]
            for i, e in enumerate(EDGES)
        ],
        1,
    )
    linear = torch.addcmul(module.linear.bias, module.linear.weight, X.unsqueeze(-1))
    torch.testing.assert_close(module(X), ramps.relu() + linear)


def test_a_missing_number_is_missing_in_its_feature_alone():
    module = random_embedding()
    x = torch.tensor([[torch.nan, 1.0], [0.5, 1.0]])
    found = module(x)
    assert found[0, 0].isnan().all()
    assert torch.equal(found[0, 1], found[1, 1])
    assert found[1].isfinite().all()


def test_states_carry_the_edges():
    module, other = (
        random_embedding(),
        random_embedding([np.array([5.0, 6.0, 9.0, 10.0]), np.array([1.0, 3.0])]),
    )
    assert not torch.allclose(module(X), other(X))
    other.load_state_dict(module.state_dict())
    assert torch.equal(module(X), other(X))


def test_a_state_of_other_numbers_of_bins_does_not_load():
    with pytest.raises(RuntimeError, match="size mismatch for edges"):
        random_embedding().load_state_dict(random_embedding([EDGES[1], EDGES[1]]).state_dict())


def test_mixed_precision_changes_nothing():
    module = random_embedding()
    wanted = module(X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(X)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)


def test_sixteen_bit_modules_give_sixteen_bits_near_the_exact_numbers():
    module = random_embedding()
    x = torch.tensor([[0.5, 0.5], [3.5, 1.5]])
    wanted = module(x)
    found = module.bfloat16()(x.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=0.03, atol=0.03)


def test_only_the_weights_of_ramps_decay():
    for version, free in (("B", 2), ("A", 1)):
        decayed, others = decay_groups(random_embedding(version=version), 0.1)
        assert [p.shape for p in decayed["params"]] == [torch.Size([2, 3, 3])]
        assert len(others["params"]) == free


@pytest.mark.parametrize(
    "edges",
    [
        pytest.param([np.array([1.0])], id="one"),
        pytest.param([np.array([1.0, 1.0])], id="equal"),
        pytest.param([np.array([0.0, 2.0, 1.0])], id="falling"),
        pytest.param([np.array([0.0, np.nan])], id="missing"),
        pytest.param([np.array([0.0, np.inf])], id="infinite"),
        pytest.param([np.array([0.0, 1.0, 1.0 + 1e-12])], id="narrower than float32"),
    ],
)
def test_edges_that_do_not_rise_are_refused(edges):
    with pytest.raises(ConfigError, match="rise"):
        PiecewiseLinearEmbedding(edges, 2)


def test_an_unknown_version_is_refused():
    with pytest.raises(ConfigError, match="version"):
        PiecewiseLinearEmbedding(EDGES, 2, "C")
