"""Handwritten digits of 8 × 8 pixels."""

from pathlib import Path

import numpy as np
import pandas as pd

from salience.data.datasets.pictures import grey_png

CARD = {
    "key": "digits",
    "kind": "dataset",
    "title": "Optical recognition of handwritten digits",
    "entry": "load",
    "summary": "Which digit is it? 8 × 8 grey pictures, about 180 a class.",
    "target": "digit",
    "task": "classification",
    "kinds": ["image"],
    "rows": 1797,
    "year": 1998,
    "source": "UCI Machine Learning Repository (the test set), as packed in scikit-learn",
    "url": "https://archive.ics.uci.edu/dataset/80",
    "licence": "CC BY 4.0",
    "package": "scikit-learn",
}


def load(cache: Path | str | None = None) -> pd.DataFrame:
    """Return one row a digit: ``image`` (bytes of a PNG, 16 grey levels) and ``digit``.

    Args:
        cache: not used; the data come with scikit-learn.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = (data.images * (255 / 16)).round().astype(np.uint8)
    return pd.DataFrame({"image": [grey_png(p) for p in pixels], "digit": data.target})
