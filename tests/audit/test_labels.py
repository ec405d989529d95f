"""Suspect labels: known wrong labels are found, the parts agree with plain formulas, and refusals are clear."""

import numpy as np
import pandas as pd
import pytest
import torch

from salience import Predictor
from salience.audit import label_folds, labels
from salience.audit.checks.labels import run as check
from salience.audit.label_folds import Dynamics, Signals, margin_of, most_alike, stratified_folds
from salience.core.errors import ConfigError, NotFittedError, UnsupportedError
from salience.data.schema import infer
from salience.models.table_model import ModelConfig, TableModel
from salience.testing.checks import column_context, toy_context
from salience.training.loop import Trainer, TrainingConfig

TRAINING = TrainingConfig(epochs=6, batch_size=16, learning_rate=2e-2)
WRONG = [3, 40, 77, 101]


def rows(n=120, wrong=WRONG):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    label = np.where(x[:, 0] > 0, "right", "left").astype(object)
    for i in wrong:
        x[i, 0] = 2.0 if label[i] == "left" else -2.0  # the label stays, the row is clearly on the other side
    return pd.DataFrame({"x": x[:, 0], "noise": x[:, 1], "side": label})


def model_of(frame):
    schema = infer(frame, "side", task="classification", source="rows").fitted(frame)
    return TableModel(schema, ModelConfig(hidden=(8,), dropout=0.0))


@pytest.fixture(scope="module")
def found():
    frame = rows().set_index(np.arange(1000, 1120))
    return labels.suspect_labels(model_of(frame), frame, training=TRAINING, folds=3)


def test_wrong_labels_come_first_with_reasons_and_the_right_suggestion(found):
    top = found.table.head(len(WRONG))
    assert sorted(top["row"]) == [1000 + i for i in WRONG]
    assert (top["suggested"] != top["label"]).all()
    assert top["flagged"].sum() >= 3
    assert top["suspicion"].is_monotonic_decreasing
    reason = top["reason"].iloc[0]
    assert "a model that did not see it gives".lower() in reason.lower()
    assert f"{top['suggested'].iloc[0]}" in reason.split("most alike rows are")[1]
    assert set(found.table["row"]) == set(range(1000, 1120))


def test_estimate_and_control_are_near_the_truth(found):
    assert 2 <= found.wrong <= 12
    assert found.interval[0] <= found.wrong <= found.interval[1]
    assert found.control.flipped == 6
    assert found.control.auroc["combined"] > 0.9
    low, high = found.control.intervals["combined"]
    assert low <= found.control.auroc["combined"] <= high
    assert set(found.control.auroc) == {
        "alignment", "loss", "self-confidence", "margin", "alignment and loss", "combined",
    }  # fmt: skip


def test_words_and_json_say_the_same(found):
    assert f"{found.wrong:.0f} of 120 labels" in found.words()
    assert "6 labels that were changed on purpose" in found.words()
    data = found.to_json()
    assert data["rows"][0]["row"] == found.table["row"][0]
    assert data["control"]["flipped"] == 6


def test_the_same_seed_gives_the_same_ranking_and_the_model_is_left_alone(found):
    frame = rows().set_index(np.arange(1000, 1120))
    model = model_of(frame)
    again = labels.suspect_labels(model, frame, training=TRAINING, folds=3, control=False)
    pd.testing.assert_frame_equal(again.table, found.table)
    assert again.control is None
    assert "Control" not in again.words()
    assert not list(model.parameters())


def test_a_predictor_looks_at_its_training_rows_or_at_those_it_is_given():
    overrides = ["training.epochs=3", "training.learning_rate=0.02", "model.hidden=[8]"]
    predictor = Predictor("side", preset="fast", overrides=overrides)
    with pytest.raises(NotFittedError, match="training rows"):
        predictor.suspect_labels()
    given = predictor.suspect_labels(rows(), folds=3, control=False)
    assert len(given.table) == 120
    assert predictor.model is None
    assert predictor.schema is None
    predictor.fit(rows())
    own = predictor.suspect_labels(folds=3, control=False)
    assert len(own.table) == len(predictor.train_rows)
    assert set(own.table["row"]) == set(predictor.train_rows.index)


# parts


def test_folds_are_stratified_and_every_row_is_learned_by_some_model():
    label = np.repeat([0, 1, 2], [50, 7, 3])
    fold = stratified_folds(label, 3, seed=1)
    for c in range(3):
        counts = np.bincount(fold[label == c], minlength=3)
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(fold, stratified_folds(label, 3, seed=2))


def test_dynamics_are_losses_and_their_fall_along_the_way_of_an_epoch():
    frame = rows(40, [])
    model = model_of(frame)
    target = model.schema.encode_target(frame)
    torch.manual_seed(0)
    model.fit_parts(frame, target, torch.Generator().manual_seed(0))
    seen = Dynamics(frame, target)
    states = [{n: p.detach().clone() for n, p in model.named_parameters()}]

    class States:
        def after_backward(self, model, rows):
            pass

        def end_epoch(self, model, epoch):
            states.append({n: p.detach().clone() for n, p in model.named_parameters()})
            return {}

    config = TrainingConfig(epochs=2, batch_size=8, learning_rate=1e-2)
    Trainer(model, config, watchers=[seen, States()]).fit(
        model.prepare(frame), target, lambda _: {"log_loss": 0.0}, "log_loss", False
    )
    losses, slopes = [], []
    batch = model.collate(model.prepare(frame))
    for state in states:
        model.load_state_dict(state, strict=False)
        logits = model(batch).detach().double().requires_grad_()
        each = torch.nn.functional.cross_entropy(logits, torch.as_tensor(target), reduction="none")
        slopes.append(torch.autograd.grad(each.sum(), logits)[0].norm(dim=1).numpy())
        losses.append(each.detach().numpy())
    np.testing.assert_allclose(seen.losses, losses, atol=1e-6)
    for e in (0, 1):
        way = sum(float((states[e + 1][n] - states[e][n]).square().sum()) for n in states[e]) ** 0.5
        np.testing.assert_allclose(
            seen.alignments[e], (losses[e] - losses[e + 1]) / (slopes[e + 1] * way), rtol=2e-3, atol=1e-4
        )
    np.testing.assert_allclose(seen.means(2)[0], np.mean(losses[1:], axis=0), atol=1e-6)
    np.testing.assert_allclose(seen.means(1)[1], seen.alignments[0])


