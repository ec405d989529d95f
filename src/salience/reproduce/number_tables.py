"""The tables of the experiment on embeddings of numbers, in the splits of the paper."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from salience.core.errors import DataError
from salience.data.datasets import adult, california
from salience.data.schema import Schema, infer

CHURN = Path("churn") / "Churn_Modelling.csv.gz"
ADULT_TEST = 16_281  # the first rows of the package are the official test set
NAMES = ("california", "adult", "churn")


@dataclass(frozen=True)
class Table:
    """Hold one table in its split.

    Attributes:
        name: one of :data:`NAMES`.
        schema: its columns and task.
        train, validation, test: rows.
        batch_size: published rows of an optimiser step.
        score: metric that is tested and that stops training, ``"rmse"`` or ``"accuracy"``.
    """

    name: str
    schema: Schema
    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    batch_size: int
    score: str


def load(name: str, root: Path) -> Table:
    """Return a table.

    Args:
        name: one of :data:`NAMES`.
        root: folder that holds ``churn``; the two others come from a pinned package.

    Raises:
        DataError: the file of ``churn`` is absent.
    """
    loaders: dict[str, Callable[[Path], Table]] = {
        "california": _california,
        "adult": _adult,
        "churn": _churn,
    }
    return loaders[name](root)


def split(rows: np.ndarray, seed: int, classes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return four fifths and one fifth of row numbers, as scikit-learn draws them; stratified where classes are given."""
    from sklearn.model_selection import train_test_split

    stratify = None if classes is None else classes[rows]
    first, second = train_test_split(rows, test_size=0.2, random_state=seed, stratify=stratify)
    return first, second


def _california(root: Path) -> Table:
    frame = california.load()
    rest, test = split(np.arange(len(frame)), seed=0)
    train, validation = split(rest, seed=1)
    schema = infer(frame, "MedHouseVal", task="regression", source="california")
    return Table(
        "california", schema, frame.iloc[train], frame.iloc[validation], frame.iloc[test], 256, "rmse"
    )


def _adult(root: Path) -> Table:
    frame = adult.load()
    numbers = frame.select_dtypes("number").columns
    kinds = {c: "number" if c in numbers else "category" for c in frame.columns.drop("income")}
    rest = np.arange(ADULT_TEST, len(frame))
    train, validation = split(rest, seed=1, classes=frame["income"].to_numpy())
    schema = infer(frame, "income", task="classification", kinds=kinds, source="adult")
    return Table(
        "adult",
        schema,
        frame.iloc[train],
        frame.iloc[validation],
        frame.iloc[:ADULT_TEST],
        256,
        "accuracy",
    )


def _churn(root: Path) -> Table:
    """Return the table split as the others are; the paper states its sizes, 6,400, 1,600 and 2,000."""
    path = root / CHURN
    if not path.exists():
        raise DataError(
            "The table of the experiment is not there",
            str(path),
            "Name the folder that holds it: --data.",
            code="SAL-D001",
        )
    frame = pd.read_csv(path).drop(columns=["rowNumber", "customerId", "surname", "Latitude", "Longitude"])
    words = ("geography", "gender")
    kinds = {c: "category" if c in words else "number" for c in frame.columns.drop("exited")}
    classes = frame["exited"].to_numpy()
    rest, test = split(np.arange(len(frame)), seed=0, classes=classes)
    train, validation = split(rest, seed=1, classes=classes)
    schema = infer(frame, "exited", task="classification", kinds=kinds, source="churn")
    return Table(
        "churn", schema, frame.iloc[train], frame.iloc[validation], frame.iloc[test], 128, "accuracy"
    )
