"""Explanations of one of several targets: what is explained, on which scale, with known answers of a linear model."""

import json

import numpy as np
import pytest
import torch

from salience.core.errors import ConfigError, UnsupportedError
from salience.explain import adopt
from salience.explain.answers import answers, scale, target_spread
from salience.explain.engine import explain
from salience.explain.explanation import Explanation
from salience.explain.importance import importance
from salience.explain.leaderboard import compare
from salience.explain.target import Target, resolve, score
from salience.explain.words import check
from salience.testing.toy import TARGETS, LinearToy, toy_frame, toy_schema

METHODS = (
    "leave_one_out", "gradient_x_input", "integrated_gradients", "permutation_shapley", "kernel_shapley",
    "deep_lift",
)  # fmt: skip
OUTPUTS = np.array([[0.5, 2.0, -1.0], [-3.0, -2.0, -1.0]])


def rows_of(task, rows=4, seed=0):
    model = LinearToy(task)
    return model, model.schema.parse(toy_frame(rows, seed, task), target=False)


def test_labels_are_resolved_by_name_position_and_probability():
    schema = toy_schema("multi-label")
    liked, returned, shared = TARGETS["multi-label"]
    found = resolve(schema, "predicted", OUTPUTS)
    assert found == [
        Target(1, returned, "log-odds", independent=True),
        Target(2, shared, "log-odds", independent=True),
    ]
    assert resolve(schema, liked, OUTPUTS) == [Target(0, liked, "log-odds", independent=True)] * 2
    assert resolve(schema, 2, OUTPUTS)[0].name == shared
    assert resolve(schema, (liked, shared), OUTPUTS)[0] == Target(
        0, f"{liked} rather than {shared}", "log-odds", 2, True
    )
    with pytest.raises(ConfigError, match="returned"):
        resolve(schema, "return", OUTPUTS)
    with pytest.raises(ConfigError, match="two different"):
        resolve(schema, (liked, liked), OUTPUTS)


def test_numbers_are_resolved_by_name_and_position():
    schema, outputs = toy_schema("multi-regression"), OUTPUTS[:, :2]
    assert resolve(schema, "predicted", outputs) == [Target(0, "score", "value")] * 2
    assert resolve(schema, "complaints", outputs)[1] == Target(1, "complaints", "value")
    assert resolve(schema, 1, outputs)[0].name == "complaints"
    with pytest.raises(ConfigError, match="complaints"):
        resolve(schema, "complaint", outputs)
    with pytest.raises(UnsupportedError):
        resolve(schema, ("score", "complaints"), outputs)


def test_a_number_may_be_asked_for_by_its_name():
    schema = toy_schema("regression")
    assert resolve(schema, "score", np.zeros((1, 1))) == [Target(0, "score", "value")]
    with pytest.raises(UnsupportedError):
        resolve(schema, "no", np.zeros((1, 1)))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_log_odds_of_a_label_are_its_output(kind):
    schema = toy_schema("multi-label")
    own = score(kind(OUTPUTS), resolve(schema, "returned", OUTPUTS))
    np.testing.assert_array_equal(own, [2.0, -2.0])
    both = score(kind(OUTPUTS), resolve(schema, ("liked", "shared"), OUTPUTS))
    np.testing.assert_array_equal(both, [1.5, -2.0])


@pytest.mark.parametrize("task", list(TARGETS))
@pytest.mark.parametrize("method", METHODS)
def test_a_linear_model_has_known_contributions_to_each_target(method, task):
    model, rows = rows_of(task)
    for index, name in enumerate(TARGETS[task]):
        found = explain(model, rows, method=method, target=name, faithfulness=False)
        for e, row in zip(found, rows.to_dict("records"), strict=True):
            np.testing.assert_allclose(e.values, model.contributions(row)[:, index], atol=1e-6)
            assert (e.target, e.target_column, e.target_index) == (name, name, index)


