"""The pieces of the benchmark of explainers at a tiny size; the measurement itself runs with `salience bench explainers`."""

import numpy as np
import pytest
import torch

from salience.benchmarks import explainers
from salience.core import registry

TINY = {"dim": 8, "heads": 2, "layers": 1, "tokens": 16}
METHODS = ["leave one out", "Shapley sampling", "kernel SHAP", "integrated gradients", "gradient × input"]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def subject():
    return explainers.Subject(TINY, 2, 0)


def test_card_names_a_function_that_runs():
    assert registry.load("benchmark", "explainers") is explainers.run


def test_both_views_see_the_same_numbers(subject):
    outputs = subject.model.outputs(subject.frame)
    with torch.no_grad():
        np.testing.assert_allclose(outputs[:, 1] - outputs[:, 0], subject.score(subject.ids), atol=1e-5)
    one_less = subject.ids.clone()
    one_less[:, 3] = explainers.NEUTRAL
    with torch.no_grad():
        drop = (subject.score(subject.ids) - subject.score(one_less)).numpy()
    np.testing.assert_allclose(subject.ours("leave_one_out")[:, 3], drop, atol=1e-5)


@pytest.fixture(scope="module")
def measured():
    pytest.importorskip("captum")
    one = explainers.Subject(TINY, 1, 0)
    found = explainers.forms(one, (8,), ("captum",))
    return {method: explainers.measured(one, method, steps, 1) for method, steps in found.items()}


@pytest.mark.parametrize("method", METHODS)
def test_every_form_agrees_and_counts_its_evaluations(measured, method):
    rows, exact = measured[method], method not in ("Shapley sampling", "kernel SHAP")
    batched = method in METHODS[:3]
    assert [row["form"] for row in rows] == ["ours", "captum, defaults", "captum, 8 a pass"][: 2 + batched]
    for row in rows:
        assert row["difference"] <= (1e-4 if exact else 2.0)
        assert row["rank_correlation"] > (0.999 if exact else 0.3)
        assert row["least"] <= row["value"] <= row["most"]
        assert row["interval"][0] <= row["ours_times_faster"] <= row["interval"][1]
    assert rows[0]["ours_times_faster"] == 1.0


@pytest.mark.parametrize("method", METHODS[:3])
def test_forms_evaluate_about_as_much(measured, method):
    counts = [row["evaluations"] for row in measured[method]]
    assert 0 < max(counts) <= 1.25 * min(counts)


def test_without_peers_only_ours_is_measured(subject):
    assert all(list(steps) == ["ours"] for steps in explainers.forms(subject, (8,), ()).values())


def test_summary_tells_the_ratios():
    row = {"method": "kernel SHAP", "texts": 1, "ours_times_faster": 12.34, "interval": [11.0, 13.0]}
    row = row | {"part": "small network"}
    summary = explainers._summary([row | {"form": "ours"}, row | {"form": "captum, defaults"}])
    assert summary == {
        "small network, kernel SHAP, 1 texts: ours, times as fast as captum, defaults": "12.3 (11.0 to 13.0)"
    }
