"""The experiment on embeddings of numbers: splits, settings, kept results, intervals; on tables of a few rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from salience.core.errors import ConfigError, DataError
from salience.data.schema import infer
from salience.models.table_model import ModelConfig, Part, TableModel
from salience.reproduce import boosting, number_embeddings, number_tables
from salience.reproduce.number_tables import CHURN, Table

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
PLAN = {"seeds": 1, "rows": None, "epochs": 2, "trees": 20}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def table(task="regression", rows=200):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(rows, 3)), columns=["a", "b", "c"])
    frame["word"] = np.resize(["u", "v", None], rows)
    signal = 3 * np.sin(2 * frame["a"]) + (frame["word"] == "u")
    frame["y"] = signal if task == "regression" else np.where(signal > 0, "yes", "no")
    schema = infer(frame, "y", task=task)
    score = "rmse" if task == "regression" else "accuracy"
    return Table("adult", schema, frame[:120], frame[120:160], frame[160:], 32, score)


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.setattr(
        number_embeddings,
        "load",
        lambda name, root: table("regression" if name == "churn" else "classification"),
    )
    return number_embeddings.Experiment(tmp_path, PLAN, tmp_path / "kept")


@pytest.mark.parametrize(
    ("name", "model"), [("adult", "MLP-PLR"), ("churn", "MLP"), ("churn", "MLP-T-LR"), ("churn", "MLP-Q-LR")]
)
def test_perceptrons_are_trained_and_tested(experiment, name, model):
    found = experiment.result(name, model, 0)
    assert found["epochs"] == 2 and found["parameters"] > 800
    assert 0 < found["score"] < 5 and 0 < found["error"] < 0.5


@pytest.mark.parametrize("model", number_embeddings.BOOSTING)
@pytest.mark.parametrize("name", ["adult", "churn"])
def test_boosting_learns_beside_it(experiment, name, model):
    library = number_embeddings.BOOSTING[model]
    pytest.importorskip(library)
    found, rows = experiment.result(name, model, 0), experiment.table(name)
    truth = rows.test["y"]
    if name == "churn":
        assert found["score"] < 0.95 * truth.std()
    else:
        assert found["score"] > truth.value_counts(normalize=True).max()


def test_boosting_takes_an_unseen_category(experiment):
    pytest.importorskip("lightgbm")
    rows = experiment.table("churn")
    frames = [
        part[["a", "word"]].astype({"word": object}) for part in (rows.train, rows.validation, rows.test)
    ]
    frames[2] = frames[2].assign(word="never")
    targets = (rows.train["y"].to_numpy(), rows.validation["y"].to_numpy())
    found = boosting.predict(
        "lightgbm", tuple(frames), targets, task="regression", score="rmse", seed=0, trees=5
    )
    assert np.isfinite(found).all()


def test_a_finished_result_is_kept_and_another_seed_is_not_it(experiment, monkeypatch):
    first = experiment.result("churn", "MLP", 0)
    other = experiment.result("churn", "MLP", 1)
    assert first["score"] != other["score"]

    def refuse(*args):
        raise AssertionError("trained again")

    monkeypatch.setattr(number_embeddings, "fit", refuse)
    assert experiment.result("churn", "MLP", 0) == first
    with pytest.raises(AssertionError, match="trained again"):
        experiment.result("churn", "MLP", 2)


def test_run_puts_measured_beside_published(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCE_CACHE", str(tmp_path))
    monkeypatch.setattr(number_embeddings, "load", lambda name, root: table())
    monkeypatch.setattr(number_embeddings, "MODELS", ("MLP",))
    monkeypatch.setattr(number_embeddings, "QUICK", {**PLAN, "epochs": 1})
    found = number_embeddings.run(data=tmp_path, quick=True, seeds=2)
    assert [row["data"] for row in found["rows"]] == list(number_tables.NAMES)
    row = found["rows"][0]
    assert row["published"] == 0.495 and row["low"] < row["measured"] < row["high"]
    assert row["difference"] == pytest.approx(row["measured"] - 0.495, abs=1e-4)
    assert len(row["each"].split()) == 2
    assert "(published 0.495)" in found["summary"]["california"]


def test_the_interval_grows_with_the_spread_over_seeds():
    run = {"error": 0.01, "seconds": 1.0}
    alike = number_embeddings._row("adult", "MLP", [{**run, "score": 0.85}] * 3)
    apart = number_embeddings._row("adult", "MLP", [{**run, "score": s} for s in (0.80, 0.85, 0.90)])
    assert alike["high"] - alike["low"] == pytest.approx(2 * 1.96 * 0.01, abs=2e-4)
    assert apart["high"] - apart["low"] > 2 * (alike["high"] - alike["low"])


def test_standard_errors_follow_their_definitions():
    truth, predicted = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.5, 1.0, 1.0, 3.5])
    found = number_embeddings._scored("rmse", truth, predicted)
    squares = (truth - predicted) ** 2
    assert found["score"] == pytest.approx(np.sqrt(squares.mean()))
    draws = np.random.default_rng(0).integers(0, 4000, (400, 4000))
    resampled = np.sqrt(np.resize(squares, 4000)[draws].mean(1)).std()
    large = number_embeddings._scored("rmse", np.resize(truth, 4000), np.resize(predicted, 4000))
    assert large["error"] == pytest.approx(resampled, rel=0.1)
    hits = number_embeddings._scored("accuracy", np.array([0, 1, 1, 1]), np.eye(2)[[0, 1, 1, 0]])
    assert hits == {"score": 0.75, "error": pytest.approx(np.sqrt(0.75 * 0.25 / 4))}


@pytest.mark.parametrize("name", ["MLP", "MLP-PLR", "FT-T"])  # the others' depends on the rows' bins
def test_models_have_the_published_number_of_parameters(name):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 8)), columns=list("abcdefgh")).assign(
        y=0.0
    )
    frame.loc[0, "y"] = 1.5
    parts, _, parameters = number_embeddings.published_settings("california", name)
    named = {kind: Part(part["name"], dict(part["args"])) for kind, part in parts.items()}
    model = TableModel(infer(frame, "y", task="regression"), ModelConfig(**named, hidden=(), dropout=0.0))
    model.fit_parts(frame, frame["y"].to_numpy(), torch.Generator().manual_seed(0))
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("rows", "first", "sizes"),
    [(20_640, 0, (13_209, 3_303, 4_128)), (10_000, 0, (6_400, 1_600, 2_000))],
)
def test_splits_have_the_published_sizes(rows, first, sizes):
    rest, test = number_tables.split(np.arange(rows), seed=first)
    train, validation = number_tables.split(rest, seed=1)
    assert (len(train), len(validation), len(test)) == sizes
    assert len(np.unique(np.concatenate([train, validation, test]))) == rows


def test_churn_is_read_in_the_stated_sizes():
    if not (SHARED / CHURN).exists():
        pytest.skip("../shared/data/churn is absent")
    found = number_tables.load("churn", SHARED)
    assert [len(part) for part in (found.train, found.validation, found.test)] == [6_400, 1_600, 2_000]
    assert [c.kind for c in found.schema.inputs].count("category") == 2 and len(found.schema.inputs) == 10
    shares = [part["exited"].mean() for part in (found.train, found.validation, found.test)]
    np.testing.assert_allclose(shares, 0.2037, atol=0.001)


def test_an_absent_table_and_no_seeds_are_refused(tmp_path):
    with pytest.raises(DataError, match="--data"):
        number_tables.load("churn", tmp_path)
    with pytest.raises(ConfigError, match="seeds"):
        number_embeddings.run(seeds=0)
