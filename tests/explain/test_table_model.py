"""The explainers on the library's own model, with text, numbers and categories at once."""

import numpy as np
import pytest
import torch

from salience.data.schema import infer
from salience.explain.engine import explain
from salience.explain.perturb import Perturber, singles
from salience.explain.rows import records, to_frame
from salience.explain.words import check
from salience.models.table_model import ModelConfig, Part, TableModel
from salience.testing.toy import toy_frame

torch.set_num_threads(1)


def build(task):
    raw = toy_frame(60, 61, task)
    target = raw.columns[-1]
    schema = infer(raw, target).fitted(raw)
    frame = schema.parse(raw)
    torch.manual_seed(0)
    model = TableModel(schema, ModelConfig(text=Part("fast_disan", {"dim": 8, "min_count": 1}), hidden=(8,)))
    model.fit_parts(frame, schema.encode_target(frame), torch.Generator().manual_seed(0))
    return model, frame


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def built(request):
    return build(request.param)


@pytest.mark.parametrize(
    "method", ["integrated_gradients", "gradient_x_input", "leave_one_out", "attention", "random"]
)
def test_method_works_and_batch_equals_single(built, method):
    model, frame = built
    found = explain(model, frame.iloc[:6], method=method, faithfulness=False)
    for position, batched in enumerate(found):
        alone = explain(model, frame.iloc[position : position + 1], method=method, faithfulness=False)[0]
        np.testing.assert_allclose(batched.values, alone.values, atol=1e-5)
        assert not check(batched.words(), batched)


def test_outputs_and_gradients_speak_of_the_same_number(built):
    model, frame = built
    black = explain(model, frame.iloc[:4], method="leave_one_out", faithfulness=False)
    white = explain(model, frame.iloc[:4], method="gradient_x_input", faithfulness=False)
    for a, b in zip(black, white, strict=True):
        assert a.output == pytest.approx(b.output, abs=1e-4)


def test_every_token_belongs_to_the_word_it_was_cut_from(built):
    model, frame = built
    explanation = explain(model, frame.iloc[:1], faithfulness=False)[0]
    row = records(model, frame)[0]
    words = [
        row[u.column][int(u.locator[0]) : int(u.locator[1])] for u in explanation.units if u.kind == "text"
    ]
    assert words == [u.label for u in explanation.units if u.kind == "text"]


def test_integrated_gradients_are_complete(built):
    model, frame = built
    for e in explain(model, frame.iloc[:6], faithfulness=False):
        change = e.output - e.baseline_output
        assert abs(e.completeness_gap) <= 0.02 * max(abs(change), 0.1 * sum(map(abs, e.values))) + 1e-4


def mixed():
    raw = toy_frame(24, 62, image=True)
    schema = infer(raw, raw.columns[-1], kinds={"photo": "image", "title": "text"}).fitted(raw)
    frame = schema.parse(raw)
    torch.manual_seed(0)
    model = TableModel(schema, ModelConfig(text=Part("fast_disan", {"dim": 8, "min_count": 1}), hidden=(8,)))
    model.fit_parts(frame, schema.encode_target(frame), torch.Generator().manual_seed(0))
    return model.eval(), frame


def test_what_rows_share_is_encoded_once():
    model, frame = mixed()
    seen = dict.fromkeys(model.encoders, 0)
    for name, encoder in model.encoders.items():
        encode = encoder.encode

        def counted(tokens, name=name, encode=encode):
            seen[name] += len(tokens.values)
            return encode(tokens)

        encoder.encode = counted
    row = records(model, frame)[0]
    units = model.units(row)
    removed = singles(len(units))
    found = Perturber(model).outputs([row], [removed])[0]
    regions = sum(unit.kind == "image" for unit in units)
    words = sum(unit.kind == "text" for unit in units)
    assert seen["image_0"] <= regions + 2
    assert seen["text"] <= words + 2
    for line, output in zip(removed, found, strict=True):
        changed = model.remove(row, tuple(units[i] for i in np.flatnonzero(line)))
        alone = model.outputs(to_frame(model, [changed]))[0]
        np.testing.assert_allclose(output, alone, atol=1e-5)
