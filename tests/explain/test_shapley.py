"""Shapley values: exact ones against their definition, sampled ones against the exact, axioms, errors and stopping."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.explain.methods.kernel_shapley import KernelShapley, coalitions, constrained_fit, kernel
from salience.explain.methods.permutation_shapley import PermutationShapley
from salience.explain.shapley import exact_values, order_values, precise, prefixes, subsets
from salience.explain.target import Target
from salience.testing.games import Game, cell_units, interactions

VALUE = Target(0, "value", "value")
METHODS = [PermutationShapley, KernelShapley]


def attribute(method, game, seed=0, rows=1):
    return method.attribute(game, game.frame(rows), [VALUE] * rows, seed=seed)


def by_definition(value, units):
    """Average the marginal contributions over all orders, one by one."""
    total = np.zeros(units)
    orders = list(permutations(range(units)))
    for order in orders:
        present = np.zeros((1, units))
        for i in order:
            before = value(present)[0]
            present[0, i] = 1.0
            total[i] += value(present)[0] - before
    return total / len(orders)


@pytest.mark.parametrize("units", [1, 3, 5])
def test_exact_values_are_the_mean_over_all_orders(units):
    value = interactions(max(units, 3)) if units >= 3 else lambda present: 3.0 * present[:, 0] - 1
    expected = by_definition(value, units)
    np.testing.assert_allclose(exact_values(value(subsets(units).astype(float))), expected, atol=1e-12)
    for method in METHODS:
        found = attribute(method(), Game(value, cell_units(units)))[0]
        np.testing.assert_allclose(found.values, expected, atol=1e-8)
        assert not found.evidence["standard_errors"].any()
        assert found.forwards == max(2**units, 2)


def test_no_units_have_no_values():
    for method in METHODS:
        found = attribute(method(), Game(lambda present: np.full(len(present), 4.0), ()))[0]
        assert found.values.shape == (0,)
        assert (found.output, found.baseline_output, found.completeness_gap) == (4.0, 4.0, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_sampled_values_come_near_the_exact_ones_within_their_errors(method):
    units = 9
    value = interactions(units, 3)
    exact = exact_values(value(subsets(units).astype(float)))
    scores = []
    for seed in range(12):
        game = Game(value, cell_units(units))
        found = attribute(method(tolerance=0, exact=0, max_forwards=800), game, seed)[0]
        assert found.forwards <= game.rows_seen <= 810
        errors = found.evidence["standard_errors"]
        scores += ((found.values - exact) / errors)[
            errors > 1e-9
        ].tolist()  # antithetic pairs are exact on pairs
        assert np.abs(found.values - exact).max() < 0.5
    assert 0.4 < np.square(scores).mean() < 2.5  # 1 where the standard errors are right


@pytest.mark.parametrize("method", METHODS)
def test_axioms_hold_at_every_sample_size(method):
    def value(present):  # 0 and 1 are alike, 2 does nothing
        return (
            present[:, 0] * present[:, 1] + 0.5 * (present[:, 3:] ** 2).sum(1) * present[:, 0] + present[:, 1]
        )

    def alike(present):
        return present[:, 0] * present[:, 1] * present[:, 3:].sum(1)

    for options in ({}, {"exact": 0, "max_forwards": 300, "tolerance": 0}):
        found = attribute(method(**options), Game(value, cell_units(9)))[0]
        change = found.output - found.baseline_output
        assert abs(found.values.sum() - change) < 1e-9  # efficiency
        assert abs(found.completeness_gap) < 1e-9
        if method is PermutationShapley or not options:
            assert abs(found.values[2]) < 1e-9  # dummy: exactly, order by order
    found = attribute(method(), Game(alike, cell_units(9)))[0]
    assert found.values[0] == pytest.approx(found.values[1], abs=1e-9)  # symmetry


@pytest.mark.parametrize("method", METHODS)
def test_an_additive_game_is_exact_after_one_round(method):
    weights = np.random.default_rng(1).normal(size=30)
    found = attribute(method(), Game(lambda present: present @ weights, cell_units(30)))[0]
    np.testing.assert_allclose(found.values, weights, atol=1e-9)
    np.testing.assert_allclose(found.evidence["standard_errors"], 0, atol=1e-9)
    assert found.forwards <= 250


@pytest.mark.parametrize("method", METHODS)
def test_sampling_stops_when_errors_are_small_or_the_budget_is_spent(method):
    game = Game(interactions(14, 2), cell_units(14))
    rough, fine = (
        attribute(method(tolerance=t, max_forwards=n), game)[0] for t, n in ((0.2, 4000), (0.03, 4000))
    )
    for found, tolerance in ((rough, 0.2), (fine, 0.03)):
        change = max(abs(found.values.sum()), 0.1 * np.abs(found.values).sum())
        assert found.evidence["standard_errors"].max() <= tolerance * change
    assert rough.forwards < fine.forwards < 4000
    spent = attribute(method(tolerance=0, max_forwards=600), game)[0]
    assert 400 < spent.forwards <= 602


@pytest.mark.parametrize("method", METHODS)
def test_many_units_become_runs_that_share_their_value(method):
    weights = np.arange(1.0, 101.0)
    found = attribute(method(max_forwards=160), Game(lambda p: p @ weights, cell_units(100)))[0]
    assert found.evidence["units_a_part"] == 5
    np.testing.assert_allclose(
        found.values.reshape(-1, 5), weights.reshape(-1, 5).mean(1, keepdims=True) * np.ones(5)
    )
    assert found.values.sum() == pytest.approx(weights.sum())


def test_rows_of_a_batch_are_sampled_alone():
    game = Game(interactions(12, 4), cell_units(12))
    for method in METHODS:
        together = attribute(method(max_forwards=400), game, rows=3)
        np.testing.assert_array_equal(together[0].values, together[2].values)
        np.testing.assert_array_equal(together[0].values, attribute(method(max_forwards=400), game)[0].values)
        assert sum(a.forwards for a in together) == 3 * together[0].forwards


@given(st.integers(2, 7), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_every_order_adds_up(units, seed):
    rng = np.random.default_rng(seed)
    orders = rng.random((4, units)).argsort(axis=1)
    sets = prefixes(orders)
    assert sets.shape == (4 * (units - 1), units)
    value = interactions(max(units, 3), seed) if units >= 3 else lambda present: present[:, 0] * present[:, 1]
    whole, empty = value(np.ones((1, units)))[0], value(np.zeros((1, units)))[0]
    found = order_values(orders, value(1.0 - sets), whole, empty)
    np.testing.assert_allclose(found.sum(axis=1), whole - empty, atol=1e-9)
    first = orders[:, 0]
    alone = np.ones((4, units))
    alone[np.arange(4), first] = 0.0
    np.testing.assert_allclose(found[np.arange(4), first], whole - value(alone), atol=1e-9)


def test_the_kernel_is_the_published_one():
    sets = subsets(5)[1:-1]
    weight = kernel(sets)
    assert weight[sets.sum(1) == 1][0] == pytest.approx(4 / (5 * 1 * 4))
    assert weight[sets.sum(1) == 2][0] == pytest.approx(4 / (10 * 2 * 3))


def test_coalitions_follow_the_kernel_and_come_with_their_complements():
    rng = np.random.default_rng(0)
    drawn = np.concatenate([coalitions(rng, 6) for _ in range(400)])
    first = coalitions(rng, 6)
    np.testing.assert_array_equal(first[:12], ~first[12:])
    share = np.bincount(drawn.sum(1), minlength=7)[1:6] / len(drawn)
    size = np.arange(1, 6)
    np.testing.assert_allclose(share, 1 / (size * (6 - size)) / (1 / (size * (6 - size))).sum(), atol=0.02)


def test_the_constrained_fit_is_the_least_squares_solution():
    rng = np.random.default_rng(2)
    z, y, weight = rng.random((40, 5)) < 0.5, rng.normal(size=40), rng.random(40)
    values, residual, _ = constrained_fit(z, y, weight, 1.5)
    assert values.sum() == pytest.approx(1.5)
    loss = weight @ residual**2
    for _ in range(20):
        step = rng.normal(size=5)
        moved = values + 1e-3 * (step - step.mean())
        assert weight @ (y - z @ moved) ** 2 >= loss - 1e-12


def test_precision_is_a_share_of_the_change_or_of_values_that_cancel():
    assert precise(np.array([0.01]), np.array([1.0]), 0.02)
    assert not precise(np.array([0.03]), np.array([1.0]), 0.02)
    assert precise(np.array([0.01, 0.0]), np.array([5.0, -5.0]), 0.02)
    assert precise(np.zeros(0), np.zeros(0), 0.0)
