import json

import numpy as np
import pandas as pd
import pytest

from salience.core.errors import ConfigError, DataError, UnsupportedError
from salience.explain.engine import explain
from salience.explain.tables import QUICK, Settings, contributions, effects
from salience.explain.tables.axis import make_axis
from salience.explain.tables.bins import MISSING, OTHERS, make_bins
from salience.explain.tables.curves import profiles
from salience.explain.tables.effects import _target
from salience.explain.tables.labels import number_label, range_label, readable, roundest
from salience.explain.tables.monotone import monotonicity, share_interval
from salience.explain.tables.sentences import bin_sentence
from tables_models import model, table

LOOK = Settings(rows=300, steps=6, followed=60, pairs=4, pair_rows=100, pair_steps=3)


def number(name="x"):
    return type("Column", (), {"name": name, "kind": "number"})


def category(name="g"):
    return type("Column", (), {"name": name, "kind": "category"})


# -- numbers and ranges as people read them ---------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1998.0, "1998"), (52000.0, "52,000"), (0.03125, "0.03125"), (-3.14159, "−3.142"), (-0.0, "0"), (123456.7, "123,457")],
)  # fmt: skip
def test_number_label(value, expected):
    assert number_label(value) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(1.23, 1.31, 1.3), (36.2, 38.4, 38.0), (-3.3, 8.0, 0.0), (0.0123, 0.0124, 0.0123), (980.0, 1020.0, 1000.0), (-1.31, -1.23, -1.3)],
)  # fmt: skip
def test_roundest(low, high, expected):
    found = roundest(low, high)
    assert low <= found <= high
    assert found == expected


def test_readable_edges_keep_their_order_and_move_little():
    values = np.random.default_rng(0).lognormal(3, 2, 5000)
    edges = np.quantile(values, np.linspace(0, 1, 9), method="inverted_cdf")
    found = readable(edges, values)
    assert (np.diff(found) > 0).all() and found[0] == values.min() and found[-1] == values.max()
    assert (np.abs(found - edges)[1:-1] <= 0.25 * np.maximum(np.diff(edges)[:-1], np.diff(edges)[1:])).all()
    assert sum(len(number_label(v)) for v in found[1:-1]) < sum(len(f"{v:.4g}") for v in edges[1:-1])


def test_whole_numbers_make_inclusive_ranges_that_cover_every_cell():
    values = pd.Series(np.random.default_rng(0).integers(17, 90, 2000).astype(float))
    bins = make_bins(number(), values, 6)
    assert bins.labels[-1] == MISSING and bins.labels[0].startswith("17–")
    place = bins.place(values)
    for i, label in enumerate(bins.labels[:-1]):
        low, _, high = label.partition("–")
        inside = values[place == i]
        assert inside.min() >= float(low) and inside.max() <= float(high or low)
    assert bins.place(pd.Series([np.nan])).tolist() == [len(bins.labels) - 1]


def test_few_values_have_a_bin_each_and_rare_categories_share_one():
    bins = make_bins(number(), pd.Series([1.0, 1.0, 4.0, 9.0]), 5)
    assert bins.labels == ("1", "4", "9", MISSING)
    assert bins.place(pd.Series([1.0, 4.0, 9.0, np.nan])).tolist() == [0, 1, 2, 3]
    named = make_bins(category(), pd.Series(["a"] * 5 + ["b"] * 3 + ["c"]), 2)
    assert named.labels == ("a", "b", OTHERS, MISSING)
    assert named.place(pd.Series(["b", "c", None, "new"], dtype=object)).tolist() == [1, 2, 3, 2]


def test_range_label():
    assert range_label(37, 42, True) == "37–42"
    assert range_label(-5, -2, True) == "−5 to −2"
    assert range_label(1.5, 2.25, False) == "1.5 to 2.25"
    assert range_label(3, 3, True) == "3"


# -- contributions by bin ----------------------------------------------------------------------------


