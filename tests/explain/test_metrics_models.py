"""Metrics that look into a model, change it or train it: soft perturbation, sensitivity, randomisation, ROAD, ROAR, F-Fidelity."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.core import registry
from salience.core.errors import ConfigError, UnsupportedError
from salience.explain.engine import explain
from salience.explain.imputation import impute
from salience.explain.masking import fine_tune_on_masks
from salience.explain.metrics.randomisation import layers_of, restored
from salience.explain.metrics.roar import roar
from salience.explain.metrics.sensitivity_max import relative_change
from salience.explain.retraining import accuracy, data_randomisation
from salience.explain.soft import importance
from salience.models.table_model import ModelConfig, TableModel
from salience.testing.toy import LinearToy, toy_frame, toy_schema

torch.set_num_threads(1)


def metric(key, **options):
    return registry.load("metric", key)(**options)


MODEL = LinearToy()
CASES = explain(MODEL, toy_frame(4, 5), faithfulness=False)


def table_model(frame, seed=0):
    """A small model of numbers and categories with a head of two layers, untrained."""
    schema = toy_schema()
    kept = tuple(c for c in schema.columns if c.kind != "text" or c.role == "target")
    model = TableModel(replace(schema, columns=kept), ModelConfig(hidden=(8,), dropout=0.0))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.fit_parts(frame, model.schema.encode_target(frame), torch.Generator().manual_seed(seed))
    return model.eval()


# -- soft perturbation -------------------------------------------------------------------------------


def p(e, removed):
    row = MODEL.remove(e.inputs, tuple(e.units[i] for i in removed))
    return float(MODEL.predict_proba(MODEL._output(row)[None])[0, e.target_index])


def test_a_map_of_zeros_and_ones_is_a_hard_mask_on_the_side_that_the_paper_says():
    seen = 0
    for e in CASES:
        top = np.array(e.values) > 0
        e = replace(e, values=tuple(top.astype(float)))
        whole, neutral = p(e, []), p(e, range(len(top)))
        if whole - neutral < 1e-4:  # undefined: tested below
            continue
        without, alone = p(e, np.flatnonzero(top)), p(e, np.flatnonzero(~top))
        found = {
            k: metric(k, share=None, draws=2).scores(MODEL, [e]).values[0]
            for k in ("soft_comprehensiveness", "soft_sufficiency")
        }
        assert found["soft_comprehensiveness"] == pytest.approx(
            np.clip((whole - without) / (whole - neutral), 0, 1)
        )
        s, s0 = 1 - max(0, whole - alone), 1 - max(0, whole - neutral)
        assert found["soft_sufficiency"] == pytest.approx(max(0, (s - s0) / (1 - s0)))
        seen += 1
    assert seen >= 2


def test_soft_scores_are_undefined_where_the_row_says_no_more_than_the_neutral_input():
    against = [replace(e, target_index=1 - e.target_index) for e in CASES]
    scores = metric("soft_sufficiency", draws=2).scores(MODEL, against)
    lower = [p(e, []) - p(e, range(len(e.units))) < 1e-4 for e in against]
    assert np.isnan(scores.values).tolist() == lower and any(lower) and "neutral" in scores.reason


@settings(max_examples=80)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=25), st.floats(0.02, 0.98))
def test_importances_have_the_mean_that_was_asked_for(values, share):
    values = np.array(values)
    found = importance(values, share)
    assert found.mean() == pytest.approx(share, abs=1e-9) and found.min() >= 0 and found.max() <= 1 + 1e-12
    order = np.argsort(values)
    assert (np.diff(found[order]) >= -1e-12).all()


def test_importances_of_the_paper():
    assert importance(np.array([-1.0, 0.0, 3.0, np.nan]), None).tolist() == [0.0, 0.25, 1.0, 0.0]
    assert importance(np.ones(3), None) is None and importance(np.ones(3), 0.4).tolist() == [0.4] * 3


@pytest.mark.parametrize("key", ["soft_comprehensiveness", "soft_sufficiency", "sensitivity_max"])
def test_little_memory_changes_nothing(key):
    plenty, little = (metric(key, draws=3).scores(MODEL, CASES, memory_mb=m).values for m in (256, 1e-4))
    assert np.allclose(plenty, little, rtol=1e-12, equal_nan=True)


# -- F-Fidelity --------------------------------------------------------------------------------------


def test_f_fidelity_masks_within_the_rate_and_says_which_model_was_asked():
    chosen = metric("f_fidelity", rate=0.3, shares=[0.5], draws=6)
    e = CASES[0]
    sets = chosen._sets(e, 0)
    n, most = len(e.units), max(1, int(0.3 * len(e.units)))
    assert (sets[1:].sum(axis=1) <= most).all() and (sets[1:].sum(axis=1) >= 1).all()
    top = set(np.argsort(-np.array(e.values))[: int(np.ceil(n / 2))])
    assert all(set(np.flatnonzero(s)) <= top for s in sets[1:7])
    assert not any(set(np.flatnonzero(s)) & top for s in sets[7:])
    own = chosen.scores(MODEL, CASES)
    assert "not F-Fidelity" in own.convention
    tuned = replace(chosen, finetuned=LinearToy(variant="zero")).scores(MODEL, CASES)
    assert tuned.convention.startswith("F-Fidelity") and tuned.values == pytest.approx(0.0)
    parts = {part: replace(chosen, part=part).scores(MODEL, CASES).values for part in ("top", "rest")}
    assert own.values == pytest.approx(parts["top"] - parts["rest"])


def test_fine_tuning_leaves_the_model_and_learns_from_masked_rows():
    frame = toy_frame(40, 3)
    model = table_model(frame)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tuned = fine_tune_on_masks(model, frame, copies=2, epochs=1, learning_rate=1e-2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert any(not torch.equal(value, before[name]) for name, value in tuned.state_dict().items())
    assert not tuned.training and model.outputs(frame).shape == tuned.outputs(frame).shape
    again = fine_tune_on_masks(model, frame, copies=2, epochs=1, learning_rate=1e-2)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in tuned.state_dict().items())
    with pytest.raises(UnsupportedError, match="table model"):
        fine_tune_on_masks(MODEL, frame)
    with pytest.raises(ConfigError):
        fine_tune_on_masks(model, frame, rate=2)


# -- sensitivity -------------------------------------------------------------------------------------


def test_sensitivity_is_zero_without_noise_and_within_the_ball_with_it():
    assert metric("sensitivity_max", radius=0.0, draws=2).scores(MODEL, CASES).values == pytest.approx(0.0)
    scores = metric("sensitivity_max", radius=0.02, draws=4).scores(MODEL, CASES)
    for e, value in zip(
        CASES, scores.values, strict=True
    ):  # a unit is one token of two numbers; log-odds z₁ − z₀
        most = np.sqrt(len(e.units)) * 2 * 0.02 / np.linalg.norm(e.values)
        assert 0 < value <= most
    mean = metric("sensitivity_max", radius=0.02, draws=4, mean=True).scores(MODEL, CASES)
    assert (mean.values < scores.values).all() and mean.convention.startswith("Mean")


def test_methods_that_do_not_read_the_embedded_input_are_undefined_with_a_reason():
    for method in ("leave_one_out", "attention", "of someone else"):
        scores = metric("sensitivity_max", draws=1).scores(MODEL, [replace(CASES[0], method=method)])
        assert scores.undefined == 1 and scores.reason.startswith(method)


def test_a_norm_of_zero_counts_as_one():
    assert relative_change(np.zeros(2), np.array([3.0, 4.0])) == 5.0
    assert relative_change(np.array([3.0, 4.0, np.nan]), np.array([3.0, 4.0, 1.0])) == 0.0


# -- randomisation -----------------------------------------------------------------------------------


def test_weights_are_put_back_bit_for_bit_also_after_a_failure():
    frame = toy_frame(20, 3)
    model = table_model(frame)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = explain(model, frame.head(3), faithfulness=False)
    scores = metric("randomisation", stages=3).scores(model, rows)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (np.abs(scores.values) <= 1 + 1e-12).all()
    with pytest.raises(RuntimeError), restored(model):
        torch.nn.init.zeros_(next(model.parameters()))
        raise RuntimeError
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_layers_go_from_the_output_to_the_input():
    layers = layers_of(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1)))
    assert [layer.in_features for layer in layers] == [3, 2]
    with pytest.raises(UnsupportedError, match="torch module"):
        layers_of(object())


def test_what_does_not_look_at_the_model_does_not_change():
    random = explain(MODEL, toy_frame(3, 5), method="random", faithfulness=False)
    assert metric("randomisation").scores(MODEL, random).values == pytest.approx(1.0)
    uniform = explain(MODEL, toy_frame(3, 5), method="uniform", faithfulness=False)
    assert metric("randomisation").scores(MODEL, uniform).undefined == 3


def test_random_numbers_outside_are_left_alone():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    metric("randomisation").scores(MODEL, CASES)
    assert torch.equal(torch.get_rng_state(), state)


def test_data_randomisation_trains_on_shuffled_targets():
    frame, seen = toy_frame(30, 3), []

    def fit(train, seed):
        seen.append(train)
        return LinearToy()

    found = data_randomisation(fit, LinearToy(), frame, frame.head(4), method="random")
    assert found.tolist() == pytest.approx([1.0] * 4) and len(seen) == 1
    assert sorted(seen[0]["recommended"]) == sorted(frame["recommended"])
    assert seen[0]["recommended"].tolist() != frame["recommended"].tolist()
    assert seen[0]["review"].tolist() == frame["review"].tolist()


# -- ROAD and ROAR -----------------------------------------------------------------------------------


def test_imputation_known_answers():
    rng = np.random.default_rng(0)
    pixels = rng.random((5, 6, 3))
    mask = np.zeros((5, 6), dtype=bool)
    mask[2, 3] = True
    around = sum(
        pixels[2 + y, 3 + x] / (12 if x and y else 6) for y in (-1, 0, 1) for x in (-1, 0, 1) if x or y
    )
    filled = impute(pixels, mask, 0.0, rng)
    assert filled[2, 3] == pytest.approx(around) and np.array_equal(filled[~mask], pixels[~mask])
    ramp = np.broadcast_to((np.arange(6) / 6)[None, :, None], (5, 6, 1))
    mask[1:4, 1:5] = True
    assert impute(ramp, mask, 0.0, rng) == pytest.approx(ramp)  # a plane is its own mean of neighbours
    everything = np.ones((5, 6), dtype=bool)
    assert impute(pixels, everything, 0.0, rng) == pytest.approx(
        np.broadcast_to(pixels.mean((0, 1)), (5, 6, 3))
    )
    border = np.zeros((5, 6), dtype=bool)
    border[:, :2] = True
    assert impute(np.full((5, 6, 1), 0.25), border, 0.0, rng) == pytest.approx(0.25)


def test_road_gives_falls_of_the_answer_and_nothing_for_rows_without_a_picture():
    model, frame = LinearToy(image=True), toy_frame(4, 2, image=True)
    frame = frame.assign(photo=[*frame["photo"][:3], None])
    scores = metric("road").scores(model, explain(model, frame, faithfulness=False))
    assert scores.undefined == 1 and "1 rows" in scores.reason
    known = scores.values[:3]
    assert not np.isin(known, [0.0, 1.0]).any() and "not verified" in scores.convention


def test_roar_counts_its_trainings_and_finds_the_column_that_matters():
    train, test, trained = toy_frame(200, 3), toy_frame(100, 4), []

    class OneColumn:
        """Learns which class goes with a department; reads nothing else."""

        def __init__(self, frame):
            self.schema, toy = toy_schema(), LinearToy()
            self.units, self.remove, self.predict_proba = toy.units, toy.remove, toy.predict_proba
            target = self.schema.encode_target(frame)
            self.rates = {
                d: target[i].mean() for d, i in frame.fillna("none").groupby("department").indices.items()
            }
            self.mean = target.mean()

        def outputs(self, frame):
            rate = [self.rates.get(d or "none", self.mean) for d in frame["department"]]
            return np.stack([1 - np.array(rate), np.array(rate)], axis=1)

    def fit(frame, seed):
        trained.append(seed)
        return OneColumn(frame)

    whole = fit(train, 0)
    table = roar(fit, whole, train, test, ["leave_one_out"], fractions=[0.1, 0.9], seeds=[0, 1])
    assert len(trained) == 1 + 2 + 2 * 2 * 2
    assert table["method"].tolist() == ["leave_one_out"] * 2 + ["random"] * 2
    assert table["accuracy"].between(0, 1).all() and (table["low"] <= table["accuracy"]).all()
    assert table["drop"].tolist() == pytest.approx(accuracy(whole, test) - table["accuracy"])
    with pytest.raises(ConfigError, match="a method and a seed"):
        roar(fit, whole, train, test, [])
    with pytest.raises(UnsupportedError, match="classes"):
        accuracy(LinearToy("regression"), toy_frame(2, 1, "regression"))
