"""The scikit-learn contract: its own estimator checks, and tables with text and categories."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from salience.data.datasets.toy_reviews import load
from salience.sklearn import SalienceClassifier, SalienceRegressor

SMALL = (
    "training.epochs=12", "training.batch_size=32", "training.learning_rate=0.03", "training.average=0",
    "model.hidden=[16]", "model.dropout=0", "model.number.args.dim=4", "model.number.args.n_bins=8",
    "model.text.args.dim=8", "model.text.args.embedding_dim=8",
)  # fmt: skip
FEW = (*SMALL, "training.epochs=2")
ESTIMATORS = [
    SalienceClassifier(preset="fast", overrides=SMALL),
    SalienceRegressor(preset="fast", overrides=SMALL),
]
EXPECTED_FAILURES = {
    "check_methods_subset_invariance": "the network computes in single precision: a row alone and in a batch differ"
    " by some 2e-7, the check allows 1e-7",
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda _: EXPECTED_FAILURES)
def test_estimator_check(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def reviews():
    return load(rows=200, seed=3)


@pytest.fixture(scope="module")
def fitted(reviews):
    classifier = SalienceClassifier(preset="fast", overrides=SMALL)
    return classifier.fit(reviews.drop(columns="recommends"), reviews["recommends"])


def test_rows_alone_and_together_agree_to_single_precision(fitted, reviews):
    rows = reviews.drop(columns="recommends").head(6)
    together = fitted.predict_proba(rows)
    alone = np.vstack([fitted.predict_proba(rows.iloc[[i]]) for i in range(6)])
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_mixed_table_is_learned(fitted, reviews):
    rows = reviews.drop(columns="recommends")
    assert [c.kind for c in fitted.predictor_.schema.inputs] == ["text", "number", "category"]
    assert fitted.score(rows, reviews["recommends"]) > 0.8
    assert fitted.classes_.tolist() == ["no", "yes"]
    assert fitted.feature_names_in_.tolist() == ["review", "days late", "delivery"]
    assert fitted.n_features_in_ == 3
    assert 1 <= fitted.n_iter_ <= 12
    np.testing.assert_allclose(fitted.predict_proba(rows).sum(axis=1), 1.0)


def test_explanations_have_units_of_all_columns(fitted, reviews):
    row = reviews.drop(columns="recommends").head(1)
    explanation = fitted.explain(row, method="occlusion", target="yes")[0]
    assert {unit.column for unit in explanation.units} == {"review", "days late", "delivery"}
    assert explanation.target == "yes"


def test_mixed_rows_are_checked(fitted, reviews):
    rows = reviews.drop(columns="recommends")
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(rows[["delivery", "review", "days late"]])
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(rows.iloc[:, :2])
    with pytest.raises(ValueError, match="infinity"):
        fitted.predict(rows.assign(**{"days late": np.inf}))
    with pytest.raises(ValueError, match=r"'days late'.*SAL-D030"):
        fitted.predict(rows.assign(**{"days late": "soon"}))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clone(fitted).fit(rows, reviews["recommends"].head(9))
    with pytest.raises(ValueError, match="minimum of 2"):
        clone(fitted).fit(rows.head(1), ["no"])


def test_missing_cells_and_unseen_categories_are_predicted(fitted, reviews):
    rows = reviews.drop(columns="recommends").head(3)
    rows = rows.assign(
        **{"days late": np.nan, "delivery": ["drone", None, "post"], "review": ["", "lamp", None]}
    )
    assert np.isfinite(fitted.predict_proba(rows)).all()


@pytest.mark.parametrize(
    "labels",
    [[3, 7], [True, False], [1.5, 2.5], ["1", "1 "], ["a", "b"]],
    ids=["int", "bool", "float", "alike", "str"],
)
def test_labels_come_back_as_they_were(labels):
    x = np.random.default_rng(0).normal(size=(40, 2))
    y = np.where(x[:, 0] > 0, labels[1], labels[0])
    if isinstance(labels[0], float):
        with pytest.raises(ValueError, match="Unknown label type"):
            SalienceClassifier(preset="fast", overrides=FEW).fit(x, y)
        return
    found = SalienceClassifier(preset="fast", overrides=FEW).fit(x, y).predict(x)
    assert found.dtype == y.dtype
    assert set(found) <= set(y)


def test_eleven_classes_keep_their_order():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(11), 12)
    x = np.stack([y + rng.normal(0, 0.05, len(y)), rng.normal(size=len(y))], axis=1)
    classifier = SalienceClassifier(preset="fast", overrides=(*SMALL, "training.epochs=40")).fit(x, y)
    assert classifier.classes_.tolist() == list(range(11))
    assert np.corrcoef(classifier.predict(x), y)[0, 1] > 0.95


def test_too_little_to_learn_from_is_said():
    x, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    with pytest.raises(ValueError, match="one class: 1"):
        SalienceClassifier().fit(x, np.ones(20, dtype=int))
    with pytest.raises(ValueError, match="minimum of 2"):
        SalienceRegressor().fit(x[:1], y[:1])
    with pytest.raises(ValueError, match="infinity"):
        SalienceClassifier().fit(np.full((20, 2), np.inf), y)
    with pytest.raises(ValueError, match=r"preset 'fats'.*Did you mean 'fast'"):
        SalienceClassifier(preset="fats").fit(x, y)
    with pytest.raises(NotFittedError):
        SalienceRegressor().predict(x)
    with pytest.raises(NotFittedError):
        SalienceRegressor().explain(x)


def test_constant_and_missing_columns_do_no_harm():
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=30), np.ones(30), np.full(30, np.nan)], axis=1)
    predicted = SalienceRegressor(preset="fast", overrides=FEW).fit(x, x[:, 0] * 5 + 100).predict(x)
    assert np.isfinite(predicted).all()
    assert 80 < predicted.mean() < 120


def test_seed_decides(reviews):
    x, y = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 2

    def fit(state):
        return SalienceClassifier(preset="fast", overrides=FEW, random_state=state).fit(x, y).predict_proba(x)

    np.testing.assert_array_equal(fit(1), fit(1))
    assert not np.array_equal(fit(1), fit(2))
    np.testing.assert_array_equal(fit(np.random.RandomState(5)), fit(np.random.RandomState(5)))


def test_works_in_a_pipeline_a_search_and_cross_validation():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = (x[:, 0] > 0).astype(int)
    pipeline = make_pipeline(StandardScaler(), SalienceClassifier(preset="fast", overrides=SMALL))
    grid = {"salienceclassifier__validation_fraction": [0.0, 0.2]}
    search = GridSearchCV(pipeline, grid, cv=2, scoring="roc_auc").fit(x, y)
    assert search.best_score_ > 0.8
    assert cross_val_score(SalienceRegressor(preset="fast", overrides=FEW), x, x[:, 0], cv=2).shape == (2,)


def test_parameters_are_only_stored():
    given = {"preset": "best", "kinds": {"a": "text"}, "time_limit": 2.0, "validation_fraction": 0.3,
             "overrides": ["seed=3"], "random_state": None}  # fmt: skip
    estimator = SalienceRegressor(**given)
    assert estimator.get_params() == given
    assert clone(estimator).get_params() == given
    assert set(vars(estimator)) == set(given)


def test_kinds_override_the_guess():
    frame = pd.DataFrame({"code": np.arange(40) % 4, "size": np.linspace(0, 1, 40)})
    regressor = SalienceRegressor(preset="fast", overrides=FEW, kinds={"code": "category"})
    regressor.fit(frame, frame["code"] * 2.0)
    assert [c.kind for c in regressor.predictor_.schema.inputs] == ["category", "number"]


def test_validation_rows_hold_every_class_its_share():
    held = SalienceClassifier(validation_fraction=0.2)._held_out(np.repeat([0, 1], [80, 20]), by_class=True)
    assert (held[:80].sum(), held[80:].sum()) == (16, 4)
    assert not SalienceClassifier()._held_out(np.arange(6) % 2, by_class=True).any()
