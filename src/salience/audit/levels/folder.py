"""Judge a run folder: its own findings and explanations, and evidence that was brought along."""

import json
from collections.abc import Sequence
from pathlib import Path

from salience.audit.levels.evidence import Agent, Evidence, admit, check_binding, gather
from salience.audit.levels.policy import Policy
from salience.audit.levels.procedure import LevelResult, judge
from salience.audit.levels.profile import Profile
from salience.core.finding import Finding
from salience.core.io import read_json
from salience.core.saved import check_complete
from salience.explain.explanation import Explanation

KIND, WEIGHTS = "model", "model/model.safetensors"


def judge_run(
    folder: Path | str, profile: Profile, policy: Policy, evidence: Sequence[Evidence] = ()
) -> LevelResult:
    """Judge the model of a run folder.

    Args:
        folder: what ``salience run`` wrote.
        profile: a complete profile.
        policy: the rules.
        evidence: what was measured elsewhere; it must state the hashes of this run's weights and data.

    Raises:
        IntegrityError: the folder is unfinished or was changed, or its evidence is of another run (SAL-I004, SAL-I005).
    """
    folder = Path(folder)
    check_binding(folder, check_complete(folder, KIND, (WEIGHTS,), "salience run"))
    agent = agent_of(folder)
    findings = [Finding.from_json(entry) for entry in read_json(folder / "findings.json")]
    lines = (folder / "explanations.jsonl").read_text(encoding="utf-8").splitlines()
    explanations = [Explanation.from_json(json.loads(line)) for line in lines]
    return judge(policy, profile, admit(policy, agent, [*gather(findings, explanations, agent), *evidence]))


def agent_of(folder: Path | str) -> Agent:
    """Return the hashes of a run's weights and data, and its explainer, to which evidence is bound.

    Raises:
        IntegrityError: the folder is unfinished, or its weights were changed (SAL-I004, SAL-I005).
    """
    folder = Path(folder)
    mark = check_complete(folder, KIND, (WEIGHTS,), "salience run")
    with (folder / "explanations.jsonl").open(encoding="utf-8") as lines:
        first = next(lines, None)
    method = json.loads(first)["method"] if first else ""
    return Agent(mark["hashes"][WEIGHTS], mark.get("data", ""), method)
