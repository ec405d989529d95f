"""Schema inference: what each column is, why, and what is refused."""

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salience.core.errors import DataError, IntegrityError
from salience.data.datasets.pictures import grey_png
from salience.data.schema import RARE, Schema, infer

RNG = np.random.default_rng(0)
ROWS = 60
LABEL = [f"{'yes' if i % 3 else 'no'}" for i in range(ROWS)]
SENTENCES = [f"this is review number {i} and it says {w}" for i, w in enumerate(RNG.integers(0, 9, ROWS))]


def guessed(values, name="x"):
    """Return (kind, role, reason) of one column beside a harmless one."""
    rows = len(values)
    column = values if isinstance(values, pd.Series) else pd.Series(values)
    frame = pd.DataFrame({name: column, "other": np.arange(rows) % 7 + 0.5})
    column = infer(frame, None).column(name)
    return column.kind, column.role, column.reason


@pytest.mark.parametrize(
    ("name", "values", "kind", "role", "reason"),
    [
        ("price", RNG.normal(size=ROWS), "number", "input", "numbers, 60 distinct"),
        ("n", [i % 5 for i in range(ROWS)], "number", "input", "numbers, 5 distinct"),
        ("n", [f" {i % 17}" for i in range(ROWS)], "number", "input", "numbers written as text"),
        ("n", ["?", "1,200", "3.5"] * 20, "number", "input", "numbers written as text"),
        ("zip", [f"0{1000 + i % 20}" for i in range(ROWS)], "category", "input", "20 distinct"),
        ("flag", [i % 2 == 0 for i in range(ROWS)], "category", "input", "true or false"),
        ("flag", [True, None, False] * 20, "category", "input", "true or false"),
        ("colour", ["red", "green", None] * 20, "category", "input", "2 distinct"),
        (
            "colour",
            pd.Series(["a b c d", "e f g h"] * 30, dtype="category"),
            "category",
            "input",
            "categories",
        ),
        ("text", SENTENCES, "text", "input", "100 % distinct, mean 9.0 words"),
        ("title", [f"Nice {i}" for i in range(ROWS)], "text", "input", "100 % distinct, mean 2.0 words"),
        (
            "photo",
            [grey_png(np.full((2, 2), i, np.uint8)) for i in range(ROWS)],
            "image",
            "input",
            "encoded picture",
        ),
        ("blob", [bytes([i, 1]) for i in range(ROWS)], "other", "ignored", "raw bytes"),
        ("list", [[1, 2]] * ROWS, "other", "ignored", "lists"),
        ("id", [i * 3 for i in range(ROWS)], "category", "ignored", "identifier"),
        ("Clothing ID", [i % 30 for i in range(ROWS)], "category", "ignored", "identifier"),
        ("userId", [f"u{i}" for i in range(ROWS)], "category", "ignored", "identifier"),
        ("Unnamed: 0", range(12), "category", "ignored", "consecutive"),
        ("anything", range(5, ROWS + 5), "category", "ignored", "consecutive"),
        (
            "code",
            [f"A-{i}x" for i in range(ROWS)],
            "category",
            "ignored",
            "every row has its own single word",
        ),
        ("same", ["a"] * ROWS, "category", "ignored", "constant: every row holds 'a'"),
        ("marked", ["a", None] * 30, "category", "input", "1 distinct"),
        ("nothing", [None] * ROWS, "category", "ignored", "every value is missing"),
        ("blank", [" ", ""] * 30, "category", "ignored", "every value is missing"),
        ("day", pd.date_range("2024-01-01", periods=ROWS), "time", "time", "dates"),
        ("day", [f"2024-01-{i % 28 + 1:02d} 10:30" for i in range(ROWS)], "time", "time", "dates"),
        ("day", [f"{i % 28 + 1}/02/2024" for i in range(ROWS)], "time", "time", "dates"),
        ("day", [datetime.date(2024, 1, i % 28 + 1) for i in range(ROWS)], "time", "time", "dates"),
        ("split", ["train", "test", "val"] * 20, "category", "split", "test, train, val"),
    ],
)
def test_kinds_and_roles(name, values, kind, role, reason):
    found = guessed(list(values) if isinstance(values, range) else values, name)
    assert found[:2] == (kind, role)
    assert reason in found[2]


def test_ten_thousand_categories_keep_the_frequent_ones():
    frame = pd.DataFrame({"c": [f"c{min(i % 20_000, 10_000)}" for i in range(40_000)], "y": [0, 1] * 20_000})
    schema = infer(frame, "y")
    column = schema.column("c")
    assert (column.kind, column.role, column.distinct) == ("category", "input", 10_001)
    assert "1,000 most frequent" in column.reason
    fitted = schema.fitted(frame)
    assert len(fitted.column("c").categories) == 1000
    values = fitted.parse(frame)["c"]
    assert set(values) == {*fitted.column("c").categories, RARE}
    assert values.iloc[10_000] == "c10000"


