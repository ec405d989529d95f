"""What all adapters share: the schema that they describe, checked answers, and ``explain``."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from salience.core.errors import ConfigError
from salience.core.unit import Unit
from salience.data.kinds import KINDS
from salience.data.schema import Column, Schema
from salience.explain.explanation import Explanation
from salience.explain.model import WhiteBox

TARGET = "prediction"  # name of the predicted column where the user names none
TINY = 1e-12  # probabilities are clipped to it before the logarithm, so that log-odds stay within ±27.6
SUM_TOLERANCE = 1e-3  # of a row of probabilities: float32 softmax over many classes, or rounded by hand


class Adapted(ABC):
    """A model of somebody else, seen through :mod:`salience.explain.model`.

    Attributes:
        schema: input columns with their neutral values, target and classes.
    """

    schema: Schema

    @abstractmethod
    def outputs(self, frame: pd.DataFrame) -> Float[np.ndarray, "row output"]:
        """Return logits of each class, or the predicted number."""

    def explain(self, rows: Any, *, method: str | None = None, **options: Any) -> list[Explanation]:
        """Explain rows: one number a word, cell or region, with a measurement of whether it is true.

        Args:
            rows: a data frame, one row as a dictionary, or (where there is one column) a list of its cells.
            method: key of an explainer; integrated gradients where gradients exist, else leave-one-out.
            **options: as of :func:`salience.explain.engine.explain`: target, seed, memory_mb, faithfulness, ….
        """
        from salience.explain.engine import explain

        method = method or ("integrated_gradients" if isinstance(self, WhiteBox) else "leave_one_out")
        return explain(self, self.frame(rows), method=method, **options)

    def frame(self, rows: Any) -> pd.DataFrame:
        """Return rows as canonical columns, which ``outputs`` takes.

        Raises:
            ConfigError: a list for a model of several columns.
            DataError: an absent column, or a value that does not fit its kind.
        """
        return self.schema.parse(as_frame(rows, [column.name for column in self.schema.inputs]), target=False)

    def predict_proba(self, outputs: Float[np.ndarray, "row output"]) -> Float[np.ndarray, "row output"]:
        """Return class probabilities of outputs."""
        from scipy.special import softmax

        return softmax(outputs, axis=1)

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return words, regions and cells, column by column."""
        return tuple(u for c in self.schema.inputs for u in KINDS[c.kind].units(c.name, row[c.name]))

    def remove(self, row: dict[str, Any], units: tuple[Unit, ...]) -> dict[str, Any]:
        """Return the row with each column's neutral value in place of these units."""
        columns = {column.name: column for column in self.schema.inputs}
        gone: dict[str, list[Unit]] = {}
        for unit in units:
            gone.setdefault(unit.column, []).append(unit)
        changed = {n: KINDS[columns[n].kind].remove(row[n], u, columns[n].baseline) for n, u in gone.items()}
        return {**row, **changed}


def as_frame(rows: Any, names: list[str]) -> pd.DataFrame:
    """Return rows as a frame with these columns: from a frame, a dictionary, or a list of cells of one column."""
    if isinstance(rows, pd.DataFrame):
        return rows
    if isinstance(rows, dict):
        return pd.DataFrame({name: pd.Series([cell], dtype=object) for name, cell in rows.items()})
    if len(names) != 1:
        raise ConfigError(
            "Rows of several columns need names",
            f"{type(rows).__name__} for the columns {', '.join(names)}.",
            "Give a data frame or a dictionary.",
        )
    cells = [rows] if isinstance(rows, str) else list(rows)
    column = pd.Series(cells, dtype=object) if cells else pd.Series([], dtype=object)
    return pd.DataFrame({names[0]: column})


