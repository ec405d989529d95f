"""The comparison of metrics runs without its peer, and compares what can be compared with it."""

import numpy as np
import pytest
import torch

from salience.benchmarks import metrics as bench

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def case():
    small = {"QUICK_IMAGES": 3, "QUICK_DRAWS": 20, "QUICK_NOISE_DRAWS": 2, "TRAIN": 200, "EPOCHS": 1}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in small.items():
            patch.setattr(bench, name, value)
        yield bench.Case(True, 0)


def test_without_the_peer_our_values_stand_alone(case, monkeypatch):
    monkeypatch.setattr(bench, "_peer", lambda: None)
    monkeypatch.setattr(bench, "Case", lambda quick, seed: case)
    result = bench.run(quick=True)
    assert len(result["rows"]) == 8
    assert all(np.isfinite(row["value"]) and row["quantus"] is None for row in result["rows"])
    assert result["summary"]["install"] == "pip install quantus==0.6.0"


def test_rows_say_whether_values_must_agree():
    def pair(relation):
        return bench.Pair(
            "m", lambda: np.array([1.0, 2.0]), lambda peer: np.array([1.5, 2.0]), relation, "why"
        )

    rows = [bench._row(pair(relation), object()) for relation in ("same", "sampled", "other")]
    assert [row["difference"] for row in rows] == [0.5, 0.5, None]
    assert all(row["quantus"] == 1.75 and row["reason"] == "why" for row in rows)


def test_the_peer_explains_as_we_do(case):
    theirs = bench.gradient_x_input(case.network, case.call["x_batch"], None)
    assert theirs == pytest.approx(case.call["a_batch"], abs=1e-5)


def test_their_curve_becomes_aopc():
    curve = np.array([[3.0, 1.0, 0.0]])  # after one, two and three pixels, from 4
    assert bench._aopc(np.array([4.0]), curve)[0] == pytest.approx((0 + 1 + 3 + 4) / 4)
