"""The preconditions, the scores of explainers, and the twin that is trained for them."""

import numpy as np
import pandas as pd
import pytest

from salience.core.errors import ConfigError, SalienceError
from salience.data.kinds import KINDS
from salience.data.schema import infer
from salience.explain import ground_truth as gt
from salience.explain.attribution import Attribution
from salience.explain.engine import explain
from salience.explain.ground_truth.check import score_explanation


class Rule:
    """A black box that follows a rule: from a row to a number that speaks for the second class."""

    def __init__(self, schema, rule):
        self.schema, self.rule = schema, rule

    def outputs(self, frame):
        found = np.array([self.rule(row) for row in frame.to_dict("records")], dtype=float)
        return np.stack([-found, found], axis=1)

    def predict_proba(self, outputs):
        exponent = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return exponent / exponent.sum(axis=1, keepdims=True)

    def units(self, row):
        return tuple(u for c in self.schema.inputs for u in KINDS[c.kind].units(c.name, row[c.name]))

    def remove(self, row, units):
        kinds = {c.name: c for c in self.schema.inputs}
        changed = {
            name: KINDS[c.kind].remove(row[name], [u for u in units if u.column == name], c.baseline)
            for name, c in kinds.items()
        }
        return {**row, **changed}


def table(rows=200):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, 4)), columns=list("abcd"))
    return frame.assign(label=np.where(rng.random(rows) < 0.5, "no", "yes"))


FRAME = table()
KINDS_OF = dict.fromkeys("abcd", "number")
SCHEMA = infer(FRAME, "label", kinds=KINDS_OF).fitted(FRAME)
SHIFT = gt.Design.binary(gt.Untouched(), gt.ShiftColumn.of(FRAME, "b", 8.0))


def follows(row):
    return row["b"] - 4.0


def ignores(row):
    return row["a"]


def trainer(rule):
    return lambda schema, train, validation: Rule(schema, rule)


def test_a_model_that_follows_the_manipulation_passes():
    test = gt.alter(FRAME, SCHEMA, SHIFT, split="test")
    found = gt.preconditions(Rule(SCHEMA, follows), test)
    assert (found.reason, found.accuracy, found.flips, found.best_original, found.rows) == (
        "",
        1.0,
        1.0,
        0.5,
        200,
    )


def test_a_model_that_ignores_it_does_not():
    test = gt.alter(FRAME, SCHEMA, SHIFT, split="test")
    found = gt.preconditions(Rule(SCHEMA, ignores), test)
    assert "p* = 0.500" in found.reason
    with pytest.raises(SalienceError, match="not known to use") as caught:
        gt.check_methods(trainer(ignores), FRAME, SHIFT, ["random"], schema=SCHEMA)
    assert caught.value.code == "SAL-G001"


def test_right_by_another_way_is_not_enough():
    """A model that knows the labels by heart is right, and does not follow a switch."""
    test = gt.alter(FRAME, SCHEMA, SHIFT, split="test")
    known = dict(zip(test.frame["a"], test.label, strict=True))
    found = gt.preconditions(Rule(SCHEMA, lambda row: known[row["a"]] - 0.5), test)
    assert found.accuracy == 1 and found.flips == 0
    assert "follow the manipulation" in found.reason


def test_where_old_features_tell_all_nothing_can_be_scored():
    kept = gt.Design.binary(*SHIFT.manipulations, kept=1.0)
    found = gt.preconditions(Rule(SCHEMA, follows), gt.alter(FRAME, SCHEMA, kept, split="test"))
    assert found.accuracy == 1 and found.best_original == 1 and "p* = 1.000" in found.reason


def test_a_sound_explainer_finds_the_column_and_a_random_one_does_not():
    found = gt.check_methods(
        trainer(follows),
        FRAME,
        SHIFT,
        ["leave_one_out", "random", "uniform", "oracle"],
        schema=SCHEMA,
        rows=40,
    )
    scores = found.scores[found.scores["class"] == "all"].set_index("method")
    assert scores.loc["leave_one_out", "attr"] == pytest.approx(1)
    assert scores.loc["leave_one_out", "pointing"] == 1
    assert scores.loc["oracle", "attr"] == 1
    assert scores.loc["uniform", "attr"] == scores.loc["uniform", "uniform"] == 0.25
    assert scores.loc["random", "low"] < 0.25 < scores.loc["random", "high"]
    assert scores["rows"].tolist() == [40] * 4
    assert scores.loc["leave_one_out", "forwards"] >= 40 * 5
    assert "leave_one_out" in str(found) and "Accuracy 1.000" in str(found)