def base(**columns):
    return pd.DataFrame({"a": RNG.normal(size=ROWS), "t": SENTENCES, "y": LABEL, **columns})


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (LABEL, "classification", ["no", "yes"]),
        ([0, 1] * 30, "classification", ["0", "1"]),
        ([0.0, 1.0] * 30, "classification", ["0", "1"]),
        (["0", "1"] * 30, "classification", ["0", "1"]),
        ([True, False] * 30, "classification", ["False", "True"]),
        ([10, 9, 8, 2, 1, 100] * 10, "classification", ["1", "2", "8", "9", "10", "100"]),
        ([-1.5, 2.5] * 30, "classification", ["-1.5", "2.5"]),
        (list(range(60)), "regression", None),
        ([i % 25 for i in range(60)], "regression", None),
        ([i / 7 for i in range(60)], "regression", None),
        ([f"{i}.5" for i in range(60)], "regression", None),
    ],
)
def test_target_decides_the_task(values, task, classes):
    frame = base(y=values)
    schema = infer(frame, "y")
    assert (schema.task, schema.classes) == (task, classes)
    encoded = schema.encode_target(frame)
    assert encoded.dtype == (np.int64 if classes else np.float64)
    if classes:
        assert [classes[i] for i in encoded[:2]] == [
            str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values[:2]
        ]


def test_task_can_be_asked_for():
    frame = base(y=[i % 5 for i in range(ROWS)])
    assert infer(frame, "y", task="regression").task == "regression"
    assert infer(frame, "y", kinds={"y": "number"}).task == "regression"
    assert infer(base(y=list(range(3)) * 20), "y", kinds={"y": "category"}).classes == ["0", "1", "2"]


MANY = [f"class {i % 1500}" for i in range(4000)]


@pytest.mark.parametrize(
    ("frame", "options", "code", "text"),
    [
        (
            base(),
            {"target": "lable"},
            "SAL-D020",
            "no column of the data. rows.csv: 3 columns. Valid names: a, t, y",
        ),
        (base(), {"target": "Y"}, "SAL-D020", "Valid names"),
        (
            base(y=[None, *LABEL[1:]]),
            {},
            "SAL-D021",
            r"missing in 1 of 60 rows. rows.csv: row 1\. .*missing_target",
        ),
        (base(y=[None] * ROWS), {}, "SAL-D021", "is empty"),
        (base(y=[None] * ROWS), {"missing_target": "drop"}, "SAL-D021", "is empty"),
        (base(y=["a"] * ROWS), {}, "SAL-D022", "one value only. rows.csv: all 60 rows hold 'a'"),
        (base(y=[1.5] * ROWS), {"task": "regression"}, "SAL-D022", "one value only"),
        (
            pd.DataFrame({"a": RNG.normal(size=4000), "y": MANY}),
            {},
            "SAL-D023",
            "1,500 classes in 4,000 rows",
        ),
        (base(y=SENTENCES), {}, "SAL-D023", "60 classes in 60 rows"),
        (
            base(y=[i * 9 for i in range(ROWS)]),
            {"task": "classification"},
            "SAL-D023",
            "--set task=regression",
        ),
        (base(y=pd.date_range("2024", periods=ROWS)), {}, "SAL-D024", "holds dates"),
        (base(y=[[1]] * ROWS), {}, "SAL-D024", "lists"),
        (base(y=LABEL), {"task": "regression"}, "SAL-D030", "row 1 holds 'no'"),
        (base(y=["5", "x", *["7", "8"] * 29]), {}, "SAL-D030", "row 2 holds 'x'"),
        (
            base(n=["x", *map(str, range(59))]),
            {},
            "SAL-D030",
            "row 1 holds 'x'. Mend these cells.*--kind n=category",
        ),
        (base(), {"kinds": {"nn": "text"}}, "SAL-D026", "no column 'nn'"),
        (base(), {"drop": ["zzz"]}, "SAL-D026", "no column 'zzz'"),
        (base(), {"drop": ["y"]}, "SAL-D026", "cannot be dropped"),
        (base(), {"kinds": {"a": "txt"}}, "SAL-D027", "Did you mean 'text'"),
        (base(), {"task": "clasification"}, "SAL-D027", "Did you mean 'classification'"),
        (base(), {"drop": ["a", "t"]}, "SAL-D028", "No column is left"),
        (base(), {"kinds": {"t": "number"}}, "SAL-D030", "row 1 holds 'this is"),
        (base().iloc[:0], {}, "SAL-D003", "no rows"),
        (pd.concat([base(), base()["a"]], axis=1), {}, "SAL-D006", "'a' occurs 2 times"),
    ],
)
def test_what_is_refused(frame, options, code, text):
    with pytest.raises(DataError, match=text) as info:
        infer(frame, **{"target": "y", "source": "rows.csv", **options})
    assert info.value.code == code
    assert "\n" not in str(info.value)


