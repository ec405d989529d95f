"""Throw damaged and random inputs at every reader: only clear errors may come out, and none may hang.

Run ``python tests/data/fuzz.py --inputs 2000``. Input ``i`` of seed ``s`` is always the same; ``--only i`` repeats one.
"""

import argparse
import bz2
import gzip
import io
import json
import lzma
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from salience.core.errors import SalienceError
from salience.data.images import load_image
from salience.data.readers import read
from salience.data.schema import infer
from salience.data.splits import split

SECONDS_EACH = 10.0
WORDS = [
    "good",
    "bad",
    "dress",
    "it's",
    "größe",
    "日本",
    "👍🏽",
    "a,b",
    'say "hi"',
    "line\nbreak",
    "",
    " ",
    "NA",
    "007",
]
NASTY = [
    *(
        b"\0",
        b'"',
        b'""',
        b"'",
        b",",
        b";",
        b"\t",
        b"|",
        b"\n",
        b"\r",
        b"\r\n",
        b"\xff",
        b"\xfe\xff",
        b"\xff\xfe",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\x80",
        b"NaN",
        b"inf",
        b"-1e999",
        b"1e400",
        b"null",
        b"{",
        b"}",
    ),
    *(
        b"[",
        b"]",
        b":",
        b"\\",
        b"\\ud800",
        b"9" * 400,
        b"1_000",
        b"0x10",
        b"\xe2\x80\xa8",
        b"\x1a",
        b"\x85",
        b"PK\x03\x04",
    ),
    *(b"=cmd()", b"../../etc/passwd", b"a" * 3000, b"\n" * 50, b"," * 50, b"PAR1", b"ARROW1", b"\x1f\x8b"),
]
PLAIN = [item for item in NASTY if item.isascii() and b"\0" not in item]


@dataclass
class Outcome:
    """Count what came out."""

    inputs: int = 0
    read: int = 0
    used: int = 0
    refused: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0


class _Late(BaseException):
    """Passes every ``except Exception`` on its way out."""


def _ring(*_: object) -> None:
    raise _Late


def table(rng: random.Random) -> pd.DataFrame:
    rows = rng.choice([1, 2, 12, 25, 60, 60])
    makers: list[Callable[[], Any]] = [
        lambda: rng.randint(-5, 5),
        lambda: rng.choice([0, 1]),
        lambda: rng.random() * 10 ** rng.randint(-300, 300),
        lambda: rng.choice(WORDS),
        lambda: " ".join(rng.choices(WORDS, k=rng.randint(0, 12))),
        lambda: rng.choice(["2024-01-31", "31/01/2024", "99/99/9999", "2024-13-45"]),
        lambda: rng.choice([True, False, None]),
        lambda: rng.choice(["1", "2.5", "x", "?"]) if rng.random() < 0.1 else str(rng.randint(0, 99)),
        lambda: f"{rng.choice('abc')}.png",
    ]
    names = rng.sample(
        ["id", "n", "text", "label", "split", "größe", " x ", "day", "photo"], rng.randint(1, 6)
    )
    kinds = [rng.choice(makers) for _ in names]
    return pd.DataFrame(
        {name: [maker() for _ in range(rows)] for name, maker in zip(names, kinds, strict=True)}
    )


def _csv(rng: random.Random) -> bytes:
    return table(rng).to_csv(index=rng.random() < 0.3, sep=rng.choice(",,,;\t|")).encode()


def _json_lines(rng: random.Random) -> bytes:
    return (
        table(rng)
        .to_json(orient="records", lines=rng.random() < 0.7, force_ascii=rng.random() < 0.5)
        .encode()
    )


def _parquet(rng: random.Random) -> bytes:
    file = io.BytesIO()
    parquet.write_table(_arrow_table(rng), file, compression=rng.choice(["none", "snappy", "zstd", "gzip"]))
    return file.getvalue()


def _arrow(rng: random.Random) -> bytes:
    found = _arrow_table(rng)
    sink = pa.BufferOutputStream()
    with rng.choice([pa.ipc.new_file, pa.ipc.new_stream])(sink, found.schema) as writer:
        writer.write_table(found)
    return sink.getvalue().to_pybytes()


