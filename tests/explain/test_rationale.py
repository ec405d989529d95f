"""The explainer that shows a model's own selection, and what gradient and black-box methods say of such models."""

import numpy as np
import pandas as pd
import pytest
import torch

from salience import Predictor
from salience.core.errors import ConfigError, UnsupportedError
from salience.explain.methods.rationale import Rationale

TEXTS = [
    "soft warm great fit poor thin fabric it is",
    "poor",
    "great fit great fit great fit",
    "warm and soft",
]
OPTIONS = (
    "model.text.args.dim=6", "model.text.args.embedding_dim=6", "model.text.args.min_count=1",
    "model.text.args.vectors=random", "model.text.args.rate=0.4", "training.epochs=1", "min_updates=0",
)  # fmt: skip
KEYS = ("rationale_reinforce", "rationale_hardkuma", "fresh")


@pytest.fixture(scope="module")
def models():
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "text": [TEXTS[i % 4] for i in range(40)],
            "age": rng.normal(40, 9, 40).round(1),
            "label": ["yes", "no"] * 20,
        }
    )
    found = {
        key: Predictor("label", kinds={"text": "text"}, overrides=[f"model.text.name={key}", *OPTIONS]).fit(
            frame
        )
        for key in KEYS
    }
    return found, frame.head(4)


def selection(found, frame):
    rows = found.schema.parse(frame, target=False)
    model = found.model
    model.eval()
    batch = model.collate(model.prepare(rows))
    with torch.no_grad():
        return model, batch, model.rationale(batch)["text"]


@pytest.mark.parametrize("key", KEYS)
def test_values_are_the_selection_of_each_word(models, key):
    found, frame = models[0][key], models[1]
    explanations = found.explain(frame, method="rationale")
    model, _, parts = selection(found, frame)
    outputs = model.outputs(found.schema.parse(frame, target=False))
    for i, explanation in enumerate(explanations):
        words = [n for n, unit in enumerate(explanation.units) if unit.kind == "text"]
        assert len(words) == len(frame.text.iloc[i].split())
        values = np.array(explanation.values)
        np.testing.assert_allclose(values[words], parts["selected"][i, : len(words)].numpy())
        assert np.isnan(np.delete(values, words)).all()
        assert explanation.signed is False and explanation.completeness_gap is None
        margin = abs(outputs[i, 0] - outputs[i, 1])
        assert explanation.output == pytest.approx(margin, abs=1e-5)
        assert set(explanation.evidence) == {f"text/{name}" for name in parts}


@pytest.mark.parametrize("key", KEYS[:2])
def test_probabilities_are_shown_if_asked_for(models, key):
    found, frame = models[0][key], models[1]
    explanations = found.explain(
        frame, method="rationale", options={"value": "probability"}, faithfulness=False
    )
    _, _, parts = selection(found, frame)
    words = len(frame.text.iloc[0].split())
    values = [
        v for v, u in zip(explanations[0].values, explanations[0].units, strict=True) if u.kind == "text"
    ]
    np.testing.assert_allclose(values, parts["probability"][0, :words].detach().numpy(), rtol=1e-6)
    assert all(0 < v < 1 for v in values)


def test_refusals(models):
    found, frame = models
    with pytest.raises(UnsupportedError, match="no probabilities"):
        found["fresh"].explain(frame, method="rationale", options={"value": "probability"})
    with pytest.raises(ConfigError, match="Unknown value"):
        Rationale("gates")
    plain = ["model.text.name=bilstm_attention", *(o for o in OPTIONS if "rate=0.4" not in o)]
    reads_all = Predictor("label", kinds={"text": "text"}, overrides=plain)
    reads_all.fit(pd.concat([frame] * 5, ignore_index=True))
    with pytest.raises(UnsupportedError, match="reads all"):
        reads_all.explain(frame, method="rationale")
    assert len(reads_all.explain(frame, method="attention", faithfulness=False)) == 4


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("method", ["gradient_x_input", "integrated_gradients"])
def test_gradient_methods_hold_the_selection_fixed(models, key, method):
    found, frame = models[0][key], models[1]
    explanations = found.explain(frame, method=method, faithfulness=False)
    model, batch, parts = selection(found, frame)
    for i, explanation in enumerate(explanations):
        values = [v for v, u in zip(explanation.values, explanation.units, strict=True) if u.kind == "text"]
        dropped = parts["selected"][i, : len(values)].numpy() == 0
        assert not np.any(np.array(values)[dropped])
        if explanation.completeness_gap is not None:
            assert abs(explanation.completeness_gap) < 1e-2
    with torch.no_grad():
        tokens, neutral = model.embed(batch)["text"], model.baseline(batch)["text"]
    assert torch.equal(tokens.kept, neutral.kept)


@pytest.mark.parametrize("method", ["leave_one_out", "smooth_grad", "deep_lift", "attention_x_gradient"])
def test_other_methods_answer_or_refuse(models, method):
    found, frame = models[0]["rationale_hardkuma"], models[1]
    try:
        explanations = found.explain(frame, method=method, faithfulness=False)
    except UnsupportedError as error:
        assert method in ("deep_lift", "attention_x_gradient"), str(error)
        return
    words = [[v for v, u in zip(e.values, e.units, strict=True) if u.kind == "text"] for e in explanations]
    assert all(np.isfinite(values).all() for values in words)
