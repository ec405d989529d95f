"""Readers: what is read, and what one line says where it cannot be."""

import bz2
import gzip
import io
import lzma
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from salience.core.errors import DataError, MissingExtraError
from salience.data.readers import read
from salience.data.schema import infer

CSV = "n,word\n1,x\n2,\n"


def png(colour=(200, 0, 0), size=(6, 6)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, format="PNG")
    return file.getvalue()


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_csv", ".csv"), content)
    return file.getvalue()


def is_small_table(frame):
    return list(frame.columns) == ["n", "word"] and frame["n"].tolist() == [1, 2] and frame["word"].isna()[1]


def arrow_bytes(opener):
    table = pa.table({"n": [1, 2], "word": ["x", None]})
    sink = pa.BufferOutputStream()
    with opener(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def parquet_bytes():
    file = io.BytesIO()
    pd.DataFrame({"n": [1, 2], "word": ["x", None]}).to_parquet(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("a.csv", "\ufeff" + CSV),
        ("a.csv", CSV.encode("utf-16")),
        ("a.csv", CSV.replace("\n", "\r\n")),
        ("a.csv", CSV + "\n\n"),
        ("a.csv", CSV.replace(",", ";")),
        ("a.csv", CSV.replace(",", "|")),
        ("a.csv", 'n,word\n1,"x"\n2,""\n'),
        ("a.csv", CSV.replace("2,", "2,NA")),
        ("a.tsv", CSV.replace(",", "\t")),
        ("a.unknown", CSV),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("a.csv.bz2", bz2.compress(CSV.encode())),
        ("a.csv.xz", lzma.compress(CSV.encode())),
        ("a.csv.zst", pa.compress(CSV.encode(), codec="zstd", asbytes=True)),
        ("a.zip", zipped(a_csv=CSV)),
        ("wrong-name.csv", gzip.compress(CSV.encode(), mtime=0)),
        ("a.jsonl", '{"n":1,"word":"x"}\n\n{"n":2}\n'),
        ("a.ndjson.gz", gzip.compress(b'{"n":1,"word":"x"}\n{"n":2,"word":null}', mtime=0)),
        ("a.json", '[{"n":1,"word":"x"},{"n":2}]'),
        ("a.json", '{"n":1,"word":"x"}\n{"n":2}'),
        ("a.json", '{"n":[1,2],"word":["x",null]}'),
        ("a.parquet", parquet_bytes()),
        ("noname", parquet_bytes()),
        ("a.arrow", arrow_bytes(pa.ipc.new_file)),
        ("a.arrow", arrow_bytes(pa.ipc.new_stream)),
    ],
)
def test_files(tmp_path, name, content):
    table = read(put(tmp_path, name, content))
    assert is_small_table(table.frame)
    assert table.name == name
    assert len(table.sha256) == 64


class Stream:
    """What polars offers: the Arrow stream protocol and nothing else."""

    def __arrow_c_stream__(self, requested_schema=None):
        return pa.table({"n": [1, 2], "word": ["x", None]}).__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "source",
    [
        pd.DataFrame({"n": [1, 2], "word": ["x", None]}),
        pa.table({"n": [1, 2], "word": ["x", None]}),
        pa.record_batch({"n": [1, 2], "word": ["x", None]}),
        Stream(),
        {"n": [1, 2], "word": ["x", None]},
        {"n": np.array([1, 2]), "word": ("x", None)},
        [{"n": 1, "word": "x"}, {"n": 2}],
    ],
)
def test_tables_in_memory(source):
    assert is_small_table(read(source).frame)
    assert read(source).sha256 == read(source).sha256


def test_hugging_face_objects_by_their_form():
    def dataset(label):
        frame = pd.DataFrame(
            {"text": ["a", "b"], "label": label, "image": [{"bytes": png(), "path": None}] * 2}
        )
        features = {"text": None, "label": SimpleNamespace(names=["neg", "pos"]), "image": None}
        return SimpleNamespace(to_pandas=lambda: frame, features=features)

    assert read(dataset([0, 1])).frame["label"].tolist() == ["neg", "pos"]
    both = read({"train": dataset([0, 1]), "validation": dataset([1, -1])}).frame
    assert both["split"].tolist() == ["train"] * 2 + ["validation"] * 2
    assert both["label"].isna().tolist() == [False, False, False, True]
    schema = infer(both.iloc[:3], "label")
    assert schema.column("image").kind == "image"
    assert schema.parse(both.iloc[:3])["image"].iloc[0] == png()


