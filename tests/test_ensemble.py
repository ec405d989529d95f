"""Ensembles of seeds: the mean answers, and every verb works as with one model."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from salience import Predictor
from salience.core.errors import ConfigError
from salience.core.registry import cards
from salience.explain.metrics.randomisation import layers_of
from salience.explain.perturb import Perturber, singles
from salience.explain.target import Target
from salience.explain.words import check
from salience.models.ensemble import Ensemble
from salience.nn.watch import watching

FEW = ["threads=1", "training.epochs=2", "training.batch_size=32", "audit.quick=true"]
TEXT = ["model.text.args.dim=8", "model.text.args.embedding_dim=8", "model.text.args.ngram_dim=4"]


def table(rows=120, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "words": rng.choice(["good fine thing", "bad awful item here", "so so then"], rows),
            "a": rng.normal(size=rows),
            "c": rng.choice(list("xyz"), rows),
        }
    )
    frame.loc[::17, "a"] = np.nan
    signal = frame.words.str.contains("good") + frame.a.fillna(0) + 0.3 * rng.normal(size=rows)
    return frame.assign(y=np.where(signal > 0.4, "yes", "no"), z=3 * signal + 7)


def fitted(target, seeds=3, **options):
    other = {"y": "z", "z": "y"}[target]
    return Predictor(
        target, kinds={"words": "text"}, drop=[other], seeds=seeds, overrides=[*FEW, *TEXT], **options
    ).fit(table())


@pytest.fixture(scope="module")
def classes():
    return fitted("y")


@pytest.fixture(scope="module")
def numbers():
    return fitted("z")


@pytest.fixture(scope="module")
def rows(classes):
    return classes.schema.parse(table(12, 3), target=False)


def members(predictor):
    return list(predictor.model.members.values())


def test_probabilities_are_the_mean_of_the_members(classes, rows):
    found = [torch.tensor(m.outputs(rows, calibrated=False)).softmax(1) for m in members(classes)]
    joined = torch.tensor(classes.model.outputs(rows, calibrated=False)).softmax(1)
    torch.testing.assert_close(joined, torch.stack(found).mean(0), atol=1e-12, rtol=0)
    assert not torch.allclose(found[0], found[1], atol=1e-3)  # seeds make members that differ


def test_values_are_the_mean_of_the_members(numbers):
    rows = numbers.schema.parse(table(12, 3), target=False)
    found = np.mean([m.outputs(rows) for m in members(numbers)], axis=0)
    np.testing.assert_allclose(numbers.model.outputs(rows), found, rtol=1e-6)
    np.testing.assert_allclose(numbers.predict(rows), found[:, 0], rtol=1e-6)


def test_members_are_the_models_of_their_seeds(classes, rows):
    own = Predictor.of(replace(classes.config, seeds=1, seed=classes.config.seed + 1))
    ours = members(classes)[1]
    frame = table()
    own.fit_split(classes.schema, classes.train_rows, frame.drop(classes.train_rows.index))
    np.testing.assert_array_equal(
        own.model.outputs(rows, calibrated=False), ours.outputs(rows, calibrated=False)
    )


def test_the_temperature_belongs_to_the_joined_answer(classes, rows):
    head = classes.model.head
    logits = classes.model.outputs(rows, calibrated=False)
    np.testing.assert_allclose(classes.model.outputs(rows), logits / float(head.temperature), rtol=1e-6)
    frame = table()
    held = classes.schema.parse(frame.drop(classes.train_rows.index))
    before = float(head.temperature)
    again = head.calibrate(
        torch.from_numpy(classes.model.outputs(held, calibrated=False)),
        torch.from_numpy(classes.schema.encode_target(held)),
    )
    assert again == before


def test_white_box_and_black_box_give_the_same_outputs(classes, rows):
    model = classes.model
    with torch.no_grad():
        tokens = model.embed(model.collate(model.prepare(rows)))
        found = model.finish(model.forward_tokens(tokens)).double().numpy()
    np.testing.assert_allclose(found, model.outputs(rows), atol=1e-5)
    assert set(tokens) == {f"member{i}.{n}" for i in range(3) for n in ("text", "number", "category")}
    assert set(model.encoders) == set(tokens) == set(model.unit_offsets(rows.iloc[0].to_dict()))
    assert model.length(model.prepare(rows)[0]) == members(classes)[0].length(
        members(classes)[0].prepare(rows)[0]
    )


def test_saved_whole_and_loaded_alike(classes, rows, tmp_path):
    classes.save(tmp_path)
    loaded = Predictor.load(tmp_path)
    assert isinstance(loaded.model, Ensemble) and loaded.config.seeds == 3
    np.testing.assert_array_equal(loaded.model.outputs(rows), classes.model.outputs(rows))
    assert set(json.loads((tmp_path / "model/state.json").read_text())) == {"member0", "member1", "member2"}


def test_history_ends_with_the_joined_score(classes):
    history = classes.history
    assert history.epochs[history.best_epoch]["member"] == "all"
    assert history.best_epoch == len(history.epochs) - 1
    assert {e["member"] for e in history.epochs} == {0, 1, 2, "all"}
    held = table().drop(classes.train_rows.index)
    assert history.epochs[-1]["auroc"] == pytest.approx(classes.evaluate(held)["auroc"]["value"])


def test_integrated_gradients_are_complete_and_additive_over_members(classes):
    frame = table(6, 3)
    for e in classes.explain(frame, method="integrated_gradients"):
        assert abs(e.completeness_gap) < 0.02 * max(1.0, abs(e.output - e.baseline_output))
        assert check(e.words(), e) == []


@pytest.mark.parametrize(
    "method",
    ["gradient_x_input", "smooth_grad", "leave_one_out", "permutation_shapley", "occlusion", "attention_x_gradient", "grad_cam"],
)  # fmt: skip
def test_methods_explain_an_ensemble(classes, method):
    if method not in {c.key for c in cards("explainer")}:
        pytest.skip(f"no method {method}")
    (found,) = classes.explain(table(1, 3), method=method, faithfulness=False)
    assert len(found.values) == len(found.units)
    assert np.isfinite(found.values).any() and np.nanmax(np.abs(found.values)) > 0


@pytest.mark.parametrize("method", ["attention", "attention_rollout"])
def test_attention_weights_of_members_are_averaged(classes, method):
    row = table(1, 3)
    (found,) = classes.explain(row, method=method, faithfulness=False)
    single = []
    for member in members(classes):
        one = Predictor.of(classes.config)
        one.schema, one.model = classes.schema, member
        single.append(one.explain(row, method=method, faithfulness=False)[0].values)
    np.testing.assert_allclose(found.values, np.mean(single, axis=0), atol=1e-6)
    assert np.nansum(found.values) == pytest.approx(1, abs=1e-5)


def test_shown_tensors_are_named_by_member(classes, rows):
    model = classes.model
    with watching() as watch, torch.no_grad():
        model.forward_tokens(model.embed(model.collate(model.prepare(rows))))
    assert {name for name in watch.shown if name} <= set(model.encoders)
    assert {name.split(".")[0] for name in watch.shown} == {"member0", "member1", "member2"}


def test_units_taken_away_act_as_in_the_members(classes, rows):
    model = classes.model
    row = rows.iloc[0].to_dict()
    sets = singles(len(model.units(row)))
    (ours,) = Perturber(model).scores([row], [sets], [Target(1, "yes", "log-odds", None)])
    outputs = [Perturber(m).outputs([row], [sets])[0] for m in members(classes)]
    temperature = float(model.head.temperature)
    first = float(members(classes)[0].head.temperature)
    parts = [
        torch.tensor(o) * (first if i == 0 else float(m.head.temperature))
        for i, (o, m) in enumerate(zip(outputs, members(classes), strict=True))
    ]
    odds = torch.stack([p.softmax(1) for p in parts]).mean(0).log() / temperature
    np.testing.assert_allclose(ours, (odds[:, 1] - odds[:, 0]).numpy(), atol=1e-5)


def test_layers_are_randomised_from_the_output_to_the_input_in_all_members_abreast(classes):
    layers = layers_of(classes.model)
    alone = [layers_of(m) for m in members(classes)]
    assert layers == [layer for abreast in zip(*alone, strict=True) for layer in abreast]
    assert layers[:3] == [m.head.layers[-1] for m in members(classes)]


def test_audit_and_compare_work(classes):
    frame = table(110, 5)
    checks = ["performance", "calibration", "perturbation", "cost", "slices"]
    report = classes.audit(frame, checks=checks, explain_rows=2)
    assert [f.check for f in report.findings] == checks
    assert not [f for f in report.findings if f.verdict == "not measured" and f.check != "slices"]
    assert "mean of 3 seeds" in report.run["model"]
    board = classes.compare(
        frame.head(4), methods=["gradient_x_input", "leave_one_out"], metrics=["comprehensiveness"]
    )
    assert np.isfinite(board.cell("leave_one_out", "comprehensiveness").mean)


@pytest.mark.parametrize("labels", [True, False], ids=["multi-label", "multi-regression"])
def test_several_targets(labels):
    frame = table()[["a", "c", "z"]].dropna()
    both = (
        frame.assign(u=(frame.a > 0).astype(int), v=(frame.z > 7).astype(int))
        if labels
        else frame.assign(u=frame.a, v=frame.z)
    )
    predictor = Predictor(["u", "v"], drop=["z"], seeds=2, overrides=FEW).fit(both)
    rows = predictor.schema.parse(both.head(8), target=False)
    found = np.stack([m.outputs(rows, calibrated=False) for m in members(predictor)])
    joined = predictor.model.outputs(rows, calibrated=False)
    if labels:
        found, joined = (1 / (1 + np.exp(-x)) for x in (found, joined))
    np.testing.assert_allclose(joined, found.mean(0), atol=1e-6)
    assert len(predictor.explain(both.head(1), target="v", faithfulness=False)[0].values) == 2


def test_an_interrupted_ensemble_goes_on(tmp_path, rows, classes):
    frame = table()
    train = classes.train_rows
    held = frame.drop(train.index)
    config = classes.config
    half = Predictor.of(config)
    half.fit_split(classes.schema, train, held, folder=tmp_path)
    assert sorted(p.name for p in (tmp_path / "stages").iterdir()) == ["member0", "member1", "member2"]
    (tmp_path / "stages/member2/checkpoint.safetensors").unlink()
    again = Predictor.of(config).fit_split(classes.schema, train, held, folder=tmp_path)
    np.testing.assert_array_equal(again.model.outputs(rows), classes.model.outputs(rows))


def test_one_seed_is_no_ensemble():
    with pytest.raises(ConfigError) as error:
        Predictor("y", seeds=0)
    assert error.value.code == "SAL-C005"
    assert Predictor("y", overrides=["seeds=4"]).config.seeds == 4
