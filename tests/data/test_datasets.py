"""Data sets: what their cards promise, and how a pinned archive is fetched, kept and refused."""

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace

import pytest

from salience.core import registry
from salience.core.errors import IntegrityError
from salience.core.progress import listening
from salience.data.datasets import download
from salience.data.datasets.download import Package, archive, cache_folder, member, tar_members, zip_members
from salience.data.images import load_image
from salience.data.schema import infer

CARDS = registry.cards("dataset")
OURS = {
    "adult",
    "birds",
    "breast-cancer",
    "california",
    "clothing-reviews",
    "diabetes",
    "digits",
    "easy-vqa",
    "mnist-5k",
    "rated-sentences",
    "river-flow",
    "wine",
}
PROMISES = [card for card in CARDS if card.key in OURS]


def test_all_are_registered():
    assert {card.key for card in PROMISES} == OURS


@pytest.mark.parametrize("card", PROMISES, ids=lambda card: card.key)
def test_cards_say_where_the_data_come_from(card):
    assert card.module.rsplit(".", 1)[1] == card.key.replace("-", "_")
    for name in ("summary", "target", "task", "licence", "source", "rows", "package"):
        assert card.get(name), name
    assert card.get("package") == "scikit-learn" or len(card.get("sha256")) == 64


@pytest.mark.parametrize("card", PROMISES, ids=lambda card: card.key)
def test_a_set_is_what_its_card_says(card):
    if card.get("sha256"):
        kept = list(cache_folder().glob(f"packages/*{card.get('sha256')[:16]}*"))
        if not kept:
            pytest.skip(f"the archive of {card.get('package')} is not in the cache {cache_folder()}")
    frame = registry.load("dataset", card.key)()
    assert len(frame) == card.get("rows")
    some = frame.iloc[:: max(1, len(frame) // 5000)]
    schema = infer(some, card.get("target"), source=card.key)
    assert schema.task == card.get("task")
    assert {column.kind for column in schema.inputs} == set(card.get("kinds"))
    ignored = {column.name for column in schema.columns if column.role == "ignored"}
    assert ignored == {*card.get("ids", []), *([card.get("group")] if card.get("group") else [])}
    for column in schema.inputs:
        if column.kind == "image":
            assert min(load_image(frame[column.name].iloc[0]).size) >= 8


def wheel(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr(
            "tiny_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n"
        )
        packed.writestr(
            "tiny_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        packed.writestr("tiny_data-1.0.dist-info/RECORD", "")
        for name, content in members.items():
            packed.writestr(f"tiny/{name}.txt", content)
    return file.getvalue()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Serve one wheel from a folder; pip asks nobody else."""
    folder = tmp_path / "index"
    folder.mkdir()
    content = wheel(rows="1,2")
    (folder / "tiny_data-1.0-py3-none-any.whl").write_bytes(content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return Package("tiny-data", "1.0", hashlib.sha256(content).hexdigest())


class Recorder:
    def __init__(self):
        self.stages, self.steps = [], 0

    def start(self, stage, total):
        self.stages.append(stage)

    def advance(self, handle, note):
        self.steps += 1

    def finish(self, handle):
        self.stages.append("end")


def test_fetch_keep_and_work_offline(index, tmp_path, monkeypatch):
    recorder = Recorder()
    with listening(recorder):
        path = archive(index, tmp_path / "cache")
    assert recorder.stages == ["fetch tiny-data 1.0", "end"]
    assert recorder.steps > 0
    assert member(path, "tiny/rows.txt") == b"1,2"
    assert zip_members(path, "tiny/", ".txt") == {"rows.txt": b"1,2"}
    assert [p.name for p in (tmp_path / "cache/packages").iterdir()] == [path.name]
    monkeypatch.setattr(download.sys, "executable", "/nowhere/python")
    assert archive(index, tmp_path / "cache") == path


def test_another_file_than_the_pinned_one_is_refused(index, tmp_path):
    with pytest.raises(IntegrityError, match="not the pinned one") as info:
        archive(replace(index, sha256="0" * 64), tmp_path / "cache")
    assert info.value.code == "SAL-I002"
    assert not list((tmp_path / "cache/packages").glob("*.whl"))


def test_an_unreachable_index_is_said_in_one_line(index, tmp_path):
    with pytest.raises(
        IntegrityError, match=r"tiny-data 2\.0 cannot be fetched.*index is not reachable"
    ) as info:
        archive(replace(index, version="2.0"), tmp_path / "cache")
    assert info.value.code == "SAL-I003"
    assert "\n" not in str(info.value)


def fake_python(folder, says, code):
    path = folder / "python"
    path.write_text(f'#!/bin/sh\necho "{says}"\nexit {code}\n')
    path.chmod(0o755)
    return str(path)


def test_a_python_without_pip(index, tmp_path, monkeypatch):
    monkeypatch.setattr(download.sys, "executable", fake_python(tmp_path, "No module named pip", 1))
    with pytest.raises(IntegrityError, match=r"no pip: .*python -m ensurepip"):
        archive(index, tmp_path / "cache")


def test_a_damaged_cache_is_fetched_again(index, tmp_path, monkeypatch):
    copying = tmp_path / "copying"
    copying.write_text(f'#!/bin/sh\nwhile [ "$1" != -d ]; do shift; done\ncp {tmp_path}/index/*.whl "$2"\n')
    copying.chmod(0o755)
    monkeypatch.setattr(download.sys, "executable", str(copying))
    path = archive(index, tmp_path / "cache")
    path.write_bytes(b"half")
    assert member(archive(index, tmp_path / "cache"), "tiny/rows.txt") == b"1,2"
    path.write_bytes(b"half")
    monkeypatch.setattr(download.sys, "executable", fake_python(tmp_path, "ERROR: no network", 1))
    with pytest.raises(IntegrityError, match="pip says: ERROR: no network"):
        archive(index, tmp_path / "cache")


def test_a_cache_that_cannot_be_written(index, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(IntegrityError, match="SALIENCE_CACHE=FOLDER"):
        archive(index, tmp_path / "file")


def test_where_archives_are_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("SALIENCE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "salience"
    monkeypatch.setenv("SALIENCE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    assert cache_folder(tmp_path / "given") == tmp_path / "given"


def test_members_of_archives(tmp_path, monkeypatch):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as packed:
        for name in ("d/b.txt", "d/a.txt", "d/c.csv"):
            info = tarfile.TarInfo(name)
            info.size = 3
            packed.addfile(info, io.BytesIO(name[2:5].encode()))
    assert member(path, "d/a.txt") == b"a.t"
    assert [name for name, _ in tar_members(path.read_bytes(), ".txt")] == ["d/a.txt", "d/b.txt"]
    with pytest.raises(IntegrityError, match=r"d/z\.txt cannot be read"):
        member(path, "d/z.txt")
    monkeypatch.setattr(download, "MAX_MEMBER_BYTES", 2)
    with pytest.raises(IntegrityError, match="larger than 2 bytes"):
        member(path, "d/a.txt")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(IntegrityError, match="cannot be read"):
        member(path, "d/a.txt")
