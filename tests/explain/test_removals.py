"""Methods that take units away: windows, local lines, masks, controls, and runs of neighbours in long rows."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from salience.core.unit import Unit
from salience.explain.attribution import Attribution
from salience.explain.methods.inverse import InverseControl
from salience.explain.methods.leave_one_out import LeaveOneOut
from salience.explain.methods.lime import Lime, draw, fit
from salience.explain.methods.occlusion import Occlusion
from salience.explain.methods.random import RandomControl
from salience.explain.methods.rise import Rise
from salience.explain.methods.uniform import UniformControl
from salience.explain.removals import Removals, parts, row_generator
from salience.explain.target import Target
from salience.testing.games import Game, cell_units, interactions, region_units, word_units

VALUE = Target(0, "value", "value")


def attribute(method, game, **options):
    return method.attribute(game, game.frame(), [VALUE], **options)[0]


# -- leave one out and windows ------------------------------------------------------------------------


def test_leave_one_out_is_the_drop_of_each():
    value = interactions(6)
    found = attribute(LeaveOneOut(), Game(value, cell_units(6)))
    np.testing.assert_allclose(found.values, value(np.ones((1, 6))) - value(1 - np.eye(6)))
    assert found.forwards == 8


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (3, 2), (3, 3), (20, 2)])
def test_a_units_value_is_the_mean_drop_of_its_windows(window, stride):
    units, value = 8, interactions(8, 1)
    found = attribute(
        Occlusion(window=window, block=max(2, stride), stride=stride), Game(value, word_units(units))
    )
    sums, counts, start = np.zeros(units), np.zeros(units), 0
    while True:
        hidden = np.zeros(units)
        hidden[start : start + window] = 1
        sums += hidden * (value(np.ones((1, units)))[0] - value(1 - hidden[None])[0])
        counts += hidden
        if start + window >= units:
            break
        start += stride
    np.testing.assert_allclose(found.values, sums / counts)


def test_windows_stay_in_their_column_and_cells_are_hidden_alone():
    units = (*word_units(3), *cell_units(2), *(Unit("b", "text", f"v{i}", (i, i + 1)) for i in range(2)))
    seen = []
    game = Game(lambda present: seen.append(present) or present.sum(1), units)
    attribute(Occlusion(window=2), game)
    hidden = {tuple(row) for row in np.concatenate(seen) == 0}
    expected = {(0,) * 7, (1,) * 7}  # the whole and the empty row
    for where in ([0, 1], [1, 2], [3], [4], [5, 6]):
        expected.add(tuple(int(i in where) for i in range(7)))
    assert hidden == {tuple(bool(b) for b in row) for row in expected}


def test_blocks_of_regions_slide_in_both_directions():
    game = Game(lambda present: present @ np.arange(12.0), region_units(3, 4))
    found = attribute(Occlusion(block=2), game)
    assert found.forwards == 2 + 2 * 3
    grid = np.arange(12.0).reshape(3, 4)
    drops = {(i, j): grid[i : i + 2, j : j + 2].sum() for i in range(2) for j in range(3)}
    assert found.values[0] == pytest.approx(drops[0, 0])
    assert found.values[5] == pytest.approx(np.mean([drops[i, j] for i in (0, 1) for j in (0, 1)]))


# -- LIME ---------------------------------------------------------------------------------------------


def test_the_line_is_the_ridge_regression_of_the_authors():
    rng = np.random.default_rng(0)
    removed = draw(rng, 300, 7)
    scores = interactions(7, 2)(1.0 - removed)
    values, r2 = fit(~removed, scores, 0.25, 1.0)
    z = (~removed).astype(float)
    distance = 1 - z.sum(1) / np.maximum(np.linalg.norm(z, axis=1) * np.sqrt(7), 1e-12)
    weight = np.sqrt(np.exp(-((100 * distance) ** 2) / 25**2))
    ridge = Ridge(alpha=1.0).fit(z, scores, sample_weight=weight)
    np.testing.assert_allclose(values, ridge.coef_, atol=1e-10)
    assert r2 == pytest.approx(ridge.score(z, scores, sample_weight=weight))


def test_sizes_of_samples_are_uniform_and_the_first_is_whole():
    removed = draw(np.random.default_rng(1), 20_000, 5)
    assert not removed[0].any()
    np.testing.assert_allclose(np.bincount(removed[1:].sum(1), minlength=6)[1:] / 19_999, 0.2, atol=0.01)
    np.testing.assert_allclose(removed.mean(0), 0.6, atol=0.01)


def test_lime_finds_the_weights_of_a_line_and_says_how_well_it_fits():
    weights = np.array([1.0, -2.0, 0.5, 0.0])
    found = attribute(Lime(samples=2000), Game(lambda present: present @ weights, cell_units(4)))
    np.testing.assert_allclose(found.values, weights, atol=0.05)
    assert found.evidence["local_r2"] > 0.999
    curved = attribute(Lime(), Game(lambda p: 1.0 * (p.sum(1) % 2), cell_units(9)))
    assert curved.evidence["local_r2"] < 0.5
    flat = attribute(Lime(), Game(lambda p: np.ones(len(p)), cell_units(3)))
    assert np.isnan(flat.evidence["local_r2"])
    assert not flat.values.any()


# -- RISE ---------------------------------------------------------------------------------------------


def test_rise_estimates_the_mean_while_kept_less_the_mean():
    value = interactions(6, 5)
    sets = (np.arange(64)[:, None] >> np.arange(6)) % 2 == 1
    scores = value(sets.astype(float))
    exact = np.array([scores[sets[:, i]].mean() for i in range(6)]) - scores.mean()
    found = attribute(Rise(samples=4000), Game(value, cell_units(6)))
    z = (found.values - exact) / found.evidence["standard_errors"]
    assert np.abs(z).max() < 4
    assert np.corrcoef(found.values, exact)[0, 1] > 0.98


def test_the_share_that_is_kept_can_be_chosen():
    seen = []
    game = Game(lambda present: seen.append(present) or present.sum(1), cell_units(60))
    attribute(Rise(samples=2000, keep=0.8), game)
    assert np.concatenate(seen).mean() == pytest.approx(0.8, abs=0.01)


# -- controls -----------------------------------------------------------------------------------------


def test_controls():
    game = Game(interactions(5), cell_units(5))
    np.testing.assert_array_equal(attribute(UniformControl(), game).values, np.full(5, 0.2))
    one = attribute(LeaveOneOut(), game).values
    np.testing.assert_array_equal(attribute(InverseControl(), game).values, -one)
    windows = attribute(InverseControl("occlusion", window=2), game).values
    np.testing.assert_array_equal(windows, -attribute(Occlusion(window=2), game).values)
    assert attribute(InverseControl(LeaveOneOut()), game).completeness_gap is None
    a, b = (attribute(RandomControl(), game, seed=seed).values for seed in (0, 1))
    assert not np.allclose(a, b)


def test_generators_depend_on_seed_purpose_and_every_label():
    units, other = word_units(3), word_units(2)
    streams = [
        row_generator(*key).random()
        for key in ((0, "a", units), (0, "a", units), (1, "a", units), (0, "b", units), (0, "a", other))
    ]
    assert streams[0] == streams[1]
    assert len(set(streams)) == 4


# -- long rows ----------------------------------------------------------------------------------------


def test_parts_are_units_or_runs_of_one_column():
    np.testing.assert_array_equal(parts(word_units(4), 4), np.arange(4))
    mixed = (*word_units(5), *cell_units(1), *(Unit("b", "text", "v", (i, i)) for i in range(4)))
    np.testing.assert_array_equal(parts(mixed, 6), [0, 0, 1, 1, 2, 3, 4, 4, 5, 5])
    np.testing.assert_array_equal(parts(cell_units(7), 3), [0, 0, 0, 1, 1, 1, 2])
    assert parts((), 3).shape == (0,)
    for limit in (1, 7, 64, 999):
        found = parts(word_units(1000), limit)
        assert found.max() < limit
        assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize(
    "method", [LeaveOneOut(10), Occlusion(window=2, max_forwards=10), Lime(40), Rise(40)]
)
def test_a_long_row_is_cut_to_runs(method):
    game = Game(lambda present: present.sum(1), word_units(100))
    found = attribute(method, game)
    assert found.evidence["units_a_part"] == 10
    assert found.values.shape == (100,)
    assert found.forwards == game.rows_seen <= 42
    np.testing.assert_array_equal(found.values[:10], found.values[0])


def test_sets_of_units_take_a_share_of_the_budget():
    calls = []
    game = Game(lambda present: present.sum(1), word_units(200))
    rows = Removals(game, game.frame(6), [VALUE] * 6, 0.5, 500)
    perturbed = rows._perturber.scores
    rows._perturber.scores = lambda some, sets, targets: (
        calls.append(len(some)) or perturbed(some, sets, targets)
    )
    found = rows.first([np.eye(200, dtype=bool)] * 6)
    assert calls == [3, 3]  # 202 sets × 200 units a row, an eighth of a MiB a call
    assert [len(part) for part in found] == [200] * 6


def test_attributions_share_time_by_evaluations():
    game = Game(lambda present: present.sum(1), word_units(3))
    rows = Removals(game, game.frame(2), [VALUE] * 2, 16, 10)
    rows.first([np.eye(3, dtype=bool), np.eye(3, dtype=bool)[:1]])
    first, second = rows.attributions([np.ones(3), np.ones(3)], complete=True)
    assert isinstance(first, Attribution)
    assert (first.forwards, second.forwards) == (5, 3)
    assert first.seconds / second.seconds == pytest.approx(5 / 3)
    assert first.completeness_gap == 0.0
