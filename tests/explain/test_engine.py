import json
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from salience.core.errors import ConfigError, UnsupportedError
from salience.core.progress import listening
from salience.core.unit import Unit
from salience.explain.attribution import Attribution
from salience.explain.engine import GROUP, explain
from salience.explain.explanation import Explanation
from salience.explain.importance import column_shares, importance
from salience.explain.methods.leave_one_out import LeaveOneOut
from salience.explain.model import BlackBox, WhiteBox
from salience.explain.rows import records
from salience.explain.words import check
from salience.testing.toy import LinearToy, toy_frame

torch.set_num_threads(1)


def test_toys_serve_the_protocols():
    assert isinstance(LinearToy(), BlackBox)
    assert isinstance(LinearToy(), WhiteBox)


class Listener:
    def __init__(self):
        self.seen = []

    def start(self, stage, total):
        self.seen.append((stage, total))
        return stage

    def advance(self, handle, note):
        self.seen.append(note)

    def finish(self, handle):
        self.seen.append("end")


def test_explanations_come_in_the_order_of_the_frame_with_progress():
    model, frame = LinearToy(), toy_frame(GROUP + 5, 51)
    frame.index = [f"r{i}" for i in range(len(frame))]
    listener = Listener()
    with listening(listener):
        found = explain(model, frame, faithfulness=False)
    assert [e.row for e in found] == list(frame.index)
    assert [e.inputs["review"] for e in found] == frame["review"].tolist()
    assert listener.seen[0] == ("explain", len(frame))
    assert listener.seen[-1] == "end"
    assert len(listener.seen) == len(frame) + 2


def test_fields_are_filled():
    model, frame = LinearToy("multiclass"), toy_frame(3, 52, "multiclass")
    probabilities = model.predict_proba(model.outputs(frame))
    for explanation, p in zip(explain(model, frame), probabilities, strict=True):
        assert explanation.prediction == model.schema.classes[p.argmax()] == explanation.target
        assert explanation.probability == pytest.approx(p.max())
        assert explanation.output == pytest.approx(np.log(p.max() / (1 - p.max())))
        assert explanation.forwards > 0
        assert explanation.seconds > 0
        assert explanation.faithfulness is not None
        assert explanation.baseline == "unknown words, training medians, missing categories"


def test_a_contrast_is_explained():
    model, frame = LinearToy("multiclass"), toy_frame(2, 53, "multiclass")
    found = explain(model, frame, target=("good", "bad"))[0]
    assert found.target == "good rather than bad"
    parts = model.contributions(found.inputs)
    np.testing.assert_allclose(found.values, parts[:, 2] - parts[:, 0], atol=1e-9)


def test_unknown_method_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'occlusion'"):
        explain(LinearToy(), toy_frame(1), method="oclusion")


class OnlyCalled:
    """A model without gradients: the public half of the toy."""

    def __init__(self):
        toy = LinearToy()
        self.schema, self.outputs, self.predict_proba = toy.schema, toy.outputs, toy.predict_proba
        self.units, self.remove = toy.units, toy.remove


def test_a_black_box_is_explained_by_removals_alone():
    frame = toy_frame(2, 58)
    found = explain(OnlyCalled(), frame, method="leave_one_out")
    assert found == [replace(a, seconds=b.seconds, faithfulness=b.faithfulness) for a, b in zip(
        explain(LinearToy(), frame, method="leave_one_out"), found, strict=True)]  # fmt: skip
    for method in ("integrated_gradients", "gradient_x_input", "attention"):
        with pytest.raises(UnsupportedError, match="needs a model that shows its embedded input"):
            explain(OnlyCalled(), frame, method=method)


def test_a_model_that_answers_nan_is_explained_without_a_crash():
    model, frame = LinearToy("regression"), toy_frame(2, 59, "regression")
    with torch.no_grad():
        model.text.fill_(float("nan"))
    model.outputs = lambda part: np.full((len(part), 1), np.nan)
    for explanation in explain(model, frame):
        assert "The model gives no number for “score”." in str(explanation.words())
        assert not check(explanation.words(), explanation)
        data = json.loads(json.dumps(explanation.to_json(), allow_nan=False))
        assert str(Explanation.from_json(data).words()) == str(explanation.words())


def test_no_rows():
    assert explain(LinearToy(), toy_frame(2).iloc[:0]) == []


