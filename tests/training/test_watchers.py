"""Watchers see every gradient, add to the record of an epoch, and change no training."""

import pytest
import torch
from small_model import SmallModel, same_state, small_rows, small_scores, train

from salience.training.loop import Trainer, TrainingConfig


class Noting:
    """Note what is shown, and meddle with everything that must not matter."""

    def __init__(self):
        self.seen, self.epochs = [], []

    def after_backward(self, model, rows):
        self.seen.append((rows, {n: p.grad.clone() for n, p in model.named_parameters()}))
        torch.randn(3)

    def end_epoch(self, model, epoch):
        assert not model.training
        self.epochs.append({n: t.clone() for n, t in model.state_dict().items()})
        model(torch.ones(2, 5)).sum().backward()
        return {"watched": float(len(self.seen) + torch.rand(()) * 0)}


@pytest.mark.parametrize("descent", ["mean", "rm3", "m3", "winsorised"])
def test_watchers_change_nothing_and_their_numbers_join_the_record(descent):
    options = {"descent": descent, "average": 0.9, "batch_size": 10}
    plain, history = train(SmallModel(dropout=0.5), **options)
    watcher = Noting()
    model, watched = train(SmallModel(dropout=0.5), trainer={"watchers": [watcher]}, **options)
    assert same_state(plain, model)
    assert [e["watched"] for e in watched.epochs] == [5.0, 10.0, 15.0]
    assert [e["loss"] for e in watched.epochs] == [e["loss"] for e in history.epochs]
    assert [rows for rows, _ in watcher.seen[:5]].count(10) == 4
    assert sum(rows for rows, _ in watcher.seen[:5]) == 48


@pytest.mark.parametrize("descent", ["mean", "rm3", "m3", "winsorised"])
@pytest.mark.parametrize("weighted", [{}, {"class_weights": [0.2, 1.0, 3.0]}])
def test_the_gradient_shown_is_that_of_the_whole_batch_before_clipping(descent, weighted):
    watcher, model = Noting(), SmallModel(**weighted)
    examples, target = small_rows(10)
    expected = SmallModel(**weighted)
    expected.head.loss(expected(expected.collate(examples)), torch.as_tensor(target)).backward()
    config = TrainingConfig(batch_size=10, epochs=1, descent=descent, clip=1e-3)
    Trainer(model, config, watchers=[watcher]).fit(
        examples, target, small_scores(examples, target), "accuracy"
    )
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(watcher.seen[0][1][name], parameter.grad, atol=1e-6, rtol=0)


def test_epochs_end_at_the_weights_that_are_trained_not_at_their_average():
    watcher = Noting()
    trainer = {"watchers": [watcher]}
    train(SmallModel(), trainer=trainer, average=0.9, epochs=2, patience=9)
    plain, _ = train(SmallModel(), epochs=1)
    assert (
        all(torch.equal(t, plain.state_dict()[n]) for n, t in watcher.epochs[0].items() if n != "x") is False
    )
    same, other = Noting(), Noting()
    train(SmallModel(), trainer={"watchers": [same]}, average=0.9, epochs=2, patience=9)
    train(SmallModel(), trainer={"watchers": [other]}, average=0.0, epochs=2, patience=9)
    assert all(torch.equal(t, other.epochs[1][n]) for n, t in same.epochs[1].items())
