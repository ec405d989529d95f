"""Each formula against a slow one written down here, on models whose answers are known."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from salience.core import registry
from salience.core.errors import ConfigError
from salience.explain.engine import explain
from salience.explain.faithfulness import measure
from salience.explain.lattice import as_sets, extremes, in_step
from salience.explain.metrics.infidelity import infidelity
from salience.explain.orders import FRACTIONS, grid, order_of, shares
from salience.explain.scores import correlation, random_sets, spearman
from salience.testing.toy import LinearToy, toy_frame

torch.set_num_threads(1)


def metric(key, **options):
    return registry.load("metric", key)(**options)


def explained(model, rows=3, seed=5, task="binary", **options):
    return explain(model, toy_frame(rows, seed, task), faithfulness=False, **options)


def answer(model, e, removed):
    """Probability of the explained class of a row without some units, one row at a time."""
    row = model.remove(e.inputs, tuple(e.units[i] for i in removed))
    return float(model.predict_proba(model._output(row)[None])[0, e.target_index])


def quantity(model, e, removed):
    row = model.remove(e.inputs, tuple(e.units[i] for i in removed))
    z = model._output(row)
    others = np.delete(z, e.target_index)
    return float(z[e.target_index] - np.log(np.exp(others).sum()))


CURVED = LinearToy("multiclass", "nonlinear")
CASES = explained(CURVED, task="multiclass")


# -- comprehensiveness and sufficiency ---------------------------------------------------------------


@pytest.mark.parametrize("convention", ["eraser", "paper"])
def test_comprehensiveness_and_sufficiency_equal_the_definition(convention):
    for key, keep in (("comprehensiveness", False), ("sufficiency", True)):
        found = metric(key, convention=convention).scores(CURVED, CASES)
        for e, value in zip(CASES, found.values, strict=True):
            order, n = order_of(e, 0).tolist(), len(e.units)
            sizes = [max(1, int(np.ceil(f * n - 1e-9))) for f in FRACTIONS]
            drops = [
                answer(CURVED, e, []) - answer(CURVED, e, order[k:] if keep else order[:k]) for k in sizes
            ]
            divisor = len(sizes) + (convention == "paper")
            assert value == pytest.approx(sum(drops) / divisor)
    assert "1, 5, 10, 20, 50 %" in found.convention


def test_ferret_takes_positive_units_alone_and_leaves_out_sets_that_did_not_grow():
    e = replace(CASES[0], values=tuple([3.0, 1.0] + [-1.0] * (len(CASES[0].units) - 2)))
    found = metric("comprehensiveness", convention="ferret").scores(CURVED, [e]).values[0]
    sizes = sorted({min(int(len(e.units) * t / 10 + 1e-9), 2) for t in range(1, 11)} - {0})
    hand = np.mean([answer(CURVED, e, []) - answer(CURVED, e, [0, 1][:k]) for k in sizes])
    assert found == pytest.approx(hand)


@pytest.mark.parametrize(("key", "value"), [("comprehensiveness", 0.0), ("sufficiency", 1.0)])
def test_ferret_has_its_own_answer_where_no_set_is_left(key, value):
    e = replace(CASES[0], values=tuple([-1.0] * len(CASES[0].units)))
    scores = metric(key, convention="ferret").scores(CURVED, [e])
    assert scores.values[0] == value and "ferret" in scores.convention


def test_the_measurement_that_every_explanation_carries_is_the_same_number():
    measured = measure(CURVED, CASES, seed=4)
    for name in ("comprehensiveness", "sufficiency"):
        values = metric(name).scores(CURVED, CASES, seed=4).values
        assert values == pytest.approx([getattr(m, name) for m in measured], abs=1e-12)


def test_regression_is_in_the_scale_of_its_target():
    model = LinearToy("regression")
    scores = metric("sufficiency").scores(model, explained(model, task="regression"))
    assert "units of the target" in scores.convention


# -- curves ------------------------------------------------------------------------------------------


def curve(model, e, order):
    return np.array([answer(model, e, order[:k]) for k in range(len(order) + 1)])


def test_aopc_has_the_first_term_and_both_orders():
    for e in CASES:
        order = order_of(e, 0).tolist()
        most, least = (np.mean(answer(CURVED, e, []) - curve(CURVED, e, o)) for o in (order, order[::-1]))
        values = {
            name: metric("aopc", order=name).scores(CURVED, [e]).values[0]
            for name in ("morf", "lerf", "area")
        }
        assert values == pytest.approx({"morf": most, "lerf": least, "area": most - least})
    assert metric("aopc", order="lerf").better == "lower"


def test_deletion_and_insertion_are_trapezoids_on_the_unit_interval():
    for e in CASES:
        order, n = order_of(e, 0).tolist(), len(e.units)
        falling = curve(CURVED, e, order)
        rising = np.array([answer(CURVED, e, order[k:]) for k in range(n + 1)])
        for key, line in (("deletion_auc", falling), ("insertion_auc", rising)):
            hand = (line.sum() - line[0] / 2 - line[-1] / 2) / n
            assert metric(key, steps=100).scores(CURVED, [e]).values[0] == pytest.approx(hand)


def test_a_coarse_grid_keeps_its_ends_and_its_width():
    assert grid(100, 4).tolist() == [0, 25, 50, 75, 100]
    assert grid(3, 20).tolist() == [0, 1, 2, 3]
    e = CASES[0]
    n, order = len(e.units), order_of(e, 0).tolist()
    sizes = grid(n, 3)
    p = [answer(CURVED, e, order[:k]) for k in sizes]
    hand = sum((p[i] + p[i + 1]) / 2 * (sizes[i + 1] - sizes[i]) / n for i in range(3))
    assert metric("deletion_auc", steps=3).scores(CURVED, [e]).values[0] == pytest.approx(hand)


# -- normalised AOPC ---------------------------------------------------------------------------------


@pytest.mark.parametrize("units", range(1, 8))
def test_bounds_equal_those_over_all_permutations(units):
    table = np.random.default_rng(units).normal(size=2**units)
    bits = 1 << np.arange(units)
    sums = [table[np.cumsum(bits[list(order)])].sum() for order in permutations(range(units))]

    def ask(_, sets):
        return [table[s @ bits] for s in sets]

    assert in_step([extremes(units, None)], ask)[0] == pytest.approx((min(sums), max(sums)))
    low, high = in_step([extremes(units, 3)], ask)[0]
    assert min(sums) - 1e-9 <= low <= high <= max(sums) + 1e-9  # a beam cannot leave the exact bounds


def test_sets_of_bits():
    assert as_sets(np.array([5]), 4).tolist() == [[True, False, True, False]]


def test_naopc_of_one_row_by_hand():
    e = min(explained(CURVED, rows=30, task="multiclass"), key=lambda e: len(e.units))
    n = len(e.units)
    assert n <= 6
    e = replace(e, values=tuple(np.random.default_rng(2).permutation(n)))
    table = {
        o: np.mean(answer(CURVED, e, []) - curve(CURVED, e, list(o))[1:]) for o in permutations(range(n))
    }
    own, low, high = table[tuple(order_of(e, 0).tolist())], min(table.values()), max(table.values())
    assert metric("naopc").scores(CURVED, [e]).values[0] == pytest.approx((own - low) / (high - low))
    assert 0 <= metric("naopc", exact=0, width=2).scores(CURVED, [e]).values[0] <= 1


def test_naopc_is_one_for_the_truth_of_a_linear_model_and_zero_for_its_opposite():
    model = LinearToy()
    truth = [e for e in explained(model, 10) if len(e.units) <= 8][:2]
    assert truth
    inverse = [replace(e, values=tuple(-v for v in e.values)) for e in truth]
    assert metric("naopc").scores(model, truth).values == pytest.approx(1.0)
    assert metric("naopc").scores(model, inverse).values == pytest.approx(0.0)


def test_naopc_is_undefined_for_long_rows_and_where_all_orders_are_alike():
    scores = metric("naopc", longest=2).scores(CURVED, CASES)
    assert scores.undefined == len(CASES) and "more than 2 units" in scores.reason and scores.forwards == 0
    flat = LinearToy(variant="zero")
    assert metric("naopc", exact=2, width=2).scores(flat, explained(flat, 1)).undefined == 1


# -- correlations ------------------------------------------------------------------------------------


def test_leave_one_out_correlations():
    for e in CASES:
        drops = [quantity(CURVED, e, []) - quantity(CURVED, e, [i]) for i in range(len(e.units))]
        tau = kendalltau(e.values, np.round(drops, 9)).statistic
        assert metric("tau_loo").scores(CURVED, [e]).values[0] == pytest.approx(tau)
        estimate = metric("faithfulness_estimate").scores(CURVED, [e]).values[0]
        assert estimate == pytest.approx(np.corrcoef(e.values, drops)[0, 1])


@pytest.mark.parametrize("key", ["faithfulness_correlation", "sensitivity_n", "faithfulness_estimate"])
def test_the_truth_of_a_linear_model_is_correlated_to_the_end(key):
    model = LinearToy()
    truth = explained(model, 4)
    inverse = [replace(e, values=tuple(-v for v in e.values)) for e in truth]
    assert metric(key).scores(model, truth).values == pytest.approx(1.0)
    assert metric(key).scores(model, inverse).values == pytest.approx(-1.0)


def test_faithfulness_correlation_equals_the_definition():
    found = metric("faithfulness_correlation", size=2, draws=30)
    e = CASES[1]
    sets = found._sets(e, 0)
    assert sets[1:].sum(axis=1).tolist() == [2] * 30 and not sets[0].any()
    sums = [np.array(e.values)[s].sum() for s in sets[1:]]
    drops = [quantity(CURVED, e, []) - quantity(CURVED, e, np.flatnonzero(s)) for s in sets[1:]]
    assert found.scores(CURVED, [e]).values[0] == pytest.approx(np.corrcoef(sums, drops)[0, 1])


def test_correlation_of_what_does_not_vary_is_undefined():
    assert np.isnan(correlation(np.ones(5), np.arange(5.0)))
    assert np.isnan(correlation(np.full(3, 0.1) * 3, np.arange(3.0)))
    assert np.isnan(correlation(np.ones(1), np.ones(1)))
    assert np.isnan(spearman(np.array([1.0, np.nan]), np.array([1.0, 2.0])))
    assert spearman(np.array([1.0, 2, 3, np.nan]), np.array([9.0, 5, 1, 7])) == pytest.approx(-1.0)


@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 10**6))
def test_random_sets_have_their_size(units, size, seed):
    sets = random_sets(units, np.full(7, min(size, units)), np.random.default_rng(seed))
    assert sets.shape == (7, units) and set(sets.sum(axis=1)) == {min(size, units)}


# -- infidelity and completeness ---------------------------------------------------------------------


def test_infidelity_equals_the_definition_and_every_set_starts_from_the_untouched_row():
    found = metric("infidelity", draws=12)
    for e in CASES:
        sets = found._sets(e, 0)[1:]
        drops = np.array([quantity(CURVED, e, []) - quantity(CURVED, e, np.flatnonzero(s)) for s in sets])
        sums = sets @ np.array(e.values)
        assert found.scores(CURVED, [e]).values[0] == pytest.approx(np.mean((sums - drops) ** 2))
        beta = (sums @ drops) / (sums @ sums)
        scaled = metric("infidelity", draws=12, normalise=True).scores(CURVED, [e]).values[0]
        assert scaled == pytest.approx(np.mean((beta * sums - drops) ** 2))


def test_infidelity_of_the_truth_is_zero_and_of_nothing_the_mean_square():
    model = LinearToy()
    truth = explained(model, 3)
    assert metric("infidelity").scores(model, truth).values == pytest.approx(0, abs=1e-18)
    fall = np.array([1.0, -2.0])
    assert infidelity(np.zeros(2), fall) == infidelity(np.zeros(2), fall, normalise=True) == 2.5


def test_completeness_measures_the_row_and_takes_the_methods_own_neutral_input():
    model = LinearToy()
    e = explained(model, 1)[0]
    gap = metric("completeness")
    assert gap.scores(model, [e]).values[0] == pytest.approx(0, abs=1e-9)
    more = replace(e, values=(e.values[0] + 2.0, *e.values[1:]), output=0.0, completeness_gap=0.0)
    assert gap.scores(model, [more]).values[0] == pytest.approx(2.0)
    shifted = replace(e, baseline_output=e.baseline_output - 3.0)
    assert gap.scores(model, [shifted]).values[0] == pytest.approx(3.0)
    alone = replace(e, baseline_output=None)
    assert gap.scores(model, [alone]).values[0] == pytest.approx(0, abs=1e-9)
    change = abs(quantity(model, e, []) - quantity(model, e, range(len(e.units))))
    relative = metric("completeness", relative=True).scores(model, [more]).values[0]
    assert relative == pytest.approx(2.0 / change)


# -- values alone ------------------------------------------------------------------------------------


def test_complexity_and_sparseness_known_answers():
    e = CASES[0]
    n = len(e.units)
    even, one = replace(e, values=(-2.0,) * n), replace(e, values=(5.0, *[0.0] * (n - 1)))
    huge = replace(e, values=(1e308,) * n)
    assert metric("complexity").scores(None, [even, one, huge]).values == pytest.approx(
        [np.log(n), 0, np.log(n)]
    )
    assert metric("sparseness").scores(None, [even, one, huge]).values == pytest.approx([0, (n - 1) / n, 0])


@settings(max_examples=60)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_complexity_and_sparseness_stay_in_their_range(values):
    e = replace(CASES[0], units=CASES[0].units[:1] * len(values), values=tuple(values))
    entropy = metric("complexity").scores(None, [e]).values[0]
    gini = metric("sparseness").scores(None, [e]).values[0]
    if not np.abs(values).max():
        assert np.isnan(entropy) and np.isnan(gini)
    else:
        assert -1e-9 <= entropy <= np.log(len(values)) + 1e-9
        assert -1e-9 <= gini < 1
        pairs = np.abs(np.subtract.outer(np.abs(values), np.abs(values))).sum()
        assert gini == pytest.approx(pairs / (2 * len(values) * np.abs(values).sum()), abs=1e-9)


# -- plausibility ------------------------------------------------------------------------------------


def marked(measure, values, mask, **options):
    e = replace(CASES[0], units=CASES[0].units[:1] * len(values), values=tuple(values))
    return metric("plausibility", rationales={e.row: mask}, measure=measure, **options).scores(None, [e])


def test_plausibility_known_answers():
    values, mask = [5.0, 4.0, 3.0, 2.0, 1.0], [True, False, True, False, False]
    assert marked("token_f1", values, mask).values[0] == pytest.approx(0.5)
    assert marked("iou", values, mask).values[0] == pytest.approx(1 / 3)
    assert marked("auprc", values, mask).values[0] == pytest.approx(0.5 * (1 + 2 / 3))
    assert marked("span_f1", values, [True, True, True, False, False]).values[0] == 1.0
    assert marked("span_f1", values, mask, k=5).values[0] == 0.0  # one run of five against two single units
    assert "as many top units as are marked" in marked("iou", values, mask).convention


def test_a_row_without_marks_is_undefined_and_counted():
    for nothing in ([False] * 3, [], None):
        scores = marked("token_f1", [1.0, 2.0, 3.0], nothing)
        assert scores.undefined == 1
    with pytest.raises(ConfigError, match="one mark a unit"):
        marked("token_f1", [1.0, 2.0, 3.0], [True])


def test_marks_may_be_characters():
    model = LinearToy()
    e = explain(model, toy_frame(1, 8), faithfulness=False)[0]
    words = [i for i, u in enumerate(e.units) if u.column == "review"]
    start, stop = e.units[words[1]].locator
    values = np.zeros(len(e.units))
    values[words[1]] = 1.0
    span = {e.row: [("review", int(start) + 1, int(stop))]}  # a part of the word is enough
    scores = metric("plausibility", rationales=span).scores(model, [replace(e, values=tuple(values))])
    assert scores.values[0] == 1.0


# -- orders ------------------------------------------------------------------------------------------


def test_orders_fall_and_units_without_a_value_come_last():
    e = replace(CASES[0], values=tuple([np.nan, 1.0, np.inf, 3.0] + [0.0] * (len(CASES[0].units) - 4)))
    order = order_of(e, 0).tolist()
    assert order[:2] == [3, 1] and set(order[-2:]) == {0, 2}


def test_a_constant_map_has_no_merit_of_the_order_of_reading():
    e = replace(CASES[0], values=(1.0,) * len(CASES[0].units))
    orders = {tuple(order_of(e, seed).tolist()) for seed in range(20)}
    assert len(orders) > 10
    assert order_of(e, 3).tolist() == order_of(e, 3).tolist()


def test_shares_are_rounded_up_and_not_beyond():
    assert shares(10, [0.01, 0.1, 0.11, 0.5, 1.0]) == [1, 1, 2, 5, 10]
    assert shares(20, [0.15]) == [3]  # 0.15 × 20 is a little more than 3 in binary


# -- options and memory ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("comprehensiveness", {"convention": "erasor"}), ("sufficiency", {"fractions": [2.0]}),
        ("aopc", {"order": "first"}), ("aopc", {"steps": 0}), ("deletion_auc", {"steps": 0}),
        ("infidelity", {"draws": 0}), ("faithfulness_correlation", {"size": 0}), ("naopc", {"exact": 40}),
        ("f_fidelity", {"part": "all"}), ("soft_sufficiency", {"share": 2.0}), ("plausibility", {"measure": "f2"}),
        ("sensitivity_max", {"radius": -1}), ("randomisation", {"stages": 0}), ("road", {"noise": 3}),
    ],
    ids=str,
)  # fmt: skip
def test_options_out_of_range_are_refused(key, options):
    with pytest.raises(ConfigError):
        metric(key, **options)


@pytest.mark.parametrize("key", ["aopc", "infidelity", "tau_loo", "naopc"])
def test_little_memory_changes_nothing(key):
    chosen = metric(key, exact=3, width=2) if key == "naopc" else metric(key)
    plenty, little = (chosen.scores(CURVED, CASES, memory_mb=m).values for m in (256, 0.01))
    assert np.array_equal(plenty, little, equal_nan=True)