def test_the_model_is_left_as_it_was():
    model = LinearToy().train()
    explain(model, toy_frame(2, 54))
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_importance_by_column_and_word():
    model, frame = LinearToy(), toy_frame(80, 55)
    found = explain(model, frame, target="yes", faithfulness=False)
    result = importance(found, min_count=5)
    shares = {line["column"]: line["share"] for line in result["columns"]}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert max(shares, key=shares.get) == "review"
    assert all(line["interval"][0] <= line["share"] <= line["interval"][1] for line in result["columns"])
    words = {(line["word"], line["column"]): line for line in result["words"]}
    assert words["great", "review"]["mean"] == pytest.approx(2.0)
    assert words["awful", "review"]["mean"] == pytest.approx(-2.0)
    assert (",", "review") not in words
    counted = frame["review"].str.split().explode().eq("great").sum()
    assert words["great", "review"]["count"] == counted
    assert all(line["count"] >= 5 for line in result["words"])


def test_importance_of_nothing():
    assert importance([]) == {"columns": [], "words": [], "toward": None}
    zero = explain(LinearToy(variant="zero"), toy_frame(3, 56), faithfulness=False)
    assert importance(zero)["columns"] == []


def test_column_shares_ignore_what_has_no_value():
    found = explain(LinearToy(), toy_frame(1, 57), faithfulness=False)[0]
    values = [float("nan") if u.kind == "text" else 1.0 for u in found.units]
    names, shares = column_shares([replace(found, values=tuple(values))])
    assert dict(zip(names, shares[0], strict=True)) == pytest.approx(
        {"title": 0, "review": 0, "age": 1 / 3, "price": 1 / 3, "department": 1 / 3}
    )


def test_importance_of_two_classes_is_told_from_one_side():
    def one(target: str, index: int, value: float) -> Explanation:
        unit = Unit("text", "text", "good", (0, 4))
        return Explanation(
            units=(unit,), values=(value,), inputs={"text": "good"}, kinds={"text": "text"}, row=0, method="m",
            target=target, quantity="log-odds", prediction=target, probability=0.9, output=value,
            baseline_output=0.0, baseline="none", completeness_gap=0.0, target_index=index,
        )  # fmt: skip

    both = [one("yes", 1, 2.0), one("no", 0, -1.0)]
    result = importance(both, classes=["no", "yes"], min_count=1)
    assert result["toward"] == "yes"
    assert result["words"] == [{"word": "good", "column": "text", "mean": 1.5, "count": 2}]
    assert importance(both, min_count=1)["toward"] is None


# -- methods by name, with options, and of one's own ---------------------------------------------------


class Mine:
    """An explainer from elsewhere."""

    card: ClassVar = {"key": "mine", "needs": "black_box", "signed": False}

    def attribute(self, model, frame, targets, *, seed=0, memory_mb=256):
        return [
            Attribution(np.ones(len(model.units(row))), None, None, "none", None, 1, 1.0)
            for row in records(model, frame)
        ]


class Doubled(LeaveOneOut):
    """A method of ours, changed; the card of its base is its own."""


class Bare:
    attribute = Mine.attribute


def test_an_object_is_an_explainer():
    found = explain(LinearToy(), toy_frame(2, 60), method=Mine())
    assert {e.method for e in found} == {"mine"}
    assert not found[0].signed
    assert explain(LinearToy(), toy_frame(1, 60), method=Doubled(8))[0].method == "leave_one_out"


def test_options_reach_the_method():
    model, frame = LinearToy("binary", "nonlinear"), toy_frame(1, 61)
    few, many = (
        explain(model, frame, method="lime", options={"samples": n}, faithfulness=False)[0] for n in (20, 90)
    )
    assert few.forwards < many.forwards


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("lime", {"sample": 3}, "has no option 'sample'. Did you mean 'samples'"),
        ("lime", {"samples": 1}, "samples is out of its range"),
        ("random", {"samples": 1}, "has no option 'samples'. It has no options"),
        ("occlusion", {"stride": 4}, "Use a number from 1 to 2"),
        (Bare(), {}, "Bare has no card"),
        (Mine, {}, "no explainer"),
        (3, {}, "no explainer"),
        (Mine(), {"samples": 2}, "Give them to the object"),
        ("oracle", {}, "does not know what matters"),
        ("oracle", {"region": lambda row, units: [True]}, "one thing a unit"),
    ],
)
def test_wrong_methods_and_options_teach(method, options, message):
    with pytest.raises(ConfigError, match=message):
        explain(LinearToy(), toy_frame(1, 62), method=method, options=options)


def test_the_oracle_gives_the_region():
    found = explain(
        LinearToy(), toy_frame(2, 63), method="oracle", faithfulness=False,
        options={"region": lambda row, units: [u.column == "age" for u in units]},
    )  # fmt: skip
    for e in found:
        assert [bool(v) for v in e.values] == [u.column == "age" for u in e.units]
