"""The reproduction of TransNormer, on generated text and tiny models: its arithmetic, its task, its resuming."""

import gzip

import numpy as np
import pytest
import torch

from salience.core.errors import DataError
from salience.data.corpora.blocks import IGNORED
from salience.reproduce import associative_recall as recall
from salience.reproduce import transnormer

SMALL = {"num_layers": 1, "dim": 16, "num_heads": 2, "glu_dim": 16}
SIZES = dict.fromkeys(transnormer.MODELS, SMALL)
PLAN = {"seeds": 1, "steps": 3, "recall_steps": 3, "test": None, "distances": (0, 8)}


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("SALIENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transnormer, "CONTEXT", 32)
    monkeypatch.setattr(transnormer, "RECALL_SIZES", SIZES)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    words = rng.choice(["the", "sea", "is", "calm", "tonight", "moon", "lies", "fair"], 1500)
    (tmp_path / "tinyshakespeare").mkdir()
    with gzip.open(tmp_path / "tinyshakespeare" / "input.txt.gz", "wt") as file:
        file.write(" ".join(words))
    return tmp_path


def test_the_whole_and_that_finished_trainings_are_kept(data, monkeypatch):
    experiment = transnormer.Experiment
    monkeypatch.setattr(transnormer, "FULL", PLAN)
    monkeypatch.setattr(transnormer, "Experiment", lambda root, plan: experiment(root, plan, SIZES))
    first = transnormer.run(data)
    parts = [row["part"] for row in first["rows"]]
    assert [parts.count(p) for p in ("text", "text, state carried", "difference", "recall")] == [2, 1, 1, 4]
    rows = {(row["part"], row["name"]): row for row in first["rows"]}
    a, b = rows["text", "transnormer"], rows["text", "transformer"]
    assert 0 < a["low"] <= a["value"] <= a["high"] < 9
    assert rows["difference", "transnormer − transformer"]["value"] == pytest.approx(a["value"] - b["value"])
    assert rows["text, state carried", "transnormer"]["value"] > 0
    assert first["parameters"]["transnormer"] > 0
    assert set(first["summary"]) == {"transnormer", "transformer", "difference", "recall, transnormer", "recall, transformer"}  # fmt: skip

    def refused(*arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr(experiment, "_read", refused)
    monkeypatch.setattr(experiment, "_ask", refused)
    assert transnormer.run(data) == first


def test_bits_of_a_character_are_those_of_the_model(data):
    from salience.language import LanguageModel

    found = transnormer.Experiment(data, PLAN, SIZES).text("transformer", 0)
    experiment = transnormer.Experiment(data, PLAN, SIZES)
    model = LanguageModel(
        "transformer", tokenizer="byte", context=32, seed=0, model_args=SMALL, training=experiment.recipe
    ).fit([experiment.train], validation=[experiment.validation])
    (scores,) = model.log_probabilities([experiment.test])
    assert sum(found["nats"]) == pytest.approx(-scores.sum(dtype=np.float64), rel=1e-5)
    assert found["nats"][0] == pytest.approx(-scores[: transnormer.BLOCK].sum(dtype=np.float64), rel=1e-5)
    assert sum(found["bytes"]) == len(experiment.test)


def test_parts_of_the_text_do_not_overlap(data):
    experiment = transnormer.Experiment(data, PLAN)
    whole = transnormer.read_text(data / "tinyshakespeare" / "input.txt.gz")
    assert experiment.train + experiment.validation + experiment.test == whole
    assert len(experiment.test) / len(whole) == pytest.approx(0.1, abs=0.001)


def test_the_models_have_the_same_size():
    from salience.core.registry import load

    def count(key, preset, **changes):
        return sum(p.numel() for p in load("language_model", key).preset(preset, **changes).parameters())

    sizes = {key: count(key, "tiny", **transnormer.SIZES[key]) for key in transnormer.MODELS}
    assert sizes["transnormer"] == pytest.approx(sizes["transformer"], rel=0.01)


def test_recall_models_have_the_same_size(monkeypatch):
    monkeypatch.undo()
    from salience.core.registry import load

    sizes = [
        sum(p.numel() for p in load("language_model", key).preset("tiny", **size).parameters())
        for key, size in transnormer.RECALL_SIZES.items()
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)


def test_an_absent_text_is_told(tmp_path):
    with pytest.raises(DataError, match="text of the experiment"):
        transnormer.Experiment(tmp_path, PLAN)


# associative recall


def test_sequences_ask_what_they_told():
    task = recall.Task(pairs=3, distance=10)
    distances, before = np.array([0, 4, 10]), np.array([0, 7, 2])
    tokens, targets = recall.sequences(task, distances, before, 30, np.random.default_rng(0))
    assert tokens.shape == targets.shape == (3, 30)
    filler = recall.KEYS + recall.VALUES
    for row, goal, distance, start in zip(tokens, targets, distances, before, strict=True):
        asked = start + 6 + distance
        told = dict(row[start : start + 6].reshape(3, 2))
        assert len(told) == 3
        assert (np.flatnonzero(row < filler) == [*range(start, start + 6), *range(asked, asked + 6)]).all()
        assert np.flatnonzero(goal != IGNORED).tolist() == [asked, asked + 2, asked + 4]
        assert dict(row[asked : asked + 6].reshape(3, 2)) == told
        assert [told[key] for key in row[asked : asked + 6 : 2]] == goal[asked : asked + 6 : 2].tolist()


class Oracle:
    """Look the value up."""

    def __call__(self, tokens):
        logits = torch.zeros(*tokens.shape, recall.VOCABULARY)
        for i, row in enumerate(tokens.tolist()):
            for j, token in enumerate(row):
                if token in row[:j]:
                    logits[i, j, row[row.index(token) + 1]] = 1
        return logits


def test_accuracy_of_one_who_knows_and_one_who_guesses():
    task = recall.Task()
    knows = recall.accuracy(Oracle(), task, 20, seed=0, count=40)
    assert knows.shape == (40,)
    assert knows.min() == 1.0

    def guesses(tokens):
        return torch.rand(*tokens.shape, recall.VOCABULARY, generator=random) * VALUE

    VALUE = torch.zeros(recall.VOCABULARY)
    VALUE[recall.KEYS : recall.KEYS + recall.VALUES] = 1
    random = torch.Generator().manual_seed(0)
    assert recall.accuracy(guesses, task, 20, seed=0, count=400).mean() == pytest.approx(
        recall.CHANCE, abs=0.03
    )


def test_training_goes_on_where_it_stopped(tmp_path):
    recipe = {**transnormer.RECALL_RECIPE, "steps": 4, "batch_size": 4, "checkpoint_seconds": 0.0}
    task = recall.Task(2, 4)
    whole, history = recall.train("transnormer", SMALL, recipe, task, 0, tmp_path)
    again, resumed = recall.train("transnormer", SMALL, recipe, task, 0, tmp_path)
    assert resumed.epochs == history.epochs
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
