"""Rows for the experiments on attribution ground truth: two classes, inputs and the target ``label``."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from salience.core import registry
from salience.core.errors import DataError
from salience.core.stats import generator
from salience.explain.ground_truth.images import pixels_of
from salience.reproduce.ravlt import read_images

SIDE = 32  # pixels of the pictures
ROWS = {"picture": 2000, "text": 3000, "table": 3000}  # at most, of each kind


def archive(root: Path) -> Path:
    """Return where the pictures are, if they are there."""
    return root / "cifar10" / "cifar10_train10k.zip"


@lru_cache(maxsize=4)
def rows_of(name: str, root: Path) -> pd.DataFrame:
    """Return the rows of a data set with two classes, and nothing but inputs and the target ``label``.

    Raises:
        DataError: a file is absent.
    """
    frame = {
        "cifar": _cifar,
        "digits": _digits,
        "sst2": _sst2,
        "subj": _subj,
        "clothing": _clothing,
        "adult": _adult,
    }[name](root)
    limit = ROWS["picture" if "picture" in frame else "text" if "text" in frame else "table"]
    chosen = generator(0, name).permutation(len(frame))[:limit]
    return frame.iloc[np.sort(chosen)].reset_index(drop=True)


def _cifar(root: Path) -> pd.DataFrame:
    frame = read_images(archive(root))
    frame = frame[frame["label"].isin(["cat", "dog"])]
    return pd.DataFrame({"picture": frame["photo"].map(pixels_of), "label": frame["label"]})


def _digits(root: Path) -> pd.DataFrame:
    """Return threes and eights, enlarged and coloured, since a grey picture has no hue to turn."""
    from PIL import Image

    frame = registry.load("dataset", "digits")()
    frame = frame[frame["digit"].isin([3, 8])]
    ground, ink = np.array([20.0, 40.0, 120.0]), np.array([120.0, 230.0, 200.0])
    cells = []
    for cell in frame["image"]:
        grey = Image.fromarray(pixels_of(cell)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        share = np.asarray(grey, dtype=float) / 255
        cells.append((ground + share * (ink - ground)).round().astype(np.uint8))
    labels = frame["digit"].map({3: "three", 8: "eight"}).to_numpy()
    return pd.DataFrame({"picture": pd.Series(cells, dtype=object), "label": labels})


def _lines(path: Path, names: dict[str, str]) -> pd.DataFrame:
    if not path.exists():
        raise DataError("Texts of the experiment are not there", str(path), "Give their folder with --data.")
    pairs = [line.split(" ", 1) for line in path.read_text(encoding="latin-1").split("\n") if line]
    return pd.DataFrame(
        [(text, names[label]) for label, text in pairs], columns=["text", "label"], dtype=object
    )


def _sst2(root: Path) -> pd.DataFrame:
    return _lines(root / "sst2" / "stsa.binary.train", {"0": "negative", "1": "positive"})


def _subj(root: Path) -> pd.DataFrame:
    return _lines(root / "subj" / "subj.all", {"0": "subjective", "1": "objective"})


def _clothing(root: Path) -> pd.DataFrame:
    frame = registry.load("dataset", "clothing-reviews")()
    label = frame["Recommended IND"].map({0: "no", 1: "yes"})
    return pd.DataFrame({"text": frame["Review Text"].fillna(""), "label": label})


def _adult(root: Path) -> pd.DataFrame:
    return registry.load("dataset", "adult")().rename(columns={"income": "label"}).drop(columns="fnlwgt")
