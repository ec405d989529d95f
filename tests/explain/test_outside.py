"""Explanations from outside: the schema, what is read, what is refused and how, and adoption by a model."""

import copy
import json
from dataclasses import fields

import numpy as np
import pytest

import salience
from salience.core import registry
from salience.core.errors import ConfigError, DataError, SalienceError
from salience.core.unit import Unit
from salience.explain import outside
from salience.explain.adopt import match
from salience.explain.engine import explain
from salience.explain.explanation import Explanation, Faithfulness
from salience.testing.toy import LinearToy, toy_frame

SCHEMA = json.loads(outside.SCHEMA.read_text(encoding="utf-8"))
TEXT = {
    "text": "A good, bad film",
    "words": [None, "a", "Ġgood", ",", "b", "##ad", "film</w>"],
    "values": [9.0, 0.1, 0.5, 0.0, -0.2, -0.3, None],
    "target": "pos",
    "prediction": "pos",
}
CELLS = {"inputs": {"age": 34, "shop": "north"}, "values": {"age": 0.5}, "target": "cost", "prediction": 12.5}


def toy(task="multiclass"):
    model = LinearToy(task, image=True)
    return model, model.schema.parse(toy_frame(3, seed=1, task=task, image=True), target=False)


def whole(task="multiclass", **options):
    model, frame = toy(task)
    found = explain(model, frame.iloc[:1], method="leave_one_out", **options)[0]
    return json.loads(json.dumps(found.to_json()))


# -- the schema ----------------------------------------------------------------------------------------


def test_the_schema_names_every_field():
    assert set(SCHEMA["$defs"]["whole"]["properties"]) == {f.name for f in fields(Explanation)}
    assert set(SCHEMA["$defs"]["faithfulness"]["properties"]) == {f.name for f in fields(Faithfulness)}
    assert set(SCHEMA["$defs"]["unit"]["properties"]) == {f.name for f in fields(Unit)}
    assert set(SCHEMA["$defs"]["whole"]["required"]) == set(outside.REQUIRED)
    assert SCHEMA["$defs"]["quantity"]["enum"] == list(outside.QUANTITIES)
    assert SCHEMA["$defs"]["kind"]["enum"] == list(outside.KINDS)
    assert SCHEMA["$defs"]["whole"]["properties"]["units"]["maxItems"] == outside.MAX_UNITS


def test_the_schema_accepts_what_is_written():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for data in (whole(), whole("regression"), TEXT, CELLS):
        jsonschema.validate(data, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**TEXT, "values": ["x"]}, SCHEMA)


@pytest.mark.parametrize("method", [card.key for card in registry.cards("explainer")])
def test_every_explainer_comes_back_as_it_was(method):
    model, frame = toy()
    try:
        found = explain(model, frame, method=method, memory_mb=8)
    except SalienceError as refusal:
        assert refusal.fix
        return
    for explanation in found:
        again = Explanation.from_json(json.loads(json.dumps(explanation.to_json())))
        np.testing.assert_array_equal(again.values, explanation.values)
        assert again.units == explanation.units
        assert again.faithfulness.to_json() == explanation.faithfulness.to_json()
        assert set(again.evidence) == set(explanation.evidence)
        assert str(again.words()) == str(explanation.words())
        assert again.to_json() == json.loads(json.dumps(explanation.to_json()))


# -- short forms ---------------------------------------------------------------------------------------


def test_words_are_found_in_the_text():
    found = Explanation.from_json(TEXT)
    assert [u.label for u in found.units] == ["A", "good", ",", "b", "ad", "film"]
    assert [u.locator for u in found.units] == [(0, 1), (2, 6), (6, 7), (8, 9), (9, 11), (12, 16)]
    np.testing.assert_array_equal(found.values, [0.1, 0.5, 0.0, -0.2, -0.3, np.nan])
    assert found.method == "external"
    assert found.quantity == "log-odds"
    assert "good" in str(found.words())
    assert "<mark" in found.to_html()


def test_offsets_stand_in_for_words():
    data = {k: v for k, v in TEXT.items() if k != "words"}
    found = Explanation.from_json({**data, "offsets": [[2, 6], [8, 11]], "values": [1, 2], "method": "mine"})
    assert [u.label for u in found.units] == ["good", "bad"]
    assert found.method == "mine"


def test_cells_are_units():
    found = Explanation.from_json(CELLS)
    assert found.kinds == {"age": "number", "shop": "category"}
    assert found.units == (Unit("age", "number", "age = 34", ()),)
    assert found.quantity == "value"
    assert "age" in str(found)


# -- what is refused -----------------------------------------------------------------------------------


def changed(path, value):
    data = copy.deepcopy(BASE)
    *parents, last = path
    node = data
    for step in parents:
        node = node[step]
    if value is KeyError:
        del node[last]
    else:
        node[last] = value
    return data


