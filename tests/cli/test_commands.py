"""Commands that need no model: look-ups, doctor, check."""

import json
import sys
from types import SimpleNamespace

import pytest

from salience.cli import main as cli
from salience.cli.commands import doctor
from salience.cli.options import parse_kinds
from salience.core.errors import ConfigError
from salience.core.registry import KINDS, cards


def run_json(capsys, *arguments):
    code = cli.main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_list_gives_every_card(capsys):
    code, found = run_json(capsys, "list")
    assert code == 0
    assert [(f["kind"], f["key"]) for f in found] == [(c.kind, c.key) for c in cards()]


@pytest.mark.parametrize("word", ["encoder", "encoders", "Encoders"])
def test_list_of_one_kind(capsys, word):
    _, found = run_json(capsys, "list", word)
    assert {f["kind"] for f in found} == {"encoder"}


def test_list_of_models_is_the_slots_and_language_models(capsys):
    _, found = run_json(capsys, "list", "models")
    assert {f["kind"] for f in found} == {"encoder", "fusion", "head", "language_model"}


def test_every_kind_can_be_listed(capsys):
    from salience.cli.commands.list import plural

    for kind in KINDS:
        assert run_json(capsys, "list", plural(kind))[0] == 0


def test_show_prints_the_whole_card(capsys):
    code, shown = run_json(capsys, "show", "toy-reviews")
    assert (code, shown["kind"], shown["licence"]) == (0, "dataset", "Apache-2.0")
    assert cli.main(["show", "toy-reviews"]) == 0
    out = capsys.readouterr().out
    assert "Apache-2.0" in out
    assert "salience.data.datasets.toy_reviews" in out


def test_data_list(capsys):
    _, found = run_json(capsys, "data", "list")
    assert "toy-reviews" in [f["key"] for f in found]


def test_data_download_writes_rows(capsys, tmp_path):
    import pandas as pd

    out = tmp_path / "toy.csv"
    code, said = run_json(capsys, "data", "download", "toy-reviews", "--rows", "10", "--out", str(out))
    assert (code, said["rows"]) == (0, 10)
    assert pd.read_csv(out).shape == (10, 4)


def test_data_download_refuses_an_unknown_ending(capsys, tmp_path):
    assert cli.main(["data", "download", "toy-reviews", "--out", str(tmp_path / "toy.xyz")]) == 2
    assert "Use one of .csv, .jsonl, .parquet" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_kinds_are_parsed_from_the_right():
    assert parse_kinds(["a=b=text", "Age=number"]) == {"a=b": "text", "Age": "number"}
    assert parse_kinds(None) == {}
    for text in ("Age", "=text", "Age="):
        with pytest.raises(ConfigError, match="COLUMN=KIND"):
            parse_kinds([text])


def test_doctor_finds_this_installation_healthy(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SALIENCE_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor, "examine_torchvision", lambda: iter(()))
    code, said = run_json(capsys, "doctor")
    assert (code, said["healthy"]) == (0, True)
    assert {"salience", "packages", "device", "threads", "cache"} <= {d["part"] for d in said["diagnoses"]}


def test_doctor_exits_with_1_when_something_is_broken(capsys, monkeypatch):
    broken = doctor.Diagnosis("torch", "broken", "It fails.", "Run: mend")
    monkeypatch.setattr(doctor, "EXAMINATIONS", (lambda: iter([broken]),))
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "It fails. Run: mend" in out
    assert "Broken: torch." in out


def test_doctor_finds_a_torchvision_that_does_not_import(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: object())
    monkeypatch.setattr(doctor, "imports", lambda statement: False)
    found = list(doctor.examine_torchvision())
    assert [(d.part, d.state) for d in found] == [("torchvision", "broken"), ("transformers", "broken")]
    assert "pip uninstall torchvision" in found[0].cure


def test_doctor_says_when_a_package_is_absent_or_old(monkeypatch):
    monkeypatch.setattr(doctor, "installed", lambda name: None if name == "scipy" else "1.0")
    found = {d.part: d for d in doctor.examine_packages()}
    assert found["scipy"].state == "broken"
    assert found["pandas"].state == "broken"


