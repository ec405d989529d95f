"""Progression of diabetes after one year."""

from pathlib import Path

import pandas as pd

CARD = {
    "key": "diabetes",
    "kind": "dataset",
    "title": "Diabetes progression",
    "entry": "load",
    "summary": "How far does the disease progress in a year? Ten numbers.",
    "target": "progression",
    "task": "regression",
    "kinds": ["number"],
    "rows": 442,
    "paper": "Efron, Hastie, Johnstone and Tibshirani, Least angle regression, Annals of Statistics 32(2)",
    "year": 2004,
    "source": "the authors' page, as packed in scikit-learn",
    "url": "https://www4.stat.ncsu.edu/~boos/var.select/diabetes.html",
    "licence": "not stated",
    "package": "scikit-learn",
}
NAMES = {
    "bp": "blood pressure",
    "s1": "total cholesterol",
    "s2": "LDL",
    "s3": "HDL",
    "s4": "cholesterol ratio",
    "s5": "log triglycerides",
    "s6": "blood sugar",
}


def load(cache: Path | str | None = None) -> pd.DataFrame:
    """Return 442 patients, in the units of the study.

    Args:
        cache: not used; the data come with scikit-learn.
    """
    from sklearn.datasets import load_diabetes

    data = load_diabetes(as_frame=True, scaled=False)
    return data.data.rename(columns=NAMES).assign(progression=data.target)
