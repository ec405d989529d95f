"""A whole run, killed and started again, ends with the same files; the benchmark of the same name kills it ten times."""

import pytest

from salience.benchmarks import resume


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bits(monkeypatch, warm):
    monkeypatch.setattr(resume.sys, "executable", warm.python)
    result = resume.run(quick=True, seed=1)
    summary = result["summary"]
    assert summary["kills"] == summary["unfinished folders refused"] == 2
    assert summary["kills in training"] >= 1
    assert summary["equal"], summary