BASE = whole()
TEXT_UNIT = next(i for i, u in enumerate(BASE["units"]) if u["kind"] == "text")
IMAGE_UNIT = next(i for i, u in enumerate(BASE["units"]) if u["kind"] == "image")
NUMBER_UNIT = next(i for i, u in enumerate(BASE["units"]) if u["kind"] == "number")
FAULTS = {
    "missing": (("method",), KeyError, "at method"),
    "values longer": (("values",), [1.0], "at values. 1 values for"),
    "values text": (("values",), "abc", "at values. str"),
    "not a number": (("values", 0), "1", "values[0]"),
    "nan": (("values", 0), float("nan"), "null where the method says nothing"),
    "infinite": (("values", 1), float("inf"), "values[1]"),
    "true": (("values", 0), True, "values[0]"),
    "unknown kind": (("kinds", "age"), "numbre", "Did you mean 'number'"),
    "no cell": (("inputs", "age"), KeyError, "inputs.age"),
    "no kind": (("kinds", "age"), KeyError, "kinds.age"),
    "cell of a list": (("inputs", "review"), ["a"], "inputs.review"),
    "picture": (("inputs", "photo"), "/etc/passwd", "no picture"),
    "broken picture": (("inputs", "photo"), "data:image/png;base64,@@@", "no picture"),
    "unit": (("units", 0), "word", "units[0]"),
    "unit without a column": (("units", 0, "column"), KeyError, "units[0].column"),
    "unit of an unknown column": (("units", 0, "column"), "titel", "Did you mean 'title'"),
    "unit of another kind": (("units", NUMBER_UNIT, "kind"), "text", "Give the kind of the column"),
    "offsets outside": (("units", TEXT_UNIT, "locator"), [0, 10_000], "in a text of"),
    "offsets turned": (("units", TEXT_UNIT, "locator"), [3, 1], "start below stop"),
    "negative offsets": (("units", TEXT_UNIT, "locator"), [-2, 1], "start below stop"),
    "half offsets": (("units", TEXT_UNIT, "locator"), [0, 1.5], "start below stop"),
    "region outside": (("units", IMAGE_UNIT, "locator"), [0, 0, 2, 1], "fractions of width and height"),
    "part of a cell": (("units", NUMBER_UNIT, "locator"), [0, 1], "whole cell"),
    "quantity": (("quantity",), "logodds", "Did you mean 'log-odds'"),
    "prediction": (("prediction",), 3, "at prediction"),
    "probability": (("probability",), 1.5, "[0, 1]"),
    "target index": (("target_index",), -1, "position of the class"),
    "ragged evidence": (("evidence",), {"map": [[1, 2], [3]]}, "evidence.map"),
    "evidence of text": (("evidence",), {"map": ["a"]}, "evidence.map"),
    "faithfulness": (("faithfulness",), [1], "at faithfulness"),
    "part of faithfulness": (("faithfulness", "verdict"), KeyError, "verdict"),
    "more of faithfulness": (("faithfulness", "extra"), 1, "faithfulness.extra"),
    "interval": (("faithfulness", "interval"), [1], "faithfulness.interval"),
    "text in faithfulness": (("faithfulness", "sufficiency"), "x", "faithfulness.sufficiency"),
}


@pytest.mark.parametrize(("path", "value", "says"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_is_said_with_its_place(path, value, says):
    with pytest.raises(DataError) as caught:
        Explanation.from_json(changed(path, value))
    assert caught.value.code == "SAL-D060"
    assert says in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "Give an object"),
        ({}, "inputs, values, target, prediction"),
        ({**TEXT, "words": ["A", "good"]}, "7 values for 2 words"),
        ({**TEXT, "words": ["good", "A"] + [None] * 5}, "words[1]"),
        ({**TEXT, "words": [1] * 7}, "words[0]"),
        ({k: v for k, v in TEXT.items() if k != "words"}, "neither words nor offsets"),
        ({**TEXT, "text": 3}, "at text"),
        ({**TEXT, "target": None}, "at target"),
        ({**TEXT, "offsets": [[0]] * 7}, "offsets[0]"),
        ({**CELLS, "values": {"aeg": 1.0}}, "Did you mean 'age'"),
        ({**CELLS, "values": [1.0]}, "no units are given"),
        ({k: v for k, v in CELLS.items() if k != "prediction"}, "prediction"),
    ],
)
def test_faults_of_the_short_forms(data, says):
    with pytest.raises(DataError) as caught:
        Explanation.from_json(data)
    assert says in str(caught.value)