def test_the_hub_needs_its_extra(monkeypatch):
    from importlib import metadata

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("salience.core.extras.metadata.version", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'salience\[hf\]'"):
        read("hf:owner/name")


def test_typed_cells(tmp_path):
    text = "whole,part,code,long,flag,gap\n1,1.5,007,12345678901234567890,True,3\n2,2e3,010,12345678901234567891,False,?\n"
    frame = read(put(tmp_path, "a.csv", text)).frame
    assert frame["whole"].dtype == np.int64
    assert frame["part"].tolist() == [1.5, 2000.0]
    assert frame["code"].tolist() == ["007", "010"]
    assert frame["long"].tolist() == ["12345678901234567890", "12345678901234567891"]
    assert frame["flag"].tolist() == ["True", "False"]
    assert frame["gap"].isna().tolist() == [False, True]


def test_names_and_notes(tmp_path):
    table = read(put(tmp_path, "a.csv", ";v\n0;5\n1;6\n"))
    assert list(table.frame.columns) == ["Unnamed: 0", "v"]
    assert table.notes == ("column 1 has no name and is called 'Unnamed: 0'", "cells are separated by ';'")
    assert read(put(tmp_path, "b.csv", "1,x\n2,y\n"), names=["n", "w"]).frame["n"].tolist() == [1, 2]
    assert read(put(tmp_path, "c.csv", "n~w\n1~x\n"), delimiter="~").frame["w"].tolist() == ["x"]
    latin = put(tmp_path, "d.csv", "w,n\ncafé,1\n".encode("latin-1"))
    assert read(latin, encoding="latin-1").frame["w"].tolist() == ["café"]


def test_quotes_in_a_tab_separated_file(tmp_path):
    quoted = read(put(tmp_path, "a.tsv", 'n\tw\n1\t"x\ty"\n')).frame
    assert quoted["w"].tolist() == ["x\ty"]
    table = read(put(tmp_path, "b.tsv", 'n\tw\n1\t"so" he said\n2\tan "odd\n'))
    assert table.frame["w"].tolist() == ['"so" he said', 'an "odd']
    assert table.notes == ("quotes are read as plain characters",)
    with pytest.raises(DataError, match="Row 2 has 1 cells"):
        read(put(tmp_path, "c.tsv", 'n\tw\n1\t"x"\n2\n'))


def test_a_header_that_may_be_a_row_is_remarked(tmp_path):
    assert "no header line" in read(put(tmp_path, "a.csv", "39,State\n50,Private\n")).notes[0]


def test_a_file_of_one_text_column_keeps_its_commas(tmp_path):
    assert read(put(tmp_path, "a.csv", "text\nHello; you\n'Tis | fine\n")).frame.shape == (2, 1)


BAD_JSON = '{"n": 1}\n{"n": }\n'


@pytest.mark.parametrize(
    ("name", "content", "options", "code", "text"),
    [
        ("a.csv", "", {}, "SAL-D002", r"empty\. a\.csv"),
        ("a.csv", " \n\n", {}, "SAL-D002", "empty"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), {}, "SAL-D002", "empty"),
        ("a.csv", ",,\n1,2,3\n", {}, "SAL-D007", "no column names"),
        ("a.csv", "a,b\n", {}, "SAL-D003", "header but no rows"),
        ("a.json", "[]", {}, "SAL-D003", "no rows"),
        (
            "a.csv",
            "a,b\n1;2\n3;4\n",
            {},
            "SAL-D004",
            "header is separated by a comma, the rows by a semicolon",
        ),
        (
            "a.csv",
            "a,b\n1,2\n",
            {"delimiter": ";"},
            "SAL-D004",
            r"separated by a comma\. Give the delimiter \(','\)",
        ),
        ("a.csv", "a,b\n1,2\n", {"delimiter": "ab"}, "SAL-D004", "cannot separate"),
        ("a.csv", "a::b\n1::2\n", {"target": "b"}, "SAL-D004", "one column only, 'a::b'"),
        (
            "a.csv",
            "a,b\n1,2\n1,2,3\n",
            {},
            "SAL-D005",
            r"Row 2 has 3 cells, the header has 2\. a\.csv, row 2, line 3",
        ),
        ("a.csv", 'a,b\n"1\n",2\n1\n', {}, "SAL-D005", r"row 2, line 4"),
        ("a.json", '{"a":[1],"b":[1,2]}', {}, "SAL-D005", "'a' has 1 values"),
        ("a.csv", "a,b,a\n1,2,3\n", {}, "SAL-D006", "'a' occurs twice in the header. a.csv: columns 1 and 3"),
        ("a.jsonl", '{"a":1,"a":2}\n', {}, "SAL-D006", r"'a' occurs twice in an object\. a\.jsonl, line 1"),
        ("a.csv", "1,2\n3,4\n", {}, "SAL-D007", "first row holds numbers.*names="),
        (
            "a.csv",
            b"a,b\n1,x\n2,caf\xe9\n",
            {},
            "SAL-D008",
            'line 3: byte 0xe9 at offset 13.*encoding="cp1252"',
        ),
        ("a.csv", b"a,b\n1,\x81\n", {}, "SAL-D008", 'encoding="latin-1"'),
        ("a.csv", CSV, {"encoding": "utf9"}, "SAL-D008", "Unknown encoding 'utf9'"),
        ("a.csv", CSV, {"encoding": "hex"}, "SAL-D008", "'hex'"),
        ("a.csv", b"a,b\n1,\0\n", {}, "SAL-D009", "NUL bytes. a.csv, line 2"),
        ("a.csv", 'a,b\n1,"x\n2,y\n', {}, "SAL-D010", "not closed. a.csv, lines 2 to 3"),
        ("a.csv", 'a,b\n1,"x"y\n', {}, "SAL-D010", r"followed by other text\. a\.csv, line 2"),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-9], {}, "SAL-D011", "gzip file is damaged"),
        ("a.csv.xz", lzma.compress(CSV.encode())[:-9], {}, "SAL-D011", "xz file is damaged"),
        ("a.csv.bz2", bz2.compress(CSV.encode())[:-9], {}, "SAL-D011", "bzip2 file is damaged"),
        ("a.csv.zst", b"\x28\xb5\x2f\xfdrubbish", {}, "SAL-D011", "zstandard file is damaged"),
        ("a.zip", b"PK\x03\x04rubbish", {}, "SAL-D011", "zip file is damaged"),
        ("a.jsonl", BAD_JSON, {}, "SAL-D013", "a.jsonl, line 2, character 7"),
        ("a.jsonl", "[1]\n", {}, "SAL-D013", r"row 1: 1"),
        ("a.jsonl", '"x"\n', {}, "SAL-D013", "row 1: 'x'"),
        ("a.json", "[" * 100_000, {}, "SAL-D013", "RecursionError|Expecting value"),
        ("a.parquet", b"PAR1" + b"rubbish" * 9, {}, "SAL-D014", "no whole Parquet"),
        ("a.parquet", parquet_bytes()[:-20], {}, "SAL-D014", "no whole Parquet"),
        ("a.arrow", b"ARROW1" + b"rubbish" * 9, {}, "SAL-D014", "no whole Arrow"),
        ("a.xlsx", b"PK\x03\x04", {}, "SAL-D015", "xlsx files are not read.*Save the sheet as CSV"),
        ("a.pkl", b"\x80\x04", {}, "SAL-D015", "never loaded"),
        ("a.png", png(), {}, "SAL-D015", "folder of images"),
        ("a.zip", zipped(a_csv=CSV, b_csv=CSV), {}, "SAL-D016", "2 files: a.csv, b.csv"),
        ("a.zip", zipped(a_csv=CSV), {"table": "c.csv"}, "SAL-D016", "no 'c.csv'"),
        (
            "a.csv",
            CSV,
            {"target": "wrd"},
            "SAL-D020",
            "'wrd' is no column of the data. .*Did you mean 'word'",
        ),
    ],
)
def test_bad_files(tmp_path, name, content, options, code, text):
    with pytest.raises(DataError, match=text) as info:
        read(put(tmp_path, name, content), **options)
    assert info.value.code == code
    assert "\n" not in str(info.value)
    assert info.value.__cause__ is None


