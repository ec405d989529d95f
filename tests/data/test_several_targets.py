"""Several targets: how they are named, what they must be, how they are read and divided."""

import numpy as np
import pandas as pd
import pytest

from salience.core.errors import DataError
from salience.data import splits
from salience.data.readers import read
from salience.data.schema import Schema, infer
from salience.data.target import target_names, to_labels

ROWS = 60


def frame(rows=ROWS, seed=0, **more):
    rng = np.random.default_rng(seed)
    cells = {
        "x": rng.normal(size=rows),
        "a": rng.normal(size=rows),
        "b": 100 * rng.normal(size=rows),
        "low": rng.integers(0, 2, rows),
        "high": np.where(rng.random(rows) < 0.3, "yes", "no"),
        "flag": rng.random(rows) < 0.5,
        "colour": rng.choice(["red", "green", "blue"], rows),
    }
    return pd.DataFrame(cells | more)


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (None, []),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("a, b,", ["a", "b"]),
        (["a", "b", "a"], ["a", "b"]),
        (("b",), ["b"]),
        ("c,d", ["c,d"]),
        ("nothing,a", ["nothing", "a"]),
    ],
)
def test_names_of_targets(target, names):
    assert target_names(target, ["a", "b", "c,d"]) == names


def test_numbers_are_a_multi_regression():
    schema = infer(frame(), ["a", "b"], drop=["low", "high", "flag", "colour"])
    assert (schema.task, schema.classes, schema.outputs) == ("multi-regression", None, ["a", "b"])
    assert [c.kind for c in schema.targets] == ["number", "number"] and schema.target.name == "a"
    assert [c.name for c in schema.inputs] == ["x"]
    target = schema.encode_target(frame())
    assert target.dtype == np.float64
    np.testing.assert_array_equal(target, frame()[["a", "b"]])


@pytest.mark.parametrize("written", ["low,high,flag", ["low", "high", "flag"]])
def test_labels_are_read_as_zero_and_one(written):
    rows = frame()
    schema = infer(rows, written)
    assert (schema.task, schema.classes, schema.outputs) == ("multi-label", None, ["low", "high", "flag"])
    assert "multi-label" in schema.target.reason
    target = schema.encode_target(rows)
    wanted = np.stack([rows["low"], rows["high"] == "yes", rows["flag"]], axis=1)
    assert target.dtype == np.int64
    np.testing.assert_array_equal(target, wanted)
    parsed = schema.parse(rows)
    np.testing.assert_array_equal(schema.encode_target(parsed), wanted)
    np.testing.assert_array_equal(parsed["high"], wanted[:, 1])


@pytest.mark.parametrize("value", ["1", 1, 1.0, True, "TRUE", " Yes ", np.int8(1), np.True_])
def test_ways_to_write_a_label(value):
    labels, bad = to_labels(pd.Series([value, "no", "maybe", 2, 0.5], dtype=object))
    assert labels.tolist() == [1, 0, 0, 0, 0] and bad.tolist() == [2, 3, 4]


def test_a_list_of_one_target_is_one_target():
    assert infer(frame(), ["colour"]) == infer(frame(), "colour")


def test_order_of_targets_is_that_of_the_table():
    assert infer(frame(), ["b", "a"]).outputs == infer(frame(), ["a", "b"]).outputs == ["a", "b"]


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (["low", "a"], "multi-regression"),
        (["low", "flag"], "multi-regression"),
        (["a", "b"], "regression"),
        (["low", "high"], "classification"),
    ],
)
def test_the_task_can_be_asked_for(target, task):
    found = infer(frame(), target, task=task)
    assert found.task == {"classification": "multi-label"}.get(task, "multi-regression")


