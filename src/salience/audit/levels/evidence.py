"""Evidence: what was measured, on which weights and data; what does not belong to this agent is refused."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from salience.audit.levels.policy import Policy
from salience.core.errors import ConfigError, IntegrityError, UnsupportedError, nearest
from salience.core.io import read_json, sha256, write_json
from salience.core.stats import mean_interval

PREDICTED = "predicted"
FROM_FINDINGS = ("performance", "calibration", "perturbation")


@dataclass(frozen=True)
class Evidence:
    """Say what was measured.

    Attributes:
        measure: id of a measure of the policy.
        value: the number; 1 for what is on record.
        low: lower end of its 95 % interval; None without one.
        rows: rows that were measured.
        method: explainer that was tested; empty where none was.
        target: ``"predicted"``, or the class that explanations were tested for.
        weights: SHA-256 of the weights.
        data: SHA-256 of the data.
        source: where it comes from, for people.
    """

    measure: str
    value: float | None
    low: float | None = None
    rows: int = 0
    method: str = ""
    target: str = PREDICTED
    weights: str = ""
    data: str = ""
    source: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True)
class Agent:
    """The system that is judged, as it is in use.

    Attributes:
        weights: SHA-256 of its weights, as :func:`weights_digest` gives it.
        data: SHA-256 of its data.
        method: explainer in use; empty where there is none.
    """

    weights: str
    data: str
    method: str


@dataclass(frozen=True)
class Admission:
    """Evidence that counts, by measure, and what was refused."""

    found: Mapping[str, Evidence]
    refused: tuple[dict[str, Any], ...]

    def reason(self, measure: str) -> str:
        """Return why there is no evidence for a measure."""
        reasons = [line["reason"] for line in self.refused if line["measure"] == measure]
        return f"refused: {reasons[0]}" if reasons else "not on record"


def admit(policy: Policy, agent: Agent, offered: Iterable[Evidence]) -> Admission:
    """Sort evidence into what counts and what is refused. Of two for one measure the later counts.

    Refused is evidence of other weights or other data, and, for measures of explanations, of another explainer or
    of another class than the one that is decided.
    """
    found: dict[str, Evidence] = {}
    refused: list[dict[str, Any]] = []
    for evidence in offered:
        reason = _mismatch(policy, agent, evidence)
        if reason:
            refused.append({"measure": evidence.measure, "reason": reason, "source": evidence.source})
        else:
            found[evidence.measure] = evidence
    return Admission(found, tuple(refused))


def _mismatch(policy: Policy, agent: Agent, evidence: Evidence) -> str:
    measure = policy.measures.get(evidence.measure)
    if measure is None:
        return f"the policy knows no such measure. {nearest(evidence.measure, policy.measures)}"
    for name, words in (("weights", "another checkpoint"), ("data", "other data")):
        theirs, ours = getattr(evidence, name), getattr(agent, name)
        if theirs != ours or not ours:
            return f"measured on {words} ({name} {theirs[:12] or 'not stated'}, in use {ours[:12] or 'not stated'})"
    if measure.get("tested") and evidence.method != agent.method:
        return f"tested for {evidence.method or 'no explainer'}, in use is {agent.method or 'none'}"
    if measure.get("tested") and evidence.target != PREDICTED:
        return f"tested for the class {evidence.target!r}, not for the one that is decided"
    return ""


def measured(
    measure: str,
    values: Sequence[float],
    agent: Agent,
    *,
    target: str = PREDICTED,
    source: str = "",
    seed: int = 0,
) -> Evidence:
    """Return numbers of many rows as evidence: their mean, and the lower end of its 95 % bootstrap interval.

    Args:
        measure: id of a measure of the policy.
        values: one number a row; NaN where it is undefined, which is left out.
        agent: what was measured.
        target: ``"predicted"``, or the class that explanations were tested for.
        source: where the numbers come from, for people.
        seed: seed of the interval.
    """
    known = np.array([value for value in values if math.isfinite(value)], dtype=float)
    low = float(mean_interval(known, seed=seed)[0]) if len(known) else math.nan
    return Evidence(
        measure,
        float(known.mean()) if len(known) else None,
        low if math.isfinite(low) else None,
        len(known),
        agent.method,
        target,
        agent.weights,
        agent.data,
        source,
    )


def weights_digest(model: Any) -> str:
    """Return the SHA-256 of a torch module's weights: that of the safetensors file that holds them.

    Raises:
        UnsupportedError: the model is no torch module.
    """
    from safetensors.torch import save

    if not hasattr(model, "state_dict"):
        raise UnsupportedError(
            "Evidence is bound to weights", f"{type(model).__name__} has none.", "Judge a torch module."
        )

    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    return hashlib.sha256(save(tensors)).hexdigest()


def gather(
    findings: Sequence[Any], explanations: Sequence[Any], agent: Agent, *, seed: int = 0
) -> list[Evidence]:
    """Return what findings and explanations of an agent are evidence of.

    Args:
        findings: answers of checks; those of performance, calibration and perturbation count if they were measured.
        explanations: explanations of rows, of the explainer in use.
        agent: what they are bound to.
        seed: seed of the interval.
    """
    made = [
        Evidence(f.check, 1.0, rows=f.rows, source=f"check {f.check}")
        for f in findings
        if f.check in FROM_FINDINGS and f.verdict != "not measured"
    ]
    mine = [e for e in explanations if e.method == agent.method]
    if mine:
        said = [_said(e) for e in mine]
        made.append(Evidence("explanations", float(np.mean(said)), rows=len(mine), source="explanations"))
    made = [replace(e, weights=agent.weights, data=agent.data, method=agent.method) for e in made]
    for target in dict.fromkeys(map(_target, mine)):
        found = [e.faithfulness for e in mine if _target(e) == target and e.faithfulness is not None]
        if found:
            values = [f.difference for f in found]
            made.append(
                measured("faithfulness", values, agent, target=target, source="explanations", seed=seed)
            )
    return made


def _said(explanation: Any) -> bool:
    return bool(explanation.values and explanation.method and str(explanation.words()))


def _target(explanation: Any) -> str:
    """Return ``"predicted"`` where the explanation is of the answer that was given, else what it explains."""
    if explanation.quantity != "log-odds":
        return PREDICTED
    same = explanation.independent or explanation.target == str(explanation.prediction)
    given = explanation.against_index is None and same
    return PREDICTED if given else explanation.target


def read_evidence(path: Path | str) -> list[Evidence]:
    """Return evidence that was measured elsewhere: a JSON list of objects with the fields of :class:`Evidence`.

    Raises:
        ConfigError: an entry has an unknown or a missing field, or a value of the wrong kind (SAL-A004).
    """
    data = read_json(path)
    if not isinstance(data, list):
        raise _wrong(path, "it holds no list")
    return [_entry(path, i, entry) for i, entry in enumerate(data)]


def write_evidence(path: Path | str, evidence: Iterable[Evidence]) -> Path:
    """Write evidence so that :func:`read_evidence` reads it."""
    return write_json(path, [entry.to_json() for entry in evidence])


def _entry(path: Path | str, position: int, entry: Any) -> Evidence:
    known = {field.name for field in fields(Evidence)}
    if not isinstance(entry, dict) or set(entry) - known or not {"measure", "value"} <= set(entry):
        raise _wrong(path, f"entry {position} is {str(entry)[:80]}")
    for name in ("value", "low", "rows"):
        number = entry.get(name)
        plain = number is None or (isinstance(number, int | float) and not isinstance(number, bool))
        if not plain or (number is not None and not math.isfinite(number)):
            raise _wrong(path, f"entry {position}: {name} is {number!r}")
    return Evidence(**{**entry, "source": entry.get("source") or Path(path).name})


def _wrong(path: Path | str, what: str) -> ConfigError:
    names = ", ".join(field.name for field in fields(Evidence))
    return ConfigError(
        "The evidence cannot be read",
        f"{path}: {what}.",
        f"Write a list of objects with {names}.",
        code="SAL-A004",
    )


BOUND = ("findings.json", "explanations.jsonl")


def binding(folder: Path) -> dict[str, str]:
    """Return the hashes of a run folder's evidence, for ``run.json``: they tie it to the weights and data there."""
    return {name: sha256(folder / name) for name in BOUND}


def check_binding(folder: Path, mark: Mapping[str, Any]) -> None:
    """Check that the evidence in a folder is that of its own run.

    Raises:
        IntegrityError: the run does not say what its evidence was (SAL-I004), or the file is another one (SAL-I005).
    """
    bound = mark.get("evidence")
    if not bound:
        raise IntegrityError(
            "The run does not say which evidence belongs to its weights",
            f"{folder} has no record of it.",
            "Run 'salience run' again: this version writes it down.",
            code="SAL-I004",
        )
    for name in BOUND:
        if not (folder / name).exists() or sha256(folder / name) != bound.get(name):
            raise IntegrityError(
                f"{name} is not the file that the run wrote",
                str(folder),
                "Evidence of other weights does not count. Restore the folder, or run again.",
                code="SAL-I005",
            )
