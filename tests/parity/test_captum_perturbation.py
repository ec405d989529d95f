"""Methods that take units away against captum and shap, on games with few units and on a small network."""

from pathlib import Path

import numpy as np
import pytest
import torch

from salience.explain.methods.kernel_shapley import KernelShapley
from salience.explain.methods.leave_one_out import LeaveOneOut
from salience.explain.methods.lime import draw, fit
from salience.explain.methods.occlusion import Occlusion
from salience.explain.methods.permutation_shapley import PermutationShapley
from salience.explain.target import Target
from salience.testing.games import Game, cell_units, interactions, region_units, word_units

captum = pytest.importorskip("captum.attr")
linear = pytest.importorskip("captum._utils.models.linear_model")
VALUE = Target(0, "value", "value")
UNITS = 6


def ours(method, value, units):
    game = Game(value, units)
    return method.attribute(game, game.frame(), [VALUE])[0].values


def network(units, seed=0):
    """Return a small network, for captum and as a game."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = torch.nn.Sequential(
            torch.nn.Linear(units, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)
        ).double()

    def forward(x):
        return layers(x.reshape(len(x), -1))[:, 0]

    @torch.no_grad()
    def value(present):
        return forward(torch.from_numpy(present)).numpy()

    return forward, value


def test_leave_one_out_is_feature_ablation():
    forward, value = network(UNITS)
    theirs = captum.FeatureAblation(forward).attribute(torch.ones(1, UNITS, dtype=torch.float64), baselines=0)
    np.testing.assert_allclose(ours(LeaveOneOut(), value, cell_units(UNITS)), theirs[0].detach(), atol=1e-5)


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (3, 2), (2, 2), (4, 3)])
def test_windows_of_words_are_captums(window, stride):
    forward, value = network(11, seed=window)
    theirs = captum.Occlusion(forward).attribute(
        torch.ones(1, 11, dtype=torch.float64), sliding_window_shapes=(window,), strides=stride, baselines=0
    )
    found = ours(Occlusion(window=window, block=max(2, stride), stride=stride), value, word_units(11))
    np.testing.assert_allclose(found, theirs[0].detach(), atol=1e-5)


@pytest.mark.parametrize(("block", "stride"), [(2, 1), (3, 2), (2, 2)])
def test_blocks_of_regions_are_captums(block, stride):
    forward, value = network(20, seed=block)
    theirs = captum.Occlusion(forward).attribute(
        torch.ones(1, 4, 5, dtype=torch.float64),
        sliding_window_shapes=(block, block),
        strides=stride,
        baselines=0,
    )
    found = ours(Occlusion(window=3, block=block, stride=stride), value, region_units(4, 5))
    np.testing.assert_allclose(found.reshape(4, 5), theirs[0].detach(), atol=1e-5)


@pytest.mark.parametrize("method", [PermutationShapley(), KernelShapley()])
def test_shapley_values_are_captums(method):
    forward, value = network(5)
    x = torch.ones(1, 5, dtype=torch.float64)
    theirs = captum.ShapleyValues(forward).attribute(x, baselines=0, perturbations_per_eval=64)
    np.testing.assert_allclose(ours(method, value, cell_units(5)), theirs[0].detach(), atol=1e-5)


def test_sampled_shapley_values_agree_with_captums_samples():
    forward, value = network(9)
    x = torch.ones(1, 9, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = (
            captum.ShapleyValueSampling(forward)
            .attribute(x, baselines=0, n_samples=300, perturbations_per_eval=64)[0]
            .detach()
        )
    found = ours(PermutationShapley(exact=0, tolerance=0, max_forwards=4000), value, cell_units(9))
    np.testing.assert_allclose(found, theirs, atol=0.1 * float(theirs.abs().max()))


def test_kernel_shap_agrees_with_captums_samples():
    forward, value = network(9)
    x = torch.ones(1, 9, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002  captum draws from the legacy stream
        theirs = captum.KernelShap(forward).attribute(
            x, baselines=0, n_samples=700, perturbations_per_eval=100
        )
    found = ours(KernelShapley(exact=0), value, cell_units(9))
    np.testing.assert_allclose(found, theirs[0].detach(), atol=0.2 * float(theirs.abs().max()))


def test_lime_is_captums_regression_on_the_same_samples():
    forward, value = network(UNITS)
    removed = draw(np.random.default_rng(0), 200, UNITS)
    samples = iter(torch.from_numpy(~removed).double()[:, None])

    def similarity(original, perturbed, interpretable, **_):
        cosine = interpretable.mean() ** 0.5
        return torch.exp(-((1 - cosine) ** 2) / 0.25**2).sqrt()

    lime = captum.LimeBase(
        forward,
        linear.SkLearnLinearModel("linear_model.Ridge", alpha=1.0),
        similarity,
        perturb_func=lambda x, **_: next(samples),
        perturb_interpretable_space=True,
        from_interp_rep_transform=lambda z, x, **_: z,
        to_interp_rep_transform=None,
    )
    theirs = lime.attribute(torch.ones(1, UNITS, dtype=torch.float64), n_samples=200)
    scores = value((~removed).astype(float))
    np.testing.assert_allclose(fit(~removed, scores, 0.25, 1.0)[0], theirs.flatten().detach(), atol=1e-5)


def test_values_are_those_of_shap():
    with np.load(Path(__file__).with_name("shap_fixture.npz")) as fixture:
        exact, sampled = fixture["exact"], fixture["sampled"]
        few = interactions(len(exact), int(fixture["exact_seed"]))
        many = interactions(len(sampled), int(fixture["sampled_seed"]))
    for method in (PermutationShapley(), KernelShapley()):
        np.testing.assert_allclose(ours(method, few, cell_units(len(exact))), exact, atol=1e-8)
    method = PermutationShapley(tolerance=0, max_forwards=8000)
    np.testing.assert_allclose(ours(method, many, cell_units(len(sampled))), sampled, atol=0.1)
