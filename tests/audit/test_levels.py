"""Levels of interpretability: what is required, what is reached, and evidence that does not belong."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.audit import levels
from salience.audit.context import AuditContext
from salience.audit.engine import audit
from salience.audit.levels.policy import SHIPPED
from salience.core.errors import ConfigError, IntegrityError
from salience.core.finding import Finding
from salience.core.io import sha256, write_json, write_json_lines
from salience.core.saved import mark_complete
from salience.explain.engine import explain
from salience.testing.toy import LinearToy, toy_frame

POLICY = levels.read_policy()
AGENT = levels.Agent("w" * 64, "d" * 64, "integrated_gradients")
PROFILE = {
    "construction": "hybrid_gated",
    "role": "tool",
    "stakes": "moderate",
    "moral_content": "implicit",
    "domain": "narrow_closed",
    "update_path": "offline",
}
RISKS = {name: POLICY.options[name] for name in PROFILE if name != "construction"}
LEARNED = ["hybrid_gated", "hybrid", "bottom_up"]


def evidence(up_to, **changes):
    """Return evidence that meets every level up to one."""
    found = []
    for row in POLICY.levels[: up_to + 1]:
        for measure in row["evidence"]:
            line = levels.Evidence(
                measure["id"], 1.0, 0.5, 200, AGENT.method, "predicted", AGENT.weights, AGENT.data, "test"
            )
            found.append(replace(line, **changes) if measure["id"] == changes.get("measure") else line)
    return found


def judged(up_to=-1, offered=None, **profile):
    offered = evidence(up_to) if offered is None else offered
    return levels.judge(POLICY, PROFILE | profile, levels.admit(POLICY, AGENT, offered))


def required(achieved=-1, **profile):
    return levels.required_level(POLICY, PROFILE | profile, achieved)[0]


# -- the requirement -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stakes", "level"), [("low", 1), ("moderate", 2), ("severe", 3), ("irreversible_severe", 4)]
)
def test_stakes_give_the_base(stakes, level):
    assert required(stakes=stakes) == level


@pytest.mark.parametrize(
    ("profile", "achieved", "level"),
    [
        ({"role": "autonomous"}, -1, 3),
        ({"role": "human_approves_each"}, 1, 2),
        ({"role": "human_approves_each"}, 2, 1),
        ({"role": "human_approves_each", "stakes": "low"}, 2, 1),
        ({"role": "human_approves_each", "stakes": "irreversible_severe"}, 5, 4),
        ({"construction": "bottom_up", "moral_content": "explicit"}, -1, 3),
        ({"construction": "hybrid", "moral_content": "explicit"}, -1, 3),
        ({"construction": "hybrid_gated", "moral_content": "explicit"}, -1, 2),
        ({"construction": "bottom_up", "moral_content": "implicit"}, -1, 2),
        ({"construction": "top_down", "stakes": "low"}, -1, 4),
        ({"construction": "top_down", "stakes": "irreversible_severe", "role": "autonomous"}, -1, 5),
        ({"update_path": "online"}, -1, 3),
        ({"domain": "general"}, -1, 3),
        ({"update_path": "online", "domain": "general"}, -1, 3),
        ({"stakes": "irreversible_severe", "role": "autonomous", "domain": "general"}, -1, 5),
    ],
)
def test_each_rule_does_what_it_says(profile, achieved, level):
    assert required(achieved, **profile) == level


def test_without_moral_content_no_level_is_required():
    result = judged(0, moral_content="none", stakes="irreversible_severe")
    assert result.verdict == "not applicable"
    assert result.required == 1
    assert [rule["id"] for rule in result.fired] == ["no-moral-content"]


@settings(max_examples=300, deadline=None)
@given(
    profile=st.fixed_dictionaries({name: st.sampled_from(o) for name, o in POLICY.options.items()}),
    achieved=st.integers(-1, 5),
    data=st.data(),
)
def test_the_requirement_is_monotone_in_every_risk(profile, achieved, data):
    learned = {"construction": LEARNED} if profile["construction"] in LEARNED else {}
    risks = RISKS | learned
    field = data.draw(st.sampled_from(sorted(risks)))
    higher = data.draw(st.sampled_from(risks[field][risks[field].index(profile[field]) :]))
    below = levels.required_level(POLICY, profile, achieved)
    above = levels.required_level(POLICY, profile | {field: higher}, achieved)
    assert below[0] <= above[0]
    assert below[1] <= above[1]
    assert 1 <= below[0] <= 5


@settings(max_examples=60, deadline=None)
@given(
    profile=st.fixed_dictionaries({name: st.sampled_from(o) for name, o in POLICY.options.items()}),
    fewer=st.integers(-1, 5),
    more=st.integers(0, 3),
)
def test_more_evidence_is_never_worse(profile, fewer, more):
    order = ["fails", "conditional", "meets", "not applicable"]
    less, greater = (judged(min(5, n), **profile) for n in (fewer, fewer + more))
    assert order.index(less.verdict) <= order.index(greater.verdict)
    assert less == judged(fewer, **profile)


# -- what is reached, and the verdict ------------------------------------------------------------------


@pytest.mark.parametrize("level", range(-1, 6))
def test_each_level_needs_the_evidence_of_all_below(level):
    assert judged(level).achieved == level
    if level > 0:
        gap = [e for e in evidence(level) if e.measure != "calibration"]
        assert judged(offered=gap).achieved == -1


@pytest.mark.parametrize(
    ("up_to", "role", "verdict"),
    [
        (2, "tool", "meets"),
        (1, "tool", "fails"),
        (1, "human_approves_each", "conditional"),
        (0, "human_approves_each", "fails"),
        (5, "autonomous", "meets"),
    ],
)
def test_verdicts(up_to, role, verdict):
    assert judged(up_to, role=role).verdict == verdict


def test_what_is_missing_is_listed_in_order_of_level():
    result = judged(0, stakes="irreversible_severe")
    found = [line["level"] for line in result.missing]
    assert found == sorted(found)
    assert set(found) == {1, 2, 3, 4}
    assert all(line["reason"] == "not on record" for line in result.missing)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"weights": "0" * 64}, "another checkpoint"),
        ({"weights": ""}, "another checkpoint"),
        ({"data": "1" * 64}, "other data"),
        ({"target": "good"}, "class 'good'"),
        ({"method": "attention"}, "tested for attention"),
    ],
    ids=["checkpoint", "no checkpoint", "data", "class", "explainer"],
)
def test_evidence_that_does_not_belong_is_refused(changes, reason):
    offered = evidence(2, measure="faithfulness", **changes)
    result = judged(offered=offered)
    assert result.achieved == 1
    assert len(result.refused) == 1
    assert reason in result.refused[0]["reason"]
    assert reason in result.missing[0]["reason"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": 19}, "19 rows"),
        ({"low": 0.0}, "interval begins"),
        ({"low": None}, "interval begins"),
        ({"value": None}, "no number"),
    ],
)
def test_evidence_must_reach_its_threshold(changes, reason):
    result = judged(offered=evidence(2, measure="faithfulness", **changes))
    assert result.achieved == 1
    assert reason in result.missing[0]["reason"]
    assert "nan" not in json.dumps(result.to_json())


def test_an_unknown_measure_is_refused():
    stray = levels.Evidence("faithfullness", 1.0, weights=AGENT.weights, data=AGENT.data)
    result = judged(offered=[*evidence(2), stray])
    assert result.achieved == 2
    assert "faithfulness" in result.refused[0]["reason"]


# -- evidence of a model -------------------------------------------------------------------------------


def toy_case(method="leave_one_out", rows=24, seed=3, **options):
    model = LinearToy("binary")
    frame = toy_frame(rows, seed=seed)
    found = explain(model, model.schema.parse(frame, target=False), method=method, **options)
    return model, frame, found


def gathered(found, method):
    agent = replace(AGENT, method=method)
    offered = levels.gather([], found, agent)
    return {e.measure: e for e in levels.admit(POLICY, agent, offered).found.values()}, levels.admit(
        POLICY, agent, offered
    )


def test_faithful_explanations_are_evidence():
    _, _, found = toy_case()
    evidence_found, _ = gathered(found, "leave_one_out")
    assert evidence_found["explanations"].value == 1.0
    assert evidence_found["faithfulness"].low > 0
    assert evidence_found["faithfulness"].rows == 24


def test_random_explanations_do_not_reach_level_two():
    _, _, found = toy_case("random", seed=11)
    evidence_found, _ = gathered(found, "random")
    assert evidence_found["faithfulness"].low <= 0


def test_untested_explanations_are_level_one_at_most():
    _, _, found = toy_case(faithfulness=False)
    attention = [replace(e, method="attention", signed=False) for e in found]
    evidence_found, _ = gathered(attention, "attention")
    assert "faithfulness" not in evidence_found
    assert evidence_found["explanations"].value == 1.0


def test_explanations_of_another_class_are_refused():
    _, _, found = toy_case(target="yes")
    other = [e for e in found if e.prediction != "yes"]
    assert len(other) > 3
    evidence_found, admission = gathered(other, "leave_one_out")
    assert "faithfulness" not in evidence_found
    assert "class 'yes'" in admission.refused[0]["reason"]


def test_the_digest_of_weights_is_that_of_their_file(tmp_path):
    from safetensors.torch import save_file

    model = LinearToy("binary")
    save_file({n: t.contiguous() for n, t in model.state_dict().items()}, tmp_path / "model.safetensors")
    digest = levels.weights_digest(model)
    assert digest == sha256(tmp_path / "model.safetensors")
    next(model.parameters()).data[0] += 1e-6
    assert levels.weights_digest(model) != digest


def test_numbers_of_rows_become_evidence(tmp_path):
    made = levels.measured("ground_truth", [0.9, 0.8, np.nan, 1.0], AGENT, source="twin")
    assert made.value == pytest.approx(0.9)
    assert made.rows == 3
    assert 0.8 <= made.low <= 0.9
    assert levels.measured("ground_truth", [np.nan], AGENT).value is None
    path = levels.write_evidence(tmp_path / "evidence.json", [made])
    assert levels.read_evidence(path) == [made]


@pytest.mark.parametrize(
    "data",
    [
        {},
        [1],
        [{"measure": "a"}],
        [{"measure": "a", "value": "x"}],
        [{"measure": "a", "value": 1, "nmae": 2}],
    ],
    ids=["object", "number", "value", "text", "unknown"],
)
def test_evidence_that_cannot_be_read(tmp_path, data):
    write_json(tmp_path / "e.json", data)
    with pytest.raises(ConfigError) as caught:
        levels.read_evidence(tmp_path / "e.json")
    assert caught.value.code == "SAL-A004"


# -- the check -----------------------------------------------------------------------------------------


def context(profile, **options):
    model, frame, found = toy_case()
    return AuditContext(
        model,
        model.schema,
        {"test": frame},
        explanations=tuple(found),
        profile=profile,
        data="d" * 64,
        **options,
    )


def test_without_a_profile_it_is_not_measured():
    finding = audit(context(None), ["level"])[0]
    assert finding.verdict == "not measured"
    assert "salience level --template" in finding.advice


def test_a_profile_with_a_gap_is_not_measured():
    finding = audit(context({k: v for k, v in PROFILE.items() if k != "stakes"}), ["level"])[0]
    assert finding.verdict == "not measured"
    assert "stakes" in finding.answer + finding.advice


def test_the_check_looks_at_the_findings_before_it():
    found = audit(context(PROFILE), ["performance", "perturbation", "level"])
    finding = found[-1]
    assert finding.verdict == "fail"
    lines = {line["measure"]: line["met"] for line in finding.tables["evidence"]}
    assert lines["accuracy on held-out rows is on record"] == "yes"
    assert lines["calibration is on record"] == "not on record"
    assert finding.value == -1
    assert POLICY.statement in finding.answer
    assert {rule["whose"] for rule in finding.tables["rules that apply"]} == {"salience"}


def test_brought_evidence_counts_only_for_these_weights():
    model = LinearToy("binary")
    agent = levels.Agent(levels.weights_digest(model), "d" * 64, "leave_one_out")
    mine = [
        replace(e, weights=agent.weights, data=agent.data, method=agent.method)
        for e in evidence(2)
        if e.measure != "explanations"
    ]
    assert audit(context(PROFILE, evidence=tuple(mine)), ["level"])[0].verdict == "pass"
    theirs = [replace(e, weights="0" * 64) for e in mine]
    finding = audit(context(PROFILE, evidence=tuple(theirs)), ["level"])[0]
    assert finding.verdict == "fail"
    assert len(finding.tables["refused"]) == len(theirs)


# -- the run folder ------------------------------------------------------------------------------------


def run_folder(folder, found):
    from safetensors.torch import save_file

    (folder / "model").mkdir(parents=True)
    save_file(
        {n: t.contiguous() for n, t in LinearToy("binary").state_dict().items()},
        folder / "model" / "model.safetensors",
    )
    checks = ("performance", "calibration", "perturbation")
    findings = [Finding(key, "?", "Measured.", "pass", rows=100) for key in checks]
    write_json(folder / "findings.json", [f.to_json() for f in findings])
    write_json_lines(folder / "explanations.jsonl", [e.to_json() for e in found])
    facts = {"data": "d" * 64, "evidence": levels.binding(folder)}
    mark_complete(folder, "model", ["model/model.safetensors"], **facts)
    return folder


def test_a_run_folder_is_judged(tmp_path):
    folder = run_folder(tmp_path / "run", toy_case()[2])
    result = levels.judge_run(folder, PROFILE, POLICY)
    assert result.achieved == 1
    assert [line["measure"] for line in result.missing] == ["randomisation", "ground_truth"]
    agent = levels.agent_of(folder)
    more = [levels.measured(n, [0.9] * 20, agent) for n in ("randomisation", "ground_truth")]
    assert levels.judge_run(folder, PROFILE, POLICY, more).verdict == "meets"
    again = levels.judge_run(folder, PROFILE, POLICY, [replace(e, data="0" * 64) for e in more])
    assert again.verdict == "fails"
    assert len(again.refused) == 2


@pytest.mark.parametrize("name", ["findings.json", "explanations.jsonl", "model/model.safetensors"])
def test_a_changed_folder_is_refused(tmp_path, name):
    folder = run_folder(tmp_path / "run", toy_case(rows=5)[2])
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(IntegrityError) as caught:
        levels.judge_run(folder, PROFILE, POLICY)
    assert caught.value.code == "SAL-I005"


def test_a_run_that_does_not_bind_its_evidence_is_refused(tmp_path):
    folder = run_folder(tmp_path / "run", toy_case(rows=5)[2])
    mark = json.loads((folder / "run.json").read_text())
    write_json(folder / "run.json", {k: v for k, v in mark.items() if k != "evidence"})
    with pytest.raises(IntegrityError, match="which evidence"):
        levels.judge_run(folder, PROFILE, POLICY)


# -- profile and policy --------------------------------------------------------------------------------


def test_the_template_becomes_a_profile_when_it_is_filled_in(tmp_path):
    text = levels.template(POLICY)
    path = tmp_path / "profile.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="Nothing is assumed"):
        levels.read_profile(path, POLICY)
    for name, value in PROFILE.items():
        text = text.replace(f"\n{name}:", f"\n{name}: {value}")
    path.write_text(text)
    assert levels.read_profile(path, POLICY) == PROFILE
    path.write_text(text.replace("moral_content: implicit", "moral_content: none"))
    assert levels.read_profile(path, POLICY)["moral_content"] == "none"


@pytest.mark.parametrize("name", sorted(PROFILE))
def test_a_missing_field_is_refused(name):
    with pytest.raises(ConfigError, match=name) as caught:
        levels.read_profile({k: v for k, v in PROFILE.items() if k != name}, POLICY)
    assert caught.value.code == "SAL-A003"


@pytest.mark.parametrize("change", [{"stakes": "severely"}, {"stake": "low"}, {"role": False}])
def test_an_unknown_value_or_field_is_refused(change):
    with pytest.raises(ConfigError) as caught:
        levels.read_profile(PROFILE | change, POLICY)
    assert caught.value.code == "SAL-A003"


def test_every_row_of_the_policy_says_whose_it_is():
    for part in (POLICY.concept, POLICY.levels, POLICY.agent_types, POLICY.requirements):
        assert all(row["source"] in ("paper", "salience") and row["citation"] for row in part)
    assert {row["source"] for row in POLICY.concept} == {"paper"}
    ours = (*POLICY.levels, *POLICY.agent_types, *POLICY.requirements)
    assert {row["source"] for row in ours} == {"salience"}


def changed_policy(tmp_path, change):
    data = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    change(data)
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d["levels"][0].pop("source"), "whose"),
        (lambda d: d["requirements"][0].pop("citation"), "whose"),
        (lambda d: d["levels"].pop(2), "not 0, 1, 2"),
        (lambda d: d.pop("statement"), "statement is missing"),
        (lambda d: d["requirements"][1]["when"].update(stakes=["lwo"]), "lwo"),
        (lambda d: d["requirements"][1].update(add=1), "cannot be read"),
        (lambda d: d["levels"][1]["evidence"][0].update(id="performance"), "same id"),
        (lambda d: d["levels"][1]["evidence"][0].pop("at_least"), "measure cannot be read"),
    ],
    ids=["source", "citation", "order", "statement", "option", "actions", "id", "threshold"],
)
def test_a_policy_with_a_fault_is_refused(tmp_path, change, says):
    with pytest.raises(ConfigError, match=says) as caught:
        levels.read_policy(changed_policy(tmp_path, change))
    assert caught.value.code == "SAL-A002"


def test_another_policy_is_followed(tmp_path):
    path = changed_policy(tmp_path, lambda d: d["requirements"][2].update(set=5))
    assert levels.required_level(levels.read_policy(path), PROFILE, -1)[0] == 5
