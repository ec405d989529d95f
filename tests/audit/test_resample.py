import numpy as np
import pytest

from salience.audit.resample import auroc_gain, auroc_replicates, counts, weighted_auroc
from salience.core.metrics import auroc
from salience.core.stats import bootstrap


def rows(classes, seed=0, n=60):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    probabilities = rng.dirichlet(np.ones(classes), n).round(1) + 0.01  # rounded: many ties
    return truth, probabilities


@pytest.mark.parametrize("classes", [2, 3])
def test_interval_equals_the_plain_bootstrap(classes):
    truth, ours = rows(classes)
    theirs = rows(classes, seed=1)[1]
    plain = bootstrap(lambda y, p, q: auroc(y, p) - auroc(y, q), truth, ours, theirs, replicates=60, seed=3)
    np.testing.assert_allclose(auroc_gain(truth, ours, theirs, replicates=60, seed=3), plain, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 4])
def test_weights_of_one_give_the_metric(classes):
    truth, probabilities = rows(classes)
    found = auroc_replicates(truth, probabilities, np.ones((2, len(truth))))
    np.testing.assert_allclose(found, auroc(truth, probabilities), atol=1e-12)


def test_a_weight_is_a_repeated_row():
    truth, probabilities = rows(2)
    weights = np.random.default_rng(2).integers(0, 3, len(truth))
    repeated = np.repeat(np.arange(len(truth)), weights)
    expected = auroc(truth[repeated], probabilities[repeated])
    assert weighted_auroc(truth == 1, probabilities[:, 1], weights[None].astype(float))[0] == pytest.approx(
        expected
    )


def test_one_class_is_undefined():
    assert np.isnan(weighted_auroc(np.ones(5, bool), np.arange(5.0), np.ones((1, 5)))[0])
    assert np.isnan(
        auroc_gain(np.ones(5, int), np.ones((5, 2)), np.ones((5, 2)), replicates=10, seed=0)
    ).all()


def test_counts_draw_as_many_rows_as_there_are():
    drawn = np.concatenate(list(counts(50, 7, 0)))
    assert drawn.shape == (7, 50)
    np.testing.assert_array_equal(drawn.sum(axis=1), 50)