def _arrow_table(rng: random.Random) -> pa.Table:
    found = table(rng)
    extra = rng.choice(["none", "list", "struct", "binary", "decimal", "time", "dictionary"])
    columns = {name: pa.array(found[name].tolist(), from_pandas=True) for name in found.columns}
    rows = len(found)
    arrays = {
        "list": lambda: pa.array([[1, None]] * rows),
        "struct": lambda: pa.array([{"bytes": b"x", "path": None}] * rows),
        "binary": lambda: pa.array([b"\x89PNG\r\n\x1a\nxx"] * rows),
        "decimal": lambda: pa.array([1, None] * rows).slice(0, rows).cast(pa.decimal128(38, 2)),
        "time": lambda: pa.array([10**15] * rows, type=pa.timestamp("us", tz="Europe/Berlin")),
        "dictionary": lambda: pa.array(["u", None] * rows).slice(0, rows).dictionary_encode(),
    }
    if extra in arrays:
        columns["extra"] = arrays[extra]()
    return pa.table(columns)


def _zip(rng: random.Random) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as packed:
        for number in range(rng.choice([1, 1, 1, 2])):
            packed.writestr(
                rng.choice(["a.csv", "../b.csv", "d/c.csv"]) if number == 0 else "z.csv", _csv(rng)
            )
    return file.getvalue()


