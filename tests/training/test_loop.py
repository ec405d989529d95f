import math

import numpy as np
import pytest
import torch
from small_model import SmallModel, same_state, small_rows, small_scores, train

from salience.core.errors import ConfigError, SalienceError, UnsupportedError
from salience.training import loop, parallel
from salience.training.loop import Trainer, TrainingConfig


def test_overfits_sixteen_rows():
    _, history = train(rows=16, epochs=40, patience=40, learning_rate=5e-2, weight_decay=0.0)
    assert history.epochs[-1]["accuracy"] == 1.0
    assert history.epochs[-1]["log_loss"] < 0.1 < history.epochs[0]["log_loss"]
    assert history.epochs[-1]["loss"] < 0.1 < history.epochs[0]["loss"]


def test_same_seed_same_weights_other_seed_other_weights():
    one, again, other = (train(SmallModel(dropout=0.5), trainer={"seed": seed})[0] for seed in (1, 1, 2))
    assert same_state(one, again)
    assert not same_state(one, other)


def test_random_numbers_of_the_caller_are_untouched():
    model = SmallModel(dropout=0.5)
    before = torch.get_rng_state()
    train(model)
    assert torch.equal(before, torch.get_rng_state())


def scripted(scores):
    """Return an evaluation with given scores, and the weights that it saw."""
    seen, left = [], list(scores)

    def evaluate(model):
        seen.append({name: t.clone() for name, t in model.state_dict().items()})
        return {"log_loss": left.pop(0)}

    return evaluate, seen


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_early_stopping_restores_the_best_weights(average):
    evaluate, seen = scripted([3.0, 1.0, 2.0, 1.5, 9.0])
    model, history = train(evaluate=evaluate, epochs=5, patience=2, average=average)
    assert history.best_epoch == 1
    assert len(history.epochs) == 4
    assert history.stopped == "no better log_loss for 2 epochs"
    assert all(torch.equal(t, seen[1][name]) for name, t in model.state_dict().items())
    assert not torch.equal(seen[1]["head.layers.0.weight"], seen[3]["head.layers.0.weight"])
    assert not model.training


def test_all_epochs_and_a_tie_keeps_the_first():
    evaluate, seen = scripted([1.0, 1.0, 1.0])
    model, history = train(evaluate=evaluate, epochs=3)
    assert (history.best_epoch, history.stopped) == (0, "all epochs done")
    assert torch.equal(model.state_dict()["head.layers.0.bias"], seen[0]["head.layers.0.bias"])


def test_no_epochs_keep_the_first_weights_and_score_them():
    model, history = train(epochs=0)
    assert same_state(model, SmallModel())
    assert (len(history.epochs), history.best_epoch) == (1, 0)


def test_undefined_scores_never_win():
    evaluate, _ = scripted([math.nan, 2.0, math.nan])
    assert train(evaluate=evaluate, epochs=3)[1].best_epoch == 1


def test_average_is_the_exponential_mean_of_the_weights(monkeypatch):
    steps = []
    original = loop.Trainer._update_average

    def record(self):
        original(self)
        steps.append(self.core.head.layers[0].bias.detach().clone().double())

    start = SmallModel().head.layers[0].bias.detach().double()
    monkeypatch.setattr(loop.Trainer, "_update_average", record)
    model, _ = train(epochs=1, batch_size=8, average=0.5)
    expected = start
    for n, value in enumerate(steps, start=1):
        keep = min(0.5, (1 + n) / (10 + n))
        expected = keep * expected + (1 - keep) * value
    assert len(steps) == 6
    torch.testing.assert_close(model.head.layers[0].bias.detach().double(), expected, atol=1e-6, rtol=0)


def gradients(parts=1, rows=24, model=None, **head):
    """Return gradients of one batch worked through in parts."""
    model = model or SmallModel(**head)
    examples, target = small_rows(rows)
    trainer = Trainer(model, TrainingConfig(accumulate=parts))
    trainer.examples, trainer.target = examples, target
    loss = trainer._backward(np.arange(rows))
    return loss, [p.grad.clone() for p in model.parameters()]


HEADS = [{}, {"class_weights": [0.2, 1.0, 3.0]}, {"class_weights": [0.2, 1.0, 3.0], "label_smoothing": 0.1}]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("parts", [2, 5, 24, 99])
def test_parts_of_a_batch_give_the_gradient_of_the_batch(parts, head):
    (loss, whole), (sum_of_parts, in_parts) = gradients(1, **head), gradients(parts, **head)
    assert sum_of_parts == pytest.approx(loss, rel=1e-5)
    for one, other in zip(whole, in_parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_first_step_is_that_of_adamw_with_clipped_gradients():
    model, reference = SmallModel(), SmallModel()
    examples, target = small_rows(16)
    train(model, rows=16, epochs=1, batch_size=16, clip=0.01, learning_rate=0.1, weight_decay=0.0, warmup=0.0)
    optimizer = torch.optim.SGD(reference.parameters())
    reference.head.loss(reference(reference.collate(examples)), torch.as_tensor(target)).backward()
    norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.01)
    assert norm > 0.01
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.1, weight_decay=0.0)
    optimizer.step()
    for one, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=0)


