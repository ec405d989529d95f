"""Wines of three growers, by chemical analysis."""

from pathlib import Path

import pandas as pd

CARD = {
    "key": "wine",
    "kind": "dataset",
    "title": "Wine recognition",
    "entry": "load",
    "summary": "Which of three growers made the wine? Thirteen numbers.",
    "target": "grower",
    "task": "classification",
    "kinds": ["number"],
    "rows": 178,
    "year": 1991,
    "source": "UCI Machine Learning Repository, as packed in scikit-learn",
    "url": "https://archive.ics.uci.edu/dataset/109",
    "licence": "CC BY 4.0",
    "package": "scikit-learn",
}


def load(cache: Path | str | None = None) -> pd.DataFrame:
    """Return 178 wines.

    Args:
        cache: not used; the data come with scikit-learn.
    """
    from sklearn.datasets import load_wine

    data = load_wine(as_frame=True)
    return data.data.assign(grower=data.target.map(lambda index: f"grower {index + 1}"))