def fake_torch(cuda_build, gpus):
    cuda = SimpleNamespace(
        is_available=lambda: gpus > 0, device_count=lambda: gpus, get_device_name=lambda i: f"GPU {i}"
    )
    return SimpleNamespace(version=SimpleNamespace(cuda=cuda_build), cuda=cuda, backends=SimpleNamespace())


def test_doctor_tells_builds_from_devices(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    states = {d.part: d.state for d in doctor._devices(fake_torch("13.0", 0))}
    assert states == {"device": "ok", "triton": "info", "torch build": "warning"}
    states = {d.part: d.state for d in doctor._devices(fake_torch("13.0", 2))}
    assert states == {"device": "ok", "triton": "warning"}


def test_doctor_on_threads():
    assert doctor._threads(8, 2).state == "warning"
    assert "OMP_NUM_THREADS=2" in doctor._threads(8, 2).cure
    assert doctor._threads(2, 2).state == "ok"


def test_imports_runs_elsewhere():
    assert doctor.imports("import json")
    assert not doctor.imports("import no_such_module")
    assert "no_such_module" not in sys.modules


GOOD = '''"""A method that is whole."""

CARD = {"key": "whole", "kind": "encoder", "title": "A whole one", "entry": "Whole"}


class Whole:
    """Do nothing, wholly."""
'''


def checked(capsys, tmp_path, text):
    path = tmp_path / "plugin_under_check.py"
    path.write_text(text, encoding="utf-8")
    code = cli.main(["check", str(path), "--json"])
    sys.modules.pop("plugin_under_check", None)
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("old", "new", "failing"),
    [
        ('"whole"', '"Whole Thing"', "key is short and plain"),
        ('"whole"', '"disan"', "key is unique"),
        ('"A whole one"', '"x"', "title says something"),
        ('"entry": "Whole"', '"entry": "Absent"', "entry exists"),
        ('"entry": "Whole"', '"entry": "Whole", "year": "2018"', "fields have the right type"),
        ('"entry": "Whole"', '"entry": "Whole", "paper": "P"', "source is named"),
        ('"entry": "Whole"', '"entry": "Whole", "extras": ["nothing"]', "extras are known"),
        ('    """Do nothing, wholly."""', "    x = 1", "docstring tells"),
    ],
)
def test_a_broken_method_fails_the_check_that_is_meant(capsys, tmp_path, monkeypatch, old, new, failing):
    from salience.testing import cards as checks

    monkeypatch.setattr(checks, "family_checks", lambda card: iter(()))
    code, said = checked(capsys, tmp_path, GOOD.replace(old, new, 1))
    failed = [r["check"] for r in said["results"] if not r["passed"]]
    assert code == 1
    assert failing in failed
    assert set(failed) <= {failing, "docstring tells"}


def test_a_whole_method_passes(capsys, tmp_path, monkeypatch):
    from salience.testing import cards as checks

    monkeypatch.setattr(checks, "family_checks", lambda card: iter(()))
    code, said = checked(capsys, tmp_path, GOOD)
    assert (code, said["passed"]) == (0, True)


def test_a_file_without_a_card_or_that_fails_is_one_line(capsys, tmp_path):
    for text, message in [
        ("x = 1\n", "has no card"),
        (GOOD + "raise RuntimeError('no')\n", "cannot be imported"),
    ]:
        code, said = checked(capsys, tmp_path, text)
        assert code == 2
        assert message in said["error"]


@pytest.mark.parametrize("card", cards(), ids=lambda card: f"{card.kind}-{card.key}")
def test_every_method_has_a_whole_card_and_entry(card):
    from importlib import import_module

    from salience.testing.cards import CARD_CHECKS, ENTRY_CHECKS

    for check in CARD_CHECKS:
        check(card, None)
    for check in ENTRY_CHECKS:
        check(card, import_module(card.module))