def _image(rng: random.Random) -> bytes:
    file = io.BytesIO()
    pixels = np.frombuffer(rng.randbytes(12 * 9 * 3), dtype=np.uint8).reshape(12, 9, 3)
    Image.fromarray(pixels).save(file, format=rng.choice(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
    return file.getvalue()


FILES: dict[str, tuple[str, Callable[[random.Random], bytes]]] = {
    "csv": ("a.csv", _csv),
    "tsv": ("a.tsv", _csv),
    "text": ("a.txt", _csv),
    "json-lines": ("a.jsonl", _json_lines),
    "json": ("a.json", _json_lines),
    "parquet": ("a.parquet", _parquet),
    "arrow": ("a.arrow", _arrow),
    "gzip": ("a.csv.gz", lambda rng: gzip.compress(_csv(rng), mtime=0)),
    "bzip2": ("a.csv.bz2", lambda rng: bz2.compress(_csv(rng))),
    "xz": ("a.jsonl.xz", lambda rng: lzma.compress(_json_lines(rng))),
    "zstandard": ("a.csv.zst", lambda rng: pa.compress(_csv(rng), codec="zstd", asbytes=True)),
    "zip": ("a.zip", _zip),
    "random": ("a.csv", lambda rng: rng.randbytes(rng.randint(0, 300))),
    "nonsense": ("a.json", lambda rng: b"".join(rng.choices(NASTY, k=rng.randint(0, 30)))),
}


def mutate(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice([0, 0, 1, 1, 2, 8])):
        at = rng.randint(0, len(found))
        end = min(len(found), at + rng.randint(1, 20))
        match rng.randint(0, 6):
            case 0 if at < len(found):
                found[at] ^= 1 << rng.randint(0, 7)
            case 1:
                found[at:at] = rng.choice(PLAIN if rng.random() < 0.7 else NASTY)
            case 2:
                del found[at:end]
            case 3:
                del found[at:]
            case 4:
                found[at:at] = found[at:end] * rng.randint(1, 3)
            case 5:
                found[at:end] = bytes(
                    rng.randint(32, 126 if rng.random() < 0.9 else 255) for _ in range(end - at)
                )
            case _:
                found = bytearray(
                    bytes(found).replace(rng.choice([b",", b"\n", b'"', b":"]), rng.choice(PLAIN), 2)
                )
    return bytes(found)


def _folder(folder: Path, rng: random.Random) -> Path:
    """Make a folder of images, of tables, or of both, some of them damaged."""
    for _ in range(rng.randint(0, 4)):
        name = rng.choice(["train", "test", "val", "cat", "dog", "train/cat", "test/dog"])
        ending = rng.choice([".png", ".jpg", ".csv", ".txt"])
        path = folder / name if rng.random() < 0.1 else folder / name / f"{rng.randint(0, 3)}{ending}"
        if path.exists() or any(parent.is_file() for parent in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mutate(_image(rng), rng))
    for stem in rng.sample(["train", "test", "data", "VAL"], rng.randint(0, 2)):
        (folder / f"{stem}.csv").write_bytes(mutate(_csv(rng), rng))
    return folder


def _picture_table(folder: Path, rng: random.Random) -> Path:
    for letter in "abc":
        if rng.random() < 0.9:
            (folder / f"{letter}.png").write_bytes(mutate(_image(rng), rng))
    lines = [f"{rng.choice('abc')}.png,{rng.choice(['x', 'y'])}" for _ in range(rng.randint(1, 15))]
    (folder / "list.csv").write_text("photo,label\n" + "\n".join(lines))
    return folder / "list.csv"


def _object(rng: random.Random) -> Any:
    cells: list[Callable[[], Any]] = [
        *(lambda: None, lambda: rng.random(), lambda: rng.randint(-(10**25), 10**25), lambda: float("nan")),
        *(
            lambda: rng.choice(WORDS),
            lambda: "\ud800",
            lambda: b"\xff\xd8\xff",
            lambda: [1],
            lambda: {"bytes": b"x"},
        ),
        *(
            lambda: {"path": None},
            lambda: pd.NaT,
            lambda: pd.NA,
            lambda: 1 + 2j,
            lambda: True,
            lambda: object(),
        ),
        *(
            lambda: np.zeros((2, 2, 3), np.uint8),
            lambda: pd.Timestamp("2024-01-01", tz="UTC"),
            lambda: {1, 2},
        ),
        *(lambda: pd.Timedelta("1D"), lambda: pd.Interval(0, 1), lambda: range(3), lambda: np.float32("inf")),
    ]
    rows = rng.choice([0, 1, 5, 30])
    chosen = rng.choices(cells, k=rng.randint(1, 2))
    names: list[Any] = rng.choices(
        ["a", "b", "label", 3, None, ("x", "y"), "\udc00", ""], k=rng.randint(0, 4)
    )
    columns = {name: [rng.choice(chosen)() for _ in range(rows)] for name in names}
    match rng.randint(0, 4):
        case 0:
            return columns
        case 1:
            return [{name: rng.choice(chosen)() for name in names} for _ in range(rows)]
        case 2:
            return {name: values[: rng.randint(0, 30)] for name, values in columns.items()}
        case 3:
            return rng.choice([None, 3, "", "x" * 5000, [1, 2], {"a": 1}, object(), Path("/nowhere")])
        case _:
            return pd.DataFrame({i: pd.Series(v, dtype=object) for i, v in enumerate(columns.values())})


def make(index: int, seed: int, folder: Path) -> tuple[str, Any]:
    """Return the name of a sort and one input of it."""
    rng = random.Random(f"{seed}-{index}")
    sort = rng.choice([*FILES, "folder", "pictures", "object", "object"])
    if sort == "folder":
        return sort, _folder(folder, rng)
    if sort == "pictures":
        return sort, _picture_table(folder, rng)
    if sort == "object":
        return sort, _object(rng)
    name, maker = FILES[sort]
    path = folder / name
    path.write_bytes(mutate(maker(rng), rng))
    return sort, path


def use(source: Any, rng: random.Random, outcome: Outcome) -> None:
    """Do what a run does before it trains."""
    found = read(source)
    outcome.read += 1
    target = rng.choice([None, "label", found.target, *found.frame.columns])
    schema = infer(found.frame, target, source=found.name, missing_target=rng.choice(["error", "drop"]))
    parsed = schema.parse(found.frame)
    for column in schema.inputs:
        if column.kind == "image":
            for value in parsed[column.name].dropna().head(2):
                load_image(value, found.name)
    fitted = schema.fitted(found.frame)
    json.dumps(fitted.to_json())
    str(schema)
    split(found.frame, schema, seed=1)


def one(index: int, seed: int, outcome: Outcome) -> None:
    """Try one input and note what came out."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    sort = "making the input"
    signal.setitimer(signal.ITIMER_REAL, SECONDS_EACH)
    start = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sort, source = make(index, seed, folder)
            warnings.simplefilter("error")
            use(source, random.Random(index), outcome)
        outcome.used += 1
    except SalienceError as error:
        outcome.refused[error.code] += 1
        if "\n" in str(error) or not error.what or not error.fix:
            outcome.failures.append(f"input {index} ({sort}): not one whole line: {error!s}")
    except _Late:
        outcome.failures.append(f"input {index} ({sort}): still busy after {SECONDS_EACH} s")
    except Exception:
        outcome.failures.append(f"input {index} ({sort}): {traceback.format_exc()}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        shutil.rmtree(folder, ignore_errors=True)
    outcome.inputs += 1
    outcome.slowest = max(outcome.slowest, time.monotonic() - start)


def run(inputs: int, seed: int = 0, only: int | None = None) -> Outcome:
    """Try many inputs."""
    before = signal.signal(signal.SIGALRM, _ring)
    outcome = Outcome()
    try:
        for index in range(inputs) if only is None else [only]:
            one(index, seed, outcome)
    finally:
        signal.signal(signal.SIGALRM, before)
    return outcome


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    asked = parser.parse_args()
    outcome = run(asked.inputs, asked.seed, asked.only)
    for failure in outcome.failures:
        print(failure, file=sys.stderr)
    refused = dict(sorted(outcome.refused.items()))
    print(
        f"{outcome.inputs} inputs: {outcome.read} read, {outcome.used} of them up to the split, {sum(refused.values())} refused, "
        f"{len(outcome.failures)} failures, slowest {outcome.slowest:.2f} s"
    )
    print(json.dumps(refused))
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