def test_contributions_of_a_linear_model_are_its_terms_by_bin():
    frame = table(80)
    made, rows = model(lambda f: 2 * f.k + f.a, frame)
    found = explain(made, rows, method="leave_one_out", faithfulness=True)
    column = next(c for c in contributions(found, made.schema.inputs, bins=4) if c.column == "k")
    edges = make_bins(number("k"), rows.k, 4)
    place = edges.place(rows.k)
    median = made.schema.inputs[-1].baseline
    for i, line in enumerate(column.bins):
        inside = rows.k[place == i]
        assert line.rows == len(inside)
        assert line.mean == pytest.approx(2 * (inside.mean() - median))
        assert line.interval[0] <= line.mean <= line.interval[1]
        truth = [e.faithfulness.verdict == "supported" for e, p in zip(found, place, strict=True) if p == i]
        assert line.supported == pytest.approx(np.mean(truth))
    assert bin_sentence(column, column.bins[0]).startswith(f"k {edges.labels[0]}: −")
    assert "of these explanations beat random" in bin_sentence(column, column.bins[0])


def test_contributions_are_told_from_one_side_of_two_classes():
    frame = table(60)
    made, rows = model(
        lambda f: np.stack([1 / (1 + np.exp(2 * f.a)), 1 / (1 + np.exp(-2 * f.a))], 1),
        frame,
        classes=["no", "yes"],
    )
    found = explain(made, rows, method="leave_one_out", faithfulness=False)
    assert {e.target for e in found} == {"no", "yes"}
    column = next(
        c for c in contributions(found, made.schema.inputs, classes=["no", "yes"], bins=3) if c.column == "a"
    )
    means = [line.mean for line in column.bins]
    assert column.toward == "yes" and means == sorted(means) and means[0] < 0 < means[-1]
    assert sum(line.rows for line in column.bins) == len(frame)
    assert all(line.supported is None for line in column.bins)


def test_contributions_are_about_one_of_several_classes():
    frame = table(60)
    three = lambda f: np.eye(3)[np.where(f.c > 0.5, 2, np.where(f.c > -0.5, 1, 0))] * 0.9 + 0.1 / 3  # noqa: E731
    made, rows = model(three, frame, classes=list("xyz"))
    found = explain(made, rows, method="leave_one_out", faithfulness=False)
    counts = pd.Series([e.target for e in found]).value_counts()
    for toward, expected in ((None, counts.index[0]), ("x", "x"), ("nobody", counts.index[0])):
        column = contributions(found, made.schema.inputs, classes=list("xyz"), toward=toward, bins=1)[0]
        assert column.toward == expected and sum(line.rows for line in column.bins) == counts[expected]


def test_no_explanations_no_contributions():
    assert contributions([], [number()]) == ()


# -- directions --------------------------------------------------------------------------------------


def followed(function, name="c", frame=None):
    frame = table(200) if frame is None else frame
    made, rows = model(function, frame)
    from salience.explain.tables.ask import Asker
    from salience.explain.target import Target

    asker = Asker(made, Target(0, "y", "value"))
    axis = make_axis(rows, next(c for c in made.schema.inputs if c.name == name), [], 8)
    return monotonicity(axis, profiles(asker, rows, axis), rows.index, 1.0)


@pytest.mark.parametrize(
    ("function", "direction"),
    [
        (lambda f: np.exp(f.c), "increasing"),
        (lambda f: -f.c, "decreasing"),
        (lambda f: f.a, "constant"),
        (lambda f: f.c**2, "mixed"),
    ],
    ids=["increasing", "decreasing", "constant", "mixed"],
)
def test_direction(function, direction):
    assert followed(function).direction == direction


def test_falls_are_counted_and_the_worst_is_named():
    frame = table(200)
    found = followed(lambda f: f.c * np.where(f.d > 1, -3, 1), frame=frame)
    share = (frame.d > 1).mean()
    assert found.falls.rows == pytest.approx(share) == found.falls.steps
    assert found.rises.rows == pytest.approx(1 - share)
    assert found.falls.interval[0] < share < found.falls.interval[1]
    worst = found.falls.worst
    assert frame.d[worst["row"]] > 1
    assert worst["change"] == pytest.approx(-3 * (worst["to"] - worst["from"]))


def test_no_violation_still_has_an_upper_end():
    assert share_interval(0, 100) == (0.0, pytest.approx(1 - 0.025 ** (1 / 100)))
    assert share_interval(100, 100)[1] == 1.0


