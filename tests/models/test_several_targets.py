"""Heads of several targets, and a model of a table with one."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from salience.data.schema import infer
from salience.models.heads.multi_label import MultiLabelHead
from salience.models.heads.multi_regression import MultiRegressionHead
from salience.models.heads.regression import RegressionHead
from salience.models.table_model import ModelConfig, TableModel
from salience.models.temperature import fit_temperature

GENERATOR = torch.Generator().manual_seed(0)
ROWS, DIM, TARGETS = 12, 5, 3


def vectors(members):
    return torch.randn(*(ROWS, members, DIM) if members > 1 else (ROWS, DIM), generator=GENERATOR)


def numbers():
    return (torch.randn(ROWS, TARGETS, generator=GENERATOR) * torch.tensor([1.0, 100.0, 0.01]) + 7).double()


def labels():
    return torch.randint(0, 2, (ROWS, TARGETS), generator=GENERATOR)


@pytest.mark.parametrize("members", [1, 4])
def test_losses_of_numbers_are_squared_errors_in_standard_deviations(members):
    head, target = MultiRegressionHead(DIM, TARGETS, (6,), members=members).eval(), numbers()
    head.fit_target(target.numpy())
    output = head(vectors(members))
    standard = (target - target.mean(0)) / target.std(0, correction=0)
    errors = (output.reshape(ROWS, members, TARGETS) - standard[:, None].float()).square()
    torch.testing.assert_close(head.row_losses(output, target), errors.mean((1, 2)))
    torch.testing.assert_close(head.loss(output, target), errors.mean())
    joined = head.finish(head.join(output))
    assert joined.shape == (ROWS, TARGETS) and joined.dtype == torch.float64
    own = output.reshape(ROWS, members, TARGETS).mean(1).double()
    torch.testing.assert_close(
        joined, own * target.std(0, correction=0) + target.mean(0), rtol=1e-6, atol=1e-6
    )


def test_one_of_several_numbers_counts_as_it_would_alone():
    target = numbers()
    head, alone = MultiRegressionHead(DIM, TARGETS), RegressionHead(DIM)
    head.fit_target(target.numpy())
    output, losses = head(vectors(1)), []
    for i in range(TARGETS):
        alone.fit_target(target[:, i].numpy())
        losses.append(alone.row_losses(output[:, i : i + 1], target[:, i]))
    torch.testing.assert_close(head.row_losses(output, target), torch.stack(losses).mean(0))


def test_a_constant_target_keeps_its_scale():
    head = MultiRegressionHead(DIM, 2)
    head.fit_target(np.array([[1.0, 5.0], [3.0, 5.0]]))
    assert head.std.tolist() == [1.0, 1.0] and head.mean.tolist() == [2.0, 5.0]


@pytest.mark.parametrize("members", [1, 4])
def test_losses_of_labels_are_binary_cross_entropies(members):
    head, target = MultiLabelHead(DIM, TARGETS, members=members).eval(), labels()
    output = head(vectors(members))
    each = output.reshape(ROWS, members, TARGETS)
    p = each.double().sigmoid()
    wanted = -(target[:, None] * p.log() + (1 - target[:, None]) * (1 - p).log()).mean((1, 2))
    torch.testing.assert_close(head.row_losses(output, target).double(), wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head.loss(output, target).double(), wanted.mean(), rtol=1e-5, atol=1e-6)
    joined = head.join(output)
    torch.testing.assert_close(joined.double().sigmoid(), p.mean(1), rtol=1e-5, atol=1e-6)


def test_joined_log_odds_are_finite_far_out():
    head = MultiLabelHead(DIM, 1, members=2)
    joined = head.join(torch.tensor([[[200.0], [300.0]], [[-200.0], [-300.0]], [[90.0], [-90.0]]]))
    torch.testing.assert_close(joined[:, 0], torch.tensor([200.7, -200.7, 0.0]), atol=0.02, rtol=0)


@pytest.mark.parametrize("factor", [0.25, 1.0, 6.0])
def test_the_temperature_undoes_a_factor(factor):
    logits = torch.randn(20_000, 2, generator=GENERATOR) * 2
    target = (torch.rand(20_000, 2, generator=GENERATOR) < logits.sigmoid()).long()
    head = MultiLabelHead(DIM, 2)
    assert head.calibrate(logits * factor, target) == pytest.approx(factor, rel=0.05)
    torch.testing.assert_close(head.finish(logits * factor), logits * factor / head.temperature)


def test_the_temperature_is_where_the_loss_is_least():
    assert fit_temperature(lambda t: (np.log(t) - np.log(2.5)) ** 2) == pytest.approx(2.5, rel=1e-6)
    assert fit_temperature(lambda t: -t) == pytest.approx(np.exp(3.0), rel=1e-6)


@pytest.mark.parametrize("task", ["multi-regression", "multi-label"])
def test_a_model_of_a_table_has_one_output_a_target(task):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=40), "c": rng.choice(["u", "v"], 40)})
    noise = rng.normal(size=(40, 3)) + frame[["x"]].to_numpy()
    answers = noise * [1, 10, 100] if task == "multi-regression" else (noise > 0).astype(int)
    frame[["a", "b", "d"]] = answers
    schema = infer(frame, ["a", "b", "d"]).fitted(frame)
    torch.manual_seed(0)
    model = TableModel(schema, ModelConfig(hidden=(8,)))
    rows, target = schema.parse(frame), schema.encode_target(frame)
    model.fit_parts(rows, target, torch.Generator().manual_seed(0))
    assert model.n_outputs == 3 and model.outputs(rows).shape == (40, 3)
    batch = model.eval().collate(model.prepare(rows))
    loss = model.head.loss(model(batch), torch.as_tensor(target))
    loss.backward()
    if task == "multi-label":
        np.testing.assert_allclose(
            model.predict_proba(model.outputs(rows)), torch.tensor(model.outputs(rows)).sigmoid(), rtol=1e-9
        )
        again = F.binary_cross_entropy_with_logits(model(batch), torch.as_tensor(target).float())
    else:
        standard = (target - target.mean(0)) / target.std(0)
        again = (model(batch).double() - torch.as_tensor(standard)).square().mean()
        np.testing.assert_allclose(model.outputs(rows).mean(0), target.mean(0), atol=target.std(0).max())
    torch.testing.assert_close(loss.double(), again.double(), rtol=1e-5, atol=1e-6)
