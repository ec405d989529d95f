"""The check that compares explainers: it praises the truth and refuses noise."""

import pytest

from salience.audit.checks import explainers
from salience.audit.context import AuditContext
from salience.core.errors import UnsupportedError
from salience.explain.engine import explain
from salience.testing.toy import TARGET, LinearToy, toy_frame

TABLES = ("scores (95 % interval; ▲ better, ▼ worse than random)", "costs and verdicts", "agreement")


def context(method, variant="linear", rows=30):
    model, frame = LinearToy("binary", variant), toy_frame(rows, 3)
    frame[TARGET["binary"]] = [model.schema.classes[i] for i in model.outputs(frame).argmax(1)]
    found = explain(model, frame.head(1), method=method, faithfulness=False)
    return AuditContext(model, model.schema, {"test": frame}, explanations=tuple(found), quick=True)


def test_a_true_method_passes():
    finding = explainers.run(context("leave_one_out"))[0]
    assert finding.verdict == "pass"
    assert finding.value > finding.control.value
    assert set(finding.tables) == set(TABLES)
    lines = {row["method"]: row for row in finding.tables[TABLES[0]]}
    assert lines["leave_one_out"]["tau_loo ↑"].startswith("1.00")
    assert lines["leave_one_out"]["tau_loo ↑"].endswith("▲")
    assert {"random", "uniform", "inverse"} <= set(lines)


def test_a_model_that_ignores_its_input_fails():
    finding = explainers.run(context("leave_one_out", "zero"))[0]
    assert finding.verdict == "fail"
    assert "beats random on 0" in finding.answer


def test_few_rows_are_refused():
    with pytest.raises(UnsupportedError, match="at least 12"):
        explainers.run(context("leave_one_out", rows=11))
