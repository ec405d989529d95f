"""The experiment on coherence, tiny: its parts, and that it goes on from what is kept."""

import numpy as np
import pytest
import torch
from torch import nn

from salience.core.errors import DataError
from salience.reproduce import coherence as experiment
from salience.reproduce.coherence_sets import balanced, sample

TINY = {"rows": 60, "batch": 12, "epochs": 2, "probe": 24}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCE_CACHE", str(tmp_path))
    monkeypatch.setattr(
        experiment,
        "QUICK",
        {"sets": ("digits",), "label_seeds": 1, "seeds": 2, "labels": TINY, "descent": {**TINY, "probe": 0}},
    )
    return tmp_path


def test_run_gives_every_part_and_keeps_what_is_done(cache, monkeypatch):
    found = experiment.run(cache, quick=True)
    parts = [row["part"] for row in found["rows"]]
    assert parts.count("labels") == 5
    assert parts.count("descent") == 8
    assert parts.count("target: coherence") == 1
    targets = [row for row in found["rows"] if row["part"] == "target: descent"]
    assert {(row["descent"], row["accuracy"]) for row in targets} == {
        (mode, key) for mode in ("rm3", "m3", "winsorised") for key in ("train", "test")
    }
    assert all(row["low"] <= row["value"] <= row["high"] for row in targets)
    assert "of 1 sets" in found["summary"]
    monkeypatch.setattr(experiment, "trained", None)
    assert experiment.run(cache, quick=True)["rows"] == found["rows"]


def test_shuffled_labels_keep_the_shares_of_the_classes():
    label = torch.arange(200) % 4
    for share in (0.0, 0.5, 1.0):
        changed = experiment.shuffled(label, share, seed=0)
        assert torch.equal(changed.bincount(), label.bincount())
        moved = float((changed != label).float().mean())
        assert moved == pytest.approx(share * 0.75, abs=0.08)


def test_balanced_rows_have_equal_classes_and_keep_a_small_one_whole():
    label = torch.tensor([0] * 100 + [1] * 60 + [2] * 5)
    chosen = label[balanced(label, 90)]
    assert chosen.bincount().tolist() == [30, 30, 5]
    assert label[balanced(label, 165)].bincount().tolist() == [55, 55, 5]


@pytest.mark.parametrize("mode", experiment.MODES)
def test_a_step_of_equal_rows_is_the_plain_step(mode):
    torch.manual_seed(0)
    models = [nn.Linear(3, 2), nn.Linear(3, 2)]
    models[1].load_state_dict(models[0].state_dict())
    x, y = torch.ones(6, 3), torch.ones(6, dtype=torch.long)
    for model, kind in zip(models, ("sgd", mode), strict=True):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        descent = optimizer if kind == "sgd" else experiment.CoherentStep(optimizer, kind)
        experiment.step(model, descent, x, y)
    for one, other in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_paired_interval_is_students():
    low, high = experiment.paired(np.array([0.1, 0.2, 0.3]))
    assert (low, high) == pytest.approx((0.2 - 4.3027 * 0.1 / 3**0.5, 0.2 + 4.3027 * 0.1 / 3**0.5), abs=1e-4)
    assert experiment.paired(np.array([0.1])) == (float("-inf"), float("inf"))


def test_absent_data_are_named(tmp_path):
    with pytest.raises(DataError, match="not there"):
        sample("churn", tmp_path, 10)
