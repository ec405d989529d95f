import numpy as np
import pytest
import torch

from salience.core.errors import ConfigError, UnsupportedError
from salience.explain.target import Target, resolve, score
from salience.testing.toy import toy_schema

OUTPUTS = np.array([[0.0, 1.0, 3.0], [2.0, -1.0, 0.5]])


def test_predicted_class_of_each_row():
    assert [t.name for t in resolve(toy_schema("multiclass"), "predicted", OUTPUTS)] == ["good", "bad"]


@pytest.mark.parametrize("spec", ["fair", 1])
def test_a_class_by_name_or_position(spec):
    assert resolve(toy_schema("multiclass"), spec, OUTPUTS) == [Target(1, "fair", "log-odds")] * 2


def test_a_number_is_first_a_name():
    schema = toy_schema("multiclass")
    schema = type(schema)(schema.columns, schema.task, ["0", "2", "1"])
    assert resolve(schema, 2, OUTPUTS)[0] == Target(1, "2", "log-odds")


def test_log_odds_are_against_all_others():
    targets = resolve(toy_schema("multiclass"), "predicted", OUTPUTS)
    p = np.exp(OUTPUTS) / np.exp(OUTPUTS).sum(1, keepdims=True)
    expected = [np.log(p[0, 2] / (1 - p[0, 2])), np.log(p[1, 0] / (1 - p[1, 0]))]
    np.testing.assert_allclose(score(OUTPUTS, targets), expected)


def test_a_contrast_is_a_difference_of_logits():
    targets = resolve(toy_schema("multiclass"), ("good", "bad"), OUTPUTS)
    assert targets[0].name == "good rather than bad"
    np.testing.assert_allclose(score(OUTPUTS, targets), [3.0, -1.5])


def test_arrays_and_tensors_agree_and_gradients_are_right():
    for spec in ("predicted", ("fair", "bad")):
        targets = resolve(toy_schema("multiclass"), spec, OUTPUTS)
        z = torch.tensor(OUTPUTS, requires_grad=True)
        np.testing.assert_allclose(score(z, targets).detach().numpy(), score(OUTPUTS, targets))
        assert torch.autograd.gradcheck(lambda x, t=targets: score(x, t), z)


def test_huge_logits_do_not_overflow():
    targets = [Target(0, "no", "log-odds")]
    assert score(np.array([[1e4, -1e4]]), targets)[0] == pytest.approx(2e4)


def test_regression_has_one_target():
    assert resolve(toy_schema("regression"), "predicted", OUTPUTS[:, :1]) == [Target(0, "score", "value")] * 2
    with pytest.raises(UnsupportedError, match="no classes to explain"):
        resolve(toy_schema("regression"), "yes", OUTPUTS[:, :1])


def test_unknown_classes_are_named():
    with pytest.raises(ConfigError, match="Did you mean 'good'"):
        resolve(toy_schema("multiclass"), "god", OUTPUTS)
    with pytest.raises(ConfigError, match="Unknown target 7"):
        resolve(toy_schema("multiclass"), 7, OUTPUTS)
    with pytest.raises(ConfigError, match="two different classes"):
        resolve(toy_schema("multiclass"), ("good", "good"), OUTPUTS)


def test_log_probabilities_of_texts_alone_and_against_each_other():
    outputs = np.log([[0.5, 0.125], [0.25, 0.5]])
    alone = [Target(0, "a", "log-probability")] * 2
    pair = [Target(0, "a rather than b", "log-probability", 1)] * 2
    for found, expected in ((alone, outputs[:, 0]), (pair, [np.log(4), -np.log(2)])):
        np.testing.assert_allclose(score(outputs, found), expected)
        tensor = torch.tensor(outputs, requires_grad=True)
        np.testing.assert_allclose(score(tensor, found).detach(), expected)
        gradient = torch.autograd.grad(score(tensor, found).sum(), tensor)[0]
        np.testing.assert_allclose(gradient.sum(1), [0.0, 0.0] if found is pair else [1.0, 1.0])


def test_a_contrast_beside_a_plain_target_is_log_odds_as_well():
    outputs = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    mixed = [Target(0, "", "log-odds", 2), Target(1, "", "log-odds")]
    expected = [0.5, -1.0 - np.log(np.exp(0.0) + np.exp(3.0))]
    np.testing.assert_allclose(score(outputs, mixed), expected)
    np.testing.assert_allclose(score(torch.tensor(outputs), mixed), expected)


def test_a_model_may_name_its_own_targets():
    named = [Target(1, "second", "log-odds")]
    assert resolve(None, lambda outputs: named * len(outputs), np.zeros((2, 3))) == named * 2
