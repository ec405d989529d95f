"""Breast tumours, benign or malignant, from cell nuclei."""

from pathlib import Path

import pandas as pd

CARD = {
    "key": "breast-cancer",
    "kind": "dataset",
    "title": "Breast cancer Wisconsin (diagnostic)",
    "entry": "load",
    "summary": "Is a tumour malignant? Thirty numbers.",
    "target": "diagnosis",
    "task": "classification",
    "kinds": ["number"],
    "rows": 569,
    "year": 1995,
    "source": "UCI Machine Learning Repository, as packed in scikit-learn",
    "url": "https://archive.ics.uci.edu/dataset/17",
    "licence": "CC BY 4.0",
    "package": "scikit-learn",
}


def load(cache: Path | str | None = None) -> pd.DataFrame:
    """Return 569 tumours, 357 of them benign.

    Args:
        cache: not used; the data come with scikit-learn.
    """
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer(as_frame=True)
    names = dict(enumerate(data.target_names))
    return data.data.assign(diagnosis=data.target.map(names))
