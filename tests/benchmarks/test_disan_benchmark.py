"""The pieces of the DiSAN benchmark at a tiny size; the measurement itself runs with `salience bench disan`."""

import pytest
import torch

from salience.benchmarks import disan
from salience.core import registry


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_card_names_a_function_that_runs():
    assert registry.load("benchmark", "disan") is disan.run


@pytest.mark.parametrize(
    ("build", "part", "methods"),
    [
        (disan._attention_forms, "attention", ["naive", "fast"]),
        (disan._encoder_forms, "encoder", ["naive", "fast", "Fast-DiSA"]),
    ],
)
def test_every_form_is_timed_on_the_same_batch(build, part, methods, monkeypatch):
    monkeypatch.setattr(disan, "DIM", 4)
    rows = disan._timed_rows(part, build, tokens=5, repeats=3, seed=0)
    assert [row["method"] for row in rows] == methods
    assert {(row["tokens"], row["batch"], row["dim"]) for row in rows} == {(5, 64, 4)}
    assert all(row["least"] <= row["value"] <= row["most"] for row in rows)
    assert rows[0]["times_faster_than_naive"] == 1.0


def test_plain_and_streamed_forms_compute_the_same_gradients(monkeypatch):
    monkeypatch.setattr(disan, "DIM", 4)
    for forms in (disan._attention_forms(6, 0), disan._encoder_forms(6, 0)):
        for a, b in zip(forms["naive"](), forms["fast"](), strict=True):
            assert (a - b).abs().max() < 1e-5


def test_batches_shrink_so_that_the_plain_form_fits():
    sizes = {tokens: disan.batch_for(tokens) for tokens in disan.TOKENS}
    assert sizes[64] == 64
    assert sizes[256] < sizes[128] < 64
    assert all(4 * b * t * t * disan.DIM <= disan.PAIR_TENSOR_MB * 2**20 for t, b in sizes.items())


def test_memory_is_what_a_step_adds(capsys, monkeypatch):
    held = []
    monkeypatch.setattr(
        disan, "_attention_step", lambda op, batch, *_: lambda: held.append(torch.ones(batch * 2**20))
    )
    monkeypatch.setattr(disan, "MEMORY_BATCH", 10)
    disan.peak_memory("fast", 4, 0)
    assert float(capsys.readouterr().out) == pytest.approx(40, abs=6)