def test_rounding_is_no_fall():
    assert followed(lambda f: f.a + 1e-9 * np.sin(50 * f.c)).direction == "constant"


# -- all of it ---------------------------------------------------------------------------------------


def test_effects_tell_strength_direction_and_words():
    made, rows = model(lambda f: 3 * f.a + f.g.map({"u": 0, "v": 1, "w": -1}), table(300))
    found = effects(made, rows, settings=LOOK)
    assert [c.column for c in found.curves[:2]] == ["a", "g"]
    assert {m.column: m.direction for m in found.monotone}["a"] == "increasing"
    frame = found.to_frame().set_index("column")
    assert frame.loc["a", "p_value"] < 0.05 < frame.loc["c", "p_value"]
    text = str(found)
    assert "“a”: the higher, the higher the predicted “y”" in text
    assert "When only “a” rises, the predicted “y” never falls" in text
    assert "“c” has no effect on the predicted “y” on average that is beyond noise" in text
    assert "“g”: higher with “v”" in text and "lower with “w”" in text
    assert found.forwards > 0 and json.loads(json.dumps(found.to_json()))["curves"][0]["real"] is True


def test_same_seed_same_effects_whatever_the_memory():
    made, rows = model(lambda f: f.a * f.c + f.k, table(200))
    first, small = (effects(made, rows, settings=LOOK, seed=3, memory_mb=m).to_json() for m in (256, 0.5))
    for found in (first, small):
        del found["seconds"]
    assert first == small


def test_partial_dependence_has_the_spread_of_rows():
    made, rows = model(lambda f: f.a * f.c, table(300))
    found = effects(made, rows, columns=["a"], method="partial_dependence", settings=LOOK)
    assert len(found.curves) == 1 and found.curves[0].spread is not None
    assert found.method == "partial_dependence" and found.interactions == ()


def test_constant_column_is_left_out_with_a_reason():
    made, rows = model(lambda f: f.a, table(100).assign(k=1.0))
    found = effects(made, rows, columns=["a", "k"], settings=LOOK)
    assert list(found.left_out) == ["k"] and "“k” has no curve." in str(found)


def test_classes_are_followed_by_log_odds():
    frame = table(300)
    proba = lambda f: np.stack([1 / (1 + np.exp(f.a * 2)), 1 / (1 + np.exp(-f.a * 2))], 1)  # noqa: E731
    made, rows = model(proba, frame, classes=["no", "yes"])
    found = effects(made, rows, columns=["a"], settings=LOOK)
    assert (found.target, found.quantity) == ("yes", "log-odds")
    curve = found.curves[0]
    np.testing.assert_allclose(np.diff(curve.effect), 2 * np.diff(curve.points), rtol=1e-6)
    other = effects(made, rows, columns=["a"], target="no", settings=LOOK)
    np.testing.assert_allclose(other.curves[0].effect, -np.array(curve.effect), rtol=1e-9)


def test_most_frequent_class_is_followed_where_there_are_three():
    made, rows = model(
        lambda f: np.eye(3)[np.where(f.c > -1, 2, 0)] * 0.9 + 0.1 / 3, table(100), classes=list("xyz")
    )
    assert _target(made, rows, None).name == "z"
    assert _target(made, rows, "y").name == "y"


def test_refusals_name_what_is_wrong():
    made, rows = model(
        lambda f: f.a, table(100).assign(t="some words here, and more of them " * 3), kinds={"t": "text"}
    )
    with pytest.raises(ConfigError, match="no column 'A'"):
        effects(made, rows, columns=["A"])
    with pytest.raises(UnsupportedError, match="It holds texts"):
        effects(made, rows, columns=["t"])
    with pytest.raises(ConfigError, match="method"):
        effects(made, rows, method="shap")
    with pytest.raises(DataError, match="Too few rows"):
        effects(made, rows.head(5))
    with pytest.raises(ConfigError, match="rows=3"):
        Settings(rows=3)
    assert QUICK.rows < Settings().rows


def test_model_of_words_alone_is_refused():
    frame = pd.DataFrame({"t": ["some words here, and more of them " * 3] * 30})
    made, rows = model(lambda f: f.t.str.len(), frame, kinds={"t": "text"})
    with pytest.raises(UnsupportedError, match="no number or category"):
        effects(made, rows)
