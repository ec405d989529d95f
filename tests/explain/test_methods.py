"""What is special to one method; what all share is in tests/conformance/test_explainers.py."""

import random

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from salience.core.errors import UnsupportedError
from salience.explain.methods.attention import Attention, token_weights
from salience.explain.methods.gradient_x_input import GradientXInput
from salience.explain.methods.integrated_gradients import IntegratedGradients
from salience.explain.methods.leave_one_out import LeaveOneOut
from salience.explain.rows import COPIES, evaluate, records, row_bytes
from salience.explain.state import frozen
from salience.explain.target import resolve
from salience.testing.toy import CATEGORIES, NUMBERS, LinearToy, ToyFailureError, toy_frame

torch.set_num_threads(1)


def explain(explainer, model, frame, target="predicted", memory_mb=64):
    targets = resolve(model.schema, target, model.outputs(frame))
    return explainer.attribute(model, frame, targets, memory_mb=memory_mb)


def closed_form(model, row):
    """Integrate the derivative of the saturating toy along the path, by quadrature."""
    parts = model.contributions(row)[:, 0]
    words, cells = len(parts) - len(NUMBERS) - len(CATEGORIES), len(CATEGORIES)
    text, category = parts[:words].sum(), parts[-cells:].sum()
    by_text = quad(lambda a: 6 / np.cosh(3 * a * text) ** 2 * (1 + a * category), 0, 1)[0]
    by_category = quad(lambda a: 2 * np.tanh(3 * a * text), 0, 1)[0]
    factor = np.ones(len(parts))
    factor[:words] += by_text
    factor[-cells:] += by_category
    return parts * factor


def test_integrated_gradients_equal_the_integral():
    model, frame = LinearToy("regression", "nonlinear"), toy_frame(8, 11, "regression")
    found = explain(IntegratedGradients(steps=64), model, frame)
    for row, attribution in zip(records(model, frame), found, strict=True):
        np.testing.assert_allclose(attribution.values, closed_form(model, row), atol=1e-5)


def test_only_the_paths_of_rows_whose_gap_is_large_are_cut():
    model = LinearToy("regression", "nonlinear")
    frame = toy_frame(12, 12, "regression")
    frame.loc[0, ["title", "review"]] = ""  # nothing bends here
    frame.loc[1, ["title", "review"]] = ["great love great", "great love great love great"]
    found = explain(IntegratedGradients(steps=2), model, frame)
    assert found[0].forwards == 2 + 2
    assert found[1].forwards > 2 + 2 + 4
    for row, attribution in zip(records(model, frame), found, strict=True):
        change = attribution.output - attribution.baseline_output
        assert attribution.completeness_gap == pytest.approx(attribution.values.sum() - change)
        assert (
            abs(attribution.completeness_gap)
            <= 0.01 * max(abs(change), 0.1 * np.abs(attribution.values).sum()) + 1e-5
        )
        assert attribution.output == pytest.approx(model._output(row)[0])


class Jump(LinearToy):
    """Jumps from 0 to 10 within a thousandth of the path."""

    def forward_tokens(self, tokens):
        return 10 * torch.sigmoid(4000 * (super().forward_tokens(tokens) - 1.2345))


def test_a_jump_on_the_path_is_found():
    model, frame = Jump("regression"), toy_frame(1, 12, "regression")
    frame.loc[0, ["title", "review"]] = ["great", "great"]
    found = explain(IntegratedGradients(), model, frame)[0]
    assert found.output - found.baseline_output == pytest.approx(10.0)
    assert abs(found.completeness_gap) < 0.1
    assert found.values[0] > 0
    assert found.forwards <= 600
    uncut = explain(IntegratedGradients(max_steps=16), model, frame)[0]
    assert abs(uncut.completeness_gap) > 1.0


def test_refinement_stops_at_the_limit():
    model, frame = LinearToy("regression", "nonlinear"), toy_frame(1, 12, "regression")
    frame.loc[0, ["title", "review"]] = ["great", "great"]
    found = explain(IntegratedGradients(steps=1, max_steps=4), model, frame)
    assert found[0].forwards == 2 + 1 + (1 + 2)  # two ends, one point, then the middle and a point a half
    assert abs(found[0].completeness_gap) > 0.1


