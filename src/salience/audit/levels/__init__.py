"""Minimum levels of interpretability: how interpretable must a system be for what it decides, and is it?"""

from salience.audit.levels.evidence import (
    Admission,
    Agent,
    Evidence,
    admit,
    binding,
    check_binding,
    gather,
    read_evidence,
    weights_digest,
)
from salience.audit.levels.folder import judge_run
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
    "binding",
    "check_binding",
    "gather",
    "judge",
    "judge_run",
    "read_evidence",
    "read_policy",
    "read_profile",
    "required_level",
    "template",
    "weights_digest",
]