@pytest.mark.parametrize(
    ("target", "options", "code", "text"),
    [
        (["a", "low"], {}, "SAL-D029", "'low': 0 and 1.*task=multi-regression"),
        (["a", "colour"], {}, "SAL-D029", "'colour': 3 named values"),
        (["low", "colour"], {"task": "multi-label"}, "SAL-D029", "row 1 holds '(red|green|blue)'"),
        (["a", "b"], {"task": "multi-label"}, "SAL-D029", "neither 0 nor 1"),
        ("a", {"task": "multi-regression"}, "SAL-D029", "--target a,b"),
        ("a,nothing", {}, "SAL-D020", "'nothing'"),
        (["a", "b"], {"drop": ["b"]}, "SAL-D026", "'b' cannot be dropped"),
        (["a", "b"], {"kinds": {"b": "text"}}, "SAL-D027", "kind of column 'b'"),
        (["a", "same"], {}, "SAL-D022", "'same' has one value"),
        (["low", "never"], {}, "SAL-D022", "'never' has one value"),
        (["a", "gap"], {}, "SAL-D021", "'gap' is missing in 1 of 60 rows"),
        (["a", "when"], {}, "SAL-D024", "'when' cannot be a target"),
    ],
)
def test_what_is_refused(target, options, code, text):
    gap = np.where(np.arange(ROWS) == 3, np.nan, np.arange(ROWS) / 7)
    rows = frame(same=1.5, never=0, gap=gap, when=pd.date_range("2020-01-01", periods=ROWS))
    with pytest.raises(DataError, match=text) as info:
        infer(rows, target, **options)
    assert info.value.code == code


def test_rows_without_any_of_the_targets_are_left_out_on_request():
    rows = frame(20)
    rows.loc[2, "a"] = np.nan
    rows.loc[[5, 7], "b"] = np.nan
    schema = infer(rows, ["a", "b"], missing_target="drop")
    assert schema.parse(rows).index.tolist() == [i for i in range(20) if i not in (2, 5, 7)]
    assert len(schema.parse(rows, target=False)) == 20


def test_targets_are_parsed_all_or_none():
    schema = infer(frame(), ["a", "b"])
    assert "a" not in schema.parse(frame().drop(columns="b"))
    with pytest.raises(DataError, match="'b' is missing"):
        schema.parse(frame().drop(columns="b"), target=True)


def test_a_label_that_is_neither_is_named():
    schema = infer(frame(), ["low", "high"])
    rows = frame().astype({"high": object})
    rows.loc[3, "high"] = "maybe"
    with pytest.raises(DataError, match="row 4 holds 'maybe'") as info:
        schema.encode_target(rows)
    assert info.value.code == "SAL-D029"


def test_json_and_titles():
    schema = infer(frame(), ["low", "high", "flag"]).fitted(frame())
    assert Schema.from_json(schema.to_json()) == schema
    assert schema.target_title == "low, high and flag"
    assert infer(frame(), ["a", "b"]).target_title == "a and b"
    assert infer(frame(), "colour").target_title == "colour"
    many = frame(**{f"t{i}": np.arange(ROWS) / 3 + i for i in range(5)})
    assert infer(many, [f"t{i}" for i in range(5)]).target_title == "5 targets (t0, …, t4)"


def test_reading_asks_for_every_target():
    with pytest.raises(DataError, match="'nothing'"):
        read(frame(), target="a,nothing")
    assert read(frame(), target=["a", "b"]).target is None


def shares(schema, rows, parts):
    labels = schema.encode_target(rows)
    return labels[(parts == "test").to_numpy()].mean(axis=0), labels.mean(axis=0)


def test_labels_are_stratified_by_their_set():
    rng = np.random.default_rng(1)
    rare = np.zeros(400, dtype=int)
    rare[:20] = 1
    rows = frame(400, a=1.0, rare=rng.permutation(rare))
    schema = infer(rows, ["low", "high", "rare"])
    parts = splits.split(rows, schema, seed=3)
    assert parts.attrs["how"] == "stratified" and "set of labels" in parts.attrs["reason"]
    test, whole = shares(schema, rows, parts)
    np.testing.assert_allclose(test, whole, atol=0.02)


def test_rare_sets_are_divided_by_their_rarest_label():
    labels = np.random.default_rng(2).integers(0, 2, (300, 8))
    labels[:, 0] = 0
    labels[:12, 0] = 1
    rows = pd.DataFrame({f"l{i}": labels[:, i] for i in range(8)}).assign(
        x=np.random.default_rng(3).normal(size=300)
    )
    schema = infer(rows, [f"l{i}" for i in range(8)])
    found = splits.split(rows, schema, seed=0, test=0.25, validation=0.25)
    counts = rows.groupby(found)["l0"].sum()
    assert counts.to_dict() == {"test": 3, "train": 6, "validation": 3}


def test_labels_with_gaps_are_divided_too():
    rows = frame(40).astype({"high": object})
    rows.loc[::4, "high"] = None
    schema = infer(rows, ["low", "high"], missing_target="drop")
    assert splits.split(rows, schema).attrs["how"] == "stratified"


def test_numbers_are_divided_at_random():
    parts = splits.split(frame(), infer(frame(), ["a", "b"]))
    assert parts.attrs["how"] == "random"
