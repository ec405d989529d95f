from dataclasses import replace

import numpy as np
import pytest
import torch

from salience.explain.answers import target_spread
from salience.explain.engine import explain
from salience.explain.faithfulness import aggregate, measure
from salience.explain.orders import FRACTIONS, order_of
from salience.testing.toy import LinearToy, toy_frame

torch.set_num_threads(1)


def by_hand(model, explanation, order):
    """ERASER's two numbers of one order, one removal at a time."""
    units, index = explanation.units, explanation.target_index

    def p(removed):
        row = model.remove(explanation.inputs, tuple(units[i] for i in removed))
        return float(model.predict_proba(model._output(row)[None])[0, index])

    sizes = [max(1, int(np.ceil(fraction * len(units)))) for fraction in FRACTIONS]
    taken = np.mean([p([]) - p(order[:k]) for k in sizes])
    kept = np.mean([p([]) - p(order[k:]) for k in sizes])
    return taken, kept


def test_numbers_equal_the_definition():
    model, frame = LinearToy("multiclass", "nonlinear"), toy_frame(4, 21, "multiclass")
    for explanation in explain(model, frame):
        order = order_of(explanation, 0)
        taken, kept = by_hand(model, explanation, order)
        assert explanation.faithfulness.comprehensiveness == pytest.approx(taken)
        assert explanation.faithfulness.sufficiency == pytest.approx(kept)
        assert "1, 5, 10, 20, 50 %" in explanation.faithfulness.convention


def test_a_contrast_is_the_probability_of_one_of_two():
    model, frame = LinearToy("multiclass"), toy_frame(1, 32, "multiclass")
    explanation = explain(model, frame, target=("good", "bad"))[0]
    removed = [i for i, v in enumerate(explanation.values) if v == max(explanation.values)][:1]
    row = model.remove(explanation.inputs, tuple(explanation.units[i] for i in removed))
    z, gone = model._output(explanation.inputs), model._output(row)
    drop = 1 / (1 + np.exp(z[0] - z[2])) - 1 / (1 + np.exp(gone[0] - gone[2]))
    one = replace(explanation, units=explanation.units[removed[0] :][:1], values=(1.0,))
    assert measure(model, [one])[0].comprehensiveness == pytest.approx(drop)


def test_the_control_is_the_mean_of_random_orders():
    model, frame = LinearToy(), toy_frame(1, 22)
    explanation = explain(model, frame, faithfulness=False)[0]
    many = measure(model, [explanation], orders=150)[0]
    rng = np.random.default_rng(0)
    hand = np.mean(
        [by_hand(model, explanation, rng.permutation(len(explanation.units))) for _ in range(150)], axis=0
    )
    assert many.random_comprehensiveness == pytest.approx(hand[0], abs=0.06)
    assert many.random_sufficiency == pytest.approx(hand[1], abs=0.06)


def test_the_truth_is_supported_its_inverse_is_not():
    model, frame = LinearToy(), toy_frame(6, 23)
    true = explain(model, frame, faithfulness=False)
    inverse = [replace(e, values=tuple(-v for v in e.values)) for e in true]
    assert {m.verdict for m in measure(model, true)} == {"supported"}
    assert {m.verdict for m in measure(model, inverse)} == {"not supported"}


def test_random_numbers_are_seldom_supported():
    measured = [e.faithfulness for e in explain(LinearToy(), toy_frame(40, 24), method="random")]
    assert aggregate(measured).verdicts.get("supported", 0.0) <= 0.2


def test_one_unit_and_no_unit_cannot_be_told_from_random():
    model, frame = LinearToy(), toy_frame(2, 25)
    one = explain(model, frame, faithfulness=False)[0]
    one = replace(one, units=one.units[:1], values=one.values[:1])
    none = replace(one, units=(), values=())
    assert [m.verdict for m in measure(model, [one, none])] == ["doubtful", "doubtful"]


def test_a_model_that_ignores_its_input_supports_nothing():
    measured = [e.faithfulness for e in explain(LinearToy(variant="zero"), toy_frame(3, 26))]
    assert all(m.comprehensiveness == 0 and m.verdict == "doubtful" for m in measured)


def test_regression_is_in_standard_deviations_where_they_are_known():
    model, frame = LinearToy("regression"), toy_frame(2, 27, "regression")
    plain = explain(model, frame)
    model.head = torch.nn.Module()
    model.head.std = torch.tensor(4.0)
    assert target_spread(model) == 4.0
    for a, b in zip(plain, explain(model, frame), strict=True):
        assert (a.faithfulness.scale, b.faithfulness.scale) == ("units of the target", "standard deviations")
        assert a.faithfulness.comprehensiveness == pytest.approx(4 * b.faithfulness.comprehensiveness)
        assert a.faithfulness.log_odds is None


def test_all_rows_go_through_the_model_in_one_call():
    model, frame = LinearToy(), toy_frame(5, 28)
    found = explain(model, frame, faithfulness=False)
    model.calls = model.rows_seen = 0
    measured = measure(model, found)
    assert model.calls == 1
    assert model.rows_seen == sum(m.forwards for m in measured)


def test_same_seed_same_numbers():
    model, frame = LinearToy(), toy_frame(2, 29)
    found = explain(model, frame, faithfulness=False)
    first, again, other = (measure(model, found, seed=seed)[0] for seed in (0, 0, 1))
    assert replace(first, seconds=0.0) == replace(again, seconds=0.0)
    assert first.random_comprehensiveness != other.random_comprehensiveness


def test_values_that_are_not_numbers_come_last():
    model, frame = LinearToy(), toy_frame(1, 30)
    found = explain(model, frame, faithfulness=False)[0]
    holes = replace(found, values=(float("nan"),) * len(found.values))
    assert measure(model, [holes])[0].verdict in ("doubtful", "not supported", "supported")


def test_aggregate_over_rows():
    measured = [e.faithfulness for e in explain(LinearToy(), toy_frame(20, 31))]
    summary = aggregate(measured)
    assert summary.rows == 20
    assert summary.difference == pytest.approx(np.mean([m.difference for m in measured]))
    assert summary.interval[0] < summary.difference < summary.interval[1]
    assert summary.p_value < 0.01
    assert sum(summary.verdicts.values()) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at least one"):
        aggregate([])
