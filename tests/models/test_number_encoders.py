"""Encoders of numbers: policies, bins that see the target, the paper's notation, one-hot categories, saving."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from salience import Predictor
from salience.core.errors import ConfigError
from salience.core.io import dumps
from salience.core.registry import cards, load
from salience.data.numbers import FARTHEST
from salience.models.encoders.one_hot import OneHotEncoder
from salience.models.encoders.periodic import PeriodicEncoder
from salience.models.encoders.piecewise_linear import PiecewiseLinearEncoder
from salience.models.notation import NOTATIONS, embedding_named
from salience.settings import make_config

NUMBER_KEYS = [card.key for card in cards("encoder") if card.get("kinds") == ["number"]]


def generator():
    return torch.Generator().manual_seed(0)


def fitted(values, encoder=PiecewiseLinearEncoder, target=None, **args):
    values = np.asarray(values, dtype=float)
    args = {"dim": 3, "n_bins": 4, **args} if encoder is PiecewiseLinearEncoder else args
    made = encoder(["x"], **args)
    target = np.zeros(len(values)) if target is None else target
    made.fit(pd.DataFrame({"x": values}), target, generator())
    return made.eval()


def embedded(encoder, values):
    frame = pd.DataFrame({"x": np.asarray(values, dtype=float)})
    return encoder.embed(encoder.collate(encoder.prepare(frame))).values[:, 0].detach()


def table(rows=120):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"a": draw.normal(size=rows), "b": draw.gamma(2, 3, rows), "c": np.full(rows, 3.0)})
    frame.loc[::9, "b"] = np.nan
    return frame


# missing, far and odd values


def test_missing_has_its_own_vector_where_training_had_missing_cells():
    encoder = fitted([1, 2, np.nan, 4])
    torch.nn.init.ones_(encoder.missing)
    found = embedded(encoder, [np.nan, np.inf, -np.inf, 2])
    assert torch.equal(found[:3], torch.ones(3, 3))
    assert not torch.equal(found[3], torch.ones(3))


def test_missing_acts_like_the_median_where_training_had_none():
    encoder = fitted([1, 2, 3, 4, 50])
    assert encoder.missing is None
    found = embedded(encoder, [np.nan, 3.0])
    torch.testing.assert_close(found[0], found[1])
    neutral = encoder.baseline({"values": torch.zeros(1, 1)}).values[0, 0]
    torch.testing.assert_close(neutral, found[1])


def test_a_column_without_missing_cells_keeps_the_median_beside_one_that_has_them():
    encoder = PeriodicEncoder(["a", "b"], dim=2, n_frequencies=2, sigma=0.3)
    frame = pd.DataFrame({"a": [1.0, 2, 3], "b": [1.0, np.nan, 3]})
    encoder.fit(frame, np.zeros(3), generator())
    torch.nn.init.ones_(encoder.missing)
    empty = pd.DataFrame({"a": [np.nan], "b": [np.nan]})
    found = encoder.embed(encoder.collate(encoder.prepare(empty))).values[0]
    middle = encoder.baseline(encoder.collate(encoder.prepare(empty))).values[0]
    torch.testing.assert_close(found[0], middle[0])
    assert torch.equal(found[1], torch.ones(2))


def test_a_median_policy_needs_no_vector():
    encoder = fitted([1, 2, np.nan, 40], missing="median")
    assert encoder.missing is None
    torch.testing.assert_close(*embedded(encoder, [np.nan, 2.0]))


@pytest.mark.parametrize("constant", [3.0, 0.1, 1e9 + 0.1, 0.0])
@pytest.mark.parametrize("key", NUMBER_KEYS)
def test_all_values_of_a_constant_column_are_alike(key, constant):
    encoder = fitted([constant] * 7, load("encoder", key))
    found = embedded(encoder, [constant, constant + 1, -1e12])
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_values_of_a_column_without_training_values_count_as_missing():
    encoder = fitted([np.nan] * 3)
    torch.nn.init.ones_(encoder.missing)
    assert torch.equal(embedded(encoder, [5.0, np.nan]), torch.ones(2, 3))


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1.0, 1e12, 1e307])
def test_units_of_measurement_do_not_matter(scale):
    values = np.array([1.0, 2.0, 2.5, 4.0, 8.0])
    torch.manual_seed(0)
    plain = fitted(values)
    other = fitted(values * scale)
    other.load_state_dict(plain.state_dict())
    torch.testing.assert_close(embedded(other, values * scale), embedded(plain, values), rtol=1e-5, atol=1e-5)


def test_far_values_are_cut_before_they_overflow():
    encoder = fitted([1.0, 2.0, 3.0])
    far = encoder.prepare(pd.DataFrame({"x": [1e300, -1e300, 1e6]}))
    assert [float(v[0]) for v in far[:2]] == [FARTHEST, -FARTHEST]
    assert torch.isfinite(embedded(encoder, [1e300, -1e300])).all()


def test_bins_narrower_than_float32_are_joined():
    encoder = fitted([0.0, 1.0, 1.0 + 1e-9, 1.0 + 2e-9, 5.0], n_bins=4)
    gaps = np.diff(encoder.state()["edges"][0])
    assert len(gaps) == 2 and gaps.min() > 0.1


def test_a_column_whose_outer_edges_are_close_keeps_one_bin():
    values = np.r_[np.zeros(50), 1e9, np.full(50, 1e-3)]
    encoder = fitted(values, n_bins=2, bins="tree", target=(values > 0).astype(int))
    assert (np.diff(encoder.state()["edges"][0]) >= 1e-6).all()
    assert torch.isfinite(embedded(encoder, values)).all()


def test_timestamps_keep_their_digits():
    seconds = 1.7e9 + np.arange(100)
    encoder = fitted(seconds, n_bins=8)
    ready = np.concatenate(encoder.prepare(pd.DataFrame({"x": seconds})))
    wanted = (np.arange(100) - 49.5) / np.arange(100).std()
    np.testing.assert_allclose(ready, wanted, atol=1e-6)


# bins


def test_bins_of_a_tree_lie_where_the_target_changes():
    values = np.linspace(0, 10, 400)
    step = np.where(values < 7.3, 5.0, 90.0)
    for target in (step, (step > 50).astype(int)):
        encoder = fitted(values, n_bins=2, bins="tree", target=target)
        np.testing.assert_allclose(encoder.edges("x"), [0, 7.3, 10], atol=0.03)
    assert abs(fitted(values, n_bins=2).edges("x")[1] - 5) < 0.01


def test_the_gain_that_a_split_needs_does_not_depend_on_the_unit_of_the_target():
    draw = np.random.default_rng(0)
    values = draw.normal(size=300)
    target = values**2 + draw.normal(size=300)
    edges = [
        fitted(values, n_bins=30, bins="tree", min_impurity_decrease=0.01, target=t).edges("x")
        for t in (target, 1e6 * target)
    ]
    np.testing.assert_allclose(edges[0], edges[1])
    assert 3 <= len(edges[0]) < 15


def test_missing_rows_take_no_part_in_the_choice_of_bins():
    values = np.linspace(0, 1, 60)
    target = (values > 0.4).astype(int)
    gaps = np.r_[values, np.full(30, np.nan)]
    labels = np.r_[target, np.resize([0, 1], 30)]
    for bins in ("tree", "quantile"):
        whole = fitted(values, bins=bins, target=target).edges("x")
        np.testing.assert_allclose(fitted(gaps, bins=bins, target=labels).edges("x"), whole, atol=1e-12)


@pytest.mark.parametrize("scaling", ["standard", "quantile"])
def test_edges_in_own_units_bound_equal_shares_of_rows(scaling):
    values = np.random.default_rng(0).lognormal(2, 1, 2000)
    edges = fitted(values, n_bins=5, scaling=scaling).edges("x")
    np.testing.assert_allclose(edges, np.quantile(values, np.linspace(0, 1, 6)), rtol=0.02)


def test_unknown_bins_are_refused():
    with pytest.raises(ConfigError, match="Did you mean 'tree'"):
        PiecewiseLinearEncoder(["x"], bins="trees")


# notation


@pytest.mark.parametrize("notation", NOTATIONS)
def test_every_notation_builds_an_encoder_that_learns(notation):
    key, args = embedding_named(notation)
    encoder = load("encoder", key)(["a", "b", "c"], **args)
    frame = table()
    encoder.fit(frame, frame["a"].to_numpy(), generator())
    tokens, vector = encoder.encode(encoder.embed(encoder.collate(encoder.prepare(frame))))
    assert tokens.values.shape == (120, 3, encoder.token_dim)
    assert vector.shape == (120, encoder.dim) and sum(encoder.column_dims()) == encoder.dim
    vector.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize(
    ("notation", "key", "args"),
    [
        ("L", "linear_numbers", {"layers": "L"}),
        ("T-LR", "piecewise_linear", {"bins": "tree", "version": "A", "layers": "LR"}),
        ("QLR", "piecewise_linear", {"bins": "quantile", "version": "A", "layers": "LR"}),
        ("Q", "piecewise_linear", {"bins": "quantile", "version": "A", "layers": ""}),
        ("PLRLRLR", "periodic", {"layers": "LRLRLR"}),
        ("P", "periodic", {"layers": ""}),
        ("PLR-lite", "periodic", {"lite": True}),
        ("none", "plain_numbers", {}),
    ],
)
def test_notation_names_encoder_and_arguments(notation, key, args):
    assert embedding_named(notation) == (key, args)


@pytest.mark.parametrize("wrong", ["", "R", "PR", "T-", "T-R", "Q-P", "LRR", "xgboost", "plr"])
def test_what_is_no_notation_is_refused_with_all_of_them(wrong):
    with pytest.raises(ConfigError) as error:
        embedding_named(wrong)
    assert all(notation in str(error.value) for notation in NOTATIONS)
    assert error.value.code == "SAL-C002"


def test_layers_follow_each_other_as_written():
    encoder = fitted(np.arange(20.0), PeriodicEncoder, dim=5, n_frequencies=2, sigma=0.1, layers="LRL")
    kinds = [type(layer).__name__ for layer in encoder.embedding]
    assert kinds == ["PeriodicEmbedding", "NLinear"]
    assert bool((embedded(encoder, np.arange(20.0)) < 0).any())
    rectified = fitted(np.arange(20.0), PeriodicEncoder, dim=5, n_frequencies=2, sigma=0.1, layers="LRLR")
    assert bool((embedded(rectified, np.arange(20.0)) >= 0).all())


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.number=T-LR"],
        ["model.number.name=T-LR"],
        ["model.number={name: T-LR, args: {}}"],
    ],
)
def test_a_notation_may_be_set_as_an_option(overrides):
    part = make_config(overrides=overrides).model.number
    assert (part.name, part.args) == ("piecewise_linear", {"bins": "tree", "version": "A", "layers": "LR"})


def test_arguments_may_be_set_beside_a_notation_and_keys_still_name_encoders():
    part = make_config(overrides=["model.number.name=PLR", "model.number.args.dim=8"]).model.number
    assert (part.name, part.args) == ("periodic", {"layers": "LR", "dim": 8})
    assert make_config(overrides=["model.number=autodis"]).model.number.name == "autodis"
    assert make_config(overrides=["model.number.args.dim=8"]).model.number.args["dim"] == 8
    with pytest.raises(ConfigError, match="PLRLR"):
        make_config(overrides=["model.number=no_such"])


# the plain encoding, and one-hot categories


def test_the_plain_encoding_has_no_padding_in_the_row_vector():
    frame = table()
    encoder = PiecewiseLinearEncoder(["a", "b", "c"], n_bins=5, layers="", scaling="quantile")
    encoder.fit(frame, np.zeros(len(frame)), generator())
    tokens, vector = encoder.encode(encoder.embed(encoder.collate(encoder.prepare(frame.dropna()))))
    assert encoder.column_dims() == [5, 5, 1] and encoder.dim == 11
    assert tuple(tokens.values.shape[1:]) == (3, 5)
    assert not tokens.values[:, 2, 1:].any()
    torch.testing.assert_close(vector[:, :5], tokens.values[:, 0])
    torch.testing.assert_close(vector[:, 10], tokens.values[:, 2, 0])


def words():
    return pd.DataFrame(
        {"k": ["a", "b", "a", "b", "c", None], "m": ["x", "x", "x", "x", "x", "x"]}, dtype=object
    )


def test_one_hot_gives_unseen_and_missing_columns_of_their_own():
    encoder = OneHotEncoder(["k", "m"], min_count=1)
    encoder.fit(words(), np.zeros(6), generator())
    encoder.eval()
    new = pd.DataFrame({"k": ["a", "never", None], "m": ["x", "y", None]}, dtype=object)
    vector = encoder.encode(encoder.embed(encoder.collate(encoder.prepare(new))))[1]
    wanted = [[0, 0, 1, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1, 0, 0]]
    assert vector.tolist() == wanted and encoder.column_dims() == [5, 3]


def test_rare_values_share_the_unseen_column():
    encoder = OneHotEncoder(["k", "m"], min_count=2)
    encoder.fit(words(), np.zeros(6), generator())
    encoder.eval()
    rare = pd.DataFrame({"k": ["c", "never"], "m": ["x", "x"]}, dtype=object)
    vector = encoder.encode(encoder.embed(encoder.collate(encoder.prepare(rare))))[1]
    assert torch.equal(vector[0], vector[1])


# saving


@pytest.mark.parametrize("key", NUMBER_KEYS)
def test_an_encoder_of_other_sizes_is_rebuilt_from_its_state(key):
    entry, frame = load("encoder", key), table()
    encoder = entry(["a", "b", "c"])
    encoder.fit(frame, (frame["a"] > 0).to_numpy().astype(int), generator())
    encoder.eval()
    again = entry(["a", "b", "c"])
    again.restore(json.loads(dumps(encoder.state())))
    again.load_state_dict(encoder.state_dict())
    odd = pd.DataFrame({"a": [np.nan, 1e300, 0.1], "b": [0.0, np.inf, np.nan], "c": [3.0, 4.0, np.nan]})
    for rows in (frame, odd):
        batches = [e.collate(e.prepare(rows)) for e in (encoder, again.eval())]
        found = [e.encode(e.embed(b))[1] for e, b in zip((encoder, again), batches, strict=True)]
        assert torch.equal(found[0], found[1])


@pytest.mark.parametrize(
    "notation", ["none", "L", "Q", "T-LR", "PLE", "P", "PLR-lite", "autodis", "dice", "one_blob"]
)
def test_a_predictor_saves_and_loads_the_encoder(notation, tmp_path):
    frame = table().assign(kind=np.resize(["u", "v", "w"], 120))
    frame["y"] = np.where(frame["a"] > 0, "yes", "no")
    options = [
        "training.epochs=1", f"model.number={notation}", "model.category.name=one_hot", "model.fusion.name=mlp",
        "model.fusion.args.widths=[8]",
    ]  # fmt: skip
    predictor = Predictor("y", preset="fast", overrides=options, seed=0).fit(frame)
    again = Predictor.load(predictor.save(tmp_path / "model"))
    odd = frame.head(4).assign(a=[np.nan, 1e12, -5.0, 0.0], kind=["u", "new", None, "v"])
    for rows in (frame, odd):
        pd.testing.assert_frame_equal(again.predict_proba(rows), predictor.predict_proba(rows))
