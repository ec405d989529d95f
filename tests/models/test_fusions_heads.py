"""Fusions and heads: known answers, gradients, weights, temperature, units of the target."""

import math

import numpy as np
import pytest
import torch

from salience.models.fusions.attention_pool import AttentionPool
from salience.models.fusions.concat import Concat
from salience.models.heads.classification import ClassificationHead
from salience.models.heads.regression import RegressionHead
from salience.models.slots import MLP
from salience.testing.fusions import CELLS, DIMS, ROWS, TOKEN_DIMS, example_inputs


def pool(dim=5):
    torch.manual_seed(0)
    return AttentionPool(dict(DIMS), dict(TOKEN_DIMS), dim=dim)


def test_attention_pool_weights_sum_to_one_over_columns():
    fusion = pool()
    weights = fusion.weights(*example_inputs())
    assert weights.shape == (ROWS, 1 + CELLS)  # the text, and each number column
    torch.testing.assert_close(weights.sum(1), torch.ones(ROWS))


def test_attention_pool_returns_the_weighted_sum_of_its_columns():
    fusion, inputs = pool(), example_inputs()
    columns, weights = fusion.columns(*inputs), fusion.weights(*inputs)
    wanted = torch.stack([sum(weights[b, c] * columns[b, c] for c in range(1 + CELLS)) for b in range(ROWS)])
    torch.testing.assert_close(fusion(*inputs), wanted)


def test_attention_pool_takes_the_column_with_by_far_the_highest_score():
    fusion, inputs = pool(), example_inputs()
    with torch.no_grad():
        fusion.score[2].weight.mul_(1e4)
    columns, best = fusion.columns(*inputs), fusion.weights(*inputs).argmax(1)
    torch.testing.assert_close(fusion(*inputs), columns[torch.arange(ROWS), best], rtol=1e-4, atol=1e-4)


def test_concat_puts_vectors_side_by_side_in_encoder_order():
    vectors, tokens = example_inputs()
    fusion = Concat(DIMS, TOKEN_DIMS)
    found = fusion(vectors, tokens)
    assert fusion.dim == sum(DIMS.values())
    torch.testing.assert_close(found[:, : DIMS["text"]], vectors["text"])
    torch.testing.assert_close(found[:, DIMS["text"] :], vectors["number"])


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_calibration_finds_the_temperature_that_the_logits_were_multiplied_by(temperature):
    torch.manual_seed(0)
    true = torch.randn(4000, 3, dtype=torch.float64)
    target = torch.distributions.Categorical(logits=true).sample()
    head = ClassificationHead(4, 3)
    found = head.calibrate(true * temperature, target)
    assert found == pytest.approx(temperature, rel=0.12)
    assert float(head.temperature) == pytest.approx(found)
    calibrated = torch.nn.functional.cross_entropy(head.finish(true * temperature), target)
    for other in (0.9 * found, 1.1 * found):
        assert calibrated <= torch.nn.functional.cross_entropy(true * temperature / other, target)


def test_temperature_for_two_equal_logits_is_known():
    """Half of 3:1 answers right at logit gap g: the best gap is log 3, so T = g / log 3."""
    gap = 4.0
    logits = torch.tensor([[0.0, gap]] * 4)
    head = ClassificationHead(2, 2)
    assert head.calibrate(logits, torch.tensor([1, 1, 1, 0])) == pytest.approx(gap / math.log(3), rel=1e-4)


def test_calibration_keeps_the_order_of_classes_and_stays_in_range():
    logits = torch.tensor([[5.0, -5.0], [4.0, -4.0]])
    head = ClassificationHead(2, 2)
    assert 0.05 * 0.99 <= head.calibrate(logits, torch.tensor([0, 0])) <= 20 * 1.01
    assert torch.equal(head.finish(logits).argmax(1), logits.argmax(1))


def test_class_weights_and_label_smoothing_follow_their_definitions():
    logits, target = torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.5]]), torch.tensor([0, 2])
    log_p = logits.double().log_softmax(1)
    weighted = ClassificationHead(4, 3, class_weights=[1.0, 2.0, 3.0])
    wanted = -(1 * log_p[0, 0] + 3 * log_p[1, 2]) / 4
    assert float(weighted.loss(logits, target)) == pytest.approx(float(wanted), rel=1e-6)
    smooth = ClassificationHead(4, 3, label_smoothing=0.3)
    rows = [0.7 * log_p[i, t] + 0.1 * log_p[i].sum() for i, t in enumerate(target.tolist())]
    assert float(smooth.loss(logits, target)) == pytest.approx(float(-sum(rows) / 2), rel=1e-6)


def test_class_weights_are_not_part_of_the_saved_tensors():
    assert "class_weights" not in ClassificationHead(2, 2, class_weights=[1.0, 2.0]).state_dict()


def test_regression_is_trained_on_the_standardised_target_and_reports_its_own_units():
    head = RegressionHead(3)
    target = np.array([1e6, 1e6 + 2, 1e6 + 4])
    head.fit_target(target)
    spread = target.std()
    output = torch.tensor([[0.0], [1.0], [-2.0]])
    wanted = 1e6 + 2 + np.array([0, spread, -2 * spread])
    np.testing.assert_allclose(head.finish(output)[:, 0].numpy(), wanted, rtol=1e-12)
    perfect = torch.tensor(((target - target.mean()) / spread)[:, None], dtype=torch.float32)
    assert float(head.loss(perfect, torch.from_numpy(target))) < 1e-10
    assert float(head.loss(torch.zeros(3, 1), torch.from_numpy(target))) == pytest.approx(1.0, rel=1e-6)


def test_a_constant_target_is_predicted_exactly():
    head = RegressionHead(3)
    head.fit_target(np.full(5, 7.25))
    assert float(head.finish(torch.zeros(1, 1))) == 7.25


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_gradients(task):
    torch.manual_seed(0)
    vectors = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    if task == "classification":
        layers = ClassificationHead(3, 3, hidden=(5,)).double().layers
        target = torch.tensor([0, 1, 2, 0])
        assert torch.autograd.gradcheck(
            lambda v: torch.nn.functional.cross_entropy(layers(v), target), (vectors,)
        )
    else:
        head = RegressionHead(3, hidden=(5,)).double()
        assert torch.autograd.gradcheck(lambda v: head.finish(head(v)), (vectors,))


def test_perceptron_has_the_asked_layers():
    sizes = [(m.in_features, m.out_features) for m in MLP(4, 2, (8, 6)) if isinstance(m, torch.nn.Linear)]
    assert sizes == [(4, 8), (8, 6), (6, 2)]
    assert sum(p.numel() for p in MLP(4, 2).parameters()) == 4 * 2 + 2
