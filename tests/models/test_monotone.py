"""Monotone columns: the claim on models of random weights and rows, before, in the midst of and after training."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.core.errors import ConfigError, NotFittedError, UnsupportedError
from salience.data.schema import infer
from salience.models.ensemble import Ensemble
from salience.models.fusions.monotone_mlp import MonotoneMLP
from salience.models.monotone import directions, prove
from salience.models.table_model import ModelConfig, Part, TableModel
from salience.nn.blocks.monotone import Mixture, MonotoneLinear, NonNegative

ROUNDING = 1e-5  # of the largest answer, in float32
ENCODERS = {
    "plain": Part("plain_numbers"),
    "standard": Part("plain_numbers", {"scaling": "standard"}),
    "ramps": Part("piecewise_linear", {"layers": "", "n_bins": 5}),
    "tree ramps": Part("piecewise_linear", {"layers": "", "n_bins": 5, "bins": "tree"}),
    "thermometer": Part("one_blob", {"binary": True, "n_bins": 5}),
}


def table(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)), columns=["up", "down", "free"])
    frame["city"] = rng.choice(["x", "y", "z"], rows)
    frame["value"] = (
        frame.up**2 - frame.down + frame.free * frame.up
    )  # not monotone: the constraint has work to do
    frame["class"] = np.where(frame.value > 0, "yes", "no")
    return frame


def build(encoder="ramps", target="value", hidden=None, seed=0, frame=None, **args):
    """Return an untrained model with random weights, and its canonical rows."""
    frame = table() if frame is None else frame
    drop = [name for name in ("value", "class") if name != target and name in frame]
    schema = infer(frame, target, drop=drop).fitted(frame)
    args = {"increasing": ["up"], "decreasing": ["down"], "widths": [10, 6], "free_widths": [8]} | args
    config = ModelConfig(number=ENCODERS[encoder], fusion=Part("monotone_mlp", args), hidden=hidden)
    torch.manual_seed(seed)
    model = TableModel(schema, config)
    rows = schema.parse(frame)
    model.fit_parts(rows, schema.encode_target(rows), torch.Generator().manual_seed(seed))
    return model.eval(), rows


def scramble(model, seed, size=1.0):
    """Set all weights at random, as no training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))


def answer(model, frame):
    """Return the log-odds of the second class, or the value."""
    outputs = model.outputs(frame)
    return outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs[:, 0]


def worst_turn(model, rows, column, sign, values):
    """Return the largest step against the direction, as a share of the largest answer."""
    moved = pd.concat([rows.assign(**{column: value}) for value in np.sort(values)], ignore_index=True)
    answers = answer(model, moved).reshape(len(values), len(rows))
    return float(np.max(-sign * np.diff(answers, axis=0))) / max(np.abs(answers).max(), 1e-30)


def targets(model, rows):
    return torch.tensor(np.array(model.schema.encode_target(rows)))


def train(model, rows, steps, rate=0.05):
    """Take steps of gradient descent on the model's own loss."""
    target = targets(model, rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    batch = model.collate(model.prepare(rows))
    for _ in range(steps):
        optimizer.zero_grad()
        model.head.loss(model.train()(batch), target).backward()
        optimizer.step()
    model.eval()


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**31),
    encoder=st.sampled_from(sorted(ENCODERS)),
    target=st.sampled_from(["value", "class"]),
    hidden=st.sampled_from([None, (5,), (4, 3)]),
    size=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_holds_for_random_weights_and_rows(seed, encoder, target, hidden, size):
    model, rows = build(encoder, target, hidden, seed % 1000)
    scramble(model, seed, size)
    assert prove(model).holds
    rng = np.random.default_rng(seed)
    some = rows.sample(6, random_state=seed % 2**31)
    for column, sign in (("up", 1), ("down", -1)):
        assert worst_turn(model, some, column, sign, rng.normal(0, 5, 12)) <= ROUNDING


@pytest.mark.parametrize("target", ["value", "class"])
def test_holds_at_every_stage_of_training_and_the_loss_falls(target):
    model, rows = build("ramps", target)
    losses = []
    for _ in range(3):
        train(model, rows, 12)
        assert prove(model).holds
        for column, sign in (("up", 1), ("down", -1)):
            assert worst_turn(model, rows.head(20), column, sign, np.linspace(-4, 4, 17)) <= ROUNDING
        with torch.no_grad():
            output = model(model.collate(model.prepare(rows)))
            losses.append(float(model.head.loss(output, targets(model, rows))))
    assert losses[-1] < losses[0]


def test_free_columns_are_free_and_interact():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.uniform(-2, 2, size=(300, 2)), columns=["up", "free"])
    frame["value"] = frame.up * (frame.free > 0) + frame.free**2
    model, rows = build(
        "ramps", "value", frame=frame, increasing=["up"], decreasing=[], widths=[24, 12], free_widths=[24]
    )
    train(model, rows, 200, rate=0.02)
    error = answer(model, rows) - frame.value
    assert np.mean(error**2) < 0.1 * frame.value.var()
    assert worst_turn(model, rows.head(5), "free", 1, np.linspace(-2, 2, 15)) > 0.05  # falls, then rises


def test_more_than_convex_shapes_are_learned():
    """An S-shaped rise is neither convex nor concave."""
    frame = pd.DataFrame({"up": np.linspace(-3, 3, 200)})
    frame["value"] = np.tanh(3 * frame.up)
    model, rows = build("standard", "value", frame=frame, increasing=["up"], decreasing=[])
    train(model, rows, 200, rate=0.03)
    assert np.mean((answer(model, rows) - frame.value) ** 2) < 0.02


