"""The pieces of the benchmark of embeddings of numbers at a tiny size; it runs whole with `salience bench`."""

import pytest
import torch

from salience.benchmarks import number_embeddings as benchmark
from salience.core import registry

pytest.importorskip("rtdl_num_embeddings")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(benchmark, "FEATURES", 3)
    monkeypatch.setattr(benchmark, "ROWS", 20)
    monkeypatch.setattr(benchmark, "SMALL_REPEATS", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_card_names_a_function_that_runs():
    assert registry.load("benchmark", "number-embeddings") is benchmark.run


@pytest.mark.parametrize("version", ["A", "B"])
def test_both_libraries_compute_the_same_piecewise_linear_embedding(version):
    pair = benchmark.piecewise_pair(version, 5, 3, seed=0)
    x = benchmark.numbers(40, 3, seed=0)
    torch.testing.assert_close(pair["ours"](x), pair["rtdl"](x), rtol=1e-5, atol=1e-5)
    assert pair["ours"].weight.abs().min() > 0


@pytest.mark.parametrize("lite", [False, True])
def test_both_libraries_compute_the_same_periodic_embedding(lite):
    pair = benchmark.periodic_pair(lite, seed=0)
    x = benchmark.numbers(40, 3, seed=0)
    torch.testing.assert_close(pair["ours"](x), pair["rtdl"](x), rtol=1e-5, atol=1e-5)


def test_every_pass_of_every_part_has_a_row():
    rows = benchmark._timed((4, 6), repeats=1, seed=0)
    assert len(rows) == 3 * (2 * 2 + 2 + 2)
    assert {row["pass"] for row in rows} == {"forward", "forward and backward", "also in the numbers"}
    assert all(row["ours (ms)"] >= 0 and row["rtdl (ms)"] >= 0 for row in rows)
    assert sum("bins" in row for row in rows) == 18


def test_passes_give_gradients_of_parameters_and_numbers():
    module = benchmark.piecewise_pair("B", 4, 3, seed=0)["ours"]
    calls = benchmark.passes(module, benchmark.numbers(20, 3, seed=0))
    assert [g.shape for g in calls["forward and backward"]()] == [p.shape for p in module.parameters()]
    assert calls["also in the numbers"]()[-1].shape == (20, 3)


def test_the_summary_names_the_ratio_of_each_part():
    rows = [benchmark._row("version B", 48, "forward", {"ours": 2.0, "rtdl": 5.0}, "ms")]
    rows.append(benchmark._row("memory", 8, "forward", {"ours": 2.0, "rtdl": 5.0}, "MiB"))
    assert benchmark._summary(rows) == {"version B": "rtdl / ours: forward at T=48: 2.5"}


@pytest.mark.parametrize("library", ["ours", "rtdl"])
def test_memory_is_what_a_step_adds(capsys, monkeypatch, library):
    held = []
    step = {"forward and backward": lambda: held.append(torch.ones(10 * 2**18))}
    monkeypatch.setattr(benchmark, "passes", lambda *_: step)
    benchmark.peak_memory(library, 4, 0)
    assert float(capsys.readouterr().out) == pytest.approx(10, abs=2)