def test_huge_data_are_refused(monkeypatch):
    monkeypatch.setattr(outside, "MAX_UNITS", 3)
    with pytest.raises(DataError, match="at most 3"):
        Explanation.from_json(TEXT)
    monkeypatch.setattr(outside, "MAX_UNITS", 100)
    monkeypatch.setattr(outside, "MAX_TEXT", 5)
    with pytest.raises(DataError, match="at most 5"):
        Explanation.from_json(TEXT)
    monkeypatch.setattr(outside, "MAX_TEXT", 10**6)
    monkeypatch.setattr(outside, "MAX_NUMBERS", 2)
    with pytest.raises(DataError, match="more than 2 numbers"):
        Explanation.from_json(changed(("evidence",), {"map": [[1, 2], [3, 4]]}))


# -- adoption ------------------------------------------------------------------------------------------


def words_model():
    def predict(frame):
        z = np.array([sum({"good": 2.0, "bad": -1.0}.get(w, 0) for w in t.split()) for t in frame["text"]])
        p = 1 / (1 + np.exp(-z))
        return np.stack([1 - p, p], axis=1)

    return salience.from_callable(predict, ["a good film", "a bad film"], classes=["neg", "pos"])


def outside_of(values, target="pos"):
    words = ["a", "good", "and", "b", "##ad", "film", "thing", "here"]
    return {
        "text": "a good and bad film thing here", "words": words, "values": values,
        "target": target, "prediction": "?", "method": "elsewhere",
    }  # fmt: skip


def test_true_attributions_are_supported_and_turned_ones_are_not():
    good = outside_of([0, 2, 0, -0.5, -0.5, 0, 0, 0])
    turned = outside_of([0, -2, 0, 0.5, 0.5, 0, 0, 0])
    true, false = salience.adopt(words_model(), [good, turned])
    assert true.faithfulness.verdict == "supported"
    assert false.faithfulness.verdict == "not supported"
    assert true.prediction == "pos"
    assert true.probability == pytest.approx(1 / (1 + np.exp(-1)))
    assert true.output == pytest.approx(1.0)
    assert (true.target_index, true.method) == (1, "elsewhere")


def test_pieces_are_summed_to_words_of_the_model():
    found = salience.adopt(
        words_model(), [outside_of([0, 2, 0, -0.25, -0.75, 0, None, 0])], faithfulness=False
    )[0]
    np.testing.assert_array_equal(found.values, [0, 2, 0, -1, 0, np.nan, 0])
    assert found.faithfulness is None


def test_another_class_can_be_explained():
    found = salience.adopt(words_model(), [outside_of([0, -2, 0, 0.5, 0.5, 0, 0, 0], target="neg")])[0]
    assert found.target_index == 0
    assert found.output == pytest.approx(-1.0)


def test_what_salience_explained_is_adopted_as_it_is():
    model, frame = toy("regression")
    mine = explain(model, frame, method="leave_one_out")
    theirs = salience.adopt(model, mine)
    for a, b in zip(mine, theirs, strict=True):
        assert (a.values, a.units, a.output) == (b.values, b.units, b.output)
        assert a.faithfulness.difference == b.faithfulness.difference


def test_a_contrast_stays_a_contrast():
    model, frame = toy()
    mine = explain(model, frame, method="leave_one_out", target=("good", "bad"), faithfulness=False)[0]
    theirs = salience.adopt(model, [mine.to_json()], faithfulness=False)[0]
    assert (theirs.target, theirs.against_index) == (mine.target, mine.against_index)


def test_what_the_model_does_not_know_is_refused():
    with pytest.raises(ConfigError, match="posi"):
        salience.adopt(words_model(), [outside_of([0] * 8, target="posi")])
    with pytest.raises(ConfigError, match="text"):
        salience.adopt(words_model(), [{**outside_of([0] * 8), "column": "txt"}])
    assert salience.adopt(words_model(), []) == []


def test_parts_are_shared_out():
    words = [
        Unit("t", "text", "ab", (0, 2)),
        Unit("t", "text", "cdef", (3, 7)),
        Unit("t", "text", "g", (8, 9)),
    ]
    parts = [
        Unit("t", "text", "ab cdef", (0, 7)),
        Unit("t", "text", " ", (2, 3)),
        Unit("t", "text", "g", (8, 9)),
    ]
    np.testing.assert_allclose(match(parts, [6.0, 5.0, np.nan], words), [2.0, 4.0, np.nan])
    left, right = Unit("i", "image", "l", (0, 0, 0.5, 1)), Unit("i", "image", "r", (0.5, 0, 1, 1))
    whole_image = Unit("i", "image", "w", (0, 0, 1, 1))
    np.testing.assert_allclose(match([whole_image], [3.0], [left, right]), [1.5, 1.5])
    np.testing.assert_allclose(match([left, right], [1.0, 2.0], [whole_image]), [3.0])
    cell = Unit("age", "number", "age = 3", ())
    np.testing.assert_allclose(match([cell], [4.0], [cell]), [4.0])
