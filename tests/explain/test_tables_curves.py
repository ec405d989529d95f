import numpy as np
import pandas as pd
import pytest

from salience.explain.tables.ask import Asker
from salience.explain.tables.axis import in_order, make_axis, number_points
from salience.explain.tables.curves import accumulated, partial_dependence, profiles
from salience.explain.target import Target
from tables_models import model, table

VALUE = Target(0, "y", "value")


def axis_of(made, frame, name, steps=12):
    column = next(c for c in made.schema.inputs if c.name == name)
    return make_axis(frame, column, [c for c in made.schema.inputs if c.name != name], steps)


def curves(function, name, frame=None, **options):
    """Return the accumulated effect and the partial dependence of one column."""
    frame = table() if frame is None else frame
    made, rows = model(function, frame)
    asker, axis = Asker(made, VALUE), axis_of(made, rows, name)
    spread = float(asker(rows, [{}])[0].std())
    answers = profiles(asker, rows, axis)
    return (
        accumulated(asker, rows, axis, spread=spread, seed=0, **options),
        partial_dependence(axis, answers, spread=spread, seed=0, **options),
    )


@pytest.mark.parametrize("which", [0, 1], ids=["ale", "partial dependence"])
def test_linear_model_gives_a_line_with_its_slope(which):
    frame = table()
    curve = curves(lambda f: 3 * f.a - 2 * f.c + 7, "c")[which]
    expected = -2 * (np.array(curve.points) - frame.c.mean())
    np.testing.assert_allclose(curve.effect, expected, atol=1e-9)
    assert curve.strength == pytest.approx(2 * frame.c.std(ddof=0))
    assert curve.real and curve.rows == len(frame) and curve.left == 0


@pytest.mark.parametrize("which", [0, 1], ids=["ale", "partial dependence"])
def test_additive_model_gives_its_components_where_columns_are_correlated(which):
    frame = table()
    curve = curves(lambda f: np.sin(f.a) + f.b**2 + f.g.map({"u": 0, "v": 1, "w": 5}), "a")[which]
    shape = np.sin(curve.points)
    np.testing.assert_allclose(np.diff(curve.effect), np.diff(shape), atol=1e-9)
    assert sum(curve.counts) == len(frame)


@pytest.mark.parametrize("which", [0, 1], ids=["ale", "partial dependence"])
def test_category_gives_its_values_centred_on_the_rows(which):
    frame = table()
    worth = {"u": 0.0, "v": 1.0, "w": 5.0}
    curve = curves(lambda f: f.a + f.g.map(worth), "g")[which]
    mean = frame.g.map(worth).mean()
    assert dict(zip(curve.labels, curve.effect, strict=True)) == pytest.approx(
        {name: value - mean for name, value in worth.items()}
    )
    assert dict(zip(curve.labels, curve.counts, strict=True)) == frame.g.value_counts().to_dict()


def test_accumulated_effects_stay_on_the_data_where_partial_dependence_leaves_it():
    # beyond |a − b| > 2 no row lies; there the model answers something wild
    wild = lambda f: f.a + 100 * (np.abs(f.a - f.b) > 2)  # noqa: E731
    ale, dependence = curves(wild, "a")
    inner = slice(1, -1)  # the outer steps are as wide as the tails
    np.testing.assert_allclose(np.diff(ale.effect)[inner], np.diff(ale.points)[inner], atol=1e-9)
    assert np.abs(np.diff(dependence.effect) - np.diff(dependence.points))[inner].max() > 1


def test_interval_covers_the_truth_and_narrows_with_rows():
    function = lambda f: f.a * f.k / 60  # noqa: E731
    few, many = (curves(function, "a", table(rows))[0] for rows in (100, 1600))
    width = [np.mean(np.array(c.high) - np.array(c.low)) for c in (few, many)]
    assert width[1] < width[0] / 2
    truth = np.array(many.points) * 0.49  # mean of k / 60
    truth = truth - np.mean(truth)
    inside = (np.array(many.low) - 0.1 <= truth) & (truth <= np.array(many.high) + 0.1)
    assert inside.all()