def test_most_alike_rows_are_near_in_the_models_vectors():
    frame = rows(30, [])
    model = model_of(frame)
    model.fit_parts(frame, model.schema.encode_target(frame), torch.Generator().manual_seed(0))
    order = np.random.default_rng(0).permutation(30)
    found = most_alike(model, frame, frame.iloc[order])
    assert (order[found[:, 0]] == np.arange(30)).all()
    assert most_alike(model, frame, frame.head(2)).shape == (30, 3)


def test_estimate_counts_what_the_formula_counts():
    label = np.array([0, 0, 0, 0, 1, 1])
    p = np.array([0.9, 0.8, 0.2, 0.5, 0.3, 0.9])
    given = np.stack([p, 1 - p], axis=1)
    # thresholds: class 0 (.9 + .8 + .2 + .5) / 4 = .6; class 1 (.7 + .1) / 2 = .4
    assert labels.confident(label, given).tolist() == [0, 0, 1, 1, 1, 0]
    assert labels.estimate_wrong(label, given) == pytest.approx(4 * 2 / 4 + 2 * 1 / 2)
    np.testing.assert_allclose(margin_of(label, given), [0.8, 0.6, -0.6, 0.0, 0.4, -0.8])


def test_auroc_is_scikit_learns():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    changed, values = rng.random(60) < 0.3, rng.integers(0, 5, 60).astype(float)
    assert labels.auroc(changed, values) == pytest.approx(roc_auc_score(changed, values))
    assert np.isnan(labels.auroc(np.zeros(3, dtype=bool), np.arange(3.0)))


def test_flips_change_each_chosen_label_and_no_other():
    label = np.random.default_rng(0).integers(0, 3, 200)
    moved, changed = labels.flip(label, 3, 0.1, seed=0)
    assert changed.sum() == 20
    assert (moved[changed] != label[changed]).all()
    assert (moved[~changed] == label[~changed]).all()
    assert set(moved) <= {0, 1, 2}


def test_rankings_put_the_worst_row_last_whatever_the_scale():
    n = 5
    probabilities = np.stack([np.linspace(0.1, 0.9, n), 1 - np.linspace(0.1, 0.9, n)], axis=1)
    found = Signals(
        np.zeros(n, dtype=int),
        probabilities,
        np.arange(n)[::-1] * 1e6,
        np.arange(n) * 1e-6,
        np.zeros((n, 3), int),
    )
    for ranks in labels.rankings(found).values():
        assert ranks.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_refusals():
    frame = rows()
    model = model_of(frame)
    with pytest.raises(ConfigError, match="folds"):
        labels.suspect_labels(model, frame, folds=2)
    with pytest.raises(UnsupportedError, match="too few rows"):
        labels.suspect_labels(model, frame.head(20))
    numbers = frame.drop(columns="side")
    schema = infer(numbers, "noise", task="regression", source="rows").fitted(numbers)
    with pytest.raises(UnsupportedError, match="among classes"):
        labels.suspect_labels(TableModel(schema, ModelConfig()), numbers)


# the check


def context_with(wrong, n=400):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, n)
    score = np.where(truth == 1, 1, -1) * rng.uniform(3, 6, n)
    score[:wrong] *= -1
    return column_context(score, truth, quick=True)


def test_check_finds_wrong_test_labels_and_its_control():
    (finding,) = check(context_with(20))
    assert finding.verdict == "warn"
    assert finding.value == pytest.approx(0.05, abs=0.005)
    assert {line["row"] for line in finding.tables["suspect labels"]} == set(range(20))
    assert finding.control.value > 0.9
    assert "20 rows to look at" in finding.answer


def test_check_passes_where_labels_agree_and_cannot_tell_where_the_model_knows_nothing():
    (clean,) = check(context_with(0))
    assert clean.verdict == "pass"
    assert clean.tables == {}
    rng = np.random.default_rng(0)
    (blind,) = check(column_context(rng.normal(size=300), rng.integers(0, 2, 300), quick=True))
    assert blind.verdict == "info"
    assert blind.control.value < 0.7


def test_check_needs_training_rows_and_classes():
    context = context_with(3)
    context.frames = {"test": context.frames["test"]}
    with pytest.raises(UnsupportedError, match="no train rows"):
        check(context)
    with pytest.raises(UnsupportedError, match="among classes"):
        check(toy_context("regression"))


def test_check_names_the_most_alike_training_rows_of_a_table_model(monkeypatch):
    overrides = ["training.epochs=4", "training.learning_rate=0.02", "model.hidden=[8]"]
    predictor = Predictor("side", preset="fast", overrides=overrides).fit(rows(160, []))
    monkeypatch.setattr(label_folds, "BATCH", 16)
    report = predictor.audit(rows(120, WRONG), checks=["labels"], explain_rows=1)
    lines = report.findings[0].tables["suspect labels"]
    assert set(WRONG) <= {line["row"] for line in lines}
    assert all(len(line["most alike training rows"].split(", ")) == 3 for line in lines)
