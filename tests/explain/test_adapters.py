"""Adapters for functions and scikit-learn: the wrapped model's own answers, rows as it knows them, errors that teach."""

import numpy as np
import pandas as pd
import pytest

import salience
from salience.core.errors import ConfigError, NotFittedError, UnsupportedError
from salience.explain.model import BlackBox, WhiteBox
from salience.explain.perturb import Perturber
from salience.explain.rows import records

TEXTS = ["a good film , really", "a bad film", "bad , bad thing", "good and great"] * 3
LABELS = ["pos", "neg", "neg", "pos"] * 3


def table(rows=24, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, rows),
            "price": rng.uniform(1, 9, rows).round(2),
            "size": rng.choice([36, 38, 40], rows),
            "member": rng.random(rows) < 0.5,
            "shop": rng.choice(["north", "south"], rows),
            "review": [
                f"{w} number {i} of many words" for i, w in enumerate(rng.choice(["fine", "poor"], rows))
            ],
        }
    )


def shares(frame):
    """Return probabilities that a frame of the right types gives; types are looked at."""
    assert frame["age"].dtype.kind == "i"
    assert frame["member"].dtype == bool
    assert frame["size"].dtype.kind == "i"
    z = (
        0.02 * (frame["age"] - 40)
        - 0.3 * frame["price"]
        + frame["member"]
        + 0.1 * (frame["size"] - 38)
        + (frame["shop"] == "north")
        + frame["review"].str.contains("fine")
    )
    p = 1 / (1 + np.exp(-z.to_numpy(dtype=float)))
    return np.stack([1 - p, p], axis=1)


def callable_model(**options):
    kinds = {"size": "category"}
    return salience.from_callable(shares, table(), classes=["no", "yes"], kinds=kinds, **options)


def test_probabilities_come_back():
    model, frame = callable_model(), table(8, seed=1)
    outputs = model.outputs(model.frame(frame))
    np.testing.assert_allclose(model.predict_proba(outputs), shares(frame), rtol=1e-12)


def test_kinds_and_neutral_values_are_those_of_the_example():
    schema = callable_model().schema
    kinds = {c.name: c.kind for c in schema.inputs}
    assert kinds == {
        "age": "number", "price": "number", "size": "category",
        "member": "category", "shop": "category", "review": "text",
    }  # fmt: skip
    neutral = {c.name: c.baseline for c in schema.inputs}
    assert neutral["shop"] == table()["shop"].mode()[0]
    assert neutral["age"] == round(table()["age"].median())


def test_an_adapted_function_is_a_black_box_only():
    model = callable_model()
    assert isinstance(model, BlackBox)
    assert not isinstance(model, WhiteBox)
    with pytest.raises(UnsupportedError):
        model.explain(table(2), method="integrated_gradients")


def test_leave_one_out_is_the_difference_of_log_odds():
    model, frame = callable_model(), table(3, seed=2)
    row = frame.iloc[:1]
    found = model.explain(row, method="leave_one_out", target="yes")[0]
    neutral = row.assign(price=next(c.baseline for c in model.schema.inputs if c.name == "price"))

    def log_odds(part):
        p = shares(part)
        return np.log(p[0, 1] / p[0, 0])

    value = dict(zip([u.column for u in found.units], found.values, strict=True))["price"]
    assert value == pytest.approx(log_odds(row) - log_odds(neutral), abs=1e-9)
    assert found.faithfulness is not None


def test_one_row_gives_what_it_gives_in_a_batch():
    model = callable_model()
    frame = model.frame(table(6, seed=3))
    together = model.outputs(frame)
    alone = np.concatenate([model.outputs(frame.iloc[i : i + 1]) for i in range(6)])
    np.testing.assert_array_equal(together, alone)


def test_a_function_of_numbers_is_a_regression():
    model = salience.from_callable(lambda frame: 2 * frame["price"], table(), target="cost")
    assert model.schema.task == "regression"
    found = model.explain(table(2), method="leave_one_out")[0]
    assert found.target == "cost"
    assert found.quantity == "value"
    assert found.prediction == pytest.approx(2 * table(2)["price"][0])


