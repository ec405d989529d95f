"""Splits: shares, classes, groups, times, given; the same whatever the index."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salience.core.errors import DataError
from salience.data.schema import infer
from salience.data.splits import split


def table(rows=100, classes=2, **columns):
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {"x": rng.normal(size=rows), "y": [f"c{i % classes}" for i in range(rows)], **columns}
    )


def divided(frame, how="auto", schema=None, **options):
    return split(frame, schema or infer(frame, "y"), how=how, **options)


def counts(result):
    return result.value_counts().to_dict()


def test_stratified_keeps_shares_in_every_class():
    frame = pd.DataFrame({"x": np.arange(1000) / 3, "y": ["a"] * 900 + ["b"] * 100})
    result = divided(frame)
    assert result.attrs["how"] == "stratified"
    assert counts(result[frame.y == "a"]) == {"train": 630, "test": 180, "validation": 90}
    assert counts(result[frame.y == "b"]) == {"train": 70, "test": 20, "validation": 10}


def test_regression_is_drawn_at_random():
    frame = table(y=np.arange(100) / 7)
    result = divided(frame)
    assert result.attrs["how"] == "random"
    assert counts(result) == {"train": 70, "test": 20, "validation": 10}
    fallen = divided(frame, "stratified")
    assert "no classes to stratify by" in fallen.attrs["reason"]


def test_rare_classes():
    frame = pd.DataFrame({"x": np.arange(53) / 3, "y": ["a"] * 50 + ["once"] + ["twice"] * 2})
    result = divided(frame)
    assert result[frame.y == "once"].tolist() == ["train"]
    assert sorted(result[frame.y == "twice"]) == ["test", "train"]
    assert "too rare to be in every split: once, twice" in result.attrs["reason"]


@given(
    st.lists(st.sampled_from("abcde"), min_size=10, max_size=80),
    st.floats(0.05, 0.5),
    st.floats(0.05, 0.4),
    st.integers(0, 5),
)
def test_every_class_with_three_rows_is_in_every_split(labels, test, validation, seed):
    frame = pd.DataFrame({"x": np.arange(len(labels)) / 3, "y": labels})
    try:
        result = divided(frame, test=test, validation=validation, seed=seed, schema=infer(frame, "y"))
    except DataError as error:
        assert error.code in ("SAL-D022", "SAL-D023", "SAL-D050")
        return
    assert set(result) == {"train", "validation", "test"}
    for label, count in frame["y"].value_counts().items():
        if count >= 3:
            assert set(result[frame.y == label]) == {"train", "validation", "test"}


def test_the_same_seed_gives_the_same_rows_whatever_the_index():
    frame = table(classes=3)
    schema = infer(frame, "y")
    for how in ("stratified", "random"):
        first = split(frame, schema, how=how, seed=3)
        again = split(frame.set_axis(np.arange(100)[::-1] * 7), schema, how=how, seed=3)
        other = split(frame, schema, how=how, seed=4)
        assert first.tolist() == again.tolist()
        assert list(again.index) == list(np.arange(100)[::-1] * 7)
        assert first.tolist() != other.tolist()


def test_groups_stay_together():
    frame = table(200, g=[f"g{i % 23}" for i in range(200)])
    schema = infer(frame, "y", kinds={"g": "group"})
    result = divided(frame, schema=schema)
    assert result.attrs["how"] == "grouped"
    assert (result.groupby(frame.g).nunique() == 1).all()
    assert 25 <= counts(result)["test"] <= 55
    assert set(result) == {"train", "validation", "test"}


def test_a_row_without_group_is_a_group_of_its_own():
    frame = table(40, g=[None if i < 20 else "g" for i in range(40)])
    result = divided(frame, "grouped", column="g")
    assert result[frame.g == "g"].nunique() == 1


def test_time_puts_the_latest_rows_in_the_test():
    days = pd.date_range("2024-01-01", periods=50).repeat(2)
    frame = table(100, day=days).sample(frac=1, random_state=0)
    result = divided(frame, "time")
    assert counts(result) == {"train": 70, "validation": 10, "test": 20}
    assert frame.day[result == "train"].max() < frame.day[result == "validation"].min()
    assert frame.day[result == "validation"].max() < frame.day[result == "test"].min()


def test_time_reads_texts_day_first_and_numbers():
    frame = table(12, day=[f"{d}/02/2024" for d in range(20, 8, -1)], year=range(2000, 2012))
    schema = infer(frame, "y", kinds={"year": "time", "day": "ignored"})
    assert divided(frame, "time", schema, column="day").tolist()[:2] == ["test", "test"]
    assert divided(frame, "time", schema).tolist()[-2:] == ["test", "test"]


def test_equal_times_stay_together():
    frame = table(30, day=[1] * 15 + [2] * 5 + [3] * 10)
    result = divided(frame, "time", column="day")
    assert (result.groupby(frame.day).nunique() == 1).all()
    assert set(result) == {"train", "validation", "test"}


def test_a_given_split_is_kept_and_what_is_absent_is_taken_from_training():
    frame = table(40, split=["train"] * 30 + ["TEST"] * 10)
    result = divided(frame)
    assert result.attrs["how"] == "given"
    assert (result[frame.split == "TEST"] == "test").all()
    assert counts(result) == {"train": 26, "test": 10, "validation": 4}
    assert "validation taken from the training rows" in result.attrs["reason"]


@pytest.mark.parametrize(
    ("frame", "options", "code", "text"),
    [
        (table(9), {}, "SAL-D050", "9 rows, at least 10"),
        (table(), {"test": 0.0}, "SAL-D051", "test=0.0"),
        (table(), {"test": 0.6, "validation": 0.4}, "SAL-D051", "nothing to train on"),
        (table(), {"how": "stratify"}, "SAL-D051", "Did you mean 'stratified'"),
        (table(), {"how": "grouped"}, "SAL-D052", "needs a column"),
        (table(), {"how": "grouped", "column": "z"}, "SAL-D052", "no column 'z'"),
        (table(g=["a"] * 100), {"how": "grouped", "column": "g"}, "SAL-D052", "1 groups, at least 3"),
        (table(), {"how": "time", "column": "y"}, "SAL-D052", "no date or number: row 1 holds 'c0'"),
        (
            table(s=["train"] * 99 + ["hold"]),
            {"how": "given", "column": "s"},
            "SAL-D052",
            "row 100 are not train",
        ),
        (table(d=[1] * 100), {"how": "time", "column": "d"}, "SAL-D050", "leave none for train"),
        (table(split=["test"] * 99 + ["train"]), {}, "SAL-D050", "1 training rows"),
    ],
)
def test_what_is_refused(frame, options, code, text):
    with pytest.raises(DataError, match=text) as info:
        divided(frame, **{"schema": infer(frame, "y", source="rows.csv"), **options})
    assert info.value.code == code
