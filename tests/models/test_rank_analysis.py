"""Measures of rank on matrices whose rank is known, and the records of a network."""

import pytest
import torch

from salience.models.rank_analysis import MEASURES, rank_rows, spectrum, stage_means
from salience.models.ravlt import RAVLT


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def with_values(values, rows, columns):
    """Return a matrix with these singular values."""
    left = torch.linalg.qr(drawn(rows, len(values)))[0]
    right = torch.linalg.qr(drawn(columns, len(values), seed=1))[0]
    return left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right.T


def test_measures_of_known_singular_values():
    found = spectrum(with_values([4.0, 2.0, 1.0, 0.01, 0.0], 9, 5), centred=False)
    p = torch.tensor([4.0, 2.0, 1.0, 0.01], dtype=torch.float64) / 7.01
    wanted = {
        "rank": 4 / 5,
        "rank_1pct": 3 / 5,
        "effective": float((-(p * p.log()).sum()).exp()) / 5,
        "stable": 21.0001 / 16 / 5,
    }
    assert {name: float(value) for name, value in found.items()} == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(("rows", "columns"), [(12, 5), (5, 12), (6, 6)])
def test_equal_singular_values_reach_the_maximum(rows, columns):
    found = spectrum(torch.linalg.qr(drawn(max(rows, columns), min(rows, columns)))[0], centred=False)
    assert [float(value) for value in found.values()] == pytest.approx([1.0] * 4)


def test_centring_removes_one_direction_and_lowers_the_maximum():
    rows = drawn(4, 7) + 100.0
    assert float(spectrum(rows, centred=False)["rank"]) == 1.0
    assert float(spectrum(rows, centred=True)["rank"]) == 1.0  # three of three
    assert (
        float(spectrum(rows, centred=False)["stable"]) < 0.26 < float(spectrum(rows, centred=True)["stable"])
    )


@pytest.mark.parametrize("matrix", [torch.zeros(3, 4), torch.full((3, 4), 0.1), torch.ones(1, 4)])
def test_rows_that_do_not_differ_have_centred_rank_zero(matrix):
    assert not any(float(value) for value in spectrum(matrix, centred=True).values())


def test_noise_of_the_inputs_type_is_no_rank():
    exact = drawn(40, 1) @ drawn(1, 20, seed=1)
    assert float(spectrum(exact.float(), centred=False)["rank"]) == pytest.approx(1 / 20)


def test_weighting_keys_keeps_the_bound_and_a_gate_can_raise_it():
    """The caution of the benchmark, on matrices: values of rank three."""
    keys, values = drawn(30, 8).abs(), drawn(30, 3) @ drawn(3, 8, seed=1)
    alpha, gate = drawn(30, 1, seed=2).exp(), drawn(30, 8, seed=3)
    rank = lambda matrix: round(8 * float(spectrum(matrix, centred=False)["rank"]))  # noqa: E731
    assert rank(keys.T @ values) == rank((alpha * keys).T @ values) == 3
    out = keys @ (keys.T @ values)
    assert rank(out) == 3 and rank(gate * out) == 8


@pytest.fixture(scope="module")
def rows():
    torch.manual_seed(0)
    network = RAVLT.preset("mini", depths=[2, 1], attn_per_stage="l,v").train()
    image = torch.randn(5, 3, 8, 8)
    before = [t.clone() for t in network.state_dict().values()]
    found = list(rank_rows(network, image))
    assert network.training and next(network.parameters()).dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(before, network.state_dict().values(), strict=True))
    return found


def test_every_layer_matrix_and_centring_has_a_record(rows):
    places = {(r["stage"], r["block"], r["matrix"], r["shape"]) for r in rows}
    assert places == {
        *((1, block, "buffer", "16×16") for block in (1, 2)),
        *((1, block, "attention", "64×16") for block in (1, 2)),
        *((1, block, "output", "64×16") for block in (1, 2)),
        (2, 1, "attention", "16×16"),
        (2, 1, "output", "16×32"),
    }
    assert len(rows) == 2 * len(places)
    assert all(0 < r[m] <= 1 + 1e-9 and r[f"{m}_sd"] >= 0 for r in rows for m in MEASURES)
    assert any(r["effective_sd"] > 0 for r in rows)


def test_stage_means_average_the_blocks(rows):
    means = stage_means([{"form": "x", **r} for r in rows], by=("form",))
    wanted = [r["stable"] for r in rows if r["stage"] == 1 and r["matrix"] == "buffer" and r["centred"]]
    (found,) = (r for r in means if r["stage"] == 1 and r["matrix"] == "buffer" and r["centred"])
    assert found["stable"] == pytest.approx(sum(wanted) / 2) and found["form"] == "x"
    assert len(means) == 2 * 5
