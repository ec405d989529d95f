"""Scaling of number columns: the paper's quantile transform, policies for odd cells, exact state."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.core.errors import ConfigError, DataError
from salience.core.io import dumps
from salience.data.numbers import FARTHEST, SATURATED, NumberScaler

SCALINGS = ("quantile", "standard", "none")


def rng():
    return np.random.default_rng(7)


def table(rows=900):
    """Return normal values, many ties, a skewed column and one in large units."""
    draw = np.random.default_rng(0)
    ties = np.where(draw.random(rows) < 0.6, 0.0, draw.gamma(2, 3, rows))
    return np.stack(
        [draw.normal(5, 2, rows), ties, draw.lognormal(3, 1, rows), 1e6 * draw.random(rows)], axis=1
    )


def fitted(values, **policies):
    values = np.asarray(values, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    names = [f"x{i}" for i in range(values.shape[1])]
    return NumberScaler(names, **policies).fit(values, rng())


def one(scaler, values):
    return scaler.transform(np.asarray(values, dtype=float)[:, None])[:, 0]


def published(train, values):
    """Return the paper's preprocessing by scikit-learn, with noise drawn column by column as we draw it."""
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    draw, columns = rng(), []
    noise = [1e-3 / max(c.std(), 1e-3) * draw.standard_normal(len(c)) for c in train.T]
    for column, extra, seen in zip(train.T, noise, values.T, strict=True):
        quantiles = int(np.clip(len(train) // 30, 10, 1000))
        transformer = preprocessing.QuantileTransformer(
            n_quantiles=quantiles, output_distribution="normal", subsample=10**9
        )
        transformer.fit((column + extra)[:, None])
        columns.append(transformer.transform(seen[:, None])[:, 0])
    return np.stack(columns, 1)


@pytest.mark.parametrize("rows", [60, 900])
def test_quantile_scaling_is_the_noisy_transform_of_the_paper(rows):
    train, new = table(rows), table(1000)[-200:]
    found = fitted(train).transform(new)
    np.testing.assert_allclose(found, published(train, new), atol=2e-6)


def test_a_column_in_tiny_units_keeps_its_order_where_the_published_noise_drowns_it():
    values = np.linspace(0, 1e-9, 500)
    found = one(fitted(values), values)
    wanted = one(fitted(values * 1e9), values * 1e9)
    assert np.corrcoef(found, wanted)[0, 1] > 0.98
    drowned = published(values[:, None], values[:, None])[:, 0]
    assert np.unique(drowned.round(6)).size < 5


@pytest.mark.parametrize("scaling", SCALINGS)
def test_state_rebuilds_the_scaler_exactly(scaling):
    values = table()
    values[::7, 1] = np.nan
    scaler = fitted(values, scaling=scaling)
    again = NumberScaler(scaler.columns, scaling=scaling).restore(json.loads(dumps(scaler.state())))
    np.testing.assert_array_equal(again.transform(values), scaler.transform(values))
    np.testing.assert_array_equal(again.median, scaler.median)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("outside", ["clip", "extrapolate"])
def test_inverse_gives_own_units_back(scaling, outside):
    train = table()[:, [0, 3]]
    scaler = fitted(train, scaling=scaling, outside=outside)
    scaled = scaler.transform(train)
    for i in range(2):
        np.testing.assert_allclose(scaler.inverse(scaled[:, i], i), train[:, i], rtol=1e-3, atol=0.02)


def test_inverse_of_a_quantile_scale_ends_at_the_ends_of_the_training_values():
    values = np.arange(1000.0)
    found = fitted(values).inverse(np.array([-SATURATED, SATURATED]), 0)
    np.testing.assert_allclose(found, [0, 999], atol=0.1)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_values_outside_the_training_range_are_moved_or_go_on_linearly(scaling):
    values = np.arange(100.0)
    clipped = one(fitted(values, scaling=scaling, outside="clip"), [150, 1e9, -1, -7])
    assert clipped[0] == clipped[1] > clipped[2] == clipped[3]
    going = one(fitted(values, scaling=scaling, outside="extrapolate"), [99, 149, 199, 249])
    np.testing.assert_allclose(np.diff(going)[1:], np.diff(going)[1])
    assert (np.diff(going) > 0).all()


def test_a_quantile_scale_clips_unless_told_otherwise_and_a_standard_one_does_not():
    assert fitted(np.arange(9.0)).outside == "clip"
    assert fitted(np.arange(9.0), scaling="standard").outside == "extrapolate"
    assert fitted(np.arange(9.0), outside="extrapolate").outside == "extrapolate"


@pytest.mark.parametrize("scaling", SCALINGS)
def test_infinities_follow_their_policy(scaling):
    values = np.array([1.0, 5.0, 2.0, np.inf, 3.0, -np.inf])
    absent = one(fitted(values, scaling=scaling), [np.inf, -np.inf])
    assert np.isnan(absent).all()
    scaler = fitted(values, scaling=scaling, infinite="clip")
    np.testing.assert_array_equal(one(scaler, [np.inf, -np.inf]), one(scaler, [5.0, 1.0]))
    with pytest.raises(DataError, match="'x0' has infinite values") as error:
        fitted(values, scaling=scaling, infinite="error")
    assert error.value.code == "SAL-D033"


@pytest.mark.parametrize("scaling", SCALINGS)
def test_missing_values_follow_their_policy(scaling):
    values = [1.0, np.nan, 2.0, 7.0]
    assert np.isnan(one(fitted(values, scaling=scaling), [np.nan])).all()
    scaler = fitted(values, scaling=scaling, missing="median")
    np.testing.assert_allclose(one(scaler, [np.nan]), one(scaler, [2.0]), atol=1e-12)
    scaler = fitted([1.0, 2.0], scaling=scaling, missing="error")
    with pytest.raises(DataError, match="1 of 3 rows, the first at position 1"):
        one(scaler, [1.0, np.nan, 2.0])


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("constant", [3.0, 0.1, 1e9 + 0.1, 0.0, -1e300])
def test_all_values_of_a_constant_column_are_alike(scaling, constant):
    scaler = fitted([constant] * 7, scaling=scaling)
    np.testing.assert_array_equal(one(scaler, [constant, constant + 1, -1e12]), 0.0)
    assert not scaler.varies.any()
    np.testing.assert_allclose(scaler.inverse(np.array([0.0, 1.0]), 0), constant, rtol=1e-15)


def test_a_column_without_training_values_has_none_later():
    scaler = fitted([np.nan, np.inf, np.nan])
    assert np.isnan(one(scaler, [5.0, np.nan])).all()
    assert scaler.knows_missing.all() and scaler.median[0] == 0


@pytest.mark.parametrize("scaling", ["quantile", "standard"])
@pytest.mark.parametrize("unit", [1e-300, 1e-12, 1e12, 1e307])
def test_units_of_measurement_do_not_matter(scaling, unit):
    values = np.array([1.0, 2.0, 2.5, 4.0, 8.0, 9.0, 10.0, 11.0, 12.0, 17.0])
    found = one(fitted(values * unit, scaling=scaling), values * unit)
    wanted = one(fitted(values, scaling=scaling), values)
    if scaling == "standard":
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
    else:  # the paper's noise depends on the unit
        np.testing.assert_allclose(found[1:-1], wanted[1:-1], atol=0.25)


def test_whole_numbers_above_two_to_the_24_are_told_apart():
    ids = 1e15 + np.arange(50.0)
    for scaling in ("quantile", "standard"):
        assert np.unique(one(fitted(ids, scaling=scaling), ids).astype(np.float32)).size >= 48


@pytest.mark.parametrize("scaling", SCALINGS)
@settings(max_examples=60, deadline=None)
@given(cells=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=12))
def test_any_cells_give_finite_or_missing_numbers_in_float32(scaling, cells):
    found = one(fitted(cells, scaling=scaling), cells)
    absent = ~np.isfinite(np.array(cells))
    np.testing.assert_array_equal(np.isnan(found), absent)
    assert np.isfinite(found[~absent].astype(np.float32)).all()
    if scaling != "none":
        assert np.abs(found[~absent]).max(initial=0) <= FARTHEST


@settings(max_examples=60, deadline=None)
@given(cells=st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=40), seed=st.integers(0, 3))
def test_scaling_keeps_the_order(cells, seed):
    values = np.sort(np.array(cells))
    for scaling in SCALINGS:
        scaler = NumberScaler(["x"], scaling=scaling).fit(values[:, None], np.random.default_rng(seed))
        assert (np.diff(one(scaler, values)) >= -1e-12 * np.abs(values).max()).all()


def test_an_unknown_policy_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="Did you mean 'quantile'"):
        NumberScaler(["x"], scaling="quantiles")
