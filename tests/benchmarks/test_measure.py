"""How benchmarks measure."""

import os

import pytest
import torch

from salience.benchmarks import measure


def test_steps_take_turns_and_the_first_turn_is_not_counted():
    calls = []
    seconds = measure.interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 2, "b": 2}


def test_growth_is_the_exponent():
    quadratic = [{"tokens": t, "value": 3.0 * t**2} for t in (64, 128, 256)]
    assert measure.growth(quadratic) == pytest.approx(2.0)


def test_code_runs_apart_and_answers_in_json():
    code = "import json, os, sys; sys.stdout.write(json.dumps(os.getpid()))"
    assert measure.measured_apart(code) not in (os.getpid(), 0)


def test_ballast_fills_the_gap_below_the_peak():
    torch.ones(2**24).sum()  # 64 MiB, given back
    before = measure.peak_megabytes()
    ballast = measure.fill_to_peak()
    assert 0 < measure.peak_megabytes() - before < 8
    assert all(x.numel() == 2**18 for x in ballast)
