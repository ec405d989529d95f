"""Edges of bins: where they lie, and what is refused. Parity with the authors' package is in tests/parity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.core.errors import ConfigError, DataError
from salience.data.bins import quantile_edges, tree_edges


def test_quantiles_hold_equal_shares_of_the_rows():
    column = np.random.default_rng(0).gamma(2, 1, 1001)
    edges = quantile_edges(column, 10)
    counts = np.histogram(column, edges)[0]
    assert len(edges) == 11
    assert set(counts) <= {99, 100, 101}
    assert (edges[0], edges[-1]) == (column.min(), column.max())


def test_quantiles_that_coincide_are_one_edge():
    column = np.array([0.0] * 90 + [*range(1, 11)])
    assert quantile_edges(column, 4).tolist() == [0.0, 10.0]
    assert quantile_edges(np.array([0.0, 1.0] * 50), 48).tolist()[0] == 0.0


def test_the_legacy_form_asks_for_no_more_quantiles_than_distinct_values():
    column = np.array([0.0] * 50 + [1.0] * 25 + [2.0] * 25)
    assert (
        quantile_edges(column, 48, legacy=True).tolist()
        == np.unique(np.quantile(column, np.linspace(0, 1, 4))).tolist()
    )
    many = np.random.default_rng(0).normal(size=500)
    np.testing.assert_allclose(quantile_edges(many, 8, legacy=True), quantile_edges(many, 8), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, allow_nan=False, width=32), min_size=2, max_size=40).filter(
        lambda v: min(v) < max(v)
    ),
    st.integers(2, 20),
    st.booleans(),
)
def test_edges_rise_and_end_at_the_extremes(values, n_bins, single):
    column = np.array(values, dtype=np.float32 if single else np.float64)
    for edges in (
        quantile_edges(column, n_bins),
        tree_edges(column, np.arange(len(column)), n_bins, task="regression"),
    ):
        assert edges.dtype == np.float64
        assert 2 <= len(edges) <= n_bins + 1
        assert (np.diff(edges) > 0).all()
        assert (edges[0], edges[-1]) == (column.min(), column.max())


def test_a_tree_cuts_where_the_target_changes():
    column = np.arange(100.0)
    target = (column >= 30).astype(int) + (column >= 80)
    assert tree_edges(column, target, 8, task="classification").tolist() == [0.0, 29.5, 79.5, 99.0]
    assert tree_edges(column, target * 5.0, 8, task="regression").tolist() == [0.0, 29.5, 79.5, 99.0]


def test_a_tree_that_never_splits_leaves_one_bin():
    column = np.arange(50.0)
    assert tree_edges(column, np.zeros(50), 8, task="regression").tolist() == [0.0, 49.0]
    assert tree_edges(column, column, 8, task="regression", min_samples_leaf=30).tolist() == [0.0, 49.0]


def test_the_unit_of_a_regression_target_does_not_matter():
    rng = np.random.default_rng(0)
    column = rng.normal(size=400)
    target = np.sin(3 * column) + 0.3 * rng.normal(size=400)
    options = {"task": "regression", "min_impurity_decrease": 0.01}
    edges = tree_edges(column, target, 32, **options)
    assert 3 < len(edges) < 20
    np.testing.assert_array_equal(tree_edges(column, 4096.0 * target, 32, **options), edges)


def test_several_targets_share_one_tree():
    column = np.arange(60.0)
    target = np.stack([column >= 20, column >= 40], axis=1).astype(float)
    for task in ("multi-regression", "multi-label"):
        assert tree_edges(column, target, 8, task=task).tolist() == [0.0, 19.5, 39.5, 59.0]


def test_trees_see_columns_far_from_zero():
    """Float32, which trees work in, would give all these numbers one of two values."""
    column = 1.7e9 + np.arange(100.0)
    target = (np.arange(100) >= 37).astype(float)
    assert tree_edges(column, target, 4, task="regression").tolist() == [1.7e9, 1.7e9 + 36.5, 1.7e9 + 99]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([1.0, np.nan, 2.0], "1 of its 3 values are missing or infinite, the first in row 1"),
        ([3.0, 3.0], "All its 2 values are 3"),
        ([], "no rows"),
        ([[1.0, 2.0]], "shape is"),
        ([-1e308, 1e308], "overflows float64"),
    ],
    ids=["missing", "constant", "empty", "matrix", "wide"],
)
def test_columns_without_bins_are_refused_with_the_reason(column, words):
    with pytest.raises(DataError, match=words) as caught:
        quantile_edges(np.array(column), 4)
    assert caught.value.code == "SAL-D061"


@pytest.mark.parametrize("target", [[1.0], [1.0, np.nan, 2.0]], ids=["short", "missing"])
def test_targets_that_do_not_fit_are_refused(target):
    with pytest.raises(DataError, match="cannot choose the bins"):
        tree_edges(np.arange(3.0), np.array(target), 2, task="regression")


def test_one_bin_is_refused():
    with pytest.raises(ConfigError, match="n_bins=1"):
        quantile_edges(np.arange(9.0), 1)
