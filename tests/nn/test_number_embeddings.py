"""Embeddings of numbers against formulas written in numpy float64; their traps; the baselines of ablations."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from salience.core.errors import ConfigError
from salience.nn.embeddings.autodis import AutoDis
from salience.nn.embeddings.dice import DICE
from salience.nn.embeddings.fourier import FourierFeatures
from salience.nn.embeddings.linear import LinearEmbedding
from salience.nn.embeddings.nlinear import NLinear
from salience.nn.embeddings.one_blob import OneBlob, Thermometer
from salience.nn.embeddings.periodic import Periodic, PeriodicEmbedding
from salience.training.schedule import decay_groups

FEATURES = 3
EDGES = [np.array([0.0, 1.0, 3.0, 4.0]), np.array([5.0, 7.0]), np.array([-1.0, 0.0, 2.0])]
MAKERS = {
    "linear": lambda: LinearEmbedding(FEATURES, 4),
    "linear_relu": lambda: LinearEmbedding(FEATURES, 4, activation=True),
    "periodic": lambda: Periodic(FEATURES, 2),
    "PL": lambda: PeriodicEmbedding(FEATURES, 4, 5, activation=False),
    "PLR": lambda: PeriodicEmbedding(FEATURES, 16, 5, sigma=0.3),
    "PLR_lite": lambda: PeriodicEmbedding(FEATURES, 4, 5, lite=True),
    "PLR_fixed": lambda: PeriodicEmbedding(FEATURES, 4, 5, frequencies="log-linear"),
    "autodis": lambda: AutoDis(FEATURES, 4, 6),
    "dice": lambda: DICE(np.zeros(FEATURES), np.ones(FEATURES), 4),
    "one_blob": lambda: OneBlob(EDGES),
    "thermometer": lambda: Thermometer(EDGES),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def array(tensor):
    return tensor.detach().double().numpy()


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("shape", [(), (5,), (2, 5), (0,)], ids=["row", "batch", "two", "empty"])
def test_batch_axes_are_free_and_rows_alone(name, shape):
    module = MAKERS[name]()
    x = torch.randn(*shape, FEATURES)
    found = module(x)
    assert found.shape[:-1] == (*shape, FEATURES)
    for row, embedded in zip(x.reshape(-1, FEATURES), found.reshape(-1, *found.shape[-2:]), strict=True):
        torch.testing.assert_close(module(row), embedded, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_features_have_vectors_of_their_own(name):
    """A change of one number changes its own feature's vector and no other."""
    module = MAKERS[name]()
    x = torch.tensor([0.2, 5.5, 0.7])
    for i in range(FEATURES):
        moved = x.repeat(9, 1)
        moved[:, i] = torch.linspace(-9, 9, 9)
        same = (module(moved) == module(x.repeat(9, 1))).all(dim=-1).all(dim=0)
        assert [j for j in range(FEATURES) if not same[j]] == (
            [] if name == "thermometer" and i == 1 else [i]
        )


@pytest.mark.parametrize("name", [n for n in MAKERS if n != "thermometer"])
def test_gradients_are_right(float64, name):
    module = MAKERS[name]()
    x = torch.tensor([[0.31, 0.62, 0.83], [0.12, 0.27, 0.55]], requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, *module.parameters()))


def test_nlinear_is_a_linear_layer_a_feature(float64):
    module = NLinear(FEATURES, 4, 2)
    x = torch.randn(5, 2, FEATURES, 4)
    wanted = np.einsum("abfi,fio->abfo", array(x), array(module.weight)) + array(module.bias)
    np.testing.assert_allclose(array(module(x)), wanted, rtol=0, atol=1e-13)
    plain = NLinear(FEATURES, 4, 2, bias=False)
    assert plain.bias is None
    np.testing.assert_allclose(
        array(plain(x)), np.einsum("abfi,fio->abfo", array(x), array(plain.weight)), atol=1e-13
    )


def test_nlinear_starts_as_linear_layers_do():
    module = NLinear(50, 16, 40)
    for parameter in module.parameters():
        assert 0.24 < parameter.abs().max() <= 0.25
        assert abs(parameter.mean()) < 0.02


def test_periodic_is_cosines_then_sines_of_whole_turns(float64):
    module = PeriodicEmbedding(FEATURES, 4, 5, sigma=0.7)
    x = torch.randn(6, FEATURES)
    turns = array(module.periodic.frequency) * array(x)[:, :, None]
    waves = np.concatenate([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)], axis=2)
    np.testing.assert_allclose(array(module.periodic(x)), waves, atol=1e-12)
    mapped = np.einsum("bfi,fio->bfo", waves, array(module.linear.weight)) + array(module.linear.bias)
    np.testing.assert_allclose(array(module(x)), np.maximum(mapped, 0), atol=1e-12)


def test_frequencies_are_normal_and_cut_at_three_sigma():
    frequency = array(Periodic(200, 100, sigma=0.5).frequency)
    assert (
        abs(frequency.std() - 0.5 * norm.expect(lambda z: z**2, lb=-3, ub=3, conditional=True) ** 0.5) < 0.01
    )
    assert 1.3 < abs(frequency).max() <= 1.5


def test_log_linear_frequencies_are_fixed():
    module = Periodic(FEATURES, 4, sigma=16.0, frequencies="log-linear")
    np.testing.assert_allclose(array(module.frequency), [[1.0, 2.0, 4.0, 8.0]] * FEATURES, rtol=1e-6)
    assert not list(module.parameters())
    assert "frequency" in module.state_dict()


