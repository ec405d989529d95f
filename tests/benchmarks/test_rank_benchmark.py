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
    places = {(r["form"], r["moment"], r["stage"], r["block"], r["matrix"]) for r in result["layers"]}
    for moment in ("before", "after"):
        for stage in (1, 2):
            here = (moment, stage, 1)
            assert {p[4] for p in places if p[0] == "softmax" and p[1:4] == here} == {"attention", "output"}
            linear = {p[4] for p in places if p[0] != "softmax" and p[1:4] == here}
            assert linear == {"buffer", "attention", "output"}
    assert all(0 < r[m] <= 1 + 1e-9 and r[f"{m}_sd"] >= 0 for r in result["layers"] for m in MEASURES)


def test_rows_put_both_moments_side_by_side(result):
    assert len(result["rows"]) == 2 * 2 * (2 + 3)
    for row in result["rows"]:
        keys = ("form", "stage", "matrix", "centred")
        same = [r for r in result["layers"] if all(r[key] == row[key] for key in keys)]
        for moment in ("before", "after"):
            (found,) = (r for r in same if r["moment"] == moment)
            assert [row[f"{m}_{moment}"] for m in MEASURES] == pytest.approx([found[m] for m in MEASURES])
        assert row["effective_before"] != row["effective_after"]


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