def test_effect_that_cancels_out_is_not_told_from_noise():
    # the sign of the effect of c is that of d, which is as often up as down
    ale, dependence = curves(lambda f: f.c * np.sign(f.d), "c")
    for curve in (ale, dependence):
        assert not curve.real and 0 < curve.strength < 2 * curve.control
    assert dependence.spread[0][0] < -0.5 < 0.5 < dependence.spread[1][0]  # yet single rows move


def test_control_keeps_its_level():
    """Random signs of a pure noise effect give p-values below 0.05 about one time in twenty."""
    frame = table(200)
    made, rows = model(lambda f: f.c, frame)
    asker, axis = Asker(made, VALUE), axis_of(made, rows, "c")
    found = []
    for seed in range(40):
        sign = np.random.default_rng(seed).choice([-1.0, 1.0], len(rows))
        answers = rows.c.to_numpy()[:, None] * 0 + sign[:, None] * np.asarray(axis.points)[None]
        found.append(partial_dependence(axis, answers, spread=1.0, seed=seed).p_value)
    assert np.mean(np.array(found) < 0.05) < 0.15
    assert np.mean(np.array(found) < 0.5) > 0.25
    assert asker.forwards == 0


def test_ignored_column_is_exactly_flat():
    ale, dependence = curves(lambda f: f.a, "c")
    assert ale.strength == dependence.strength == 0.0
    assert ale.p_value == dependence.p_value == 1.0


def test_mostly_zero_column_keeps_points_where_it_is_not_zero():
    values = np.concatenate([np.zeros(900), np.linspace(1, 100, 100)])
    points = number_points(values, 10)
    assert points[0] == 0 and points[-1] == 100 and len(points) > 5
    assert np.isin(points, values).all() and (np.diff(points) > 0).all()


def test_few_values_are_all_points_and_one_value_has_no_axis():
    frame = table(60).assign(k=1.0)
    made, rows = model(lambda f: f.a, frame)
    assert axis_of(made, rows, "k") is None
    assert number_points(np.array([2.0, 1.0, 2.0]), 10).tolist() == [1.0, 2.0]


def test_missing_numbers_are_off_the_curve():
    frame = table()
    frame.loc[:99, "c"] = np.nan
    curve = curves(lambda f: f.c.fillna(50), "c", frame)[0]
    assert curve.left == 100 and curve.rows == 500
    np.testing.assert_allclose(np.diff(curve.effect), np.diff(curve.points))


def test_missing_category_is_a_value_of_its_own():
    frame = table()
    frame.loc[:199, "g"] = None
    curve = curves(lambda f: f.g.isna() * 2.0, "g", frame)[0]
    effect = dict(zip(curve.labels, curve.effect, strict=True))
    assert effect["missing"] == pytest.approx(2 * (1 - 200 / 600))


def test_like_categories_are_neighbours():
    rng = np.random.default_rng(0)
    place = np.repeat([0, 1, 2], 200)
    frame = pd.DataFrame({"x": rng.normal(np.array([4.0, 0.0, 2.0])[place], 1), "h": place.astype(str)})
    columns = [
        type("Column", (), {"name": name, "kind": kind})
        for name, kind in (("x", "number"), ("h", "category"))
    ]
    order = in_order(place, frame, columns[:1]).tolist()
    assert order in ([0, 2, 1], [1, 2, 0])
    assert sorted(in_order(place, frame, columns[1:])) == [0, 1, 2]  # all alike: any order


def test_same_seed_same_numbers_and_calls_are_packed():
    first, again = (curves(lambda f: f.a * f.c, "a")[0] for _ in range(2))
    assert first == again
    made, rows = model(lambda f: f.a, table(100))
    small, large = Asker(made, VALUE, memory_mb=0.01), Asker(made, VALUE)
    changes = [{"a": np.full(100, value)} for value in (1.0, 2.0, 3.0)]
    np.testing.assert_array_equal(small(rows, changes), large(rows, changes))
    assert small.forwards == large.forwards == 300