def test_overrides_and_drop():
    frame = base(g=[i % 4 for i in range(ROWS)], same=["k"] * ROWS)
    schema = infer(frame, "y", kinds={"a": "category", "g": "group", "same": "category"}, drop=["t"])
    roles = {c.name: (c.kind, c.role) for c in schema.columns}
    assert roles["a"] == ("category", "input")
    assert roles["g"] == ("other", "group")
    assert roles["same"] == ("category", "input")
    assert roles["t"] == ("other", "ignored")
    assert [c.name for c in schema.inputs] == ["a", "same"]


def test_rows_without_target_can_be_left_out():
    frame = base(y=[None, "", *LABEL[2:]])
    frame.index = pd.Index([5] * ROWS)
    parsed = infer(frame, "y", missing_target="drop").parse(frame)
    assert len(parsed) == ROWS - 2
    assert parsed["a"].tolist() == frame["a"].tolist()[2:]


def test_parse_gives_canonical_values_and_names_problems():
    frame = base(c=["u", None] * 30)
    schema = infer(frame, "y", source="rows.csv")
    rows = pd.DataFrame({"c": [1.0, None], "t": [None, "x"], "a": ["3", "NA"], "extra": [1, 2]}, index=[8, 9])
    parsed = schema.parse(rows)
    assert list(parsed.columns) == ["a", "t", "c"]
    assert parsed["c"].tolist() == ["1", None]
    assert parsed["t"].tolist() == ["", "x"]
    assert parsed["a"].iloc[0] == 3.0
    assert np.isnan(parsed["a"].iloc[1])
    assert list(parsed.index) == [8, 9]
    with pytest.raises(DataError, match=r"'c' is missing from the data. rows.csv: 3 columns") as info:
        schema.parse(rows.drop(columns="c"))
    assert info.value.code == "SAL-D031"
    with pytest.raises(DataError, match="'y' is missing"):
        schema.parse(rows, target=True)
    with pytest.raises(DataError, match="row 9 holds 'maybe'") as info:
        schema.parse(rows.assign(y=["maybe", "yes"]))
    assert info.value.code == "SAL-D025"
    assert "y" not in schema.parse(rows.assign(y=[None, "maybe"]), target=False)


def test_fitted_uses_the_rows_it_is_given():
    frame = base(c=["u", "v"] * 30)
    schema = infer(frame, "y")
    assert [c.baseline for c in schema.inputs] == [None] * 3
    fitted = schema.fitted(frame.head(5))
    assert fitted.column("a").baseline == frame["a"].head(5).median()
    assert fitted.column("t").baseline == ""
    assert fitted.column("c").baseline is None
    assert fitted.fitted(fitted.parse(frame.head(5))) == fitted


def test_round_trip_and_table(tmp_path):
    frame = base(c=["u", "v"] * 30)
    schema = infer(frame, "y", source="rows.csv").fitted(frame)
    assert Schema.load(schema.save(tmp_path / "schema.json")) == schema
    table = schema.to_frame()
    assert list(table.columns) == ["column", "role", "kind", "missing", "distinct", "examples", "reason"]
    assert "100 % distinct" in str(schema)


def test_a_damaged_schema_is_refused():
    data = infer(base(), "y").to_json()
    with pytest.raises(IntegrityError):
        Schema.from_json({"columns": [{"name": "a"}]})
    with pytest.raises(IntegrityError):
        Schema.from_json({**data, "columns": [{**data["columns"][0], "kind": "nonsense"}]})


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.binary(max_size=4),
    st.lists(st.integers(), max_size=2),
    st.dates(),
    st.datetimes(),
    st.decimals(allow_nan=False),
)


@given(st.lists(CELLS, min_size=1, max_size=30), st.booleans())
def test_any_column_is_understood_or_refused_in_one_line(values, as_target):
    series = pd.Series(values, dtype=object)
    frame = pd.DataFrame(
        {
            "x": series,
            "n": np.linspace(0, 1, len(values)),
            "c": ["a", "b"] * (len(values) // 2) + ["c"] * (len(values) % 2),
        }
    )
    try:
        schema = infer(frame, "x" if as_target else None)
        parsed = schema.parse(frame)
    except DataError as error:
        assert "\n" not in str(error)
        return
    assert len(parsed) == len(frame)
    for column in schema.inputs:
        assert parsed[column.name].dtype == (np.float64 if column.kind == "number" else object)


@pytest.mark.parametrize("seed", range(5))
def test_the_guess_does_not_depend_on_the_order_of_rows(seed):
    frame = base(c=["u", "v"] * 30, n=[str(i % 9) for i in range(ROWS)])
    shuffled = frame.iloc[np.random.default_rng(seed).permutation(ROWS)]
    found, again = infer(frame, "y"), infer(shuffled, "y")
    assert again.classes == found.classes
    assert [(c.kind, c.role, c.reason) for c in again.columns] == [
        (c.kind, c.role, c.reason) for c in found.columns
    ]
