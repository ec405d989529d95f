"""Gradient, SmoothGrad and DeepLift on models whose answers are known, and what DeepLift refuses."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from salience.core.errors import ConfigError, UnsupportedError
from salience.explain import engine
from salience.explain.language.view import LanguageView
from salience.explain.methods.deep_lift import DeepLift
from salience.explain.methods.gradient import Gradient
from salience.explain.methods.gradient_x_input import GradientXInput
from salience.explain.methods.integrated_gradients import IntegratedGradients
from salience.explain.methods.smooth_grad import SmoothGrad
from salience.explain.rescale import multipliers
from salience.explain.rows import records
from salience.explain.target import Target, resolve, score
from salience.testing.language_toy import ToyLanguageModel, toy_tokenizer
from salience.testing.toy import LinearToy, toy_frame

torch.set_num_threads(1)


def explain(explainer, model, frame, target="predicted", **options):
    targets = resolve(model.schema, target, model.outputs(frame))
    return explainer.attribute(model, frame, targets, **options)


# -- gradient ------------------------------------------------------------------------------------------


def test_gradient_is_the_size_of_the_derivative():
    model, frame = LinearToy("multiclass"), toy_frame(3, 1, "multiclass")
    for norm, expected in (("l1", 2.0), ("l2", np.sqrt(2))):  # z_good − z_bad: +1 and −1, and 0 for fair
        for found in explain(Gradient(norm), model, frame, ("good", "bad")):
            np.testing.assert_allclose(found.values, expected)
            assert found.baseline_output is None
            assert found.forwards == 1


def test_gradient_by_finite_differences():
    model, frame = LinearToy("regression", "nonlinear").eval(), toy_frame(4, 2, "regression")
    for position, found in enumerate(explain(Gradient(), model, frame)):
        tokens = model.embed(model.collate(model.prepare(frame.iloc[position : position + 1])))
        words = tokens["text"].values.shape[1]
        for word in range(words):
            outputs = []
            for step in (1e-6, -1e-6):
                values = tokens["text"].values.detach().clone()
                values[0, word] += step
                outputs.append(
                    model.forward_tokens({**tokens, "text": tokens["text"].with_values(values)}).item()
                )
            slope = (outputs[0] - outputs[1]) / 2e-6
            assert found.values[word] == pytest.approx(abs(slope), abs=1e-7)


def test_a_unit_of_several_tokens_adds_up_their_sizes():
    view = LanguageView(ToyLanguageModel(toy_tokenizer()), toy_tokenizer())
    frame = pd.DataFrame({"context": pd.Series(["the sceptre"], dtype=object)})
    king, queen = (toy_tokenizer().encode(t)[0] for t in (" king", " queen"))
    found = Gradient().attribute(view, frame, [Target(king, "king", "log-odds", queen)])[0]
    assert found.values[1] == pytest.approx(2 * found.values[0])  # "scept" and "re"


@pytest.mark.parametrize("explainer", [Gradient, SmoothGrad])
def test_unknown_norms_are_refused(explainer):
    with pytest.raises(ConfigError, match="Unknown norm"):
        explainer(norm="l3")


# -- SmoothGrad ----------------------------------------------------------------------------------------


def test_smooth_grad_of_a_linear_model_is_the_gradient_without_error():
    model, frame = LinearToy("regression"), toy_frame(3, 3, "regression")
    for explainer, plain in (
        (SmoothGrad(samples=4), Gradient()),
        (SmoothGrad(of="gradient_x_input", samples=4), GradientXInput()),
    ):
        pairs = zip(explain(explainer, model, frame), explain(plain, model, frame), strict=True)
        for found, expected in pairs:
            np.testing.assert_allclose(found.values, expected.values, atol=1e-12)
            np.testing.assert_allclose(found.evidence["standard_errors"], 0.0, atol=1e-12)
            assert found.output == pytest.approx(expected.output)
            assert found.baseline_output == expected.baseline_output


def test_smooth_grad_without_noise_is_the_gradient_of_any_model():
    model, frame = LinearToy("regression", "nonlinear"), toy_frame(3, 3, "regression")
    pairs = zip(
        explain(SmoothGrad(samples=2, noise=0.0), model, frame),
        explain(Gradient(), model, frame),
        strict=True,
    )
    for found, expected in pairs:
        np.testing.assert_allclose(found.values, expected.values, atol=1e-12)


def test_standard_errors_are_honest():
    """Means of 16 samples scatter over seeds as their standard errors say."""
    model, frame = LinearToy("regression", "nonlinear"), toy_frame(1, 4, "regression")
    frame.loc[0, ["title", "review"]] = ["good", "soft the"]
    found = [explain(SmoothGrad(samples=16), model, frame, seed=seed)[0] for seed in range(24)]
    spread = np.std([a.values for a in found], axis=0)
    stated = np.sqrt(np.mean([a.evidence["standard_errors"] ** 2 for a in found], axis=0))
    moved = stated > 1e-9
    assert moved.any()
    np.testing.assert_allclose(spread[moved], stated[moved], rtol=0.5)


def test_one_sample_has_no_standard_error():
    found = explain(SmoothGrad(samples=1), LinearToy(), toy_frame(2, 5))[0]
    assert np.isnan(found.evidence["standard_errors"]).all()


@pytest.mark.parametrize("options", [{"samples": 0}, {"noise": -0.1}, {"noise": float("nan")}, {"of": "all"}])
def test_smooth_grad_refuses_senseless_options(options):
    with pytest.raises(ConfigError):
        SmoothGrad(**options)


# -- DeepLift ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "target"),
    [("binary", "predicted"), ("multiclass", ("good", "bad")), ("regression", "predicted")],
)
def test_exact_methods_agree_on_linear_models(task, target):
    model, frame = LinearToy(task), toy_frame(4, 6, task)
    targets = resolve(model.schema, target, model.outputs(frame))
    expected = [
        score(model.contributions(row), [asked] * len(model.units(row)))
        for row, asked in zip(records(model, frame), targets, strict=True)
    ]
    for explainer in (GradientXInput(), IntegratedGradients(), DeepLift()):
        found = explainer.attribute(model, frame, targets)
        for attribution, parts in zip(found, expected, strict=True):
            np.testing.assert_allclose(attribution.values, parts, atol=1e-9)


def test_log_odds_among_several_classes_add_up():
    model, frame = LinearToy("multiclass"), toy_frame(5, 7, "multiclass")
    for found in explain(DeepLift(), model, frame, "fair"):
        assert abs(found.completeness_gap) < 1e-9
        assert found.forwards == 2


def test_products_of_two_signals_are_refused():
    with pytest.raises(UnsupportedError, match="Mul"):
        explain(DeepLift(), LinearToy("binary", "nonlinear"), toy_frame(2, 8))


def test_hidden_steps_are_found_by_the_sum():
    class Hides(LinearToy):
        def forward_tokens(self, tokens):
            output = super().forward_tokens(tokens)
            return torch.where(output.detach() > 0, 3 * output, output)

    frame = toy_frame(6, 9, "regression")
    with pytest.raises(UnsupportedError, match="do not add up"):
        explain(DeepLift(), Hides("regression"), frame)


def slopes(network, rows, neutral):
    network.double().eval().requires_grad_(False)
    found, here, there = multipliers(lambda leaves: network(leaves[0])[:, 0], [rows], [neutral])
    return found[0], here, there


class Maximum(nn.Module):
    """A network of functions, not modules: an activation in place, a maximum over two axes, a mean."""

    def __init__(self):
        super().__init__()
        self.convolution, self.head = nn.Conv2d(2, 3, 3), nn.Linear(3, 1)

    def forward(self, x):
        hidden = torch.relu_(self.convolution(x))
        return self.head(hidden.amax(dim=(2, 3)) + hidden.mean((2, 3)) + hidden.flatten(2).max(-1).values)


NETWORKS = {
    "activations": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(72, 8), nn.GELU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8), nn.Hardtanh(),
        nn.Linear(8, 6), nn.Softplus(), nn.Linear(6, 6), nn.ReLU6(), nn.Linear(6, 2), nn.LogSoftmax(-1),
    ),
    "pools": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 1),
        nn.ReflectionPad2d(1), nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(16, 2),
    ),
    "lines": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(2, 3, 3), nn.ReLU(), nn.MaxPool1d(4, 2), nn.Flatten(), nn.Linear(48, 1)),
    "functions": Maximum,
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_multipliers_times_differences_are_the_change(name, seed):
    torch.manual_seed(seed)
    network, rows, neutral = NETWORKS[name](), *torch.randn(2, 3, 2, 6, 6, dtype=torch.float64)
    neutral[:, :, :2] = rows[:, :, :2]  # where the two agree, the derivative stands in
    found, here, there = slopes(network, rows, neutral)
    change = (found * (rows - neutral)).flatten(1).sum(1)
    np.testing.assert_allclose(change, here - there, atol=1e-10)


def test_the_slope_at_equal_inputs_is_the_derivative():
    network, rows = NETWORKS["activations"](), torch.randn(2, 2, 6, 6, dtype=torch.float64)
    found, _, _ = slopes(network, rows, rows)
    leaf = rows.clone().requires_grad_()
    expected = torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)[0]
    np.testing.assert_allclose(found, expected, atol=1e-9)


class Refused(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x):
        return self.step(x).flatten(1)


BAD = {
    "softmax": lambda x: x.softmax(-1),
    "layer normalisation": lambda x: nn.functional.layer_norm(x, x.shape[-1:]),
    "group normalisation": lambda x: nn.functional.group_norm(x, 2),
    "batch statistics": lambda x: nn.functional.batch_norm(x, None, None, training=True),
    "gate": lambda x: x * torch.sigmoid(x),
    "gated unit": lambda x: nn.functional.glu(x, -1),
    "quotient": lambda x: x / x.abs().sum(-1, keepdim=True),
    "attention": lambda x: x @ x.transpose(-1, -2),
    "maximum over rows": lambda x: x - x.amax(0, keepdim=True),
}


@pytest.mark.parametrize("name", BAD)
def test_what_the_rules_do_not_cover_is_refused(name):
    rows, neutral = torch.randn(2, 3, 2, 6, 6, dtype=torch.float64)
    with pytest.raises(UnsupportedError, match="do not cover"):
        slopes(Refused(BAD[name]), rows, neutral)


def test_a_network_that_ignores_its_input_has_no_slopes():
    constant = Refused(lambda x: torch.ones(len(x), 2, dtype=x.dtype))
    rows, neutral = torch.randn(2, 3, 2, dtype=torch.float64)
    found, here, there = slopes(constant, rows, neutral)
    assert not found.any()
    assert torch.equal(here, there)


# -- packing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("explainer", "calls"),
    [
        (Gradient(), 1),
        (SmoothGrad(samples=8), 2),
        (DeepLift(), 1),
        (DeepLift(baseline=("neutral", "zero")), 1),
        (IntegratedGradients(baseline=("neutral", "zero", "mean")), 3),
    ],
)
def test_rows_samples_steps_and_baselines_go_together(explainer, calls):
    model, frame = LinearToy("regression"), toy_frame(6, 14, "regression")
    targets = resolve(model.schema, "predicted", model.outputs(frame))
    model.calls = model.rows_seen = 0
    found = explainer.attribute(model, frame, targets, memory_mb=64)
    assert model.calls == calls
    assert sum(a.forwards for a in found) == model.rows_seen


def test_a_model_may_state_the_memory_of_a_row():
    model, frame = LinearToy("regression"), toy_frame(6, 14, "regression")
    targets = resolve(model.schema, "predicted", model.outputs(frame))
    model.row_bytes = lambda tokens: 2**20
    model.calls = 0
    Gradient().attribute(model, frame, targets, memory_mb=2)
    assert model.calls == 3


def test_signs_of_an_explanation_follow_the_options():
    model, frame = LinearToy("regression"), toy_frame(2, 14, "regression")
    for options, signed in (({}, False), ({"of": "gradient_x_input"}, True)):
        found = engine.explain(
            model, frame, method="smooth_grad", options={"samples": 2, **options}, faithfulness=False
        )
        assert all(e.signed == signed for e in found)
