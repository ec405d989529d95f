"""Resume inside one process; killed processes are in test_killed.py."""

import torch
from small_model import SmallModel, same_state, small_rows, small_scores, train

from salience.training import checkpoint, loop

OPTIONS = {"epochs": 4, "batch_size": 8, "average": 0.9, "accumulate": 2, "checkpoint_seconds": 0.0}


class StopHere(Exception):
    """Stand in for a kill."""


def interrupted(folder, updates, monkeypatch, **options):
    """Train until some updates are done, then break off."""
    original = loop.Trainer._update_average

    def update(self):
        original(self)
        if self.progress.updates > updates:
            raise StopHere

    monkeypatch.setattr(loop.Trainer, "_update_average", update)
    try:
        train(SmallModel(dropout=0.5), trainer={"folder": folder}, **{**OPTIONS, **options})
    except StopHere:
        pass
    finally:
        monkeypatch.setattr(loop.Trainer, "_update_average", original)


def without_seconds(history):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history.epochs]


def test_resumed_anywhere_gives_equal_weights_and_history(tmp_path, monkeypatch):
    whole, history = train(SmallModel(dropout=0.5), **OPTIONS)
    for updates in (1, 6, 11, 23):
        interrupted(tmp_path / str(updates), updates, monkeypatch)
        model, resumed = train(
            SmallModel(dropout=0.5), trainer={"folder": tmp_path / str(updates)}, **OPTIONS
        )
        assert same_state(whole, model)
        assert without_seconds(resumed) == without_seconds(history)
        assert resumed.best_epoch == history.best_epoch


def test_resumed_twice_and_with_coarser_checkpoints(tmp_path, monkeypatch):
    whole, _ = train(SmallModel(dropout=0.5), **OPTIONS)
    interrupted(tmp_path, 8, monkeypatch)
    interrupted(tmp_path, 15, monkeypatch, checkpoint_seconds=1e9)
    model, _ = train(SmallModel(dropout=0.5), trainer={"folder": tmp_path}, **OPTIONS)
    assert same_state(whole, model)


def test_finished_training_is_not_done_again(tmp_path, monkeypatch):
    whole, history = train(SmallModel(dropout=0.5), trainer={"folder": tmp_path}, **OPTIONS)

    def fail(*_):
        raise AssertionError("trained or scored again")

    monkeypatch.setattr(loop.Trainer, "_backward", fail)
    model, again = train(SmallModel(dropout=0.5), trainer={"folder": tmp_path}, evaluate=fail, **OPTIONS)
    assert same_state(whole, model)
    assert (again.epochs, again.stopped) == (history.epochs, history.stopped)


def test_stop_by_patience_or_time_is_not_done_again(tmp_path, monkeypatch):
    scores = iter([1.0, 2.0, 3.0])
    first, _ = train(
        trainer={"folder": tmp_path / "a"}, evaluate=lambda _: {"log_loss": next(scores)}, patience=1
    )
    timed, _ = train(trainer={"folder": tmp_path / "b", "time_limit": 0.0})
    monkeypatch.setattr(loop.Trainer, "_backward", None)
    assert same_state(first, train(trainer={"folder": tmp_path / "a"}, patience=1)[0])
    assert same_state(timed, train(trainer={"folder": tmp_path / "b"})[0])


def test_other_rows_options_or_seed_start_afresh(tmp_path):
    model, examples, config = SmallModel(), small_rows()[0], loop.TrainingConfig()
    target = small_rows()[1]
    base = loop.fingerprint(config, 0, examples, target, model)
    assert base == loop.fingerprint(loop.TrainingConfig(checkpoint_seconds=1.0), 0, examples, target, model)
    others = [
        loop.fingerprint(loop.TrainingConfig(epochs=3), 0, examples, target, model),
        loop.fingerprint(config, 1, examples, target, model),
        loop.fingerprint(config, 0, examples[::-1], target, model),
        loop.fingerprint(config, 0, examples, target[::-1], model),
        loop.fingerprint(config, 0, examples, target, SmallModel(classes=4)),
    ]
    assert len({base, *others}) == 6
    train(trainer={"folder": tmp_path, "seed": 5})
    assert same_state(train(trainer={"folder": tmp_path})[0], train()[0])


def test_damaged_checkpoint_starts_afresh(tmp_path):
    train(trainer={"folder": tmp_path})
    path = tmp_path / loop.CHECKPOINT
    path.write_bytes(path.read_bytes()[:-7])
    assert same_state(train(trainer={"folder": tmp_path})[0], train()[0])


def test_checkpoint_holds_optimiser_random_numbers_and_average(tmp_path):
    model, _ = train(SmallModel(dropout=0.5), trainer={"folder": tmp_path}, **OPTIONS)
    examples, target = small_rows()
    config = loop.TrainingConfig(**{"learning_rate": 1e-2, **OPTIONS})
    digest = loop.fingerprint(config, 0, examples, target, model)
    groups, progress = checkpoint.load(tmp_path / loop.CHECKPOINT, digest)
    assert set(groups) == {"model", "best", "average", "optimizer", "random"}
    names = {key.partition("/")[2] for key in groups["optimizer"]}
    assert names == {"step", "exp_avg", "exp_avg_sq"}
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in groups["best"].items())
    assert (progress.epoch, progress.updates, progress.stopped) == (4, 24, "all epochs done")
    assert small_scores(examples, target)(model)["log_loss"] == -progress.best_score