def test_gradients_are_clipped(monkeypatch):
    norms = {}

    def record(self, *args):
        norms.setdefault(self.config.clip, []).append(
            float(torch.stack([p.grad.norm() for p in self.core.parameters()]).norm())
        )

    for clip in (0.05, 0.0):
        original = torch.optim.AdamW.step
        monkeypatch.setattr(loop.Trainer, "_update_average", lambda self: None)
        trainer_step = Trainer(SmallModel(), TrainingConfig(clip=clip))
        trainer_step.examples, trainer_step.target = small_rows(16)
        trainer_step._backward(np.arange(16))
        trainer_step.optimizer.step = lambda: record(trainer_step)  # noqa: B023 - called in the loop
        trainer_step._update(10)
        assert torch.optim.AdamW.step is original
    assert norms[0.05][0] == pytest.approx(0.05, rel=1e-3)
    assert norms[0.0][0] > 0.1


def test_learning_rate_of_every_step(monkeypatch):
    rates = []
    original = loop.Trainer._update_average
    monkeypatch.setattr(
        loop.Trainer,
        "_update_average",
        lambda self: (rates.append({g["lr"] for g in self.optimizer.param_groups}), original(self)),
    )
    train(epochs=2, batch_size=12, learning_rate=0.5, warmup=0.25)
    assert rates == [{loop.rate_at(i, 8, 0.5, 0.25)} for i in range(8)]


def test_time_limit_stops_and_keeps_the_best(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(clock)))
    evaluate, seen = scripted([1.0, 2.0, 3.0, 4.0])
    model, history = train(evaluate=evaluate, epochs=4, trainer={"time_limit": 25.0})
    assert history.stopped == "time limit"
    assert history.best_epoch == 0
    assert len(history.epochs) < 4
    assert torch.equal(model.head.layers[0].bias, seen[0]["head.layers.0.bias"])


def test_time_limit_in_the_first_epoch_still_scores_and_keeps_weights():
    model, history = train(epochs=4, trainer={"time_limit": 0.0})
    assert (history.stopped, history.best_epoch, len(history.epochs)) == ("time limit", 0, 1)
    assert not same_state(model, SmallModel())


def test_frozen_parameters_stay():
    model = SmallModel()
    model.layers.requires_grad_(False)
    train(model, average=0.9, weight_decay=0.5)
    fresh = SmallModel()
    assert same_state(model.layers, fresh.layers)
    assert not same_state(model.head, fresh.head)


def test_bf16_is_finite_near_float32_and_leaves_a_plain_model():
    plain, _ = train(epochs=4)
    model, history = train(epochs=4, mixed_precision="bf16")
    assert all(t.dtype == torch.float32 and t.isfinite().all() for t in model.state_dict().values())
    assert not same_state(plain, model)
    assert history.epochs[-1]["log_loss"] == pytest.approx(
        train(epochs=4)[1].epochs[-1]["log_loss"], abs=0.05
    )
    assert model(model.collate(small_rows()[0])).dtype == torch.float32
    assert "forward" not in vars(model)


def test_precision_may_change_between_trainings():
    train(epochs=1, mixed_precision="bf16")
    assert same_state(train(epochs=1)[0], train(epochs=1, mixed_precision="no")[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device scales losses")
def test_fp16_without_loss_scaling_is_refused():
    with pytest.raises(UnsupportedError, match=r"'fp16' is not available.*no loss scaling.*bf16"):
        train(mixed_precision="fp16")


def test_precision_that_the_device_lacks_says_so(monkeypatch):
    def refuse(**_):
        raise ValueError("no such floats here")

    monkeypatch.setattr(parallel, "Accelerator", refuse)
    with pytest.raises(UnsupportedError, match=r"'bf16' is not available. no such floats here"):
        train(mixed_precision="bf16")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"epochs": -1}, "training.epochs is out of range. Got -1"),
        ({"warmup": 1.5}, "training.warmup is out of range"),
        ({"learning_rate": math.nan}, "training.learning_rate"),
        ({"mixed_precision": "bf61"}, "Did you mean 'bf16'"),
        ({"sharding": "fdsp"}, "Did you mean 'fsdp'"),
    ],
)
def test_bad_options_are_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        train(**options)


def test_infinite_loss_before_any_score_is_an_error():
    model = SmallModel()
    with torch.no_grad():
        model.head.layers[0].bias.fill_(math.inf)
    with pytest.raises(SalienceError, match=r"epoch 1, step 1.*learning_rate.*SAL-T001"):
        train(model)


def test_infinite_loss_later_keeps_the_best_weights():
    examples, target = small_rows()
    scores = small_scores(examples, target)

    def evaluate(model):
        found = scores(model)
        if evaluate.calls:
            model.head.layers[0].bias.data.fill_(math.inf)
        evaluate.calls += 1
        return found

    evaluate.calls = 0
    model, history = train(evaluate=evaluate, epochs=5)
    assert history.stopped == "the loss was not finite"
    assert len(history.epochs) == 2
    assert scores(model)["log_loss"] < 5 or history.best_epoch == 1