@pytest.mark.parametrize("explainer", [IntegratedGradients(), GradientXInput(), LeaveOneOut(), Attention()])
def test_a_small_memory_budget_changes_calls_not_numbers(explainer):
    model, frame = LinearToy("binary", "nonlinear"), toy_frame(6, 13)
    large = explain(explainer, model, frame, memory_mb=256)
    calls, model.calls = model.calls, 0
    small = explain(explainer, model, frame, memory_mb=0.02)
    for a, b in zip(large, small, strict=True):
        np.testing.assert_allclose(a.values, b.values, atol=1e-12)
    assert isinstance(explainer, Attention) or model.calls > calls


def test_packing_uses_few_calls():
    model, frame = LinearToy(), toy_frame(6, 14)
    targets = resolve(model.schema, "predicted", model.outputs(frame))
    for explainer, calls in ((LeaveOneOut(), 1), (IntegratedGradients(), 3), (GradientXInput(), 3)):
        model.calls = 0
        explainer.attribute(model, frame, targets, memory_mb=64)
        assert model.calls == calls


def test_leave_one_out_is_the_drop():
    model, frame = LinearToy("binary", "nonlinear"), toy_frame(1, 15)
    row = records(model, frame)[0]
    found = explain(LeaveOneOut(), model, frame, "yes")[0]
    log_odds = [
        float(np.diff(model._output(model.remove(row, gone)))[0]) for gone in ((), model.units(row)[:1])
    ]
    assert found.values[0] == pytest.approx(log_odds[0] - log_odds[1])
    assert found.output == pytest.approx(log_odds[0])


def test_a_model_that_ignores_one_column_gives_it_nothing():
    model, frame = LinearToy(), toy_frame(2, 16)
    with torch.no_grad():
        model.category.zero_()
    for attribution in explain(IntegratedGradients(), model, frame):
        assert attribution.values[-1] == 0


def test_attention_sums_to_one_and_keeps_its_maps():
    model, frame = LinearToy(), toy_frame(4, 17)
    for row, attribution in zip(records(model, frame), explain(Attention(), model, frame), strict=True):
        words = len(model.units(row)) - len(NUMBERS) - len(CATEGORIES)
        assert np.nansum(attribution.values) == pytest.approx(1.0)
        assert np.isnan(attribution.values[words:]).all()
        assert attribution.evidence["text/source2token"].shape == (words,)


def test_attention_without_pooling_averages_the_pairwise_maps():
    pairs = torch.rand(2, 5, 5, 3)
    pairs = pairs / pairs.sum(2, keepdim=True)
    mask = torch.ones(2, 5, dtype=torch.bool)
    weights = token_weights(
        {"token2token_forward": pairs, "token2token_backward": pairs, "gate": pairs[:, 0]}, mask
    )
    np.testing.assert_allclose(weights, pairs.mean(3).mean(1), atol=1e-6)
    assert token_weights({"gate": pairs[:, 0]}, mask) is None


def test_padded_queries_do_not_dilute_the_pairwise_maps():
    pairs = torch.rand(1, 4, 4, 2)
    mask = torch.tensor([[False, True, True, True]])
    found = token_weights({"token2token": pairs}, mask)
    np.testing.assert_allclose(found, pairs[:, 1:].mean(3).mean(1), atol=1e-6)


def test_attention_refuses_models_without_maps():
    model, frame = LinearToy(), toy_frame(2, 18)
    model.attention = lambda batch: {}
    with pytest.raises(UnsupportedError, match="no attention maps"):
        explain(Attention(), model, frame)


def test_frozen_restores_after_an_error():
    model = LinearToy(fail_after=0).train()
    numbers, python, legacy = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    with pytest.raises(ToyFailureError), frozen(model):
        assert not model.training
        assert not model.text.requires_grad
        torch.rand(3), random.random(), np.random.rand(3)  # noqa: NPY002
        model.outputs(toy_frame(1))
    assert model.training
    assert model.text.requires_grad
    assert torch.equal(torch.get_rng_state(), numbers)
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002


def test_frozen_takes_objects_that_are_no_modules():
    with frozen(object()):
        assert not torch.zeros(1).requires_grad


def test_rows_are_evaluated_in_calls_within_the_budget():
    model, frame = LinearToy(), toy_frame(10, 19)
    rows = records(model, frame)
    expected, model.calls = model.outputs(frame), 0
    budget = 3.5 * (max(map(row_bytes, rows)) + COPIES * 8 * 2) / 2**20
    found = evaluate(model, iter(rows), budget, lambda outputs, first: outputs)
    np.testing.assert_allclose(found, expected)
    assert 3 <= model.calls <= 4