def test_phases_are_exact_under_mixed_precision():
    module = Periodic(1, 8, sigma=5.0)
    x = torch.linspace(-9, 9, 50)[:, None]
    wanted = module(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(x)
        embedded = PeriodicEmbedding(1, 4, 8)(x)
    assert torch.equal(found, wanted)
    assert embedded.isfinite().all()
    rounded = (2 * math.pi * (module.frequency.bfloat16() * x.bfloat16()).unsqueeze(1)).cos()
    assert (rounded.float() - wanted[..., None, :8]).abs().max() > 0.3  # what is avoided


def test_a_sixteen_bit_module_runs():
    found = PeriodicEmbedding(FEATURES, 4, 5).bfloat16()(torch.randn(6, FEATURES, dtype=torch.bfloat16))
    assert found.dtype == torch.bfloat16


def test_first_layers_frequencies_and_biases_do_not_decay():
    model = torch.nn.Sequential(
        LinearEmbedding(2, 4), PeriodicEmbedding(2, 4, 5), AutoDis(2, 4, 6), NLinear(2, 4, 3)
    )
    decayed, others = decay_groups(model, 0.1)
    assert sorted(tuple(p.shape) for p in decayed["params"]) == [(2, 4, 3), (2, 6, 4), (2, 6, 6), (2, 10, 4)]
    assert sorted(tuple(p.shape) for p in others["params"]) == [
        (2, 3),
        (2, 4),
        (2, 4),
        (2, 4),
        (2, 5),
        (2, 6),
    ]
    assert others["weight_decay"] == 0.0


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Periodic(2, 3, sigma=0.0), id="sigma"),
        pytest.param(lambda: Periodic(2, 3, frequencies="linear"), id="frequencies"),
        pytest.param(lambda: PeriodicEmbedding(2, activation=False, lite=True), id="lite"),
    ],
)
def test_impossible_options_are_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_fourier_features_project_all_numbers_together(float64):
    module = FourierFeatures(FEATURES, 5, sigma=0.8)
    x = torch.randn(2, 6, FEATURES)
    phase = 2 * np.pi * array(x) @ array(module.projection).T
    np.testing.assert_allclose(
        array(module(x)), np.concatenate([np.cos(phase), np.sin(phase)], -1), atol=1e-12
    )
    assert not list(module.parameters())
    assert abs(array(FourierFeatures(100, 200, sigma=0.3).projection).std() - 0.3) < 0.01


def test_autodis_mixes_its_vectors(float64):
    module = AutoDis(FEATURES, 4, 6, temperature=0.5)
    x = array(torch.randn(7, FEATURES))
    first = x[:, :, None] * array(module.first.weight)
    first = np.where(first > 0, first, 0.01 * first)
    logits = np.einsum("bfi,fio->bfo", first, array(module.second.weight)) / 0.5
    share = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    wanted = np.einsum("bfi,fio->bfo", share, array(module.meta.weight))
    np.testing.assert_allclose(array(module(torch.tensor(x))), wanted, atol=1e-12)


def test_the_vectors_of_autodis_start_between_a_hundredth_and_one():
    weight = array(AutoDis(20, 30, 16).meta.weight)
    assert 0.01 <= weight.min() < 0.02
    assert 0.99 < weight.max() <= 1.0


def test_dice_is_a_rotated_polar_code(float64):
    low, high = np.array([0.0, -2.0]), np.array([1.0, 6.0])
    module = DICE(low, high, 5)
    x = np.array([[0.0, -2.0], [0.3, 1.0], [1.0, 6.0]])
    angle = np.pi * (x - low) / (high - low)
    powers = np.sin(angle)[..., None] ** np.arange(5)
    code = np.concatenate([np.cos(angle)[..., None] * powers[..., :4], powers[..., 4:]], -1)
    wanted = np.einsum("bfd,fde->bfe", code, array(module.rotation))
    np.testing.assert_allclose(array(module(torch.tensor(x))), wanted, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(wanted, axis=-1), 1.0, atol=1e-12)


def test_dice_keeps_the_angle_between_two_numbers(float64):
    module = DICE(np.zeros(1), np.ones(1), 2)
    near, far = array(module(torch.tensor([[0.2], [0.5]])))[:, 0]
    assert np.dot(near, far) == pytest.approx(np.cos(0.3 * np.pi))


def test_dice_gives_all_numbers_beyond_one_side_one_fixed_code():
    module = DICE(np.zeros(1), np.ones(1), 4)
    below, lower, above, higher = module(torch.tensor([[-1.0], [-9.0], [2.0], [8.0]]))
    assert torch.equal(below, lower) and torch.equal(above, higher)
    assert not torch.allclose(below, above)
    assert module(torch.tensor([[torch.nan]])).isnan().any()


def test_one_blob_is_the_mass_of_a_kernel_in_each_bin(float64):
    found = array(OneBlob(EDGES, gamma=0.5)(torch.tensor([[0.4, 6.0, 9.0], [-3.0, 8.0, 0.1]])))
    for row, x in enumerate([[0.4, 6.0, 9.0], [-3.0, 8.0, 0.1]]):
        for i, edge in enumerate(EDGES):
            count = len(edge) - 1
            wanted = np.diff(norm.cdf(edge, loc=x[i], scale=count**-0.5))
            np.testing.assert_allclose(found[row, i, :count], wanted, atol=1e-12)
            assert not found[row, i, count:].any()


def test_thermometers_count_the_bins_that_were_reached():
    x = torch.tensor([[-1.0, 4.0, -1.0], [1.0, 6.0, 0.5], [9.0, 9.0, 9.0]])
    assert Thermometer(EDGES)(x).sum(-1).tolist() == [[1, 1, 1], [2, 1, 2], [3, 1, 2]]
    assert Thermometer(EDGES)(x)[1].tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 0]]
