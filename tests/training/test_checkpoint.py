import pickle
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from salience.training import checkpoint
from salience.training.checkpoint import Progress

GROUPS = {
    "model": {"a.weight": torch.randn(3, 4), "n": torch.tensor(3)},
    "best": {"a.weight": torch.randn(3, 4).bfloat16()},
    "optimizer": {"0/exp_avg": torch.randn(3, 4), "0/step": torch.tensor(2.0)},
    "random": {"0/cpu": torch.get_rng_state()},
}
PROGRESS = Progress(2, 3, 41, 1.5, 6.25, 0.1 + 0.2, 1, [{"epoch": 0, "auroc": 1 / 3}], "", {"scale": 2.0})


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run" / "checkpoint.safetensors"
    checkpoint.save(path, GROUPS, PROGRESS, "me")
    return path


def test_round_trip(path):
    groups, progress = checkpoint.load(path, "me")
    assert asdict(progress) == asdict(PROGRESS)
    assert groups.keys() == GROUPS.keys()
    for group, tensors in GROUPS.items():
        assert groups[group].keys() == tensors.keys()
        assert all(
            torch.equal(groups[group][n], t) and groups[group][n].dtype == t.dtype for n, t in tensors.items()
        )


def test_first_progress_round_trips_without_infinity(tmp_path):
    checkpoint.save(tmp_path / "c", {}, Progress(), "me")
    assert b"Infinity" not in (tmp_path / "c").read_bytes()
    assert checkpoint.load(tmp_path / "c", "me") == ({}, Progress())


def test_nothing_is_pickled_and_no_temporary_file_stays(path):
    data = path.read_bytes()
    assert data[8:9] == b"{"
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(data)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_other_fingerprint_is_ignored(path):
    assert checkpoint.load(path, "other") is None


def test_absent_and_folder_are_ignored(tmp_path):
    assert checkpoint.load(tmp_path / "none", "me") is None
    assert checkpoint.load(tmp_path, "me") is None


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_truncated_is_ignored(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert checkpoint.load(path, "me") is None


def test_every_flipped_byte_is_noticed(path):
    data = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(data), 60):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        found = checkpoint.load(path, "me")
        assert found is None or equal(found)  # a flip in an unused part of the header changes nothing


def equal(found):
    groups, progress = found
    return asdict(progress) == asdict(PROGRESS) and all(
        torch.equal(groups[g][n], t) for g, tensors in GROUPS.items() for n, t in tensors.items()
    )


@pytest.mark.parametrize("data", [b"hello", b"\x80\x04N.", b"\x00" * 64, b"\xff" * 64])
def test_foreign_bytes_are_ignored(path, data):
    path.write_bytes(data)
    assert checkpoint.load(path, "me") is None


def test_foreign_safetensors_are_ignored(path):
    tensors = load_file(path)
    save_file(tensors, path)
    assert checkpoint.load(path, "me") is None
    save_file(tensors, path, metadata={"format": "1", "fingerprint": "me", "progress": "[1, 2]"})
    assert checkpoint.load(path, "me") is None
    save_file(tensors, path, metadata={"format": "1", "fingerprint": "me", "progress": '{"epochs": 1}'})
    assert checkpoint.load(path, "me") is None


def test_half_written_temporary_file_does_not_harm(path):
    path.with_name(f".{path.name}.tmp").write_bytes(b"half")
    assert checkpoint.load(path, "me") is not None
    checkpoint.save(path, GROUPS, PROGRESS, "me")
    assert len(list(path.parent.iterdir())) == 1


def test_data_digest_tells_rows_apart():
    def digest(words, number, image=b"x"):
        return checkpoint.data_digest(
            [{"text": (np.array(words), torch.zeros(2)), "number": number, "image": image}]
        )

    base = digest([1, 2], 0.5)
    assert base == digest([1, 2], 0.5)
    assert (
        len(
            {
                base,
                digest([2, 1], 0.5),
                digest([1, 2], 0.25),
                digest([1, 2], 0.5, b"y"),
                digest([1, 2, 3], 0.5),
            }
        )
        == 5
    )


def test_data_digest_tells_shapes_and_types_apart():
    values = [
        np.zeros(4),
        np.zeros((2, 2)),
        np.zeros(8, np.float32),
        [0.0] * 4,
        np.array([None, 1], dtype=object),
    ]
    assert len({checkpoint.data_digest([v]) for v in values}) == len(values)
