"""The rank benchmark at a tiny size; the measurement itself runs with `salience bench rank`."""

import pytest
import torch

from salience.benchmarks import rank
from salience.core import registry
from salience.models.rank_analysis import MEASURES


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def result():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank, "FORMS", {name: rank.FORMS[name] for name in ("softmax", "RALA (α + gate)")})
        patch.setattr(rank, "NETWORK", {"depths": [1, 1], "dims": [8, 8], "heads": [2, 1]})
        patch.setattr(rank, "QUICK_ROWS", 60)
        patch.setattr(rank, "QUICK_EPOCHS", 1)
        patch.setattr(rank, "QUICK_IMAGES", 3)
        return rank.run(quick=True, seed=0)


def test_card_names_a_function_that_runs():
    assert registry.load("benchmark", "rank") is rank.run


def test_every_form_is_measured_before_and_after_training(result):
    places = {(r["form"], r["moment"], r["stage"], r["block"], r["matrix"]) for r in result["rows"]}
    for moment in ("before", "after"):
        for stage in (1, 2):
            for block in (1, "all"):
                here = (moment, stage, block)
                assert {p[4] for p in places if p[0] == "softmax" and p[1:4] == here} == {
                    "attention",
                    "output",
                }
                linear = {p[4] for p in places if p[0] != "softmax" and p[1:4] == here}
                assert linear == {"buffer", "attention", "output"}
    assert all(0 < r[m] <= 1 + 1e-9 for r in result["rows"] for m in MEASURES)


def test_training_changes_the_ranks(result):
    layers = [r for r in result["rows"] if r["block"] == 1]
    before, after = ([r["effective"] for r in layers if r["moment"] == m] for m in ("before", "after"))
    assert len(before) == len(after) == len(layers) / 2
    assert all(b != a for b, a in zip(before, after, strict=True))


def test_the_summary_says_that_the_bound_does_not_move(result):
    assert "does not move the algebraic bound" in result["summary"]["caution"]
    assert any("→" in text for key, text in result["summary"].items() if key.startswith("RALA"))
    assert set(result["accuracy"]) == {"softmax", "RALA (α + gate)"}


def test_forms_are_the_switches_of_one_network():
    assert list(rank.FORMS) == ["softmax", "plain linear", "linear + α", "linear + gate", "RALA (α + gate)"]
    shapes = set()
    task = rank.Digits(quick=True, seed=0)
    for name in rank.FORMS:
        layer = next(iter(task.built(name).encoders["image_0"].network.attention_layers().values()))
        shapes.add((layer.title, getattr(layer, "alpha", None), layer.gate))
    assert len(shapes) == 5