def test_mixture_rises_and_its_parts_are_convex_concave_and_bounded():
    x = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    y = Mixture(5)(x[:, None].expand(-1, 5))
    slope = y.diff(dim=0)
    assert (slope >= 0).all() and Mixture(5).parts == [2, 2, 1]
    assert (slope[:, 0].diff() >= -1e-12).all() and (slope[:, 2].diff() <= 1e-12).all()
    assert y[:, 4].abs().max() < 2.01 and abs(y[1000, 4]) < 1e-15
    assert torch.allclose(y[:, 2], -y.flip(0)[:, 0])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m.fusion.sign.neg_(),
        lambda m: m.fusion.first.sign.abs_(),
        lambda m: m.fusion.layers[0].sign.neg_(),
        lambda m: m.head.std.neg_(),
        lambda m: m.fusion.first.raw.data.fill_(float("nan")),
        lambda m: m.fusion.activations.__setitem__(0, torch.nn.GELU()),
        lambda m: m.head.layers.insert(0, torch.nn.GELU()),
        lambda m: torch.nn.utils.parametrize.remove_parametrizations(m.head.layers[-1], "weight", leave_parametrized=False),
        lambda m: m.encoders["number"].scaler.fitted[0].update(scale=-1.0),
    ],
    ids=["signs turned", "signs lost in the layer", "second layer", "target's spread", "no number", "activation", "head's activation", "head free", "scale"],
)  # fmt: skip
def test_certificate_fails_where_a_condition_is_broken(spoil):
    model, _ = build()
    scramble(model, 0)
    with torch.no_grad():
        spoil(model)
    certificate = prove(model)
    assert not certificate.holds and str(certificate).startswith("NOT proved") and "✗" in str(certificate)


def test_certificate_says_what_was_verified():
    model, _ = build("plain", "class", hidden=(4,))
    data = prove(model).to_json()
    assert data["holds"] and (data["increasing"], data["decreasing"]) == (["up"], ["down"])
    assert "hidden layer 1 of the head" in str(prove(model))
    assert all(c["least"] is None or c["least"] >= 0 for c in data["conditions"])
    assert directions(model) == {"up": 1, "down": -1}


def test_saved_weights_keep_the_constraint():
    model, rows = build("ramps", "class")
    scramble(model, 3)
    again = TableModel(model.schema, model.config)
    again.restore(model.state())
    again.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(again.eval().outputs(rows), model.outputs(rows))
    assert prove(again).holds and prove(copy.deepcopy(model)).holds


def test_ensemble_is_proved_member_by_member():
    members = [build("plain", "class", seed=seed)[0] for seed in (0, 1)]
    joined = Ensemble(members)
    assert prove(joined).holds and directions(joined) == {"up": 1, "down": -1}
    members[1].fusion.sign.neg_()
    assert not prove(joined).holds


def test_missing_cells_are_answered():
    frame = table()
    frame.loc[:9, "up"] = np.nan
    model, rows = build("ramps", frame=frame)
    assert np.isfinite(model.outputs(rows)).all() and prove(model).holds


@pytest.mark.parametrize(
    ("args", "encoder", "target", "error", "text"),
    [
        ({"increasing": ["Up"]}, "plain", "value", ConfigError, "no column 'Up'"),
        ({"increasing": ["city"]}, "plain", "value", UnsupportedError, "has no order"),
        ({"decreasing": ["up"]}, "plain", "value", ConfigError, "increasing and decreasing"),
        ({}, "plain", "city", UnsupportedError, "two classes or one number"),
    ],
    ids=["unknown", "category", "both", "three classes"],
)
def test_refusals(args, encoder, target, error, text):
    frame = table()[["up", "down", "free", "city", "value"]]
    with pytest.raises(error, match=text):
        build(encoder, target, frame=frame, **args)


def test_encoder_that_mixes_or_bends_is_refused():
    frame = table()
    schema = infer(frame, "value", drop=["class"]).fitted(frame)
    for number in (Part("piecewise_linear"), Part("periodic"), Part("linear_numbers"), Part("one_blob")):
        config = ModelConfig(number=number, fusion=Part("monotone_mlp", {"increasing": ["up"]}))
        model = TableModel(schema, config)
        with pytest.raises(UnsupportedError, match="does not keep their order"):
            model.fit_parts(schema.parse(frame), schema.encode_target(schema.parse(frame)), torch.Generator())


def test_fusion_that_was_not_told_its_columns_refuses():
    fusion = MonotoneMLP({"number": 2}, {"number": 1}, {"number": [1, 1]}, increasing=["a"])
    with pytest.raises(NotFittedError, match="does not know its columns"):
        fusion({"number": torch.zeros(1, 2)}, {})


def test_models_without_directions_have_nothing_to_prove():
    model, _ = build(increasing=[], decreasing=[])
    with pytest.raises(UnsupportedError, match="Nothing is to be proved"):
        prove(model)
    assert directions(object()) == {}


def test_layers_use_sizes_and_signs():
    layer = MonotoneLinear(2, 4, torch.tensor([1.0, -1.0]))
    assert (layer.weight[:, 0] >= 0).all() and (layer.weight[:, 1] <= 0).all()
    assert (MonotoneLinear(3, 2).weight >= 0).all()
    assert torch.equal(NonNegative()(torch.tensor([[-2.0]])), torch.tensor([[2.0]]))
    assert torch.equal(NonNegative(torch.tensor([-1.0]))(torch.tensor([[-2.0]])), torch.tensor([[-2.0]]))
