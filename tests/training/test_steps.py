"""Exact numbers of steps, validations between them, and the options of AdamW that language models change."""

import numpy as np
import pytest
import torch
from small_model import SmallModel, same_state, small_rows, small_scores, train
from torch import nn

from salience.training import checkpoint, loop
from salience.training.loop import Trainer, TrainingConfig


def recorded(monkeypatch):
    """Return the batches and learning rates that a training uses, as a list that fills."""
    seen = []
    original = Trainer._backward

    def record(self, batch):
        seen.append((self.progress.updates, tuple(batch)))
        return original(self, batch)

    monkeypatch.setattr(Trainer, "_backward", record)
    return seen


@pytest.mark.parametrize(
    ("steps", "evaluate_steps", "rounds"), [(2, 0, 1), (3, 0, 1), (7, 0, 3), (7, 2, 4), (8, 4, 2), (3, 9, 1)]
)
def test_exact_steps_in_rounds(monkeypatch, steps, evaluate_steps, rounds):
    seen = recorded(monkeypatch)
    _, history = train(steps=steps, evaluate_steps=evaluate_steps, patience=99, epochs=1)
    assert len(seen) == steps
    assert len(history.epochs) == rounds
    assert history.stopped == "all steps done"


def test_rounds_cut_the_same_batches_as_epochs(monkeypatch):
    seen = recorded(monkeypatch)
    train(epochs=3)
    by_epoch, seen[:] = list(seen), []
    whole, _ = train(epochs=3, evaluate_steps=2, patience=99)
    assert seen == by_epoch
    assert same_state(whole, train(steps=9, evaluate_steps=9)[0])


def test_rows_of_each_pass_are_all_rows(monkeypatch):
    seen = recorded(monkeypatch)
    train(steps=6, evaluate_steps=2, patience=99)
    for first in (0, 3):
        assert sorted(row for _, batch in seen[first : first + 3] for row in batch) == list(range(48))
    assert seen[0][1] != seen[3][1]


def test_the_rate_falls_to_its_floor(monkeypatch):
    rates = []
    original = Trainer._update_average
    monkeypatch.setattr(
        Trainer,
        "_update_average",
        lambda self: (rates.append(self.optimizer.param_groups[0]["lr"]), original(self)),
    )
    train(steps=10, learning_rate=0.5, warmup=0.2, floor=0.1)
    assert rates == [loop.rate_at(i, 10, 0.5, 0.2, 0.1) for i in range(10)]
    assert rates[1] == max(rates) == 0.5
    assert loop.rate_at(10, 10, 0.5, 0.2, 0.1) == pytest.approx(0.05)
    assert [loop.rate_at(i, 10, 0.5, 0.2) for i in range(10)] == [
        loop.rate_at(i, 10, 0.5, 0.2, 0.0) for i in range(10)
    ]


def test_memories_of_adamw():
    trainer = Trainer(SmallModel(), TrainingConfig(beta1=0.8, beta2=0.95))
    assert all(group["betas"] == (0.8, 0.95) for group in trainer.optimizer.param_groups)
    trainer = Trainer(SmallModel(), TrainingConfig())
    assert all(group["betas"] == (0.9, 0.999) for group in trainer.optimizer.param_groups)


class TiedModel(SmallModel):
    """The small model with a second name for one of its parameters."""

    def __init__(self):
        super().__init__()
        self.again = nn.Linear(5, 16, bias=False)
        self.again.weight = self.layers[0].weight


def test_the_average_of_a_tied_parameter_is_kept(tmp_path):
    plain, _ = train(SmallModel(), average=0.5, epochs=2)
    for trainer in ({}, {"folder": tmp_path}, {"folder": tmp_path}):
        tied, _ = train(TiedModel(), average=0.5, epochs=2, trainer=trainer)
        assert torch.equal(tied.layers[0].weight, plain.layers[0].weight)
        assert tied.again.weight is tied.layers[0].weight


class Rows:
    """Rows that are read when they are asked for."""

    def __init__(self, rows, name):
        self.rows, self.digest, self.reads = rows, name, 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        self.reads += 1
        return self.rows[row]


def test_rows_with_a_digest_are_not_read_for_it():
    examples, target = small_rows()
    lazy, targets = Rows(examples, "a"), Rows(target, "b")
    lazy.lengths = np.ones(48, int)
    digest = checkpoint.data_digest([lazy, targets])
    assert digest == checkpoint.data_digest([Rows([], "a"), Rows([], "b")])
    assert digest != checkpoint.data_digest([Rows([], "a"), Rows([], "c")])
    assert lazy.reads == targets.reads == 0
    model = SmallModel()
    Trainer(model, TrainingConfig(steps=1, batch_size=16)).fit(
        lazy, targets, small_scores(examples, target), "log_loss", False
    )
    assert lazy.reads == 16


def test_lengths_of_rows_that_do_not_have_them_are_those_of_the_model():
    examples, target = small_rows()
    constant = Rows(examples, "a")
    constant.lengths = np.array([SmallModel().length(e) for e in examples])
    models = []
    for rows in (examples, constant):
        model = SmallModel()
        Trainer(model, TrainingConfig(epochs=1, batch_size=16)).fit(
            rows, target, small_scores(examples, target), "log_loss", False
        )
        models.append(model)
    assert same_state(*models)
