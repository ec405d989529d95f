"""Models with members: the loss is the mean of their losses, the answer is joined, and everything else sees one model."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from salience.core.errors import ConfigError, UnsupportedError
from salience.data.schema import infer
from salience.explain import engine
from salience.models.fusions.tabm_mini import TabMMini
from salience.models.heads.classification import ClassificationHead
from salience.models.heads.regression import RegressionHead
from salience.models.slots import MLP, Head
from salience.models.table_model import ModelConfig, Part, TableModel
from salience.training.loop import Trainer, TrainingConfig
from salience.training.parallel import Objective

ROWS, MEMBERS, CLASSES = 9, 4, 3
SMALL = {"blocks": 2, "width": 16, "dropout": 0.0, "members": MEMBERS}


def logits(seed=0):
    return torch.randn(
        ROWS, MEMBERS, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def classes():
    return torch.arange(ROWS) % CLASSES


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]], ids=["equal", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_classes_is_the_mean_of_the_members_losses(weights, smoothing):
    head = ClassificationHead(5, CLASSES, class_weights=weights, label_smoothing=smoothing, members=MEMBERS)
    output, target = logits(), classes()
    single = ClassificationHead(5, CLASSES, class_weights=weights, label_smoothing=smoothing)
    wanted = torch.stack([single.loss(output[:, m], target) for m in range(MEMBERS)]).mean()
    torch.testing.assert_close(head.loss(output, target), wanted)
    rows = torch.stack([single.row_losses(output[:, m], target) for m in range(MEMBERS)]).mean(0)
    torch.testing.assert_close(head.row_losses(output, target), rows)
    torch.testing.assert_close(rows.sum() / head.weight(target), wanted)


def test_the_loss_of_numbers_is_the_mean_of_the_members_losses():
    head = RegressionHead(5, members=MEMBERS)
    target = torch.linspace(-3, 8, ROWS, dtype=torch.float64)
    head.fit_target(target.numpy())
    output = logits()[:, :, :1]
    standard = (target - target.mean()) / target.std(unbiased=False)
    wanted = (output[:, :, 0] - standard[:, None]).square()
    torch.testing.assert_close(head.row_losses(output, target), wanted.mean(1))
    torch.testing.assert_close(head.loss(output, target), wanted.mean())


def test_classes_are_joined_to_the_logarithm_of_the_mean_probability():
    head, output = ClassificationHead(5, CLASSES, members=MEMBERS), 40 * logits()
    joined = head.join(output)
    torch.testing.assert_close(joined.exp(), output.softmax(-1).mean(1))
    assert joined.isfinite().all()
    torch.testing.assert_close(joined.exp().sum(1), torch.ones(ROWS, dtype=torch.float64))


def test_numbers_are_joined_to_their_mean_in_units_of_the_target():
    head, output = RegressionHead(5, members=MEMBERS), logits()[:, :, :1]
    head.fit_target(np.array([10.0, 30.0]))
    torch.testing.assert_close(head.finish(head.join(output)), 20 + 10 * output.mean(1))


@pytest.mark.parametrize(
    "head", [ClassificationHead(5, CLASSES), RegressionHead(5)], ids=["classes", "number"]
)
def test_one_model_is_joined_to_itself(head):
    output = logits()[:, 0]
    assert head.join(output) is output


def test_the_temperature_is_fitted_to_the_joined_answer():
    head, target = ClassificationHead(5, CLASSES, members=MEMBERS), classes()
    joined = head.join(3 * logits() + F.one_hot(target, CLASSES)[:, None])
    head.calibrate(joined, target)
    best = F.cross_entropy(head.finish(joined), target)
    for factor in (0.9, 1.1):
        assert best <= F.cross_entropy(joined / (head.temperature * factor), target)


def test_every_member_has_a_last_layer_of_its_own_behind_shared_ones():
    torch.manual_seed(0)
    layers, x = MLP(5, 2, (7,), members=MEMBERS), torch.randn(3, MEMBERS, 5)
    with torch.no_grad():
        found = layers(x)
        last = layers[-1]
        for m in range(MEMBERS):
            hidden = torch.relu(layers[0](x[:, m]))
            torch.testing.assert_close(found[:, m], hidden @ last.weight[m] + last.bias[m])


def test_one_member_is_no_ensemble():
    with pytest.raises(ConfigError, match="two members"):
        TabMMini({"number": 4}, {"number": 2}, {"number": [2, 2]}, members=1)


# a whole model


def frame(rows=60):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"size": rng.normal(size=rows), "age": rng.uniform(0, 80, rows)})
    table["place"] = rng.choice(["north", "south", "west"], rows)
    score = table["size"] + (table["age"] > 40) + (table["place"] == "west")
    table["price"] = 100 + 20 * score
    table["sold"] = np.where(score > score.median(), "yes", "no")
    return table


def make(target, fusion="tabm_mini", seed=0):
    table = frame().drop(columns="price" if target == "sold" else "sold")
    schema = infer(table, target).fitted(table)
    torch.manual_seed(seed)
    model = TableModel(schema, ModelConfig(fusion=Part(fusion, SMALL)))
    rows = schema.parse(table)
    model.fit_parts(rows, schema.encode_target(rows), torch.Generator().manual_seed(0))
    return model.eval(), rows


@pytest.mark.parametrize("fusion", ["tabm", "tabm_mini"])
@pytest.mark.parametrize("target", ["sold", "price"])
def test_forward_is_what_the_loss_takes_and_outputs_are_joined(target, fusion):
    model, rows = make(target, fusion)
    batch = model.collate(model.prepare(rows))
    with torch.no_grad():
        output = model(batch)
        assert output.shape == (len(rows), MEMBERS, model.n_outputs)
        joined = model.forward_tokens(model.embed(batch))
        torch.testing.assert_close(joined, model.head.join(output))
        assert not torch.equal(output[:, 0], output[:, 1])
    np.testing.assert_allclose(model.outputs(rows, calibrated=False), joined.numpy(), atol=1e-5)
    np.testing.assert_allclose(model.outputs(rows), model.finish(joined).numpy(), rtol=1e-5, atol=1e-4)


def test_probabilities_are_the_members_mean():
    model, rows = make("sold")
    with torch.no_grad():
        wanted = model(model.collate(model.prepare(rows))).softmax(-1).mean(1)
    np.testing.assert_allclose(model.predict_proba(model.outputs(rows)), wanted.numpy(), atol=1e-6)


def test_the_objective_is_the_mean_of_the_members_losses():
    model, rows = make("sold")
    batch, target = model.collate(model.prepare(rows)), torch.from_numpy(model.schema.encode_target(rows))
    output = model(batch)
    wanted = torch.stack([F.cross_entropy(output[:, m], target) for m in range(MEMBERS)]).mean()
    torch.testing.assert_close(Objective(model)(batch, target), wanted)


def test_the_extra_loss_of_an_encoder_sees_one_loss_a_row():
    model, rows = make("sold")
    encoder, seen = model.encoders["number"], []
    type(model).selects, before = property(lambda self: True), type(model).selects
    try:
        encoder.auxiliary_loss = lambda losses: seen.append(losses) or 2 * losses
        batch, target = model.collate(model.prepare(rows)), torch.from_numpy(model.schema.encode_target(rows))
        output = model(batch)
        extra = model.auxiliary_loss(output, target)
    finally:
        type(model).selects = before
    assert seen[0].shape == (len(rows),)
    torch.testing.assert_close(extra, 2 * model.head.loss(output, target).detach())


@pytest.mark.parametrize("target", ["sold", "price"])
@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_x_input", "occlusion", "deep_lift"])
def test_explanations_add_up_to_the_joined_answer(method, target):
    model, rows = make(target)
    if (method, target) == ("deep_lift", "sold"):  # a mean of probabilities has no rule
        with pytest.raises(UnsupportedError, match="integrated_gradients"):
            engine.explain(model, rows.head(2), method=method, faithfulness=False)
        return
    found = engine.explain(model, rows.head(2), method=method, faithfulness=False)
    outputs = model.outputs(rows.head(2))
    for explanation, output in zip(found, outputs, strict=True):
        assert len(explanation.values) == 3
        assert np.isfinite(explanation.values).all()
        wanted = output[0] if target == "price" else abs(output[1] - output[0])
        assert abs(explanation.output) == pytest.approx(wanted, rel=1e-4, abs=1e-5)
        if method in ("integrated_gradients", "deep_lift"):
            gap = sum(explanation.values) - (explanation.output - explanation.baseline_output)
            assert abs(gap) < 0.02 * max(1.0, abs(explanation.output - explanation.baseline_output))


@pytest.mark.parametrize("fusion", ["tabm", "tabm_mini"])
def test_training_lowers_the_joined_error(fusion):
    model, rows = make("price", fusion)
    target = model.schema.encode_target(rows)

    def evaluate(current):
        return {"rmse": float(np.sqrt(np.mean((current.outputs(rows)[:, 0] - target) ** 2)))}

    before = evaluate(model)["rmse"]
    config = TrainingConfig(epochs=25, batch_size=30, learning_rate=1e-2, patience=25)
    history = Trainer(model, config).fit(model.prepare(rows), target, evaluate, "rmse", higher=False)
    assert evaluate(model)["rmse"] < before / 3
    assert history.epochs[-1]["loss"] < 0.2


def test_a_saved_model_gives_the_same_answers():
    first, rows = make("sold")
    second = TableModel(first.schema, first.config)
    second.restore(first.state())
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(second.eval().outputs(rows), first.outputs(rows))


def test_a_head_without_its_own_rule_takes_the_mean():
    class Plain(Head):
        task = "toy"

        def forward(self, vector):
            return vector

        def loss(self, output, target):
            return output.mean()

        def row_losses(self, output, target):
            return output.flatten(1).mean(1)

        def finish(self, output):
            return output

    torch.testing.assert_close(Plain().join(logits()), logits().mean(1))


def test_many_members_do_not_narrow_the_range_of_joined_logits():
    """A member that is sure and wrong costs the others at most a factor of the number of members."""
    head = ClassificationHead(5, 2, members=2)
    output = torch.tensor([[[0.0, 200.0], [200.0, 0.0]]])
    torch.testing.assert_close(head.join(output), torch.full((1, 2), -math.log(2.0)))
