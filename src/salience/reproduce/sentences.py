"""Sets of labelled sentences as the papers split them, from a folder of their files."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from salience.core.errors import DataError
from salience.core.stats import generator

FOLDS = 10  # of SUBJ
Split = tuple[str, pd.DataFrame, pd.DataFrame, pd.DataFrame]  # name, train, validation, test


def present(path: Path) -> Path:
    """Return a path that exists.

    Raises:
        DataError: it does not.
    """
    if not path.exists():
        raise DataError(
            "The data of the experiment are not there", str(path), "Give their folder with --data."
        )
    return path


def read(path: Path, encoding: str) -> pd.DataFrame:
    """Return the lines ``label text`` of a file, plain or gzipped, as columns ``text`` and ``label``."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(present(path), "rt", encoding=encoding) as file:
        parts = [line.rstrip("\n").partition(" ") for line in file if line.strip()]
    return pd.DataFrame(
        {"text": [text for _, _, text in parts], "label": [f"class {label}" for label, _, _ in parts]}
    )


def splits(root: Path, name: str, repeats: int, seed: int) -> Iterator[Split]:
    """Yield training, validation and test rows of a set, once a seed.

    Args:
        root: folder with a folder a set.
        name: ``"trec"``, ``"subj"`` (one of its ten folds each time), ``"sst2"`` or ``"sst5"``.
        repeats: how many splits.
        seed: first seed; it draws the validation rows where the set has none.

    Raises:
        DataError: a file is absent.
    """
    if name == "subj":
        yield from _folds(read(root / "subj" / "subj.all", "latin-1"), repeats, seed)
        return
    for repeat in range(repeats):
        if name == "trec":
            train, held = _held_out(read(root / "trec" / "TREC.train.all", "latin-1"), seed + repeat)
            test = read(root / "trec" / "TREC.test.all", "latin-1")
        else:
            stem = {"sst2": "stsa.binary", "sst5": "stsa.fine"}[name]
            train, held, test = (
                read(root / name / f"{stem}.{part}", "utf-8") for part in ("train", "dev", "test")
            )
        yield name, train, held, test


def _folds(frame: pd.DataFrame, repeats: int, seed: int) -> Iterator[Split]:
    fold = generator(seed, "folds").permutation(len(frame)) % FOLDS
    for number in range(repeats):
        train, held = _held_out(frame[fold != number], seed)
        yield "subj", train, held, frame[fold == number]


def _held_out(frame: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    chosen = generator(seed, "validation").random(len(frame)) < 0.1
    return frame[~chosen], frame[chosen]
