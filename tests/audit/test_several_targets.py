"""Baselines and checks of several targets, with answers known in advance."""

from dataclasses import replace

import numpy as np
import pytest

from salience.audit import baselines
from salience.audit.checks import calibration, duplicates, leakage, performance, perturbation, slices
from salience.audit.context import AuditContext
from salience.audit.engine import run_check
from salience.audit.levels.evidence import _target
from salience.audit.resample import auroc_gain, auroc_replicates, counts
from salience.core.metrics import MAIN, auroc, label_auroc, over_targets, r2
from salience.core.registry import Card
from salience.core.stats import bootstrap
from salience.data.schema import Column, Schema
from salience.explain.engine import explain
from salience.testing.checks import toy_context
from salience.testing.toy import TARGETS, LinearToy, toy_frame, toy_schema

TASKS = list(TARGETS)


class Stated:
    """State what the columns ``a`` and ``b`` hold: log-odds or values of two targets."""

    def outputs(self, frame):
        """Return both columns."""
        return frame[["a", "b"]].to_numpy(dtype=float)


def stated_context(task, outputs, truth, **cells):
    import pandas as pd

    frame = pd.DataFrame({"a": outputs[:, 0], "b": outputs[:, 1], **cells})
    kind = "number" if task == "multi-regression" else "category"
    inputs = [Column(n, "number" if frame[n].dtype.kind == "f" else "category", "input") for n in frame]
    schema = Schema((*inputs, Column("s", kind, "target"), Column("t", kind, "target")), task, None)
    frame = frame.assign(s=truth[:, 0], t=truth[:, 1])
    return AuditContext(Stated(), schema, {"train": frame, "test": frame}, quick=True)


