import pytest

from salience.core.errors import MissingExtraError
from salience.core.extras import EXTRAS, require, version_tuple
from salience.core.finding import VERDICTS, Control, Cost, Finding
from salience.core.io import dumps
from salience.core.progress import Stage, listening, tell, track
from salience.core.unit import Unit


def test_finding_round_trip():
    finding = Finding(
        "leakage", "Is it?", "No.", "pass", 0.5, "AUROC", (0.4, 0.6), Control("chance", 0.5, (0.4, 0.6)),
        tables={"t": [{"a": 1}]}, cost=Cost(1.5, 3),
    )  # fmt: skip
    import json

    assert Finding.from_json(json.loads(dumps(finding))) == finding
    assert str(finding) == "[pass] Is it? No."


def test_finding_with_the_least():
    finding = Finding("c", "q", "a", "not measured")
    assert Finding.from_json(finding.to_json()) == finding


def test_finding_refuses_an_unknown_verdict():
    assert "good" not in VERDICTS
    with pytest.raises(ValueError, match="verdict must be one of"):
        Finding("c", "q", "a", "good")


def test_unit_round_trip():
    unit = Unit("review", "text", "soft", (3, 7))
    assert Unit.from_json(unit.to_json()) == unit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.13.0+cpu", (2, 13, 0)),
        ("4", (4,)),
        ("2024.9.0", (2024, 9, 0)),
        ("1.26.dev", (1, 26)),
        ("5.0.0rc2", (5, 0, 0)),
        ("x", ()),
    ],
)
def test_version_tuple(text, expected):
    assert version_tuple(text) == expected


def test_missing_extra_has_the_install_line(monkeypatch):
    monkeypatch.setitem(EXTRAS, "nowhere_to_be_found", ("nowhere-to-be-found", "1", "hf"))
    with pytest.raises(MissingExtraError, match=r"pip install 'salience\[hf\]'"):
        require("nowhere_to_be_found")


def test_old_extra_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(EXTRAS, "pytest", ("pytest", "999", "hf"))
    with pytest.raises(MissingExtraError, match=r"too old.*need 999"):
        require("pytest")


def test_present_extra_is_imported(monkeypatch):
    monkeypatch.setitem(EXTRAS, "pytest", ("pytest", "1", "hf"))
    assert require("pytest") is pytest


class Recorder:
    def __init__(self):
        self.events = []

    def start(self, stage, total):
        self.events.append(("start", stage, total))
        return stage

    def advance(self, handle, note):
        self.events.append(("advance", handle, note))

    def finish(self, handle):
        self.events.append(("finish", handle))

    def tell(self, topic, value):
        self.events.append(("tell", topic, value))


def test_progress_reaches_the_listener_and_ends_on_an_error():
    recorder = Recorder()
    tell("schema", "nobody listens yet")
    with pytest.raises(RuntimeError), listening(recorder):
        tell("schema", 1)
        assert list(track([1, 2], "read")) == [1, 2]
        with Stage("fit", 5) as stage:
            stage.step("loss 1")
            raise RuntimeError
    assert recorder.events == [
        ("tell", "schema", 1),
        ("start", "read", 2), ("advance", "read", ""), ("advance", "read", ""), ("finish", "read"),
        ("start", "fit", 5), ("advance", "fit", "loss 1"), ("finish", "fit"),
    ]  # fmt: skip


def test_progress_is_silent_without_a_listener(capsys):
    assert list(track(range(2), "read")) == [0, 1]
    assert capsys.readouterr() == ("", "")
