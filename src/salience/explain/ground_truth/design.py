"""Change a table so that it is known which parts of a row a model must use (Zhou et al., AAAI 2022).

First labels are drawn anew, so that what the row was tells at most p* of them; then parts of the row are changed as the
new label asks. A model that is right more often than p* must use the changed parts, and nothing outside the joint
effective region, where changes can fall, can help it beyond p*.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from salience.core.errors import ConfigError, DataError, UnsupportedError
from salience.core.stats import generator
from salience.core.unit import Unit
from salience.data.kinds import pixel_box
from salience.data.schema import Schema
from salience.data.splits import NAMES

Row = dict[str, Any]
Areas = dict[str, Bool[np.ndarray, "..."]]
SUM_TOLERANCE = 1e-9


class Manipulation(Protocol):
    """Change some cells of a row, in an area that is known."""

    def fits(self, row: Row) -> bool:
        """Tell whether the row can carry the change."""

    def apply(self, row: Row, rng: np.random.Generator) -> Row:
        """Return the changed row; the given one stays as it is."""

    def area(self, row: Row) -> Areas:
        """Return where a change can fall, by column.

        An image has a mask (height, width), a text one of its characters, another cell a single truth value. It is
        asked of changed rows.
        """


@dataclass(frozen=True)
class Untouched:
    """Leave the row as it is. Its class then shows itself by the absence of a change: score classes apart."""

    def fits(self, row: Row) -> bool:
        """Every row can stay as it is."""
        return True

    def apply(self, row: Row, rng: np.random.Generator) -> Row:
        """Return the row."""
        return row

    def area(self, row: Row) -> Areas:
        """Return no area."""
        return {}


@dataclass(frozen=True)
class Design:
    """Say how labels are drawn anew and which change each new label brings.

    Attributes:
        manipulations: the changes.
        choice: for each new label, the probability of each manipulation; rows sum to one.
        labels: for each old label, the probability of each new one; rows sum to one.
    """

    manipulations: tuple[Manipulation, ...]
    choice: tuple[tuple[float, ...], ...]
    labels: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        choice = _stochastic(self.choice, "choice")
        labels = _stochastic(self.labels, "labels")
        if labels.shape != (len(choice), len(choice)) or choice.shape[1] != len(self.manipulations):
            raise ConfigError(
                "The matrices of a design do not fit each other",
                f"choice is {choice.shape}, labels {labels.shape}, {len(self.manipulations)} manipulations.",
                "Give labels a line and a column a class, choice a line a class and a column a manipulation.",
            )

    @classmethod
    def binary(cls, first: Manipulation, second: Manipulation, *, kept: float = 0.5) -> "Design":
        """Return a design of two classes: the first class gets one change, the second the other.

        Args:
            first: change of the first class, often :class:`Untouched`.
            second: change of the second class.
            kept: share r of rows that keep their label, in [0.5, 1]; 0.5 leaves nothing of the old signal, 1 all of it.
        """
        if not 0.5 <= kept <= 1:
            raise ConfigError("kept is out of range", f"Got {kept}.", "Use 0.5 to 1.", code="SAL-C005")
        return cls((first, second), ((1.0, 0.0), (0.0, 1.0)), ((kept, 1 - kept), (1 - kept, kept)))

    @property
    def best_original(self) -> float:
        """Best accuracy p* that the old features allow, whatever the share of each class: the largest entry."""
        return max(map(max, self.labels))

    def best_accuracies(self, priors: Sequence[float]) -> dict[str, float]:
        """Return the Bayes accuracies of a reader who knows the old class, the manipulation, or both.

        Args:
            priors: share of each old class.
        """
        prior, labels, choice = np.asarray(priors), np.asarray(self.labels), np.asarray(self.choice)
        joint = prior[:, None, None] * labels[:, :, None] * choice[None]  # old label, new label, manipulation
        return {
            "original": float(joint.sum(axis=2).max(axis=1).sum()),
            "manipulation": float(joint.sum(axis=0).max(axis=0).sum()),
            "both": float(joint.max(axis=1).sum()),
        }

    def areas(self, row: Row) -> Areas:
        """Return the joint effective region: the union of the areas of all manipulations that can occur."""
        possible = np.asarray(self.choice).sum(axis=0) > 0
        union: Areas = {}
        for manipulation in np.array(self.manipulations, dtype=object)[possible]:
            for column, mask in manipulation.area(row).items():
                union[column] = union[column] | mask if column in union else mask
        return union

    def inside(self, row: Row, units: Sequence[Unit]) -> Float[np.ndarray, " unit"]:
        """Return the share of each unit that lies in the joint effective region, in [0, 1]."""
        areas = self.areas(row)
        return np.array([_share_inside(unit, areas.get(unit.column)) for unit in units], dtype=np.float64)


def _stochastic(matrix: Any, name: str) -> Float[np.ndarray, "line column"]:
    found = np.asarray(matrix, dtype=np.float64)
    if found.ndim != 2 or (found < 0).any() or (np.abs(found.sum(axis=1) - 1) > SUM_TOLERANCE).any():
        raise ConfigError(
            f"{name} is no matrix of probabilities", f"Got {matrix}.", "Each line must sum to one."
        )
    return found


def _share_inside(unit: Unit, mask: Bool[np.ndarray, "..."] | None) -> float:
    if mask is None or not mask.size:
        return 0.0
    if unit.kind == "text":
        part = mask[int(unit.locator[0]) : int(unit.locator[1])]
    elif unit.kind == "image":
        left, top, right, bottom = pixel_box(unit.locator, mask.shape[::-1])
        part = mask[top:bottom, left:right]
    else:
        part = mask
    return float(part.mean()) if part.size else 0.0


@dataclass(frozen=True)
class Altered:
    """A changed table, and all that is known of it.

    Attributes:
        frame: changed rows with their new labels; the index is that of the given rows.
        before: the same rows as they were, canonical.
        origin: old label of each row.
        label: new label of each row.
        manipulation: which manipulation each row got.
        design: what was done.
        target: name of the target column.
        classes: names of the labels.
        left_out: rows that could not carry every manipulation and are not in ``frame``.
        seed: seed of all draws.
        split: which part of the data it is; draws of two parts are independent.
    """

    frame: pd.DataFrame
    before: pd.DataFrame
    origin: np.ndarray
    label: np.ndarray
    manipulation: np.ndarray
    design: Design
    target: str
    classes: tuple[str, ...]
    left_out: int
    seed: int
    split: str

    def switched(self) -> "Altered":
        """Return the same rows as the next label would have them: its likeliest change, made to the original row."""
        label = (self.label + 1) % len(self.classes)
        manipulation = np.asarray(self.design.choice).argmax(axis=1)[label]
        rows = _applied(self.before, self.design, manipulation, generator(self.seed, "switch", self.split))
        frame = _labelled(rows, self.before, self.target, self.classes, label)
        return Altered(
            frame, self.before, self.origin, label, manipulation, self.design, self.target, self.classes,
            self.left_out, self.seed, self.split,
        )  # fmt: skip

    def inside(self, row: Row, units: Sequence[Unit]) -> Float[np.ndarray, " unit"]:
        """Return the share of each unit in the joint effective region."""
        return self.design.inside(row, units)

    def region(self, row: Row, units: Sequence[Unit]) -> Bool[np.ndarray, " unit"]:
        """Tell of each unit whether any of it lies in the joint effective region."""
        return self.inside(row, units) > 0


def alter(
    frame: pd.DataFrame, schema: Schema, design: Design, *, seed: int = 0, split: str = "train"
) -> Altered:
    """Draw labels anew and change rows as the new labels ask.

    Args:
        frame: raw or canonical rows with the target.
        schema: schema of a classification.
        design: what to do.
        seed: seed of all draws.
        split: ``"train"``, ``"validation"`` or ``"test"``; each has draws of its own.

    Raises:
        UnsupportedError: the target is a number.
        ConfigError: the design has another number of classes, or there is no such split.
        DataError: no row can carry the changes.
    """
    if schema.classes is None:
        raise UnsupportedError(
            "Labels of a regression cannot be drawn anew", f"{schema.target.name!r} is a number.",
            "Use a target of classes.",
        )  # fmt: skip
    if split not in NAMES or len(schema.classes) != len(design.labels):
        raise ConfigError(
            "The design does not fit the table",
            f"{len(schema.classes)} classes, {len(design.labels)} lines of labels; split {split!r}.",
            f"Keep the rows of as many classes as the design has; the splits are {', '.join(NAMES)}.",
        )
    before = schema.parse(frame, target=True)
    names = [column.name for column in schema.inputs]
    fitting = np.array(
        [all(m.fits(row) for m in design.manipulations) for row in before[names].to_dict("records")]
    )
    if not fitting.any():
        raise DataError(
            "No row can carry the manipulation",
            f"{len(frame)} rows.",
            "Choose another column or manipulation.",
        )
    before = before[fitting]
    origin = schema.encode_target(before)
    label = _drawn(np.asarray(design.labels)[origin], generator(seed, "labels", split))
    manipulation = _drawn(np.asarray(design.choice)[label], generator(seed, "choice", split))
    rows = _applied(before[names], design, manipulation, generator(seed, "apply", split))
    target, classes = schema.target.name, tuple(schema.classes)
    changed = _labelled(rows, before[names], target, classes, label)
    left_out = int((~fitting).sum())
    return Altered(
        changed, before[names], origin, label, manipulation, design, target, classes, left_out, seed, split
    )


def _drawn(probabilities: Float[np.ndarray, "row choice"], rng: np.random.Generator) -> np.ndarray:
    edges = probabilities.cumsum(axis=1)[:, :-1]
    return (rng.random((len(edges), 1)) >= edges).sum(axis=1)


def _applied(
    before: pd.DataFrame, design: Design, manipulation: np.ndarray, rng: np.random.Generator
) -> list[Row]:
    rows = before.to_dict("records")
    own = rng.spawn(len(rows))  # a generator a row: what one row draws does not move the next
    return [design.manipulations[m].apply(row, g) for row, m, g in zip(rows, manipulation, own, strict=True)]


def _labelled(
    rows: list[Row], before: pd.DataFrame, target: str, classes: Sequence[str], label: np.ndarray
) -> pd.DataFrame:
    cells = {
        name: pd.Series([row[name] for row in rows], index=before.index, dtype=before[name].dtype)
        for name in before
    }
    names = pd.Series(np.array(classes, dtype=object)[label], index=before.index, dtype=object)
    return pd.DataFrame({**cells, target: names})
