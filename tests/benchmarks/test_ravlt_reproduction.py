"""The pieces of the RAVLT reproduction on a few drawn images; the experiment runs with `salience reproduce ravlt`."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from salience.core import registry
from salience.core.errors import DataError
from salience.models.ravlt import RAVLT, preset
from salience.reproduce import ravlt


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Return a folder with two small archives in the layout of the real ones; the cache is elsewhere."""
    monkeypatch.setenv("SALIENCE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cifar10").mkdir()
    rng = np.random.default_rng(0)
    for part, name, count in (("train", "train10k", 12), ("test", "test2k", 6)):
        with zipfile.ZipFile(tmp_path / "cifar10" / f"cifar10_{name}.zip", "w") as archive:
            for label, low in (("cat", 0), ("ship", 128)):
                for number in range(count):
                    pixels = rng.integers(low, low + 128, (32, 32, 3)).astype(np.uint8)
                    buffer = io.BytesIO()
                    Image.fromarray(pixels).save(buffer, "JPEG")
                    archive.writestr(f"{part}/{label}/{number:04}.jpg", buffer.getvalue())
    return tmp_path


@pytest.fixture
def experiment(data, monkeypatch):
    small = {"dims": [8, 8], "depths": [1, 1], "heads": [1, 1], "layer_scale": [1.0, 1.0], "projection": 8}
    two = {name: {**v, "attn_per_stage": v["attn_per_stage"][:3]} for name, v in ravlt.VARIANTS.items()}
    monkeypatch.setattr(ravlt, "NETWORK", {**ravlt.NETWORK, **small})
    monkeypatch.setattr(ravlt, "VARIANTS", two)
    return ravlt.Experiment(data, {**ravlt.QUICK, "epochs": 1, "rank_images": 3}, seed=0)


def test_card_names_a_function_that_runs():
    assert registry.load("reproduction", "ravlt") is ravlt.run


def test_all_forms_have_the_same_number_of_parameters_within_half_a_percent():
    counts = {}
    for name, changes in ravlt.VARIANTS.items():
        with torch.device("meta"):
            network = RAVLT(preset("small", classes=10, **ravlt.NETWORK, **changes))
        counts[name] = sum(p.numel() for p in network.parameters())
    assert min(counts.values()) > 300_000 and max(counts.values()) / min(counts.values()) < 1.005, counts


def test_a_training_is_measured_and_found_again(experiment, monkeypatch):
    first = experiment.result("RALA", 0)
    assert len(first["hits"]) == 12 and first["accuracy"] == pytest.approx(
        100 * first["hits"].count("1") / 12
    )
    assert {row["stage"] for row in first["before"]} == {1, 2} and first["before"] != first["after"]
    assert [path.name for path in experiment.folder.iterdir()] == ["finished.json"]
    monkeypatch.setattr(experiment, "trained", lambda *_: pytest.fail("trained again"))
    assert experiment.result("RALA", 0) == first
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        experiment.result("RALA", 1)


def test_the_last_weights_are_kept_and_a_seed_gives_the_same_numbers(experiment):
    experiment.recipe["epochs"] = 2
    first, second = (experiment.trained("plain linear", 3) for _ in range(2))
    assert {k: v for k, v in first.items() if k != "seconds"} == {
        k: v for k, v in second.items() if k != "seconds"
    }


def test_leads_are_paired_over_images():
    results = {
        "RALA": [{"hits": "1101", "accuracy": 75.0}, {"hits": "1111", "accuracy": 100.0}],
        "softmax": [{"hits": "1100", "accuracy": 50.0}, {"hits": "0111", "accuracy": 75.0}],
        "plain linear": [{"hits": "1101", "accuracy": 75.0}],
    }
    soft, linear = ravlt.difference_rows(results)
    assert (soft["name"], soft["value"]) == ("RALA − softmax", 25.0) and soft["low"] <= 25.0 <= soft["high"]
    assert (
        linear["value"] == linear["low"] == linear["high"] == 0.0
    )  # the one seed that both have: no image differs


def test_the_result_holds_every_part(experiment, data, monkeypatch):
    monkeypatch.setattr(ravlt, "PIXELS", 32 * 32)
    monkeypatch.setattr(ravlt, "QUICK", {**ravlt.QUICK, "epochs": 1, "sizes": (32,), "rank_images": 3})
    found = ravlt.run(data=data, quick=True)
    assert [row["name"] for row in found["rows"]] == [*ravlt.MAIN, "RALA − plain linear", "RALA − softmax"]
    assert {row["stage"] for row in found["rank"]} == {1, 2} and len(found["speed"]) == 3
    assert all(row["effective_after"] > 0 for row in found["rank"])
    assert (
        "algebraic bound" in found["summary"]["on rank"] and "→" in found["summary"]["effective rank, RALA"]
    )
    again = ravlt.run(data=data, quick=True)
    assert again["rows"] == found["rows"] and again["rank"] == found["rank"]


def test_speed_is_measured_in_turns_and_counts_multiply_adds(monkeypatch):
    monkeypatch.setattr(ravlt, "PIXELS", 2 * 32 * 32)
    rows = list(ravlt.speed_rows((32,), seed=0))
    assert [row["name"] for row in rows] == list(ravlt.MAIN)
    assert all(row["value"] > 0 and row["batch"] == 2 for row in rows)
    cost = {row["name"]: row["of_attention"] for row in rows}
    assert cost["softmax"] > 2 * cost["RALA"]


def test_missing_images_are_told(tmp_path):
    with pytest.raises(DataError, match="not there"):
        ravlt.run(data=tmp_path, quick=True)
