"""``salience level``: the template, a judged run, what is missing, and errors."""

import json
from types import SimpleNamespace

import pytest

from salience.audit import levels
from salience.cli.answer import console
from salience.cli.commands.level import command
from salience.core.errors import ConfigError
from salience.core.finding import Finding
from salience.core.io import dumps, write_json, write_json_lines
from salience.core.saved import mark_complete
from salience.explain.engine import explain
from salience.testing.toy import LinearToy, toy_frame

PROFILE = """construction: bottom_up
role: human_approves_each
stakes: moderate
moral_content: implicit
domain: narrow_closed
update_path: offline
"""


def shown(answer):
    from io import StringIO

    file = StringIO()
    out = console(SimpleNamespace(write=file.write, flush=lambda: None, isatty=lambda: False))
    for part in answer.view:
        out.print(part)
    return file.getvalue()


@pytest.fixture
def run(tmp_path):
    from safetensors.torch import save_file

    model, frame, folder = LinearToy("binary"), toy_frame(24, seed=3), tmp_path / "run"
    (folder / "model").mkdir(parents=True)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model" / "model.safetensors")
    found = explain(model, model.schema.parse(frame, target=False), method="leave_one_out")
    checks = ("performance", "calibration", "perturbation")
    findings = [Finding(key, "?", "Measured.", "pass", rows=100) for key in checks]
    write_json(folder / "findings.json", [finding.to_json() for finding in findings])
    write_json_lines(folder / "explanations.jsonl", [e.to_json() for e in found])
    mark_complete(
        folder, "model", ["model/model.safetensors"], data="d" * 64, evidence=levels.binding(folder)
    )
    (tmp_path / "profile.yaml").write_text(PROFILE)
    return folder


def test_the_template_holds_every_field_and_no_value():
    answer = command(template=True)
    policy = levels.read_policy()
    for field in policy.options:
        assert f"\n{field}:\n" in answer.data["template"] + "\n"
    assert policy.statement in answer.data["template"]


def test_a_run_is_judged_and_shown(run):
    answer = command(run, profile=run.parent / "profile.yaml")
    assert answer.data["verdict"] == "conditional"
    assert answer.exit_code == 0
    text = shown(answer)
    assert "CONDITIONAL: Level 2 is required. The evidence reaches level 1." in text
    assert "concept from Vijayaraghavan & Badea 2023" in text
    assert "Next, level 2" in text
    assert "salience" in text
    assert json.loads(dumps(answer.data))["achieved"] == 1


def test_evidence_is_brought_along(run, tmp_path):
    agent = levels.agent_of(run)
    more = [levels.measured(name, [0.9] * 24, agent) for name in ("randomisation", "ground_truth")]
    stray = levels.Evidence("intervention", 1.0, 0.5, 99, weights="0" * 64, data="d" * 64, source="elsewhere")
    path = levels.write_evidence(tmp_path / "evidence.json", [*more, stray])
    answer = command(run, profile=run.parent / "profile.yaml", evidence=[path])
    assert answer.data["verdict"] == "meets"
    assert answer.data["required"] == 1  # a person approves each decision, and the explanations are tested
    text = shown(answer)
    assert "Refused" in text
    assert "another checkpoint" in text


def test_it_fails_with_exit_code_one(run, tmp_path):
    (tmp_path / "severe.yaml").write_text(PROFILE.replace("moderate", "irreversible_severe"))
    answer = command(run, profile=tmp_path / "severe.yaml")
    assert (answer.data["verdict"], answer.exit_code) == ("fails", 1)


def test_a_run_and_a_profile_are_needed(run):
    with pytest.raises(ConfigError, match="no run"):
        command()
    with pytest.raises(ConfigError, match="no profile"):
        command(run)
