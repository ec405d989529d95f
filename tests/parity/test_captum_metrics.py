"""Infidelity and sensitivity against captum, in float64, on the same perturbations."""

import numpy as np
import pytest
import torch
from torch import nn

from salience.explain.metrics.infidelity import infidelity
from salience.explain.metrics.sensitivity_max import relative_change

peer = pytest.importorskip("captum.metrics")
torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")  # captum announces its deprecations
FEATURES, ROWS, DRAWS = 7, 3, 25


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def gradient_x_input(network, x):
    with torch.enable_grad():  # captum calls without
        x = x.detach().requires_grad_()
        return (torch.autograd.grad(network(x).sum(), x)[0] * x).detach()


@pytest.mark.parametrize("normalise", [False, True])
def test_infidelity(network, normalise):
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(size=(ROWS, FEATURES)))
    sets = torch.from_numpy(rng.random((ROWS, DRAWS, FEATURES)) < 0.4)
    values = gradient_x_input(network, x)
    seen = []

    def perturb(inputs):
        """Take random sets away; values are multiplied by the input, so a perturbation is 0 or 1 for them."""
        draw = torch.arange(len(inputs)) % DRAWS if len(inputs) > ROWS else torch.full((ROWS,), len(seen))
        row = torch.arange(len(inputs)) // DRAWS if len(inputs) > ROWS else torch.arange(ROWS)
        seen.append(len(inputs))
        gone = sets[row, draw]
        return gone.double(), torch.where(gone, 0.0, inputs)

    theirs = peer.infidelity(
        network,
        perturb,
        x,
        values,
        n_perturb_samples=DRAWS,
        max_examples_per_batch=ROWS * DRAWS,
        normalize=normalise,
    )
    for i in range(ROWS):
        with torch.no_grad():
            fall = (network(x[i : i + 1]) - network(torch.where(sets[i], 0.0, x[i])))[:, 0].numpy()
        promised = (sets[i].double() @ values[i]).numpy()
        assert infidelity(promised, fall, normalise) == pytest.approx(float(theirs[i]), rel=1e-9)


def test_sensitivity(network):
    rng = np.random.default_rng(2)
    x = torch.from_numpy(rng.normal(size=(ROWS, FEATURES)))
    noise = torch.from_numpy(rng.uniform(-0.02, 0.02, (ROWS, DRAWS, FEATURES)))

    def perturb(inputs):
        first = inputs[0] if isinstance(inputs, tuple) else inputs
        return first + noise.reshape(-1, FEATURES)

    theirs = peer.sensitivity_max(
        lambda inputs: (gradient_x_input(network, inputs[0] if isinstance(inputs, tuple) else inputs),),
        x, perturb_func=perturb, n_perturb_samples=DRAWS, norm_ord=2, max_examples_per_batch=ROWS * DRAWS,
    )  # fmt: skip
    own = gradient_x_input(network, x).numpy()
    for i in range(ROWS):
        moved = gradient_x_input(network, x[i] + noise[i]).numpy()
        ours = max(relative_change(own[i], values) for values in moved)
        assert ours == pytest.approx(float(theirs[i]), rel=1e-9)