def test_classes_are_scored_apart():
    found = gt.check_methods(trainer(follows), FRAME, SHIFT, ["random"], schema=SCHEMA, rows=40).scores
    apart = found[found["class"] != "all"]
    assert apart["class"].tolist() == ["no", "yes"]
    assert apart["rows"].sum() == 40
    weighted = (apart["attr"] * apart["rows"]).sum() / 40
    assert weighted == pytest.approx(found["attr"].iloc[0])


def test_zeros_are_counted_not_scored():
    class Zeros:
        card = {"key": "zeros", "needs": "black_box"}

        def attribute(self, model, frame, targets, *, seed=0, memory_mb=256):
            return [
                Attribution(np.zeros(4) if i % 2 else np.array([0, 1.0, 0, 1]), None, None, "", None, 0, 0.0)
                for i in range(len(frame))
            ]

    found = gt.check_methods(trainer(follows), FRAME, SHIFT, [Zeros()], schema=SCHEMA, rows=20).scores.iloc[0]
    assert (found["method"], found["undefined"], found["attr"]) == ("zeros", 10, 0.5)


def test_options_reach_the_method_and_what_is_not_defined_says_so():
    asked = {"permutation_shapley": {"max_forwards": 64}, "integrated_gradients": {}}
    found = gt.check_methods(trainer(follows), FRAME, SHIFT, asked, schema=SCHEMA, rows=8).scores.set_index(
        "method"
    )
    assert found.loc["permutation_shapley", "attr"].iloc[0] == pytest.approx(1)
    refused = found.loc[["integrated_gradients"]]
    assert refused["rows"].tolist() == [0] and "embedded input" in refused["refused"].iloc[0]


def test_all_defined_methods_are_scored_if_none_is_named():
    found = gt.check_methods(trainer(follows), FRAME, SHIFT, schema=SCHEMA, rows=4).scores
    assert {"leave_one_out", "random", "oracle"} <= set(found["method"])
    assert "integrated_gradients" not in set(found["method"])
    assert (found["refused"] == "").all()


def test_the_same_seed_gives_the_same_scores():
    one, two, other = (
        gt.check_methods(
            trainer(follows), FRAME, SHIFT, ["random"], schema=SCHEMA, rows=10, seed=seed
        ).scores["attr"]
        for seed in (0, 0, 1)
    )
    assert one.equals(two) and not one.equals(other)


def test_a_function_needs_a_schema():
    with pytest.raises(ConfigError, match="needs a schema"):
        gt.check_methods(trainer(follows), FRAME, SHIFT, ["random"])


def test_a_predictor_gets_a_twin_and_stays_as_it_is():
    from salience import Predictor

    predictor = Predictor("label", preset="fast", kinds=KINDS_OF, overrides=["training.epochs=8"])
    found = gt.check_methods(predictor, FRAME, SHIFT, ["leave_one_out", "random"], rows=16)
    assert predictor.model is None and predictor.schema is None
    assert not found.preconditions.reason
    scores = found.scores[found.scores["class"] == "all"].set_index("method")["attr"]
    assert scores["leave_one_out"] > scores["random"] + 0.2


# finer than units


class Painted:
    """Gives the picture's mask as a map of its own size, and the same number to every unit."""

    card = {"key": "painted", "needs": "black_box"}

    def __init__(self, mask):
        self.mask = mask

    def attribute(self, model, frame, targets, *, seed=0, memory_mb=256):
        return [
            Attribution(np.ones(16), None, None, "", None, 0, 0.0, {"pixels:p": self.mask})
            for _ in range(len(frame))
        ]


@pytest.mark.parametrize("size, score", [(32, 1.0), (64, 1.0), (8, 0.75)])
def test_maps_of_pixels_are_scored_at_their_own_size(size, score):
    rng = np.random.default_rng(0)
    cells = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(40)]
    frame = pd.DataFrame({"p": pd.Series(cells, dtype=object), "label": ["no", "yes"] * 20})
    schema = infer(frame, "label", kinds={"p": "image"})
    noise = gt.StripedNoise("p", 0, 42)  # 6 of 32 rows; of 8 rows one and a half
    test = gt.alter(frame, schema, gt.Design.binary(gt.Untouched(), noise), split="test")
    rows = max(1, -(-6 * size // 32))
    mask = np.zeros((size, size))
    mask[:rows] = 1
    model = Rule(schema, lambda row: 1.0)
    explanation = explain(model, test.frame.head(1), method=Painted(mask), faithfulness=False)[0]
    units, grown, pixels = score_explanation(explanation, test)
    assert units.attr == pytest.approx(6 / 32)
    assert grown == pytest.approx(0.75 * 2 / 4)
    assert pixels == pytest.approx(score)


def test_a_table_of_refusals_can_be_printed():
    found = gt.check_methods(trainer(follows), FRAME, SHIFT, ["integrated_gradients"], schema=SCHEMA)
    assert "embedded input" in str(found)
