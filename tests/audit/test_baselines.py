import numpy as np
import pandas as pd
import pytest
from PIL import Image

from salience.audit import baselines
from salience.audit.baselines import fit_baselines
from salience.audit.features import LinearFeatures, NumberFeatures, TextFeatures, pixels
from salience.core.metrics import auroc, r2
from salience.data.schema import Column, Schema
from salience.testing.toy import toy_frame, toy_schema


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_classifiers_beat_the_class_shares(task):
    schema, train, test = toy_schema(task), toy_frame(400, 0, task), toy_frame(200, 1, task)
    fitted = fit_baselines(schema, train, test)
    truth = schema.encode_target(test)
    assert list(fitted) == ["majority", "logistic regression", "gradient boosting"]
    for baseline in fitted.values():
        assert baseline.predictions.shape == (200, len(schema.classes))
        np.testing.assert_allclose(baseline.predictions.sum(1), 1.0)
        assert baseline.seconds > 0 and baseline.description.endswith(".")
    assert auroc(truth, fitted["majority"].predictions) == 0.5
    assert auroc(truth, fitted["logistic regression"].predictions) > 0.75
    assert auroc(truth, fitted["gradient boosting"].predictions) > 0.65


def test_regressions_beat_the_mean():
    schema, train, test = (
        toy_schema("regression"),
        toy_frame(400, 0, "regression"),
        toy_frame(200, 1, "regression"),
    )
    fitted = fit_baselines(schema, train, test)
    truth = schema.encode_target(test)
    assert list(fitted) == ["mean", "ridge regression", "gradient boosting"]
    assert r2(truth, fitted["mean"].predictions) <= 0
    assert r2(truth, fitted["ridge regression"].predictions) > 0.5
    assert fitted["gradient boosting"].predictions.shape == (200,)


def test_same_seed_same_predictions_and_test_targets_unread():
    schema, train, test = toy_schema(), toy_frame(150, 0), toy_frame(40, 1)
    blind = test.drop(columns=schema.target.name)
    for name, baseline in fit_baselines(schema, train, test).items():
        again = fit_baselines(schema, train, blind)[name]
        np.testing.assert_array_equal(baseline.predictions, again.predictions)


def test_pictures_are_read():
    schema, train = toy_schema(image=True), toy_frame(60, 0, image=True)
    train.loc[3, "photo"] = None
    fitted = fit_baselines(schema, train, train.head(9))
    assert fitted["gradient boosting"].predictions.shape == (9, 2)


def test_a_class_absent_from_training_keeps_its_column():
    schema = Schema(
        (Column("x", "number", "input"), Column("y", "category", "target")), "classification", ["a", "b", "c"]
    )
    train = pd.DataFrame({"x": np.arange(60.0), "y": ["a", "c"] * 30})
    for baseline in fit_baselines(schema, train, train.head(5)).values():
        assert baseline.predictions.shape == (5, 3)
        np.testing.assert_allclose(baseline.predictions[:, 1], 0.0)


def test_a_class_of_one_row_is_survived():
    schema = Schema(
        (Column("x", "number", "input"), Column("y", "category", "target")), "classification", ["a", "b"]
    )
    train = pd.DataFrame({"x": np.arange(30.0), "y": ["a"] * 29 + ["b"]})
    assert len(fit_baselines(schema, train, train)) == 3


def test_empty_texts_missing_cells_and_unseen_categories():
    columns = (
        Column("t", "text", "input"), Column("n", "number", "input"), Column("c", "category", "input"),
        Column("y", "category", "target"),
    )  # fmt: skip
    schema = Schema(columns, "classification", ["a", "b"])
    train = pd.DataFrame({"t": "", "n": [np.nan] * 40, "c": [None, "x"] * 20, "y": ["a", "b"] * 20})
    test = pd.DataFrame({"t": ["new words"], "n": [3.0], "c": ["never seen"]})
    for baseline in fit_baselines(schema, train, test).values():
        assert np.isfinite(baseline.predictions).all()


def test_many_rows_are_sampled_and_said_so(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_ROWS", 100)
    fitted = fit_baselines(toy_schema(), toy_frame(150, 0), toy_frame(5, 1))
    assert fitted["gradient boosting"].description.endswith("Trained on 100 of 150 rows.")


def test_numbers_are_standardised_with_missing_flags():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan], [5.0, np.inf]])
    features = NumberFeatures()
    found = features.fit_transform(values)
    np.testing.assert_allclose(found[:, 0].mean(), 0.0, atol=1e-12)
    np.testing.assert_allclose(found[:, 0].std(), 1.0)
    assert found[2, 0] == 0.0  # the median, which is the mean here
    np.testing.assert_array_equal(found[:, 2], [0, 0, 1, 0])
    np.testing.assert_array_equal(found[:, 1], 0.0)
    np.testing.assert_array_equal(found[:, 3], 1.0)


def test_text_features_count_pairs_and_marks():
    features = TextFeatures()
    matrix = features.fit_transform(pd.Series(["not good !", "not good !", "fine", "fine"]))
    assert matrix.shape == (4, 6)  # not, good, !, fine, "not good", "good !"
    assert features.transform(pd.Series(["unknown"])).nnz == 0


def test_pixels_are_colours_in_order():
    picture = Image.new("RGB", (16, 16), (255, 0, 51))
    np.testing.assert_allclose(pixels(picture).reshape(8, 8, 3)[3, 3], [1.0, 0.0, 0.2])
    np.testing.assert_array_equal(pixels(None), 0.5)


def test_linear_features_keep_their_columns_on_new_rows():
    features = LinearFeatures(toy_schema())
    train = features.fit_transform(toy_schema().parse(toy_frame(80, 0), target=False))
    new = features.transform(toy_schema().parse(toy_frame(7, 1), target=False))
    assert train.shape[1] == new.shape[1]
    assert new.shape[0] == 7
