"""The pieces of the linear-attention benchmark at tiny sizes; it runs with `salience bench linear-attention`."""

import pytest
import torch

from salience.benchmarks import linear_attention as bench
from salience.core import registry


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(bench, "HEADS", 2)
    monkeypatch.setattr(bench, "DIM", 8)
    yield
    torch.set_num_threads(before)


def step_outputs(forms, tokens):
    q, k, v, _ = bench._inputs(tokens, 0, "cpu")
    return {name: form(q, k, v) for name, form in forms.items()}


def test_card_names_a_function_that_runs():
    assert registry.load("benchmark", "linear-attention") is bench.run


def test_all_linear_forms_compute_the_same():
    outputs = step_outputs(bench._forms(70, "cpu"), 70)
    assert "torch SDPA (softmax)" in outputs
    softmax = outputs.pop("torch SDPA (softmax)")
    ours = outputs["ours, quadratic"]
    assert (softmax - ours).abs().max() > 0.1
    for name, out in outputs.items():
        assert (out - ours).abs().max() < 1e-4 * ours.abs().max(), name


def test_rows_hold_times_beside_ours():
    rows = bench._timed("forward and backward", 16, 2, 0, "cpu", set())
    assert all(row["least"] <= row["value"] <= row["most"] for row in rows)
    assert next(row for row in rows if row["method"] == "ours, chunk")["ours_times_faster"] == 1.0


def test_a_slow_form_is_left_out_of_longer_inputs(monkeypatch):
    monkeypatch.setattr(bench, "LIMIT", 0.0)
    slow = set()
    bench._timed("forward", 8, 1, 0, "cpu", slow)
    assert slow == set(bench._forms(8, "cpu"))


def test_decoding_starts_from_the_whole_prompt():
    rows = bench._decoding((4, 9), 3, 0, "cpu")
    assert {(row["method"], row["tokens"]) for row in rows} == {
        (method, n) for method in ("ours", "ours, language model", "torch SDPA (softmax)") for n in (4, 9)
    }


def test_memory_forms_can_be_called_by_name():
    assert "ours, chunk" in bench._memory_forms(8)
    assert not any("quadratic" in name for name in bench._memory_forms(8))


def test_summary_says_the_ratios():
    both, decode = {"part": "forward and backward"}, {"part": "decode a token"}
    rows = [
        {**both, "tokens": 8, "method": "torch SDPA (softmax)", "ours_times_faster": 2.0, "value": 1.0},
        {"part": "memory of forward and backward", "tokens": 8, "method": "ours, chunk", "value": 3.0},
        {"part": "memory of forward and backward", "tokens": 16, "method": "ours, chunk", "value": 6.0},
    ]
    for method in ("ours", "ours, language model", "torch SDPA (softmax)"):
        rows += [{**decode, "method": method, "tokens": n, "value": float(n)} for n in (2, 4)]
    summary = bench._summary(rows)
    assert summary["ours, times as fast as torch SDPA (softmax), forward and backward, by tokens"] == {8: 2.0}
    assert summary["ours, peak memory grows with tokens to the power"] == 1.0
    assert summary["ours, a token at position 4, relative to 2"] == 2.0