def schema_of(inputs: list[Column], target: str | None, classes: Any) -> Schema:
    """Return the schema of an adapted model.

    Args:
        inputs: columns with their neutral values.
        target: name of the predicted column.
        classes: names of the classes in the order of the outputs; None for a number.

    Raises:
        ConfigError: fewer than two classes, or a name twice.
    """
    names = None if classes is None else [str(name) for name in classes]
    if names is not None and (len(names) < 2 or len(set(names)) != len(names)):
        raise ConfigError(
            "A classifier needs two classes or more, each with a name of its own",
            f"classes={names[:12]!r}",
            "Name them in the order of the outputs; leave classes out for a model that predicts a number.",
        )
    column = Column(target or TARGET, "category" if names else "number", "target")
    return Schema((*inputs, column), "classification" if names else "regression", names)


def check_answers(
    values: Any, rows: int, classes: list[str] | None, source: str
) -> Float[np.ndarray, "row output"]:
    """Return answers as a float64 array, one column an output.

    Args:
        values: what the model returned.
        rows: rows that it was asked about.
        classes: names of the classes; None where one number a row is expected.
        source: the model, for messages.

    Raises:
        ConfigError: another shape than (rows, outputs), or an answer that is not finite (SAL-M003).
    """
    array = np.asarray(values, dtype=np.float64)
    wanted = len(classes) if classes else 1
    if wanted == 1 and array.ndim == 1:
        array = array[:, None]
    if array.shape != (rows, wanted):
        raise wrong_shape(tuple(array.shape), rows, classes, source)
    if not np.isfinite(array).all():
        row, output = np.argwhere(~np.isfinite(array))[0]
        name = f", class {classes[output]!r}" if classes else ""
        raise ConfigError(
            f"{source} answers with something that is no number",
            f"{array[row, output]} for row {row} of {rows}{name}.",
            "Mend the model, or leave such rows out. Explainers also ask about rows without some of their parts: "
            "empty texts, neutral numbers, missing categories.",
            code="SAL-M003",
        )
    return array


def wrong_shape(shape: tuple[int, ...], rows: int, classes: list[str] | None, source: str) -> ConfigError:
    """Return the error for answers of another shape than (rows, outputs)."""
    wanted = len(classes) if classes else 1
    named = (
        f"{wanted} classes ({', '.join(classes[:6])}{', …' if wanted > 6 else ''})"
        if classes
        else "one number a row"
    )
    fix = "Return one line a row, in the order of the rows, and one column a class."
    if classes is None and len(shape) == 2 and shape[1] > 1:
        fix = f"Name the {shape[1]} classes: classes=[…], in the order of the columns."
    elif len(shape) == 2 and shape[0] == rows:
        fix = "Name every class in classes=[…], in the order of the columns."
    return ConfigError(
        f"{source} answers in another shape than expected",
        f"{rows} rows gave the shape {shape}; expected {(rows, wanted)}: {named}.",
        fix,
        code="SAL-M003",
    )


def log_probabilities(
    shares: Float[np.ndarray, "row output"], classes: list[str], source: str
) -> Float[np.ndarray, "row output"]:
    """Return logarithms of probabilities, clipped to :data:`TINY`; as logits they give the same probabilities.

    Raises:
        ConfigError: a probability outside [0, 1], or a row that does not sum to one (SAL-M003).
    """
    total = shares.sum(axis=1)
    wrong = np.flatnonzero((shares < -SUM_TOLERANCE).any(axis=1) | (abs(total - 1) > SUM_TOLERANCE))
    if len(wrong):
        row = wrong[0]
        shown = ", ".join(f"{c} {p:.4g}" for c, p in zip(classes[:6], shares[row], strict=False))
        raise ConfigError(
            f"{source} answers with numbers that are no probabilities",
            f"Row {row}: {shown}{', …' if len(classes) > 6 else ''}; they sum to {total[row]:.4g}.",
            "Return probabilities that sum to one in each row. Of logits, take the softmax first.",
            code="SAL-M003",
        )
    return np.log(np.clip(shares, TINY, 1.0))
