"""Attention methods and Grad-CAM: what modules show, closed forms, and models that have nothing to show."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from salience.core import registry
from salience.core.errors import ConfigError, UnsupportedError
from salience.data.schema import infer
from salience.explain import maps
from salience.explain.language.view import LanguageView
from salience.explain.maps import forward_shown, layers_of, pairwise
from salience.explain.methods.attention import Attention
from salience.explain.methods.attention_rollout import AttentionRollout
from salience.explain.methods.attention_x_gradient import AttentionXGradient
from salience.explain.methods.grad_cam import GradCAM
from salience.explain.target import Target, resolve, score
from salience.models.encoders.se_resnet import SEResNetEncoder
from salience.models.table_model import ModelConfig, Part, TableModel
from salience.nn.watch import show, watched, watching, within
from salience.testing.language_toy import toy_tokenizer
from salience.testing.toy import TARGET, LinearToy, toy_frame

torch.set_num_threads(1)
WORDS = {"dim": 8, "min_count": 1, "vectors": "random"}
TOKENIZER = toy_tokenizer()
CONTEXTS = ["she , the crown of the sceptre not", "throne the crown", "crown"]


def built(encoder="disan", task="binary", image=False):
    raw = toy_frame(30, 61, task, image=image)
    schema = infer(raw, TARGET[task], kinds={"photo": "image"} if image else {}).fitted(raw)
    frame = schema.parse(raw)
    torch.manual_seed(0)
    parts = {"text": Part(encoder, WORDS), "image": Part("se_resnet", {"size": 8, "width": 4, "blocks": 1})}
    model = TableModel(schema, ModelConfig(**parts, hidden=(8,)))
    model.fit_parts(frame, schema.encode_target(frame), torch.Generator().manual_seed(0))
    return model.double().eval().requires_grad_(False), frame


def language(key, **options):
    torch.manual_seed(0)
    architecture = registry.load("language_model", key)
    sizes = {"dim": 16, "num_layers": 2, "num_heads": 2, "glu_dim": 24, "init_std": 0.3}
    config = architecture.Config(vocab_size=TOKENIZER.vocab_size, **sizes)
    return LanguageView(architecture(config).double().eval(), TOKENIZER, **options)


def contexts(texts=CONTEXTS):
    return pd.DataFrame({"context": pd.Series(texts, dtype=object)})


def explain(explainer, model, frame, target="predicted"):
    return explainer.attribute(model, frame, resolve(model.schema, target, model.outputs(frame)))


# -- what modules show ---------------------------------------------------------------------------------


def test_nothing_is_kept_where_nobody_looks():
    tensor = torch.ones(2)
    assert show("context", tensor) is tensor
    assert not watched()
    with watching() as watch, within("text"):
        assert watched()
        show("context", tensor, lambda t: t + 1)
    assert torch.equal(watch.shown["text"]["context"][0].seen(), tensor + 1)
    assert not watched()
    with pytest.raises(RuntimeError, match="inside"), watching():
        raise RuntimeError("inside")
    assert not watched()


@pytest.mark.parametrize("encoder", ["disan", "fast_disan"])
def test_shown_weights_are_those_of_attention_and_change_no_output(encoder):
    model, frame = built(encoder)
    batch = model.collate(model.prepare(frame.iloc[:4]))
    tokens = model.embed(batch)
    output, shown = forward_shown(model, tokens)
    np.testing.assert_allclose(output, model(batch), atol=1e-12)
    expected = model.attention(batch)["text"]
    pooled = shown["text"]["source2token"][0].seen()
    np.testing.assert_allclose(pooled, expected["source2token"], atol=1e-12)
    found = pairwise(shown["text"])
    maps = torch.cat([one.seen() for several in found.values() for one in several], dim=-1)
    both = torch.cat([expected["token2token_forward"], expected["token2token_backward"]], dim=-1)
    np.testing.assert_allclose(maps, both, atol=1e-12)


# -- rollout -------------------------------------------------------------------------------------------


def test_rollout_of_a_transformer_is_the_product_of_its_layers():
    model, frame = language("transformer"), contexts()
    for i, attribution in enumerate(explain(AttentionRollout(), model, frame)):
        tokens = model.embed(model.collate(model.prepare(frame.iloc[i : i + 1])))
        with torch.no_grad():
            _, shown = forward_shown(model, tokens)
        product = torch.eye(tokens["context"].values.shape[1], dtype=torch.float64)
        for layer in layers_of(shown["context"]):
            product = (0.5 * layer[0].seen()[0].mean(-1) + 0.5 * torch.eye(len(product))) @ product
        unit = tokens["context"].unit[0]
        expected = np.zeros(len(attribution.values))
        np.add.at(expected, unit[unit >= 0].numpy(), product[-1][unit >= 0].numpy())
        np.testing.assert_allclose(attribution.values, expected, atol=1e-12)
        assert attribution.values.sum() < 1 + 1e-12  # the token before the context takes the rest
        assert attribution.evidence["context/layers"] == 2


def test_rollout_without_residual_of_equal_weights_is_uniform_over_what_is_seen():
    model, frame = language("transformer"), contexts(["crown throne"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # all queries look at all earlier tokens alike
    found = explain(AttentionRollout(residual=0.0), model, frame)[0]
    tokens = len(TOKENIZER.encode("crown throne")) + 1
    first = np.tril(np.ones((tokens, tokens))) / np.arange(1, tokens + 1)[:, None]
    assert found.values.sum() == pytest.approx((first @ first)[-1, 1:].sum())


def test_rollout_of_disan_mixes_the_word_with_its_neighbours():
    model, frame = built()
    row = frame.iloc[:1]
    found = explain(AttentionRollout(), model, row)[0]
    with torch.no_grad():
        shown = forward_shown(model, model.embed(model.collate(model.prepare(row))))[1]["text"]
    pooled = shown["source2token"][0].seen()[0].mean(-1)
    both = torch.stack([shown[f"token2token_{d}"][0].seen()[0].mean(-1) for d in ("forward", "backward")])
    step = 0.5 * both.mean(0) + 0.5 * torch.eye(len(pooled))
    expected = pooled @ (step / step.sum(1, keepdim=True))
    words = np.isfinite(found.values)
    np.testing.assert_allclose(found.values[words], expected, atol=1e-12)
    assert found.values[words].sum() == pytest.approx(1.0)


def test_rollout_of_a_pooling_map_alone_is_that_map():
    model, frame = LinearToy(), toy_frame(3, 5)
    for ours, raw in zip(
        explain(AttentionRollout(), model, frame), explain(Attention(), model, frame), strict=True
    ):
        np.testing.assert_allclose(ours.values, raw.values, atol=1e-12)
        assert ours.evidence["text/layers"] == 0


@pytest.mark.parametrize("explainer", [AttentionRollout(), AttentionXGradient()])
def test_linear_attention_is_refused(explainer):
    with pytest.raises(UnsupportedError, match="no attention maps"):
        explain(explainer, language("transnormer"), contexts())


def test_rollout_of_a_text_that_is_asked_about_is_refused():
    model = language("transformer", continuations=[" king queen"])
    with pytest.raises(UnsupportedError, match="places"):
        AttentionRollout().attribute(model, contexts(), [Target(0, "", "log-probability")] * len(CONTEXTS))


@pytest.mark.parametrize("explainer", [Attention(), AttentionRollout(), AttentionXGradient()])
def test_maps_that_would_not_fit_are_refused_before_they_are_made(explainer, monkeypatch):
    model, frame = built()
    monkeypatch.setattr(maps, "PROBE", 2)
    monkeypatch.setattr(maps, "MAPS_LIMIT", 10_000)
    long = frame.iloc[:1].assign(review="great dress " * 30)
    with pytest.raises(UnsupportedError, match="too large"):
        explain(explainer, model, long)


# -- attention × gradient ------------------------------------------------------------------------------


def test_attention_x_gradient_is_the_derivative_of_scaling_the_weights():
    model, frame = built(task="multiclass")
    row, target = frame.iloc[:1], ("good", "bad")
    found = explain(AttentionXGradient(), model, row, target)[0]
    pool = model.encoders["text"].network.sent_enc_attn
    weights, step, words = pool.weights, 1e-6, int(np.isfinite(found.values).sum())
    targets = resolve(model.schema, target, model.outputs(row))
    for word in range(words):
        scores = []
        for sign in (1, -1):
            scale = torch.ones(words, 1, dtype=torch.float64)
            scale[word] += sign * step
            pool.weights = lambda x, mask, scale=scale: weights(x, mask) * scale
            scores.append(score(model.outputs(row), targets)[0])
        del pool.weights
        assert found.values[word] == pytest.approx((scores[0] - scores[1]) / (2 * step), abs=1e-7)


def test_attention_x_gradient_of_the_toy_is_what_words_add():
    model, frame = LinearToy(), toy_frame(3, 5)
    targets = resolve(model.schema, "yes", model.outputs(frame))
    for row, found in zip(
        frame.to_dict("records"), AttentionXGradient().attribute(model, frame, targets), strict=True
    ):
        parts = score(model.contributions(row), targets[:1] * len(found.values))
        covered = np.isfinite(found.values)
        np.testing.assert_allclose(found.values[covered], parts[covered], atol=1e-12)
        assert covered.sum() == len(found.values) - 3


def test_relevance_follows_layers_and_is_never_negative():
    model, frame = language("transformer"), contexts()
    target = [Target(3, "", "log-odds")] * len(frame)
    explainer = AttentionXGradient(positive=True)
    assert not explainer.signed
    for i, found in enumerate(explainer.attribute(model, frame, target)):
        assert (found.values >= 0).all()
        tokens = model.embed(model.collate(model.prepare(frame.iloc[i : i + 1])))
        leaves = {
            "context": tokens["context"].with_values(tokens["context"].values.detach().requires_grad_())
        }
        output, shown = forward_shown(model, leaves)
        relevance = torch.eye(leaves["context"].values.shape[1], dtype=torch.float64)
        for layer in layers_of(shown["context"]):
            tensor = layer[0].tensor
            (gradient,) = torch.autograd.grad(score(output, target[:1]).sum(), tensor, retain_graph=True)
            relevance = relevance + (tensor * gradient).clamp(min=0)[0].mean(0).detach() @ relevance
        unit = tokens["context"].unit[0]
        expected = np.zeros(len(found.values))
        np.add.at(expected, unit[unit >= 0].numpy(), relevance[-1][unit >= 0].numpy())
        np.testing.assert_allclose(found.values, expected, atol=1e-12)


def test_attention_x_gradient_of_a_text_counts_the_words_of_the_context():
    model = language("transformer", continuations=[" king queen"])
    found = AttentionXGradient().attribute(
        model, contexts(), [Target(0, "", "log-probability")] * len(CONTEXTS)
    )
    for text, attribution in zip(CONTEXTS, found, strict=True):
        assert np.isfinite(attribution.values).all()
        assert len(attribution.values) == len(text.split())
        assert attribution.values.any()


# -- Grad-CAM ------------------------------------------------------------------------------------------


class MeanPooled(SEResNetEncoder):
    """Feature maps, their mean, and nothing else: with a linear head, Grad-CAM is CAM."""

    def __init__(self, columns):
        super().__init__(columns, size=16, width=4, blocks=1)
        self.dim = 16

    def encode(self, tokens):
        features = show("feature_map", self.network(self.image(tokens)))
        return tokens, features.mean(dim=(2, 3))


@pytest.fixture(scope="module")
def pooled():
    raw = toy_frame(20, 3, "multiclass", image=True)[["photo", TARGET["multiclass"]]]
    schema = infer(raw, TARGET["multiclass"], kinds={"photo": "image"}).fitted(raw)
    frame = schema.parse(raw)
    torch.manual_seed(0)
    model = TableModel(schema, ModelConfig(image=Part("se_resnet", {}), hidden=()))
    model.encoders["image_0"] = MeanPooled(["photo"])
    model.fit_parts(frame, schema.encode_target(frame), torch.Generator().manual_seed(0))
    return model.double().eval().requires_grad_(False), frame.iloc[:4]


def test_grad_cam_of_mean_pooling_and_a_linear_head_is_cam(pooled):
    model, frame = pooled
    found = explain(GradCAM(), model, frame, ("good", "bad"))
    weight = model.head.layers[0].weight
    encoder = model.encoders["image_0"]
    tokens = model.embed(model.collate(model.prepare(frame)))["image_0"]
    with torch.no_grad():
        maps = encoder.network(encoder.image(tokens))
        cam = torch.einsum("c,bcij->bij", weight[2] - weight[0], maps).clamp(min=0) / maps[0, 0].numel()
    assert maps.shape[2:] == (4, 4)
    np.testing.assert_allclose([a.values for a in found], cam.flatten(1), atol=1e-12)
    assert any(a.values.any() for a in found)


def test_grad_cam_by_element_without_relu_adds_up_to_the_answer(pooled):
    model, frame = pooled
    for options in ({"elementwise": True, "relu": False}, {"relu": False}):
        explainer = GradCAM(**options)
        assert explainer.signed
        found = explain(explainer, model, frame, ("good", "bad"))
        bias = model.head.layers[0].bias
        for attribution in found:
            total = attribution.output - float(bias[2] - bias[0])
            assert attribution.values.sum() == pytest.approx(total, abs=1e-10)


def test_maps_of_any_size_are_cut_to_regions_by_area():
    from salience.explain.methods.grad_cam import _regions

    whole = torch.rand(2, 8, 8, dtype=torch.float64)
    expected = nn.functional.adaptive_avg_pool2d(whole[:, None], 4)[:, 0].flatten(1)
    np.testing.assert_allclose(_regions(whole, 16), expected, atol=1e-12)
    for size in ((3, 5), (1, 1), (7, 2)):
        uneven = torch.rand(1, *size, dtype=torch.float64)
        assert float(_regions(uneven, 16).mean()) == pytest.approx(float(uneven.mean()))
    with pytest.raises(UnsupportedError, match="square grid"):
        _regions(whole, 6)


def test_grad_cam_covers_text_and_image_and_says_nothing_of_numbers():
    model, frame = built(image=True)
    for attribution, row in zip(
        explain(GradCAM(), model, frame.iloc[:3]), frame.iloc[:3].to_dict("records"), strict=True
    ):
        kinds = [unit.kind for unit in model.units(row)]
        finite = np.isfinite(attribution.values)
        assert all(f == (kind in ("text", "image")) for f, kind in zip(finite, kinds, strict=True))
        assert (attribution.values[finite] >= 0).all()


def test_grad_cam_without_maps_or_with_an_unknown_layer_is_refused():
    raw = toy_frame(20, 3, "regression")[["age", "price", TARGET["regression"]]]
    schema = infer(raw, TARGET["regression"]).fitted(raw)
    frame = schema.parse(raw)
    model = TableModel(schema, ModelConfig())
    model.fit_parts(frame, schema.encode_target(frame), torch.Generator().manual_seed(0))
    with pytest.raises(UnsupportedError, match="no feature maps"):
        explain(GradCAM(), model.eval(), frame.iloc[:2])
    with pytest.raises(ConfigError, match="Unknown layer"):
        explain(GradCAM(layer="head.layer"), model.eval(), frame.iloc[:2])
