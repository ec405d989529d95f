"""What parts of a model add to the loss: the same gradient whole, in parts, and by several processes."""

import numpy as np
import pytest
import torch
from small_model import CostlyModel, SmallModel, small_rows, train
from torch.nn import functional as F

from salience.models.heads.classification import ClassificationHead
from salience.models.heads.regression import RegressionHead
from salience.training.loop import Trainer, TrainingConfig


def gradients(parts, rows=13, model=CostlyModel, **head):
    trainer = Trainer(model(**head), TrainingConfig(accumulate=parts))
    trainer.examples, trainer.target = small_rows(rows)
    total = trainer._backward(np.arange(rows))
    return total, {name: p.grad.clone() for name, p in trainer.core.named_parameters()}


@pytest.mark.parametrize("head", [{}, {"class_weights": [0.2, 1.0, 3.0], "label_smoothing": 0.1}], ids=str)
def test_a_batch_in_parts_has_the_gradient_of_the_whole(head):
    loss, whole = gradients(1, **head)
    plain, _ = gradients(1, model=SmallModel, **head)
    assert loss > plain + 1e-4
    for parts in (3, 13):
        found, pieces = gradients(parts, **head)
        assert found == pytest.approx(loss, rel=1e-5)
        for name, wanted in whole.items():
            torch.testing.assert_close(pieces[name], wanted, atol=1e-6, rtol=0)


def test_a_model_without_it_trains_as_before():
    class Silent(SmallModel):
        def auxiliary_loss(self, output, target):
            return None

    assert gradients(2, model=Silent)[0] == gradients(2, model=SmallModel)[0]
    _, history = train(CostlyModel(), epochs=2)
    assert history.epochs[1]["loss"] < history.epochs[0]["loss"]


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 4.0]], ids=str)
def test_row_losses_of_classes_add_up_to_the_loss(weights):
    torch.manual_seed(0)
    head = ClassificationHead(4, 3, class_weights=weights, label_smoothing=0.1)
    output, target = torch.randn(9, 3), torch.arange(9) % 3
    rows = head.row_losses(output, target)
    torch.testing.assert_close(rows.sum() / head.weight(target), head.loss(output, target))
    alone = F.cross_entropy(
        output[:1], target[:1], label_smoothing=0.1, weight=head.class_weights, reduction="sum"
    )
    torch.testing.assert_close(rows[0], alone)


def test_row_losses_of_numbers_add_up_to_the_loss():
    head = RegressionHead(4)
    head.fit_target(np.array([1.0, 2.0, 6.0]))
    output, target = torch.randn(5, 1), torch.randn(5)
    rows = head.row_losses(output, target)
    torch.testing.assert_close(rows.sum() / head.weight(target), head.loss(output, target))
    assert rows.shape == (5,)