def test_answers_are_on_the_scale_of_the_target():
    model, rows = rows_of("multi-label", 1)
    (e,) = explain(model, rows, method="leave_one_out", target="returned")
    np.testing.assert_allclose(
        answers(model, e, OUTPUTS), [[1 / (1 + np.exp(-2)), 2], [1 / (1 + np.exp(2)), -2]]
    )
    assert scale(model, e) == "probability" and e.faithfulness.log_odds is not None
    (e,) = explain(model, rows, method="leave_one_out", target=("liked", "shared"))
    np.testing.assert_allclose(answers(model, e, OUTPUTS)[:, 0], 1 / (1 + np.exp([-1.5, 2.0])))
    p, q = 1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(1.0))  # the one, given that just one of both
    assert answers(model, e, OUTPUTS)[0, 0] == pytest.approx(p * (1 - q) / (p * (1 - q) + q * (1 - p)))


def test_numbers_are_measured_in_standard_deviations_of_their_own_target():
    model, rows = rows_of("multi-regression", 1)
    model.head = torch.nn.Module()
    model.head.std = torch.tensor([2.0, 10.0])
    assert [target_spread(model, i) for i in (0, 1)] == [2.0, 10.0]
    (e,) = explain(model, rows, method="leave_one_out", target="complaints")
    assert scale(model, e) == "standard deviations" == e.faithfulness.scale
    np.testing.assert_allclose(answers(model, e, OUTPUTS[:, :2]), [[0.2, 2.0], [-0.2, -2.0]])


@pytest.mark.parametrize("task", list(TARGETS))
def test_words_name_the_target_and_hold(task):
    model, rows = rows_of(task)
    for name in TARGETS[task]:
        for e in explain(model, rows, method="leave_one_out", target=name):
            words = e.words()
            assert name in str(words.sentences[0]) and check(words, e) == []
            if task == "multi-label":
                answer = "yes" if e.output >= 0 else "no"
                assert e.prediction == answer and f"predicts “{answer}” for “{name}”" in str(words)
                assert e.probability == pytest.approx(1 / (1 + np.exp(-abs(e.output))))


@pytest.mark.parametrize("task", list(TARGETS))
def test_json_keeps_which_target_it_is(task):
    model, rows = rows_of(task, 1)
    (e,) = explain(model, rows, method="leave_one_out", target=TARGETS[task][1])
    again = Explanation.from_json(json.loads(json.dumps(e.to_json())))
    assert again == e and again.independent == (task == "multi-label")


@pytest.mark.parametrize("task", list(TARGETS))
def test_attributions_from_elsewhere_are_of_the_named_target(task):
    model, rows = rows_of(task, 2)
    name = TARGETS[task][1]
    given = explain(model, rows, method="leave_one_out", target=name, faithfulness=False)
    adopted = adopt.adopt(model, given)
    for own, theirs in zip(given, adopted, strict=True):
        assert (theirs.target, theirs.target_column, theirs.independent) == (name, name, own.independent)
        assert (theirs.prediction, theirs.output) == (own.prediction, pytest.approx(own.output))


def test_importance_of_labels_does_not_turn_signs():
    model, rows = rows_of("multi-label", 6)
    found = explain(model, rows, method="leave_one_out", target="liked", faithfulness=False)
    assert importance(found, classes=model.schema.classes)["toward"] == "liked"


def test_a_label_changes_where_its_own_sign_does():
    model, rows = rows_of("multi-label", 12)
    board = compare(model, rows, ["leave_one_out"], ["comprehensiveness"], target="liked", seed=0)
    found = explain(model, rows, method="leave_one_out", target="liked", faithfulness=False)
    changed = []
    for e in found:
        top = np.argsort(-np.abs(e.values), kind="stable")[: max(1, round(0.2 * len(e.values)))]
        changed.append((e.output >= 0) != (e.output - sum(e.values[i] for i in top) >= 0))
    mine = next(m for m in board.methods if m.name == "leave_one_out")
    assert mine.changed == pytest.approx(np.mean(changed), abs=0.1)
