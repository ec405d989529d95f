"""Neutral inputs by name: what each one is, that a batch changes none, and how far explanations depend on them."""

import numpy as np
import pandas as pd
import pytest
import torch

from salience.core.errors import ConfigError
from salience.data.schema import infer
from salience.explain.baselines import (
    WORDS,
    Baselines,
    Sensitivity,
    describe,
    make_baseline,
    names_for,
    rank_correlations,
    sensitivity,
    sensitivity_table,
)
from salience.explain.language.view import LanguageView
from salience.explain.methods.deep_lift import DeepLift
from salience.explain.methods.gradient_x_input import GradientXInput
from salience.explain.methods.integrated_gradients import IntegratedGradients
from salience.explain.target import resolve
from salience.models.table_model import ModelConfig, Part, TableModel
from salience.testing.language_toy import ToyLanguageModel, toy_tokenizer
from salience.testing.toy import TARGET, LinearToy, toy_frame

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def built():
    raw = toy_frame(30, 61, "regression", image=True)
    raw.loc[1, "photo"], raw.loc[2, "review"], raw.loc[3, "age"] = None, "", np.nan
    schema = infer(raw, TARGET["regression"], kinds={"photo": "image"}).fitted(raw)
    frame = schema.parse(raw)
    torch.manual_seed(0)
    parts = {
        "text": Part("fast_disan", {"dim": 8, "min_count": 1, "vectors": "random"}),
        "image": Part("se_resnet", {"size": 8, "width": 4, "blocks": 1}),
    }
    model = TableModel(schema, ModelConfig(**parts, hidden=(8,)))
    model.fit_parts(frame, schema.encode_target(frame), torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.encoders["text"].column.fill_(0.1)  # as training would: an unknown word is no zero vector
    return model.eval(), frame


def made(model, frame, name, draw=0, seed=0, background=None):
    batch = model.collate(model.prepare(frame))
    tokens, chosen = model.embed(batch), Baselines.of((name,) * (draw + 1), background).seeded(seed)
    with torch.no_grad():
        return tokens, model.baseline(batch), make_baseline(model, batch, tokens, frame, chosen, draw)


def changed(neutral, found):
    return {n for n in found if not torch.equal(neutral[n].values, found[n].values)}


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("neutral", set()),
        ("zero", {"text", "image_0", "number"}),
        ("mean", {"text"}),
        ("white", {"image_0"}),
        ("blur", {"image_0"}),
        ("noise", {"image_0"}),
        ("rows", {"image_0", "number", "category"}),
        ("frequent", {"category"}),
    ],
)
def test_each_baseline_changes_the_kinds_that_it_names(built, name, kinds):
    model, frame = built
    tokens, neutral, found = made(model, frame.iloc[:4], name, background=frame)
    assert changed(neutral, found) == kinds
    for key in found:
        assert torch.equal(found[key].mask, tokens[key].mask)
        assert found[key].values.shape == tokens[key].values.shape
        assert found[key].values.isfinite().all()


@pytest.mark.parametrize("name", sorted(WORDS))
def test_a_row_has_the_same_baseline_alone_as_in_a_batch(built, name):
    model, frame = built
    _, _, together = made(model, frame.iloc[:6], name, background=frame)
    for position in range(6):
        _, _, alone = made(model, frame.iloc[position : position + 1], name, background=frame)
        for key, tokens in alone.items():
            width = tokens.values.shape[1]
            np.testing.assert_allclose(together[key].values[position, :width], tokens.values[0], atol=1e-6)


def test_the_zero_baselines_are_what_they_say(built):
    model, frame = built
    tokens, _, found = made(model, frame.iloc[:1], "zero")
    assert not found["text"].values[tokens["text"].unit >= 0].any()
    image = model.encoders["image_0"]
    black = (0 - image.mean) / image.std
    np.testing.assert_allclose(found["image_0"].values.reshape(-1, 3), black.expand(64, 3), atol=1e-5)
    zeros = frame.iloc[:1].assign(age=0.0, price=0.0)
    numbers = model.embed(model.collate(model.prepare(zeros)))["number"].values
    np.testing.assert_allclose(found["number"].values, numbers.detach())


def test_the_mean_baseline_is_the_mean_of_the_rows_own_words(built):
    model, frame = built
    tokens, _, found = made(model, frame.iloc[:3], "mean")
    own = tokens["text"].mask & (tokens["text"].unit >= 0)
    for values, real, mean in zip(tokens["text"].values, own, found["text"].values, strict=True):
        if real.any():
            np.testing.assert_allclose(
                mean[real], values[real].mean(0).expand(int(real.sum()), -1).detach(), atol=1e-6
            )


def test_drawn_rows_are_training_rows_and_differ_by_draw_and_seed(built):
    model, frame = built
    embedded = model.embed(model.collate(model.prepare(frame)))["number"].values
    drawn = []
    for draw, seed in ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2)):
        _, _, found = made(model, frame.iloc[:2], "rows", draw, seed, background=frame)
        values = found["number"].values
        assert torch.equal(values[0], values[1])
        assert any(torch.allclose(values[0], row) for row in embedded)
        drawn.append(tuple(values[0].flatten().tolist()))
    assert len(set(drawn)) > 1