def test_huge_cells_and_bombs_meet_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("salience.data.readers.csv.MAX_CELL", 1000)
    with pytest.raises(DataError, match=r"longer than 1,000 characters\. a\.csv, line 2"):
        read(put(tmp_path, "a.csv", "a,b\n" + "x" * 2000 + ",1\n"))
    monkeypatch.setattr("salience.data.readers.compression.MAX_BYTES", 5000)
    for name, content in (("b.csv.gz", gzip.compress(b"0" * 9000)), ("b.zip", zipped(a_csv="0" * 9000))):
        with pytest.raises(DataError, match="more than 5,000 bytes when unpacked") as info:
            read(put(tmp_path, name, content))
        assert info.value.code == "SAL-D012"


def test_the_limit_of_the_csv_module_is_put_back(tmp_path):
    import csv

    before = csv.field_size_limit()
    read(put(tmp_path, "a.csv", CSV))
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("source", "code", "text"),
    [
        ("clothing-review", "SAL-D001", "Did you mean 'clothing-reviews'"),
        ("nowhere/at/all.csv", "SAL-D001", "No file and no data set"),
        ("", "SAL-D001", "No file"),
        ("a\0b", "SAL-D001", "No file"),
        ("/dev/null", "SAL-D001", "no regular file"),
        (3, "SAL-D015", "Got int"),
        (None, "SAL-D015", "Got NoneType"),
        ([1], "SAL-D013", "row 1: int"),
        ([], "SAL-D002", "no columns"),
        ({}, "SAL-D002", "no columns"),
        ({"a": 1}, "SAL-D015", "'a' holds int"),
        ({"a": [1], "b": [1, 2]}, "SAL-D005", "'a' has 1, 'b' has 2"),
        (pd.DataFrame({"a": []}), "SAL-D003", "no rows"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "SAL-D006", "'a' occurs 2 times"),
        (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "SAL-D015", "several levels"),
    ],
)
def test_bad_sources(source, code, text):
    with pytest.raises(DataError, match=text) as info:
        read(source)
    assert info.value.code == code


