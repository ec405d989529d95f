"""Every reader: what is written comes back, and what is damaged is refused in one line."""

import bz2
import gzip
import io
import json
import lzma
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from salience.core import registry
from salience.core.errors import SalienceError
from salience.data.readers import read
from salience.data.readers.csv import MISSING

FILE_READERS = [card for card in registry.cards("reader") if card.get("extensions")]
CALM = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
NAMES = st.lists(
    st.text(alphabet=st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=6).filter(
        lambda name: not name.replace(".", "").isnumeric()
    ),
    min_size=2,
    max_size=4,
    unique=True,
)
TEXTS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
CELLS = {
    "whole": st.integers(-(2**53), 2**53),
    "part": st.floats(allow_nan=False, allow_infinity=False),
    "text": TEXTS.map(lambda text: f"t {text} t"),
    "flag": st.booleans(),
}


@st.composite
def tables(draw):
    """Draw named columns of one type each, with missing cells in those that are not whole numbers."""
    rows = draw(st.integers(1, 6))
    columns = {}
    for name in draw(NAMES):
        kind = draw(st.sampled_from(sorted(CELLS)))
        cell = CELLS[kind] if kind in ("whole", "flag") else st.one_of(CELLS[kind], st.none())
        columns[name] = draw(st.lists(cell, min_size=rows, max_size=rows))
    return columns


def as_csv(columns, delimiter=","):
    file = io.StringIO(newline="")
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    frame.to_csv(file, index=False, sep=delimiter, lineterminator="\r\n")  # so that a lone \r is quoted
    return file.getvalue().encode()


def as_json_lines(columns):
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def as_parquet(columns):
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def as_arrow(columns):
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


WRITERS = {
    "csv": (".csv", as_csv),
    "csv, tabs": (".tsv", lambda columns: as_csv(columns, "\t")),
    "csv, gzip": (".csv.gz", lambda columns: gzip.compress(as_csv(columns))),
    "csv, bzip2": (".csv.bz2", lambda columns: bz2.compress(as_csv(columns))),
    "json-lines": (".jsonl", as_json_lines),
    "json-lines, xz": (".jsonl.xz", lambda columns: lzma.compress(as_json_lines(columns))),
    "parquet": (".parquet", as_parquet),
    "arrow": (".arrow", as_arrow),
}


def same(written, found):
    """Tell whether a cell came back: missing as missing, numbers exactly, flags also as their names."""
    if written is None:
        return found is None or (isinstance(found, float) and math.isnan(found))
    if isinstance(written, bool):
        return str(found) == str(written)
    if isinstance(written, str):
        return found == written
    return float(found) == float(written)


def test_every_file_reader_is_written_back():
    assert {key.split(",")[0] for key in WRITERS} == {card.key for card in FILE_READERS}
    endings = [ending for card in FILE_READERS for ending in card.get("extensions")]
    assert len(endings) == len(set(endings))


@pytest.mark.parametrize("form", WRITERS)
@CALM
@given(columns=tables())
def test_what_is_written_comes_back(form, columns, tmp_path):
    ending, writer = WRITERS[form]
    path = tmp_path / f"table{ending}"
    path.write_bytes(writer(columns))
    frame = read(path).frame
    assert list(frame.columns) == list(columns)
    for name, values in columns.items():
        found = frame[name].astype(object).tolist()
        assert len(found) == len(values)
        assert all(same(a, b) for a, b in zip(values, found, strict=True)), (values, found)


@pytest.mark.parametrize("form", WRITERS)
@CALM
@given(columns=tables(), cut=st.floats(0, 0.99), noise=st.binary(max_size=6))
def test_damaged_files_are_read_or_refused_in_one_line(form, columns, cut, noise, tmp_path):
    ending, writer = WRITERS[form]
    content = writer(columns)
    at = int(cut * len(content))
    path = tmp_path / f"table{ending}"
    path.write_bytes(content[:at] + noise + content[at + len(noise) :])
    try:
        read(path)
    except SalienceError as error:
        assert "\n" not in str(error)
        assert error.fix
        assert error.code.startswith("SAL-D")


@pytest.mark.parametrize("form", WRITERS)
def test_a_truncated_file_never_gives_other_rows(form, tmp_path):
    columns = {"n": list(range(50)), "text": [f"row {i}" for i in range(50)]}
    ending, writer = WRITERS[form]
    content = writer(columns)
    path = tmp_path / f"table{ending}"
    for size in np.linspace(0, len(content) - 1, 23).astype(int):
        path.write_bytes(content[:size])
        try:
            frame = read(path).frame
        except SalienceError:
            continue
        assert form.partition(",")[0] in ("csv", "json-lines"), "only text may be cut and still be whole"
        assert frame["n"].tolist()[:-1] == list(range(len(frame) - 1))


@pytest.mark.parametrize("text", sorted(MISSING))
def test_a_missing_text_is_read_as_missing(text, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"a,b\n{text},x\nword,y\n")
    assert read(path).frame["a"].isna().tolist() == [True, False]
