import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salience.core import stats


def test_generator_depends_on_seed_and_names():
    draws = {
        key: stats.generator(*key).integers(0, 1 << 30, 3).tolist()
        for key in [(0,), (1,), (0, "a"), (0, "b"), (0, "a", "b")]
    }
    assert stats.generator(0, "a").integers(0, 1 << 30, 3).tolist() == draws[(0, "a")]
    assert len({tuple(d) for d in draws.values()}) == len(draws)


def mean(x):
    return float(x.mean())


def coverage(interval, rounds=200, rows=60):
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(rounds):
        low, high = interval(rng.normal(2.0, 1.0, rows), seed)
        hits += low <= 2.0 <= high
    return hits / rounds


def test_bootstrap_covers_the_mean():
    assert 0.89 <= coverage(lambda x, seed: stats.bootstrap(mean, x, replicates=200, seed=seed)) <= 0.99


def test_mean_interval_covers_the_mean():
    assert 0.89 <= coverage(lambda x, seed: stats.mean_interval(x, seed=seed, replicates=300)) <= 0.99


def test_bootstrap_keeps_rows_together():
    x = np.arange(50.0)
    low, high = stats.bootstrap(lambda a, b: float(np.abs(a - b).max()), x, x.copy())
    assert low == high == 0.0


def test_bootstrap_is_reproducible_and_wider_at_a_higher_level():
    x = np.random.default_rng(0).normal(size=80)
    narrow, wide = (stats.bootstrap(mean, x, level=level, seed=3) for level in (0.5, 0.99))
    assert narrow == stats.bootstrap(mean, x, level=0.5, seed=3)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_bootstrap_of_nothing_or_undefined_is_nan():
    assert np.isnan(stats.bootstrap(mean, np.array([]))).all()
    assert np.isnan(stats.bootstrap(lambda x: float("nan"), np.ones(5))).all()
    assert np.isnan(stats.mean_interval(np.array([]))).all()


def test_sign_flip_finds_a_shift_and_keeps_its_level():
    rng = np.random.default_rng(1)
    assert stats.sign_flip_test(rng.normal(1.0, 1.0, 40)) < 0.01
    false_alarms = np.mean(
        [stats.sign_flip_test(rng.normal(size=30), replicates=300) < 0.05 for _ in range(200)]
    )
    assert false_alarms <= 0.10
    assert stats.sign_flip_test(np.array([])) == 1.0


def test_sign_flip_is_exact_for_one_value():
    assert stats.sign_flip_test(np.array([3.0])) == 1.0


def test_holm_of_a_worked_example():
    assert stats.holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_between_raw_and_bonferroni_and_keeps_the_order(values):
    p = np.array(values)
    adjusted = stats.holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(p * len(p), 1.0) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_few_differences_have_an_exact_p():
    assert stats.sign_flip_test(np.ones(5)) == 2 / 32
    assert stats.sign_flip_test(np.array([1.0, 2.0, -0.5])) == 4 / 8