def test_a_column_of_the_target_is_no_input():
    frame = table().assign(bought=1.0)
    model = salience.from_callable(lambda part: part["age"], frame, target="bought")
    assert "bought" not in [c.name for c in model.schema.inputs]


def test_one_probability_is_that_of_the_second_class():
    model = salience.from_callable(lambda f: shares(f)[:, 1], table(), classes=["no", "yes"])
    frame = table(4, seed=5)
    np.testing.assert_allclose(model.predict_proba(model.outputs(model.frame(frame))), shares(frame))


def test_certain_answers_are_clipped():
    model = salience.from_callable(lambda f: np.tile([0.0, 1.0], (len(f), 1)), TEXTS, classes=["a", "b"])
    outputs = model.outputs(model.frame(TEXTS[:2]))
    assert np.isfinite(outputs).all()
    assert outputs[0, 1] - outputs[0, 0] == pytest.approx(27.6, abs=0.1)


@pytest.mark.parametrize(
    ("predict", "classes", "says"),
    [
        (lambda f: np.full((len(f), 2), 0.4), ["a", "b"], "sum to 0.8"),
        (lambda f: np.full((len(f), 2), np.nan), ["a", "b"], "nan for row 0"),
        (lambda f: np.full((len(f), 3), 1 / 3), ["a", "b"], "classes"),
        (lambda f: np.full((len(f) + 1, 2), 0.5), ["a", "b"], "in the order of the rows"),
        (lambda f: np.full((len(f), 2), 0.5), None, "Name the 2 classes"),
        (lambda f: np.tile([-0.5, 1.5], (len(f), 1)), ["a", "b"], "softmax"),
    ],
    ids=["sum", "nan", "classes", "length", "no classes", "negative"],
)
def test_wrong_answers_are_named_at_once(predict, classes, says):
    with pytest.raises(ConfigError, match=says) as caught:
        salience.from_callable(predict, TEXTS, classes=classes)
    assert caught.value.code == "SAL-M003"


@pytest.mark.parametrize("classes", [["a"], ["a", "a"]], ids=["one", "twice"])
def test_classes_need_names_of_their_own(classes):
    with pytest.raises(ConfigError, match="two classes"):
        salience.from_callable(lambda f: np.ones((len(f), 2)) / 2, TEXTS, classes=classes)


def test_unknown_columns_and_kinds_are_named():
    with pytest.raises(ConfigError, match="age"):
        salience.from_callable(shares, table(), classes=["no", "yes"], kinds={"agee": "number"})
    with pytest.raises(ConfigError, match="number"):
        salience.from_callable(shares, table(), classes=["no", "yes"], kinds={"age": "numbr"})
    with pytest.raises(ConfigError, match="Example rows"):
        salience.from_callable(shares, table().iloc[:0], classes=["no", "yes"])


# -- scikit-learn --------------------------------------------------------------------------------------


def text_pipeline(last):
    pytest.importorskip("sklearn")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(TfidfVectorizer(), last).fit(TEXTS, LABELS)


def logistic():
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression()


@pytest.mark.parametrize(
    "form",
    [list, np.array, pd.Series, lambda t: pd.DataFrame({"text": t})],
    ids=["list", "array", "series", "frame"],
)
def test_texts_in_any_form_stay_texts(form):
    pipeline = text_pipeline(logistic())
    model = salience.from_sklearn(pipeline, form(TEXTS))
    assert model.schema.classes == ["neg", "pos"]
    found = model.explain(["a good thing"], method="leave_one_out")[0]
    assert [u.label for u in found.units] == ["a", "good", "thing"]
    np.testing.assert_allclose(
        model.predict_proba(model.outputs(model.frame(TEXTS[:3]))), pipeline.predict_proba(TEXTS[:3])
    )


def test_a_text_without_a_word_is_the_text_with_the_word_deleted():
    pipeline = text_pipeline(logistic())
    model = salience.from_sklearn(pipeline, TEXTS)
    found = model.explain(["a good film"], method="leave_one_out", target="pos")[0]
    p, q = (pipeline.predict_proba([t])[0] for t in ("a good film", "a film"))
    assert found.values[1] == pytest.approx(np.log(p[1] / p[0]) - np.log(q[1] / q[0]))


