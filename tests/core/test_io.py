import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from salience.core import io
from salience.core.errors import IntegrityError


def test_write_replaces_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "new folder" / "a.txt"
    io.atomic_write_text(path, "one")
    io.atomic_write_text(path, "zwei ü")
    assert path.read_text(encoding="utf-8") == "zwei ü"
    assert os.listdir(path.parent) == ["a.txt"]


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    io.atomic_write_text(path, "old")

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        io.atomic_write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


class HasJson:
    def to_json(self):
        return {"x": np.float32(0.5)}


def test_to_plain_gives_strict_json():
    value = {
        1: np.arange(3),
        "nan": float("nan"),
        "inf": [math.inf, 1.0],
        "path": Path("a"),
        "object": HasJson(),
        "set": {7},
        "flag": np.bool_(True),
        "text": "ü",
    }
    back = json.loads(io.dumps(value))
    assert back == {
        "1": [0, 1, 2], "nan": None, "inf": [None, 1.0], "path": "a", "object": {"x": 0.5}, "set": [7],
        "flag": True, "text": "ü",
    }  # fmt: skip


def test_json_round_trip_and_lines(tmp_path):
    value = {"a": [1, 2.5, None, "ü"]}
    assert io.read_json(io.write_json(tmp_path / "a.json", value)) == value
    lines = io.write_json_lines(tmp_path / "a.jsonl", [value, value]).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [value, value]


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe\x00"])
def test_damaged_json_is_named(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"metrics\.json is damaged"):
        io.read_json(path)


def test_missing_json_is_named(tmp_path):
    with pytest.raises(IntegrityError, match=r"run\.json is missing.*not a complete run"):
        io.read_json(tmp_path / "run.json")


def test_sha256_of_known_bytes(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert io.sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