@pytest.fixture(scope="module")
def labels():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (1500, 2))
    return logits, (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(int)


@pytest.fixture(scope="module")
def numbers():
    rng = np.random.default_rng(1)
    predicted = rng.normal(size=(1500, 2)) * [1, 100]
    return predicted, predicted * [1.0, 2.0] + rng.normal(size=(1500, 2)) * [0.1, 10]


@pytest.mark.parametrize("task", TASKS)
def test_baselines_have_one_model_a_target(task):
    schema, train, test = toy_schema(task), toy_frame(300, 0, task), toy_frame(150, 1, task)
    fitted = baselines.fit_baselines(schema, train, test)
    truth, each = schema.encode_target(test), r2 if task == "multi-regression" else label_auroc
    linear = "ridge regression" if task == "multi-regression" else "logistic regression"
    assert list(fitted) == [baselines.TRIVIAL[task], linear, "gradient boosting"]
    assert all(b.predictions.shape == truth.shape for b in fitted.values())
    assert "one model a target" in fitted[linear].description
    trivial = fitted[baselines.TRIVIAL[task]].predictions
    np.testing.assert_allclose(trivial[0], schema.encode_target(train).mean(axis=0))
    for name in (linear, "gradient boosting"):
        assert over_targets(each, truth, fitted[name].predictions) > over_targets(each, truth, trivial) + 0.1


def test_a_baseline_of_a_target_is_that_of_the_target_alone():
    train, test = toy_frame(200, 0, "multi-regression"), toy_frame(50, 1, "multi-regression")
    schema = toy_schema("multi-regression")
    columns = tuple(c for c in schema.columns if c.name != "score")
    alone = replace(schema, columns=columns, task="regression")
    both = baselines.fit_baselines(schema, train, test)
    for name, found in baselines.fit_baselines(alone, train, test).items():
        np.testing.assert_allclose(both[name].predictions[:, 1], found.predictions, rtol=1e-9)


def test_a_label_that_training_rows_lack_is_told_as_it_was():
    schema, train = toy_schema("multi-label"), toy_frame(80, 0, "multi-label").assign(shared=0)
    for baseline in baselines.fit_baselines(schema, train, toy_frame(20, 1, "multi-label")).values():
        np.testing.assert_array_equal(baseline.predictions[:, 2], 0.0)


def test_auroc_of_labels_is_resampled_as_elsewhere(labels):
    logits, truth = labels[0][:80], labels[1][:80]
    other = -0.3 * logits + np.random.default_rng(2).normal(size=logits.shape)
    weights = np.ones((1, len(truth)))
    assert auroc_replicates(truth, logits, weights)[0] == pytest.approx(
        over_targets(label_auroc, truth, logits)
    )
    drawn = np.concatenate(list(counts(len(truth), 5, 0)))
    for line, found in zip(drawn, auroc_replicates(truth, logits, drawn), strict=True):
        index = np.repeat(np.arange(len(truth)), line.astype(int))
        assert found == pytest.approx(over_targets(label_auroc, truth[index], logits[index]))
    slow = bootstrap(
        lambda y, p, q: over_targets(label_auroc, y, p) - over_targets(label_auroc, y, q),
        truth, logits, other, replicates=40, seed=0,
    )  # fmt: skip
    np.testing.assert_allclose(auroc_gain(truth, logits, other, replicates=40, seed=0), slow, atol=1e-12)
    two = np.stack([1 - logits[:, 0], logits[:, 0]], axis=1)
    assert auroc_replicates(truth[:, 0], two, weights)[0] == pytest.approx(auroc(truth[:, 0], two))


@pytest.mark.parametrize("task", TASKS)
def test_performance_names_the_hardest_target(task, labels, numbers):
    outputs, truth = labels if task == "multi-label" else numbers
    spoilt = outputs.copy()
    spoilt[:, 0] = np.random.default_rng(3).permutation(spoilt[:, 0])
    (finding,) = performance.run(stated_context(task, spoilt, truth))
    assert [row["target"] for row in finding.tables["targets"]] == ["s", "t"]
    assert "Of 2 targets 't' has the highest" in finding.answer and "and 's' the lowest" in finding.answer
    each = [row["value"] for row in finding.tables["targets"]]
    assert finding.value == pytest.approx(np.mean(each)) and MAIN[task] == "mean_" + (
        "auroc" if task == "multi-label" else "r2"
    )


def test_true_probabilities_of_labels_pass_calibration(labels):
    (finding,) = calibration.run(stated_context("multi-label", *labels))
    assert finding.verdict == "pass" and finding.interval[0] == 0.0
    assert {row["label"] for row in finding.tables["labels"]} == {"s", "t"}
    rows = sum(row["rows"] for row in finding.tables["reliability"])
    assert rows == 2 * len(labels[1])
    (bad,) = calibration.run(stated_context("multi-label", 3 * labels[0], labels[1]))
    assert bad.verdict in ("warn", "fail") and bad.value > 0.04


def test_the_slope_that_is_farthest_from_right_decides(numbers):
    (finding,) = calibration.run(stated_context("multi-regression", *numbers))
    assert finding.value == pytest.approx(2.0, abs=0.05) and finding.verdict == "fail"
    assert "Of 2 targets 't'" in finding.answer and "widened" in finding.answer
    slopes = {row["target"]: row["value"] for row in finding.tables["slopes"]}
    assert slopes["s"] == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("task", TASKS)
def test_a_column_that_gives_one_target_away_is_named_with_it(task, labels, numbers):
    outputs, truth = labels if task == "multi-label" else numbers
    told = truth[:, 1] + 0.001 * np.random.default_rng(4).normal(size=len(truth))
    (finding,) = leakage.run(stated_context(task, 0.1 * outputs, truth, copy=told))
    best = finding.tables["columns"][0]
    assert (best["column"], best["target"]) == ("copy", "t") and "target 't'" in finding.answer
    assert best["value"] > 0.97 and best["control"] < 0.6


def test_errors_of_rows(labels, numbers):
    found = slices.row_errors(stated_context("multi-label", *labels))
    np.testing.assert_allclose(found, ((labels[0] >= 0) != labels[1]).mean(axis=1))
    found = slices.row_errors(stated_context("multi-regression", *numbers))
    errors = np.abs(numbers[0] - numbers[1]) / numbers[1].std(axis=0)
    np.testing.assert_allclose(found, errors.mean(axis=1))


@pytest.mark.parametrize("task", TASKS)
def test_the_weak_slice_is_found(task, labels, numbers):
    outputs, truth = (part.copy() for part in (labels if task == "multi-label" else numbers))
    place = np.where(np.arange(len(truth)) % 5 == 0, "bad", "good")
    wrong = place == "bad"
    truth[wrong] = truth[wrong][::-1]
    (finding,) = slices.run(stated_context(task, outputs, truth, place=place.astype(object)))
    assert finding.tables["slices"][0]["slice"] == "place = bad" and finding.verdict in ("warn", "fail")


@pytest.mark.parametrize("task", TASKS)
def test_changed_inputs_move_predictions(task, labels, numbers):
    outputs, truth = labels if task == "multi-label" else numbers
    (finding,) = perturbation.run(stated_context(task, outputs, truth))
    line = finding.tables["perturbations"][1]
    assert line[perturbation.CHANGED if task == "multi-label" else perturbation.MOVED] > 0
    assert ("labels" if task == "multi-label" else "standard deviations") in finding.answer


@pytest.mark.parametrize("task", TASKS)
def test_a_duplicate_agrees_where_all_targets_do(task, labels, numbers):
    outputs, truth = labels if task == "multi-label" else numbers
    context = stated_context(task, outputs[:100], truth[:100])
    test = context.frames["test"].copy()
    test.loc[0, "t"] = 1 - test.loc[0, "t"]
    (finding,) = duplicates.run(replace(context, frames={**context.frames, "test": test}))
    (line, *_) = finding.tables["duplicates"]
    assert (line["rows"], line["same target"], line["different target"]) == (100, 99, 1)


@pytest.mark.parametrize("task", TASKS)
def test_a_check_that_is_not_for_the_task_says_so(task):
    def never(context):
        raise AssertionError("it was run")

    context = toy_context(task, rows=4)
    card = Card("toy", {"key": "toy", "kind": "check", "title": "Toy?", "tasks": ["classification"]})
    (finding,) = run_check(card, never, context)
    assert finding.verdict == "not measured" and f"does not apply to {task}" in finding.answer
    assert "one target" in finding.advice


def test_an_explained_label_counts_as_the_answer_that_was_given():
    model = LinearToy("multi-label")
    rows = model.schema.parse(toy_frame(2, 0, "multi-label"), target=False)
    explained = explain(model, rows, method="leave_one_out", target="liked", faithfulness=False)
    assert {_target(e) for e in explained} == {"predicted"}
