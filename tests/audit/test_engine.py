from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from salience.audit import engine
from salience.audit.baselines import Baseline
from salience.audit.context import AuditContext
from salience.audit.engine import audit
from salience.core.errors import ConfigError, UnsupportedError
from salience.core.progress import listening
from salience.core.registry import Card, cards
from salience.testing.checks import column_context


def context(rows=120, **options):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, rows)
    return column_context(truth + rng.normal(0, 1, rows), truth, **options)


class Recorder:
    def __init__(self):
        self.events = []

    def start(self, stage, total):
        self.events.append((stage, total))

    def advance(self, handle, note):
        self.events.append(note)

    def finish(self, handle):
        self.events.append("end")


def test_checks_run_in_the_order_of_their_cards():
    recorder = Recorder()
    with listening(recorder):
        findings = audit(context())
    keys = list(dict.fromkeys(f.check for f in findings))
    assert keys == sorted(keys, key=lambda key: next(c.get("order") for c in cards("check") if c.key == key))
    assert recorder.events == [("audit", len(keys)), *keys, "end"]


def test_a_refusal_is_a_finding_with_its_reason():
    (finding,) = audit(context(rows=40), ["calibration"])
    assert finding.verdict == "not measured"
    assert "40 rows" in finding.answer
    assert finding.advice == "Give at least 100."
    assert finding.question.endswith("?")


def test_an_unknown_check_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'slices'"):
        audit(context(), ["slice"])


def test_a_crash_is_not_hidden():
    def crash(_):
        raise ZeroDivisionError("a defect")

    card = Card("toy", {"key": "toy", "kind": "check", "title": "Toy", "entry": "run"})
    with pytest.raises(ZeroDivisionError):
        engine.run_check(card, crash, context())


def test_cost_counts_rows_through_the_model():
    (finding,) = audit(context(), ["performance"])
    assert finding.cost.forwards == 120
    assert finding.cost.seconds > 0


def test_quick_looks_at_fewer_rows():
    slow = context(rows=900, quick=False)
    assert audit(slow, ["perturbation"])[0].rows == 900
    assert audit(slow, ["perturbation"], quick=True)[0].rows == 333


def test_outputs_are_computed_once():
    c = context()
    c.outputs("test"), c.predictions("test"), c.probabilities("test"), c.raw_outputs("test")
    assert c.forwards == 120


def test_context_refuses_an_absent_split():
    with pytest.raises(UnsupportedError, match="no validation rows"):
        context().outputs("validation")


def test_context_refuses_probabilities_of_a_number():
    c = column_context(np.arange(20.0), np.arange(20.0), task="regression")
    with pytest.raises(UnsupportedError, match="need classes"):
        c.probabilities("test")


def test_context_takes_plain_arrays_as_baselines():
    c = replace(context(), baselines={"coin": np.full((120, 2), 0.5)})
    assert isinstance(c.baselines["coin"], Baseline)
    assert audit(c, ["performance"])[0].tables["comparison"][1]["predictor"] == "coin"


def test_rows_without_a_target_are_left_out_everywhere():
    c = context()
    frame = c.frames["test"].copy()
    frame.loc[[3, 7], "truth"] = None
    c = replace(c, frames={"test": frame}, schema=replace(c.schema, missing_target="drop"))
    assert (
        len(c.truth("test")) == len(c.inputs("test")) == len(c.frame("test")) == len(c.outputs("test")) == 118
    )


def test_audit_without_training_rows_says_what_it_cannot_measure():
    c = context()
    findings = {f.check: f for f in audit(replace(c, frames={"test": c.frames["test"]}))}
    assert findings["leakage"].verdict == findings["duplicates"].verdict == "not measured"
    assert "no train rows" in findings["leakage"].answer
    assert findings["performance"].verdict == "pass"
    assert findings["perturbation"].value is not None


def test_sample_is_sorted_seeded_and_bounded():
    c = context(rows=300, quick=False)
    first, again, other = (c.sample("test", 50, name) for name in ("a", "a", "b"))
    assert list(first) == sorted(set(first)) and len(first) == 50
    assert (first == again).all() and (first != other).any()
    assert isinstance(c, AuditContext) and isinstance(c.inputs("test"), pd.DataFrame)