def test_a_near_file_is_suggested(tmp_path):
    put(tmp_path, "reviews.csv", CSV)
    with pytest.raises(DataError, match=r"Did you mean 'reviews\.csv'"):
        read(tmp_path / "review.csv")


def test_columns_are_named_by_text():
    frame = read(pd.DataFrame([[1, 2.5]], columns=[0, " b "])).frame
    assert list(frame.columns) == ["0", "b"]


def test_image_folders(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/3.png", "cat/notes.txt", "cat/.hidden.png"):
        put(tmp_path, f"flat/{name}", png())
    table = read(tmp_path / "flat")
    assert table.frame["label"].tolist() == ["cat", "cat", "dog"]
    assert table.target == "label"
    assert "3 images in 2 classes" in table.notes[0]
    for name in ("train/cat/1.png", "train/dog/3.png", "val/cat/2.png"):
        put(tmp_path, f"split/{name}", png())
    frame = read(tmp_path / "split").frame
    assert frame[["label", "split"]].to_numpy().tolist() == [
        ["cat", "train"],
        ["dog", "train"],
        ["cat", "validation"],
    ]
    assert infer(frame, "label").column("image").kind == "image"


def test_folders_of_tables(tmp_path):
    put(tmp_path, "both/test.csv", "n,y\n3,b\n")
    put(tmp_path, "both/train.csv", "n,y\n1,a\n2,b\n")
    frame = read(tmp_path / "both").frame
    assert frame.to_numpy().tolist() == [[1, "a", "train"], [2, "b", "train"], [3, "b", "test"]]
    put(tmp_path, "one/data.csv", CSV)
    put(tmp_path, "one/readme.md", "hello")
    assert is_small_table(read(tmp_path / "one").frame)
    put(tmp_path, "many/a.csv", CSV)
    put(tmp_path, "many/b.csv", CSV)
    assert is_small_table(read(tmp_path / "many", table="b.csv").frame)
    with pytest.raises(DataError, match=r"several tables. many: a\.csv, b\.csv\. Name one: table="):
        read(tmp_path / "many")
    with pytest.raises(DataError, match=r"no 'bb\.csv' in the folder. many. Did you mean 'b\.csv'"):
        read(tmp_path / "many", table="bb.csv")
    put(tmp_path, "odd/train.csv", "n,y\n1,a\n")
    put(tmp_path, "odd/test.csv", "n\n1\n")
    with pytest.raises(DataError, match=r"different columns\. odd, test: y") as info:
        read(tmp_path / "odd")
    assert info.value.code == "SAL-D017"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no table and no folders of images"):
        read(tmp_path / "empty")


def test_a_table_of_image_paths(tmp_path):
    put(tmp_path, "pictures/1.png", png())
    put(tmp_path, "pictures/2.png", png((0, 0, 9)))
    path = put(tmp_path, "list.csv", "photo,label\npictures/1.png,a\npictures/2.png,b\n,a\n")
    table = read(path, target="label")
    schema = infer(table.frame, "label", source=table.name)
    parsed = schema.parse(table.frame)
    assert parsed["photo"].tolist() == [
        str(tmp_path / "pictures/1.png"),
        str(tmp_path / "pictures/2.png"),
        None,
    ]
    (tmp_path / "pictures/2.png").unlink()
    with pytest.raises(DataError, match=r"list\.csv, row 2, column 'photo': .*2\.png") as info:
        infer(table.frame, "label", source=table.name)
    assert info.value.code == "SAL-D040"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_a_truncated_image_is_named_by_row(tmp_path, form):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=form)
    ending = form.lower()
    put(tmp_path, f"1.{ending}", file.getvalue())
    path = put(tmp_path, "list.csv", f"photo,label\n1.{ending},a\n2.{ending},b\n")
    put(tmp_path, f"2.{ending}", file.getvalue())
    table = read(path)
    assert infer(table.frame, "label").column("photo").kind == "image"
    put(tmp_path, f"2.{ending}", b"" if form == "TIFF" else file.getvalue()[:-200])
    with pytest.raises(DataError, match=rf"list\.csv, row 2, column 'photo': .*2\.{ending}") as info:
        infer(table.frame, "label", source=table.name)
    assert info.value.code == "SAL-D041"
