"""Localisation scores against hand-made maps and independent formulas."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from salience.core.unit import Unit
from salience.data.kinds import KINDS
from salience.explain.ground_truth.localisation import MEASURES, dilated, localise, summarise

MASK = np.array([0.0, 1.0, 1.0, 0.0, 0.0, 0.0])


def test_the_mask_itself_scores_one():
    found = localise(MASK, MASK)
    assert (found.attr, found.mass, found.rank, found.pointing, found.auc, found.normalised) == (1,) * 6
    assert found.uniform == pytest.approx(2 / 6)
    assert found.lift == pytest.approx(3)


def test_the_complement_scores_zero():
    found = localise(1 - MASK, MASK)
    assert (found.attr, found.mass, found.rank, found.pointing, found.auc) == (0,) * 5
    assert found.normalised == pytest.approx(-0.5)


def test_a_uniform_map_scores_luck_everywhere():
    found = localise(np.full(6, -0.3), MASK)
    assert found.attr == found.uniform == found.rank == found.pointing == pytest.approx(1 / 3)
    assert (found.auc, found.lift, found.normalised) == pytest.approx((0.5, 1, 0))
    assert np.isnan(found.mass)  # nothing is positive


def test_sign_and_scale_do_not_matter_but_for_mass():
    rng, inside = np.random.default_rng(0), np.array([0, 0, 1, 1, 0, 0, 1, 0.0])
    for _ in range(100):
        values, scale = rng.integers(-3, 4, 8) / 2, rng.uniform(0.01, 100)  # with zeros and ties
        plain, turned = localise(values, inside), localise(-scale * values, inside)
        for name in set(MEASURES) - {"mass"}:
            np.testing.assert_allclose(getattr(plain, name), getattr(turned, name), atol=1e-9, equal_nan=True)


def test_formulas_written_out():
    values, inside = np.array([0.5, -2.0, 1.0, 0.0, 3.0]), np.array([0.0, 1.0, 0.5, 0.0, 0.25])
    found = localise(values, inside)
    assert found.attr == pytest.approx((2 + 0.5 + 0.75) / 6.5)
    assert found.mass == pytest.approx((0.5 + 0.75) / 4.5)
    assert found.uniform == pytest.approx(1.75 / 5)
    assert found.normalised == pytest.approx((found.attr - 0.35) / 0.65)
    assert found.best == 1
    assert found.rank == pytest.approx(1 / 2)  # the two largest are the last, outside, and the second, inside
    assert found.pointing == 0
    assert found.auc == pytest.approx(roc_auc_score([0, 1, 1, 0, 0], np.abs(values)))


def test_ties_at_the_border_count_in_part():
    values, inside = np.array([3.0, 1.0, 1.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    assert localise(values, inside).rank == pytest.approx((2 / 3) / 2)  # one of three equal places is left


@pytest.mark.parametrize("values", [np.zeros(6), np.full(6, np.nan), np.zeros(0)])
def test_maps_without_a_value_are_undefined(values):
    found = localise(values, MASK[: len(values)])
    assert np.isnan([found.attr, found.mass, found.rank, found.pointing, found.auc, found.lift]).all()


def test_an_empty_region_is_undefined_and_no_hit():
    found = localise(np.arange(6.0), np.zeros(6))
    assert np.isnan([found.attr, found.rank, found.pointing, found.auc, found.best]).all()
    assert found.uniform == 0


def test_a_region_of_everything_has_no_normalised_score():
    found = localise(np.arange(6.0), np.ones(6))
    assert found.attr == 1
    assert np.isnan([found.normalised, found.auc]).all()


def test_without_a_unit_half_inside_attr_is_defined_and_the_order_is_not():
    found = localise(np.array([1.0, 3.0]), np.array([0.4, 0.0]))
    assert found.attr == pytest.approx(0.1)
    assert found.best == pytest.approx(0.4)
    assert np.isnan([found.rank, found.pointing, found.auc]).all()


def test_dilation_grows_a_region_by_one_cell_of_its_own_picture():
    units = (
        KINDS["image"].units("a", b"x")
        + KINDS["image"].units("b", b"x")
        + (Unit("t", "text", "word", (0, 4)),)
    )
    inside = np.zeros(33)
    inside[0] = 0.7
    grown = dilated(units, inside).nonzero()[0].tolist()
    assert grown == [0, 1, 4, 5]
    assert dilated(units, inside)[5] == 0.7


def test_a_summary_counts_what_is_undefined_and_takes_it_out_of_the_means():
    scores = [localise(MASK, MASK), localise(np.zeros(6), MASK), localise(np.ones(6), MASK)]
    found = summarise(scores)
    assert found["undefined"] == 1
    assert found["attr"] == pytest.approx((1 + 1 / 3) / 2)
    assert found["lift"] == pytest.approx(found["attr"] / (1 / 3))
    assert found["low"] <= found["attr"] <= found["high"]


def test_a_summary_of_nothing_is_nan():
    found = summarise([])
    assert found["undefined"] == 0
    assert np.isnan(found["attr"])
