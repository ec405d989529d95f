"""A slice of the fuzz test at every run; all 2,000 inputs with SALIENCE_FUZZ=full."""

import os
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

SPEC = spec_from_file_location("salience_fuzz", Path(__file__).with_name("fuzz.py"))
PARTS = 20 if os.environ.get("SALIENCE_FUZZ") == "full" else 3


@pytest.fixture(scope="module")
def fuzz():
    import sys

    module = module_from_spec(SPEC)
    sys.modules["salience_fuzz"] = module
    SPEC.loader.exec_module(module)
    yield module
    del sys.modules["salience_fuzz"]


@pytest.mark.parametrize("part", range(PARTS))
def test_only_clear_errors_come_out(fuzz, part):
    outcome = fuzz.run(100, seed=part)
    assert outcome.failures == []
    assert outcome.inputs == 100
    assert outcome.read >= 25
    assert outcome.used >= 5
    assert sum(outcome.refused.values()) >= 20
