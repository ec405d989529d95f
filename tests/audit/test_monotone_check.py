"""The check of declared directions, on functions whose direction is known and on a model that has it built in."""

import numpy as np
import pandas as pd
import pytest
import torch

from salience.audit import engine
from salience.audit.checks.monotone import run
from salience.audit.context import AuditContext
from salience.core.errors import ConfigError, UnsupportedError
from salience.data.schema import infer
from salience.models.table_model import ModelConfig, Part, TableModel
from tables_models import table


class Function:
    """A black box of a schema and a function of canonical rows."""

    def __init__(self, schema, answer):
        self.schema, self.answer = schema, answer

    def outputs(self, frame):
        found = np.asarray(self.answer(frame), dtype=float)
        return np.stack([-found / 2, found / 2], 1) if self.schema.classes else found[:, None]


def context(answer, directions, target="y", **options):
    frame = table(200)
    frame["y"] = frame.a if target == "y" else np.where(frame.a > 0, "yes", "no")
    schema = infer(frame, "y").fitted(frame)
    return AuditContext(Function(schema, answer), schema, {"test": frame}, directions=directions, **options)


@pytest.mark.parametrize("target", ["y", "class"])
def test_kept_directions_pass(target):
    finding = run(context(lambda f: f.a**3 - 2 * f.c, {"a": "increasing", "c": "decreasing"}, target))[0]
    assert finding.verdict == "pass" and finding.value == 0.0
    assert finding.control.value == 1.0 and "the opposite direction" in finding.control.name
    assert 0 < finding.interval[1] < 0.03 and finding.rows == 200
    assert "move no answer against it" in finding.answer and "prove" not in finding.answer


def test_turned_direction_fails_and_names_the_row():
    turn = lambda f: f.a * np.where(f.d > 0.5, -1, 1)  # noqa: E731
    asked = context(turn, {"a": "increasing", "c": "increasing"})
    finding = run(asked)[0]
    share = (asked.frame("test").d > 0.5).mean()
    assert finding.verdict == "fail" and finding.value == pytest.approx(share)
    line = finding.tables["directions"][0]
    assert line["column"] == "a" and asked.frame("test").d[line["row"]] > 0.5
    assert line["low"] < share < line["high"] and line["control"] == pytest.approx(1 - share)
    assert f"row {line['row']}" in finding.advice and "increasing=['a']" in finding.advice
    assert asked.forwards == 200 * (1 + 2 * 21)


def test_small_and_rare_turns_are_a_warning():
    rare = lambda f: f.a + 0.01 * (np.abs(f.a) < 0.02) * (f.d > 2.2) * np.sign(-f.a)  # noqa: E731
    asked = context(lambda f: f.a - 0.002 * (f.d > 1.8) * (f.k > 30), {"k": "increasing"})
    finding = run(asked)[0]
    assert finding.verdict == "warn" and 0 < finding.value <= 0.05
    assert run(context(rare, {"a": "decreasing"}))[0].verdict == "fail"


def test_column_that_does_nothing_is_said():
    finding = run(context(lambda f: f.a, {"c": "increasing"}))[0]
    assert finding.verdict == "pass" and "'c' moves no answer at all" in finding.answer


def test_does_not_apply_without_a_declared_direction():
    with pytest.raises(UnsupportedError, match="No direction is declared"):
        run(context(lambda f: f.a, {}))
    findings = engine.audit(context(lambda f: f.a, {}), ["monotone"])
    assert [f.verdict for f in findings] == ["not measured"]


def test_refusals():
    with pytest.raises(ConfigError, match="no number column 'A'"):
        run(context(lambda f: f.a, {"A": "increasing"}))
    with pytest.raises(ConfigError, match="no number column 'g'"):
        run(context(lambda f: f.a, {"g": "increasing"}))
    with pytest.raises(ConfigError, match="Unknown direction 'up'"):
        run(context(lambda f: f.a, {"a": "up"}))


def test_last_of_several_classes_is_followed():
    frame = table(60).assign(y=lambda f: f.g)
    schema = infer(frame, "y").fitted(frame)

    class Three(Function):
        def outputs(self, rows):
            return np.stack([0 * rows.a, -rows.a, rows.a], 1)

    context = AuditContext(Three(schema, None), schema, {"test": frame}, directions={"a": "increasing"})
    finding = run(context)[0]
    assert finding.verdict == "pass" and "the log-odds of “w”" in finding.answer


def test_built_in_directions_are_checked_and_proved():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(80, 2)), columns=["up", "free"])
    frame["y"] = frame.up + frame.free
    schema = infer(frame, "y").fitted(frame)
    args = {"increasing": ["up"], "widths": [6, 4], "free_widths": [4]}
    config = ModelConfig(number=Part("plain_numbers"), fusion=Part("monotone_mlp", args), hidden=None)
    torch.manual_seed(0)
    made = TableModel(schema, config)
    rows = schema.parse(frame)
    made.fit_parts(rows, schema.encode_target(rows), torch.Generator().manual_seed(0))
    finding = run(AuditContext(made, schema, {"test": frame}))[0]
    assert finding.verdict == "pass" and "The weights prove it for every row." in finding.answer
    with torch.no_grad():
        made.fusion.first.sign.neg_()
    finding = run(AuditContext(made, schema, {"test": frame}))[0]
    assert finding.verdict == "fail" and "The weights do not prove it." in finding.answer