def test_the_most_frequent_category_is_taken_from_the_background(built):
    model, frame = built
    often = frame.assign(department=["hats", *["shoes"] * (len(frame) - 1)])
    _, _, found = made(model, frame.iloc[:1], "frequent", background=often)
    title = min(often["title"].mode())  # short texts of few values are categories too
    shoes = model.embed(model.collate(model.prepare(frame.iloc[:1].assign(department="shoes", title=title))))
    assert torch.equal(found["category"].values, shoes["category"].values)


def test_unknown_names_and_missing_rows_are_refused():
    for wrong in ("nought", ("neutral", "nought"), ()):
        with pytest.raises(ConfigError, match="Unknown baseline"):
            IntegratedGradients(baseline=wrong)
    for name in ("rows", "frequent"):
        with pytest.raises(ConfigError, match="training rows"):
            DeepLift(baseline=name)


def test_baselines_are_described_for_people(built):
    model, _ = built
    assert (
        describe(model, ["neutral"]) == "unknown words, training medians, missing categories, the mean colour"
    )
    assert describe(model, ["zero"]).startswith("zero vectors, the number 0, black")
    assert "missing categories" in describe(model, ["zero"])
    assert describe(model, ["neutral", "mean", "neutral"]).count(";") == 1
    assert names_for(model) == list(WORDS)
    view = LanguageView(ToyLanguageModel(toy_tokenizer()), toy_tokenizer())
    assert names_for(view) == ["neutral", "zero", "mean"]
    assert describe(view, ["neutral", "zero"]) == "a space in place of every token; zero vectors"


@pytest.mark.parametrize("method", [IntegratedGradients, GradientXInput, DeepLift])
def test_several_baselines_are_averaged(method):
    model, frame = LinearToy("regression"), toy_frame(4, 3, "regression")
    targets = resolve(model.schema, "predicted", model.outputs(frame))
    names = ("neutral", "zero", "rows")
    found = method(baseline=names, background=frame).attribute(model, frame, targets, seed=5)
    apart = [
        method(baseline=name, background=frame).attribute(model, frame, targets, seed=5) for name in names[:2]
    ]
    for i, attribution in enumerate(found):
        each = attribution.evidence["by_baseline"]
        assert each.shape == (3, len(attribution.values))
        np.testing.assert_allclose(attribution.values, each.mean(axis=0))
        for line, alone in zip(each, apart, strict=False):
            np.testing.assert_allclose(line, alone[i].values, atol=1e-12)
        if attribution.completeness_gap is not None:
            assert abs(attribution.completeness_gap) < 1e-9
        assert "a training row's numbers" in attribution.baseline


def test_sensitivity_of_a_model_to_the_baseline(built):
    model, frame = built
    rows = frame.iloc[:4]
    found = sensitivity(model, rows, background=frame, method="gradient_x_input")
    assert [s.row for s in found] == rows.index.tolist()
    for one in found:
        assert one.baselines == tuple(names_for(model))
        np.testing.assert_allclose(one.spearman, one.spearman.T)
        np.testing.assert_allclose(np.diag(one.spearman), 1.0)
        assert -1 <= one.lowest <= 1
        assert f"{one.lowest:.2f}" in one.words()
    table = sensitivity_table(found)
    assert len(table) == 4 * 28
    assert table["spearman"].between(-1, 1).all()
    few = sensitivity(model, rows.iloc[:1], "gradient_x_input", ["neutral", "zero"])
    assert few[0].baselines == ("neutral", "zero")
    with pytest.raises(ConfigError, match="compares"):
        sensitivity(model, rows, baselines=["zero"])


def test_a_model_whose_values_do_not_depend_on_the_baseline_is_told_so():
    model = LinearToy("regression")
    with torch.no_grad():
        model.number.zero_()
    frame = toy_frame(3, 8, "regression")
    frame.loc[2, ["title", "review"]] = ["", ""]
    with torch.no_grad():
        model.category.zero_()
    found = sensitivity(model, frame, baselines=["neutral", "zero"])
    assert "hardly depends" in found[0].words()
    assert np.isnan(found[2].lowest)
    assert "cannot be told" in found[2].words()


@pytest.mark.parametrize(
    ("lowest", "word"), [(0.95, "hardly"), (0.7, "somewhat"), (0.1, "strongly"), (-1.0, "strongly")]
)
def test_words_follow_the_lowest_correlation(lowest, word):
    matrix = np.array([[1.0, lowest, np.nan], [lowest, 1.0, 1.0], [np.nan, 1.0, 1.0]])
    text = Sensitivity(0, ("neutral", "zero", "mean"), matrix, 5).words()
    assert word in text
    assert "neutral against zero" in text


def test_rank_correlations_are_spearmans():
    from scipy.stats import spearmanr

    values = np.random.default_rng(0).integers(0, 4, (5, 12)).astype(float)
    np.testing.assert_allclose(rank_correlations(values), spearmanr(values.T).statistic)
    assert np.isnan(rank_correlations(values[:, :2])).all()
    constant = rank_correlations(np.vstack([values[:2], np.ones(12)]))
    assert np.isnan(constant[2]).all()
    assert np.isfinite(constant[:2, :2]).all()


def test_a_language_model_takes_other_baselines():
    view = LanguageView(ToyLanguageModel(toy_tokenizer()), toy_tokenizer())
    frame = pd.DataFrame({"context": pd.Series(["she the crown of", "throne", ""], dtype=object)})
    targets = resolve(view.schema, "predicted", view.outputs(frame))
    for name in ("zero", "mean"):
        for found in IntegratedGradients(baseline=name).attribute(view, frame, targets):
            assert abs(found.completeness_gap) < 1e-3
