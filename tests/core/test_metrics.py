import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.core import metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics")


def classified(rows, classes, seed):
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), rng.integers(0, classes, rows)])
    logits = rng.normal(size=(len(truth), classes)).round(1)  # rounding makes ties
    logits[np.arange(len(truth)), truth] += 0.7
    exp = np.exp(logits)
    return truth, exp / exp.sum(1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", range(4))
def test_classification_scores_equal_scikit_learn(classes, seed):
    truth, p = classified(60, classes, seed)
    ours = metrics.scores("classification", truth, p)
    auroc = (
        sklearn_metrics.roc_auc_score(truth, p[:, 1])
        if classes == 2
        else sklearn_metrics.roc_auc_score(truth, p, multi_class="ovr", average="macro")
    )
    assert ours["auroc"] == pytest.approx(auroc, abs=1e-12)
    assert ours["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, p.argmax(1)))
    assert ours["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(truth, p.argmax(1), average="macro"))
    assert ours["log_loss"] == pytest.approx(sklearn_metrics.log_loss(truth, p))


@given(st.integers(3, 40), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_regression_scores_equal_scikit_learn(rows, seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.normal(3, 20, rows), rng.normal(3, 20, rows)
    ours = metrics.scores("regression", truth, predicted)
    assert ours["rmse"] == pytest.approx(sklearn_metrics.root_mean_squared_error(truth, predicted))
    assert ours["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(truth, predicted))
    assert ours["r2"] == pytest.approx(sklearn_metrics.r2_score(truth, predicted))


def test_undefined_scores_are_nan_and_a_class_that_is_absent_is_left_out():
    p = np.full((4, 3), 1 / 3)
    assert np.isnan(metrics.auroc(np.zeros(4, int), p))
    assert np.isnan(metrics.r2(np.ones(3), np.arange(3.0)))
    truth = np.array([0, 0, 1, 1])
    p = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.1, 0.9, 0.0], [0.3, 0.7, 0.0]])
    assert metrics.auroc(truth, p) == 1.0
    assert metrics.macro_f1(truth, p) == 1.0


def test_log_loss_of_a_certain_mistake_is_finite():
    assert metrics.log_loss(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(-np.log(1e-12))


@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_auroc_ignores_increasing_transforms(scale, shift):
    rng = np.random.default_rng(0)
    positive, scores = rng.random(50) < 0.4, rng.normal(size=50)
    assert metrics.binary_auroc(positive, scale * scores + shift) == metrics.binary_auroc(positive, scores)


def test_every_metric_has_a_direction_and_every_task_a_main_one():
    for task, functions in metrics.METRICS.items():
        assert metrics.MAIN[task] in functions
        assert functions.keys() <= metrics.HIGHER_IS_BETTER.keys()


def test_intervals_hold_the_value():
    truth, p = classified(100, 2, 0)
    for score in metrics.scores_with_intervals("classification", truth, p).values():
        low, high = score["interval"]
        assert low <= score["value"] <= high


def labelled(rows, labels, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (rows, labels))
    p = 1 / (1 + np.exp(-(rng.normal(size=truth.shape).round(1) + truth - 0.5)))
    return truth, p


@pytest.mark.parametrize("seed", range(4))
def test_scores_of_labels_equal_scikit_learn(seed):
    truth, p = labelled(50, 4, seed)
    predicted, ours = (p >= 0.5).astype(int), metrics.scores("multi-label", truth, p)
    assert ours["mean_auroc"] == pytest.approx(sklearn_metrics.roc_auc_score(truth, p, average="macro"))
    for average in ("micro", "macro"):
        assert ours[f"{average}_f1"] == pytest.approx(
            sklearn_metrics.f1_score(truth, predicted, average=average)
        )
    assert ours["hamming_loss"] == pytest.approx(sklearn_metrics.hamming_loss(truth, predicted))
    assert ours["label_accuracy"] == pytest.approx(1 - ours["hamming_loss"])
    assert ours["subset_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, predicted))
    each = [sklearn_metrics.log_loss(truth[:, i], p[:, i]) for i in range(4)]
    assert ours["log_loss"] == pytest.approx(np.mean(each))


@pytest.mark.parametrize("seed", range(4))
def test_scores_of_several_numbers_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.normal(3, 20, (30, 3)), rng.normal(3, 20, (30, 3))
    ours = metrics.scores("multi-regression", truth, predicted)
    assert ours["mean_r2"] == pytest.approx(sklearn_metrics.r2_score(truth, predicted))
    assert ours["mean_mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(truth, predicted))
    assert ours["mean_rmse"] == pytest.approx(sklearn_metrics.root_mean_squared_error(truth, predicted))


def test_a_target_where_a_score_is_not_defined_is_left_out_of_the_mean():
    truth, p = labelled(50, 3, 0)
    truth[:, 1] = 0
    p[:, 1] = 0.1
    ours = metrics.scores("multi-label", truth, p)
    others = metrics.scores("multi-label", truth[:, [0, 2]], p[:, [0, 2]])
    assert ours["mean_auroc"] == others["mean_auroc"] and ours["macro_f1"] == others["macro_f1"]
    assert np.isnan(metrics.scores("multi-label", truth[:, [1]], p[:, [1]])["mean_auroc"])


@pytest.mark.parametrize("task", ["multi-label", "multi-regression"])
def test_every_target_has_its_interval(task):
    truth, p = labelled(60, 2, 1)
    found = metrics.scores_with_intervals(task, truth, p, targets=["a", "b"], replicates=50)
    assert list(found) == list(metrics.METRICS[task]) and metrics.MAIN[task] in found
    assert set(metrics.METRICS[task]) <= set(metrics.HIGHER_IS_BETTER)
    for name, each in metrics.EACH[task].items():
        told = found[name]["targets"]
        assert list(told) == ["a", "b"]
        assert told["b"]["value"] == each(truth[:, 1], p[:, 1])
        assert told["b"]["interval"][0] < told["b"]["value"] < told["b"]["interval"][1]
        assert found[name]["value"] == pytest.approx((told["a"]["value"] + told["b"]["value"]) / 2)
    assert "targets" not in metrics.scores_with_intervals(task, truth, p, replicates=5)[metrics.MAIN[task]]


def test_predictions_from_outputs():
    outputs = np.array([[0.0, 2.0], [3.0, -1.0]])
    odds = 1 / (1 + np.exp(-outputs))
    np.testing.assert_allclose(metrics.as_predictions("multi-label", outputs), odds)
    np.testing.assert_allclose(metrics.as_predictions("classification", outputs).sum(1), 1)
    np.testing.assert_array_equal(metrics.as_predictions("multi-regression", outputs), outputs)
    np.testing.assert_array_equal(metrics.as_predictions("regression", outputs[:, :1]), outputs[:, 0])
