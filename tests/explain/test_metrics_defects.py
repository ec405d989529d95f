"""Defects that are known of other libraries, each with the case in which it would show; and rows at the edge of what there is."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from salience.core import registry
from salience.explain.engine import explain
from salience.explain.leaderboard import compare
from salience.testing.language_toy import LanguageToy, toy_contexts
from salience.testing.toy import LinearToy, toy_frame

torch.set_num_threads(1)
MODEL = LinearToy()
CASES = explain(MODEL, toy_frame(3, 5), faithfulness=False)


def metric(key, **options):
    return registry.load("metric", key)(**options)


def test_nothing_marked_is_no_hit():
    """An empty mask is undefined, never a success."""
    empty = {e.row: [False] * len(e.units) for e in CASES}
    assert metric("plausibility", rationales=empty).scores(MODEL, CASES).undefined == len(CASES)


@pytest.mark.parametrize("key", ["plausibility", "aopc", "infidelity", "sparseness"])
def test_a_score_does_not_depend_on_how_many_are_scored(key):
    """No ratio is taken over the axis of the batch."""
    options = {"rationales": {e.row: [True] + [False] * (len(e.units) - 1) for e in CASES}}
    chosen = metric(key, **options if key == "plausibility" else {})
    thrice = chosen.scores(MODEL, [*CASES, *CASES, *CASES]).values
    assert thrice == pytest.approx(np.tile(chosen.scores(MODEL, CASES).values, 3))


def test_road_tells_how_far_the_answer_falls_not_only_whether_it_flips():
    model, frame = LinearToy(image=True), toy_frame(3, 2, image=True)
    values = metric("road").scores(model, explain(model, frame, faithfulness=False)).values
    assert len(set(values)) == 3 and not np.isin(values, [0.0, 1.0]).any()


def test_perturbations_of_infidelity_do_not_pile_up():
    """On a linear model the truth has no infidelity, however many sets are drawn; piled up it would grow."""
    few, many = (metric("infidelity", draws=n).scores(MODEL, CASES).values for n in (2, 200))
    assert few == pytest.approx(0, abs=1e-18) and many == pytest.approx(0, abs=1e-18)


def test_infidelity_takes_words_numbers_and_categories():
    assert {u.kind for e in CASES for u in e.units} == {"text", "number", "category"}
    assert metric("infidelity").scores(MODEL, CASES).undefined == 0


def test_signs_and_scaling_are_stated():
    assert (
        "with their sign, not normalised"
        in metric("faithfulness_correlation").scores(MODEL, CASES).convention
    )
    assert "values as they are" in metric("infidelity").scores(MODEL, CASES).convention
    assert "scaled by the factor" in metric("infidelity", normalise=True).scores(MODEL, CASES).convention
    assert "|value|" in metric("sparseness").scores(MODEL, CASES).convention


def test_sufficiency_keeps_the_top_units_of_the_row_itself():
    """It is ERASER's, not a comparison with neighbours: one explanation is enough, and others do not matter."""
    alone = metric("sufficiency").scores(MODEL, CASES[:1])
    assert "with these units alone" in alone.convention
    assert metric("sufficiency").scores(MODEL, CASES[::-1]).values[-1] == pytest.approx(alone.values[0])


def test_a_pair_of_classes_is_measured_as_one_of_two():
    pair = explain(MODEL, toy_frame(2, 5), target=("yes", "no"), faithfulness=False)
    plain = explain(MODEL, toy_frame(2, 5), target="yes", faithfulness=False)
    for key in (
        "comprehensiveness",
        "infidelity",
    ):  # of two classes, one against the other is one against all others
        assert metric(key).scores(MODEL, pair).values == pytest.approx(
            metric(key).scores(MODEL, plain).values
        )


def test_five_thousand_words():
    frame = toy_frame(1, 5).assign(review=" ".join(["great", "the", "awful", "is", "soft"] * 1000))
    (e,) = explain(MODEL, frame, method="gradient_x_input", faithfulness=False)
    assert len(e.units) > 5000
    assert np.isfinite(metric("comprehensiveness").scores(MODEL, [e]).values[0])
    assert np.isfinite(metric("complexity").scores(MODEL, [e]).values[0])
    assert metric("naopc").scores(MODEL, [e]).undefined == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "key", ["comprehensiveness", "aopc", "tau_loo", "infidelity", "naopc", "complexity", "completeness"]
)
def test_odd_values_are_defined_or_nan(key):
    e = CASES[0]
    n = len(e.units)
    odd = [
        [0.0] * n,
        [-1.0 - i for i in range(n)],
        [np.inf] + [1.0] * (n - 1),
        [-np.inf] * n,
        [np.nan] * n,
        [1e-308] * n,
        [1e308] * n,
    ]
    chosen = metric(key, exact=4, width=2) if key == "naopc" else metric(key)
    found = chosen.scores(MODEL, [replace(e, values=tuple(values)) for values in odd]).values
    assert np.isnan(found[[3, 4]]).all()  # no value at all
    assert np.isfinite(found[1]) and not np.isinf(found).any()


def test_a_language_model_gets_a_leaderboard():
    board = compare(LanguageToy(), toy_contexts(6, 2), ["leave_one_out"], ["comprehensiveness", "tau_loo"])
    assert board.cell("leave_one_out", "tau_loo").mean == pytest.approx(1.0, abs=0.05)
    assert board.left_out == {}


def test_a_row_without_units_is_counted_not_measured():
    frame = pd.concat([toy_frame(3, 5)])
    found = explain(MODEL, frame, faithfulness=False)
    found[1] = replace(found[1], units=(), values=())
    for key in (
        "comprehensiveness",
        "naopc",
        "sensitivity_max",
        "randomisation",
        "soft_sufficiency",
        "completeness",
    ):
        options = {"exact": 3, "width": 2} if key == "naopc" else {}
        scores = metric(key, **options).scores(MODEL, found)
        assert np.isnan(scores.values[1]) and scores.undefined < 3
