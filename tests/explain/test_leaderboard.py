"""The leaderboard: every score beside its controls, what is shared, what is left out, what it says."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from salience.core import registry
from salience.core.errors import ConfigError
from salience.core.progress import listening
from salience.explain.engine import explain
from salience.explain.leaderboard import CONTROLS, METRICS, better_of, compare, judge
from salience.explain.leaderboard_text import number
from salience.explain.metrics.aopc import AOPC
from salience.explain.orders import order_of
from salience.explain.remember import Remembering
from salience.testing.toy import LinearToy, toy_frame

torch.set_num_threads(1)
FRAME = toy_frame(16, 3)
METHODS = ["gradient_x_input", "leave_one_out"]


class Callable_:
    """A black box: the toy without its embedded input."""

    def __init__(self, toy):
        self.schema, self.outputs, self.predict_proba = toy.schema, toy.outputs, toy.predict_proba
        self.units, self.remove = toy.units, toy.remove


@pytest.fixture(scope="module")
def board():
    return compare(LinearToy(), FRAME, METHODS, seed=1)


def test_every_method_and_control_is_beside_every_metric(board):
    names = [*METHODS, *CONTROLS]
    assert [m.name for m in board.methods] == names
    assert {(c.method, c.metric) for c in board.cells} == {(n, m) for n in names for m in METRICS}
    assert set(board.conventions) == set(METRICS) and board.rows == len(FRAME)


def test_the_truth_beats_random_and_the_inverse_does_not(board):
    for method in METHODS:
        assert all(board.cell(method, metric).beats for metric in METRICS)
        assert next(m for m in board.methods if m.name == method).verdict == (
            "beats random on 5 of 5 metrics of faithfulness"
        )
    for metric in METRICS:
        sign = 1 if board.cell("random", metric).better == "higher" else -1
        assert sign * board.cell("inverse", metric).difference < 0
        assert board.cell("inverse", metric).beats is None  # a control is not tested


def test_numbers_are_those_of_the_metric_alone(board):
    model = LinearToy()
    found = explain(model, FRAME, method="leave_one_out", seed=1, faithfulness=False)
    for metric in METRICS:
        alone = board.cell("leave_one_out", metric)
        scores = registry.load("metric", metric)().scores(model, found, seed=1)
        assert alone.mean == pytest.approx(scores.mean) and alone.forwards == scores.forwards
        assert alone.interval[0] <= alone.mean <= alone.interval[1]
        random = board.cell("random", metric)
        assert alone.difference == pytest.approx(alone.mean - random.mean)


def test_correction_never_makes_a_p_smaller(board):
    tested = [c for c in board.cells if not np.isnan(c.p_holm)]
    assert len(tested) == len(METHODS) * len(METRICS)
    assert all(c.p <= c.p_holm <= 1 for c in tested)


def test_random_against_itself_is_no_better_than_random():
    found = compare(LinearToy(), FRAME, {"dice": ("random", {})}, ["comprehensiveness", "aopc"], seed=9)
    method = found.methods[0]
    assert method.verdict.startswith("beats random on 0 of 2") and "no better on" in method.verdict


def test_sets_that_metrics_share_are_evaluated_once(board):
    assert 0 < board.forwards < sum(c.forwards for c in board.cells) / 2


def test_prediction_changes_are_counted(board):
    model = LinearToy()
    found = explain(model, FRAME, method="leave_one_out", faithfulness=False)
    changed = []
    for e in found:
        top = order_of(e, 1)[: max(1, int(np.ceil(0.2 * len(e.units) - 1e-9)))]
        row = model.remove(e.inputs, tuple(e.units[i] for i in top))
        changed.append(model._output(row).argmax() != model._output(e.inputs).argmax())
    assert board.methods[1].changed == pytest.approx(np.mean(changed))
    number_board = compare(LinearToy("regression"), toy_frame(4, 3, "regression"), METHODS[:1], ["aopc"])
    assert np.isnan(number_board.methods[0].changed)


def test_agreement_of_methods_that_agree(board):
    pair = next(p for p in board.agreement if (p["a"], p["b"]) == tuple(METHODS))
    assert pair["spearman"] == pytest.approx(1.0) and pair["overlap"] > 0.9
    chance = next(p for p in board.agreement if (p["a"], p["b"]) == (METHODS[0], "random"))
    assert abs(chance["spearman"]) < 0.5 and chance["overlap"] < 0.7


def test_what_a_model_does_not_allow_is_left_out_with_the_reason():
    box = Callable_(LinearToy())
    found = compare(
        box,
        FRAME.head(4),
        ["leave_one_out", "integrated_gradients"],
        ["aopc", "soft_sufficiency"],
    )
    assert set(found.left_out) == {"integrated_gradients", "soft_sufficiency"}
    assert [m.name for m in found.methods] == ["leave_one_out", *CONTROLS]
    assert {c.metric for c in found.cells} == {"aopc"}
    assert "Left out: soft_sufficiency" in found.to_markdown()


def test_metrics_that_explain_once_more_get_the_explainers_and_the_inverse_of_the_first():
    found = compare(
        LinearToy(), FRAME.head(4), {"mine": "gradient_x_input"}, {"moves": ("sensitivity_max", {"draws": 2})}
    )
    assert found.cell("mine", "moves").undefined == found.cell("inverse", "moves").undefined == 0
    assert found.cell("mine", "moves").mean == pytest.approx(found.cell("inverse", "moves").mean)
    assert found.cell("mine", "moves").beats is None  # steadiness is not truth: a random map is the steadiest
    assert found.methods[0].verdict == "no metric of faithfulness is defined for it"


def test_explanations_from_elsewhere_are_judged():
    model = LinearToy()
    own = explain(model, FRAME.head(8), faithfulness=False)
    theirs = [replace(e, method="theirs", values=tuple(abs(v) for v in e.values)) for e in own]
    found = judge(model, {"ours": own, "theirs": theirs}, {"area": AOPC(), "least": AOPC(order="lerf")})
    assert found.cell("ours", "area").mean >= found.cell("theirs", "area").mean
    assert found.cell("ours", "least").better == "lower"
    with pytest.raises(ConfigError, match="same rows"):
        judge(model, {"ours": own, "theirs": theirs[:-1]})
    with pytest.raises(ConfigError, match="nothing to compare"):
        judge(model, {"ours": []})
    with pytest.raises(ConfigError, match="no method to compare"):
        compare(Callable_(model), FRAME, ["gradient_x_input"])


@pytest.mark.parametrize(
    ("methods", "metrics", "said"),
    [
        (["leave_one_outt"], ["aopc"], "leave_one_out"),
        (["leave_one_out"], ["aopcc"], "aopc"),
        (["leave_one_out"], {"a": ("aopc", {"step": 3})}, "steps"),
    ],
    ids=["method", "metric", "option"],
)
def test_unknown_names_are_refused_with_the_nearest(methods, metrics, said):
    with pytest.raises(ConfigError, match=said):
        compare(LinearToy(), FRAME.head(2), methods, metrics)


def test_a_comparison_goes_on_where_it_was_broken_off(tmp_path):
    keep = tmp_path / "board.json"
    model, options = LinearToy(), {"keep": keep, "seed": 2}

    class Stop:
        """A listener that breaks off in the middle."""

        def start(self, stage, total):
            return stage

        def advance(self, handle, note):
            if note == "aopc: random":
                raise KeyboardInterrupt

        def finish(self, handle):
            pass

    with pytest.raises(KeyboardInterrupt), listening(Stop()):
        compare(model, FRAME.head(5), METHODS, ["comprehensiveness", "aopc"], **options)
    first = json.loads(keep.read_text())
    assert "comprehensiveness of inverse" in first and "aopc of inverse" not in first
    whole = compare(model, FRAME.head(5), METHODS, ["comprehensiveness", "aopc"], **options)
    second = json.loads(keep.read_text())
    assert all(second[name] == cell for name, cell in first.items())  # seconds with them: not measured again
    fresh = compare(model, FRAME.head(5), METHODS, ["comprehensiveness", "aopc"], seed=2)
    assert [c.mean for c in whole.cells] == [c.mean for c in fresh.cells]
    compare(model, FRAME.head(5), METHODS, ["comprehensiveness"], keep=keep, seed=3)
    assert (
        json.loads(keep.read_text())["comprehensiveness of random"] != second["comprehensiveness of random"]
    )


def test_frames_json_and_markdown(board):
    frame = board.to_frame()
    assert len(frame) == len(board.cells) and {"low", "high", "difference_low", "p_holm"} <= set(
        frame.columns
    )
    data = json.loads(json.dumps(board.to_json(), allow_nan=False))
    assert data["cells"][0]["method"] == METHODS[0] and data["rows"] == len(FRAME)
    text = board.to_markdown()
    assert text == str(board) and "▲" in text and "comprehensiveness ↑" in text and "sufficiency ↓" in text
    assert all(sentence in text for sentence in board.conventions.values())
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in lines[:4]} == {lines[0].count("|")}
    with pytest.raises(ConfigError, match="no such cell"):
        board.cell("nobody", "aopc")


def test_a_name_cannot_break_a_table():
    model = LinearToy()
    own = explain(model, FRAME.head(3), faithfulness=False)
    text = judge(model, {"a|b\nc": own}, ["sparseness"]).to_markdown()
    assert "| a\\|b c |" in text


def test_numbers_are_written_briefly():
    assert [number(v) for v in (0.12345, -2.0, float("nan"))] == ["0.123", "−2", "–"]


def test_better_is_read_from_the_metric_or_its_card():
    assert better_of(AOPC("lerf")) == "lower" and better_of(AOPC()) == "higher"


def test_a_remembering_model_answers_as_the_model_and_asks_once():
    model = LinearToy(image=True)
    frame = toy_frame(3, 2, image=True).assign(age=[np.nan, 30.0, 40.0])
    rows = [e.inputs for e in explain(model, frame, method="uniform", faithfulness=False)]
    shared = Remembering(model)
    sets = [np.random.default_rng(i).random((5, len(model.units(row)))) < 0.5 for i, row in enumerate(rows)]
    first = shared.outputs_without(rows, sets)
    for row, removed, outputs in zip(rows, sets, first, strict=True):
        units = model.units(row)
        hand = [model._output(model.remove(row, tuple(units[i] for i in np.flatnonzero(s)))) for s in removed]
        assert outputs == pytest.approx(np.array(hand))
    spent = shared.forwards
    again = shared.outputs_without([dict(row) for row in rows], [s[::-1] for s in sets])
    assert shared.forwards == spent and all(
        np.array_equal(a, b[::-1]) for a, b in zip(again, first, strict=True)
    )