def test_a_pipeline_of_columns_gets_its_columns():
    from sklearn.compose import make_column_transformer
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = table()
    columns = make_column_transformer(
        (CountVectorizer(), "review"),
        (OneHotEncoder(), ["shop", "member"]),
        ("passthrough", ["age", "price"]),
    )
    label = (frame["price"] > 5).astype(int)
    pipeline = make_pipeline(columns, logistic().set_params(max_iter=3000)).fit(
        frame.drop(columns="size"), label
    )
    model = salience.from_sklearn(
        pipeline, frame, target="price over 5"
    )  # a column that it was not fitted on
    assert "size" not in [c.name for c in model.schema.inputs]
    assert model.schema.classes == ["0", "1"]
    rows = table(5, seed=7)
    proba = pipeline.predict_proba(rows.drop(columns="size"))
    np.testing.assert_allclose(model.predict_proba(model.outputs(model.frame(rows))), proba, rtol=1e-9)
    assert {u.kind for u in model.explain(rows, method="leave_one_out")[0].units} == {
        "text",
        "category",
        "number",
    }


def test_arrays_and_regressors():
    from sklearn.linear_model import Ridge

    x = np.random.default_rng(0).normal(size=(40, 3))
    ridge = Ridge(alpha=1e-6).fit(x, x @ [1.0, -2.0, 0.0] + 3)
    model = salience.from_sklearn(ridge, x, target="y")
    row = pd.DataFrame(x[:1], columns=["feature 0", "feature 1", "feature 2"])
    found = model.explain(row, method="leave_one_out")[0]
    np.testing.assert_allclose(found.values, [1.0, -2.0, 0.0] * (x[0] - np.median(x, axis=0)), atol=1e-4)


def test_a_decision_function_stands_in_for_logits():
    from sklearn.svm import LinearSVC

    pipeline = text_pipeline(LinearSVC())
    model = salience.from_sklearn(pipeline, TEXTS)
    outputs = model.outputs(model.frame(TEXTS[:4]))
    np.testing.assert_allclose(
        outputs[:, 1] - outputs[:, 0], pipeline.decision_function(TEXTS[:4]), rtol=1e-9
    )


def test_what_cannot_be_explained_is_refused():
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    class LabelsAlone(ClassifierMixin, BaseEstimator):
        def fit(self, rows, labels):
            self.classes_ = np.unique(labels)
            return self

    x = np.arange(8.0).reshape(4, 2)
    with pytest.raises(NotFittedError):
        salience.from_sklearn(LogisticRegression(), TEXTS)
    with pytest.raises(UnsupportedError, match="from_callable"):
        salience.from_sklearn(shares, TEXTS)
    with pytest.raises(UnsupportedError, match="CalibratedClassifierCV"):
        salience.from_sklearn(LabelsAlone().fit(x, [0, 0, 1, 1]), x)
    with pytest.raises(UnsupportedError, match="2 targets"):
        salience.from_sklearn(DecisionTreeClassifier().fit(x, [[0, 1], [1, 0], [0, 1], [1, 1]]), x)


def test_a_missing_column_is_named():
    frame = table()[["age", "price"]]
    fitted = logistic().fit(frame, frame["price"] > 5)
    with pytest.raises(ConfigError, match="price"):
        salience.from_sklearn(fitted, frame[["age"]])


def test_a_list_for_several_columns_is_refused():
    with pytest.raises(ConfigError, match="names"):
        callable_model().explain(["a text"])


def test_sets_are_removed_as_rows_are():
    model = callable_model()
    rows = records(model, model.frame(table(2)))
    count = len(model.units(rows[0]))
    sets = np.random.default_rng(0).random((4, count)) < 0.5
    found = Perturber(model).outputs(rows[:1], [sets])[0]
    units = model.units(rows[0])
    for line, gone in zip(found, sets, strict=True):
        changed = model.remove(rows[0], tuple(units[i] for i in np.flatnonzero(gone)))
        np.testing.assert_allclose(line, model.outputs(pd.DataFrame([changed]))[0], rtol=1e-12)
