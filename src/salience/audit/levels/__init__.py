"""Minimum levels of interpretability: how interpretable must a system be for what it decides, and is it?"""

from salience.audit.levels.evidence import (
    Admission,
    Agent,
    Evidence,
    admit,
    binding,
    check_binding,
    gather,
    measured,
    read_evidence,
    weights_digest,
    write_evidence,
)
from salience.audit.levels.folder import agent_of, judge_run
from salience.audit.levels.policy import Policy, read_policy
from salience.audit.levels.procedure import LevelResult, judge, required_level
from salience.audit.levels.profile import read_profile, template

__all__ = [
    "Admission",
    "Agent",
    "Evidence",
    "LevelResult",
    "Policy",
    "admit",
    "agent_of",
    "binding",
    "check_binding",
    "gather",
    "judge",
    "judge_run",
    "measured",
    "read_evidence",
    "read_policy",
    "read_profile",
    "required_level",
    "template",
    "weights_digest",
    "write_evidence",
]
