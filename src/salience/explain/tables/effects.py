"""What each column does to the answers of a model, over many rows: curves, pairs, directions, contributions by bin."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from salience.core import io
from salience.core.errors import ConfigError, DataError, UnsupportedError, nearest
from salience.core.progress import Stage
from salience.core.stats import generator, holm
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.tables import interactions as pairwise
from salience.explain.tables import sentences
from salience.explain.tables.ask import Asker
from salience.explain.tables.axis import TABULAR, Axis, make_axis
from salience.explain.tables.contributions import ColumnContributions, contributions
from salience.explain.tables.curves import Curve, accumulated, partial_dependence, profiles
from salience.explain.tables.interactions import Interaction
from salience.explain.tables.monotone import Monotonicity, monotonicity
from salience.explain.target import Spec, Target, resolve

METHODS = ("ale", "partial_dependence")
FEWEST_ROWS = 20


@dataclass(frozen=True)
class Settings:
    """Say how closely a model is looked at.

    Attributes:
        rows: rows that are looked at, drawn at random, at most.
        steps: steps of a number column, at most.
        followed: of these rows, those that are followed over all values of a column.
        pairs: pairs of columns that are measured, at most; 0 for none.
        pair_rows: rows on which a pair is measured, at most.
        pair_steps: steps of each column of a pair, at most.
    """

    rows: int = 1000
    steps: int = 20
    followed: int = 200
    pairs: int = 16
    pair_rows: int = 400
    pair_steps: int = 5

    def __post_init__(self) -> None:
        for name, least in (
            ("rows", FEWEST_ROWS),
            ("steps", 1),
            ("followed", 2),
            ("pairs", 0),
            ("pair_rows", 2),
        ):
            within(name, getattr(self, name), least)
        within("pair_steps", self.pair_steps, 1)


QUICK = Settings(rows=400, steps=12, followed=100, pairs=8, pair_rows=200, pair_steps=4)


@dataclass(frozen=True)
class Effects:
    """Say how the columns of a table move the answer of a model; :func:`salience.report.effects.save` writes it.

    Attributes:
        target: what is explained: a class, or the target column.
        quantity: ``"log-odds"`` or ``"value"`` (in units of the target).
        spread: standard deviation of the answers over the rows.
        rows: rows that were looked at.
        curves: main effects, strongest first.
        monotone: directions of the number columns, in the order of the curves.
        interactions: pairs that were measured, strongest first; those with ``real`` are beyond noise.
        contributions: mean attributions by bin; empty where no explanation was given.
        left_out: columns without an effect to measure → why.
        method: ``"ale"`` or ``"partial_dependence"``.
        forwards: rows that the model evaluated.
        seconds: time it took.
        seed: seed of rows, resamples and controls.
    """

    target: str
    quantity: str
    spread: float
    rows: int
    curves: tuple[Curve, ...]
    monotone: tuple[Monotonicity, ...]
    interactions: tuple[Interaction, ...]
    contributions: tuple[ColumnContributions, ...]
    left_out: dict[str, str]
    method: str
    forwards: int
    seconds: float
    seed: int

    def words(self) -> tuple[str, ...]:
        """Return what was found in plain sentences, most important first."""
        return sentences.words(self)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data, with the sentences and with ``direction`` and ``real`` written out."""
        answer = sentences.answer_of(self.target, self.quantity)
        data = asdict(self)
        for name, key in (("curves", "real"), ("interactions", "real"), ("monotone", "direction")):
            for line, found in zip(data[name], getattr(self, name), strict=True):
                line[key] = getattr(found, key)
        for line, curve in zip(data["curves"], self.curves, strict=True):
            line["words"] = sentences.curve_words(self, curve)
        for line, pair in zip(data["interactions"], self.interactions, strict=True):
            line["words"] = sentences.pair_sentence(pair, answer, self.spread) if pair.real else ""
        told = sentences.left_words(self)
        closing = told if any(p.real for p in self.interactions) else (*sentences.pair_words(self), *told)
        return io.to_plain(data | {"words": list(self.words()), "closing": list(closing)})

    def to_frame(self) -> pd.DataFrame:
        """Return one line a column: column, kind, strength, low, high, control, p_value, share, direction."""
        directions = {m.column: m.direction for m in self.monotone}
        lines = [
            (c.column, c.kind, c.strength, *c.interval, c.control, c.p_value, c.strength / (self.spread or 1.0), directions.get(c.column, ""))
            for c in self.curves
        ]  # fmt: skip
        names = ["column", "kind", "strength", "low", "high", "control", "p_value", "share", "direction"]
        return pd.DataFrame(lines, columns=names)

    def __str__(self) -> str:
        return "\n".join(self.words())


def effects(
    model: BlackBox,
    frame: pd.DataFrame,
    *,
    columns: Sequence[str] | None = None,
    target: Spec | None = None,
    method: str = "ale",
    settings: Settings = Settings(),
    explanations: Sequence[Explanation] = (),
    reference: pd.DataFrame | None = None,
    seed: int = 0,
    memory_mb: int | float = 256,
) -> Effects:
    """Measure how number and category columns move the answers of a model.

    Args:
        model: a model of :mod:`salience.explain.model`; it is only called.
        frame: canonical rows, as ``model.schema.parse`` returns them.
        columns: columns to look at; all numbers and categories if None.
        target: the class, or pair of classes, whose log-odds are followed; the second of two classes, or the class that is
            predicted most often, if None.
        method: ``"ale"`` (right also where columns are correlated) or ``"partial_dependence"`` (with the spread of rows).
        settings: how closely to look.
        explanations: explanations of rows, gathered by bin.
        reference: canonical rows whose quantiles make the bins of the explanations; those explained if None.
        seed: seed of everything random.
        memory_mb: memory for one call of the model, in MiB.

    Raises:
        ConfigError: an unknown column, class or method.
        UnsupportedError: there is no number or category column, or a text or picture is asked for.
        DataError: fewer than 20 rows.
    """
    if method not in METHODS:
        raise ConfigError(f"Unknown method {method!r}", "", nearest(str(method), METHODS), code="SAL-C004")
    chosen = _chosen(model.schema, columns)
    if len(frame) < FEWEST_ROWS:
        raise DataError(
            "Too few rows to measure effects", f"{len(frame)} rows.", f"Give at least {FEWEST_ROWS}."
        )
    begin = perf_counter()
    order = generator(seed, "rows").permutation(len(frame))[: settings.rows]
    sample = frame.iloc[order]
    asker = Asker(model, _target(model, sample, target), memory_mb)
    look = _Look(asker, sample.reset_index(drop=True), sample.index, chosen, method, settings, seed)
    curves, monotone, left_out = look.columns()
    pairs = look.pairs([curve.column for curve in curves])
    gathered = contributions(
        explanations,
        chosen,
        classes=model.schema.classes,
        toward=asker.target.name,
        reference=reference,
        seed=seed,
    )
    return Effects(
        asker.target.name, asker.target.quantity, look.spread, len(sample), curves, monotone, pairs, gathered,
        left_out, method, asker.forwards, perf_counter() - begin, seed,
    )  # fmt: skip


def _chosen(schema: Any, names: Sequence[str] | None) -> list[Any]:
    known = {column.name: column for column in schema.inputs}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"There is no column {name!r}", "", nearest(name, known), code="SAL-C001")
        if known[name].kind not in TABULAR:
            raise UnsupportedError(
                f"The column {name!r} has no effect curve",
                f"It holds {known[name].kind}s.",
                "Explain single rows instead.",
            )
    chosen = [c for c in known.values() if c.kind in TABULAR and (not names or c.name in names)]
    if not chosen:
        raise UnsupportedError(
            "There is no number or category column", ", ".join(known), "Explain single rows instead."
        )
    return chosen


def _target(model: BlackBox, sample: pd.DataFrame, spec: Spec | None) -> Target:
    """Return the number that is followed: one for all rows."""
    classes = model.schema.classes
    if spec is None and classes and len(classes) == 2:
        spec = classes[1]
    outputs = np.asarray(model.outputs(sample), dtype=np.float64)
    found = resolve(model.schema, "predicted" if spec is None else spec, outputs)
    return max(dict.fromkeys(found), key=found.count)


@dataclass
class _Look:
    """Hold what the parts of one measurement share."""

    asker: Asker
    frame: pd.DataFrame
    names: pd.Index
    chosen: list[Any]
    method: str
    settings: Settings
    seed: int

    def __post_init__(self) -> None:
        self.spread = float(self.asker(self.frame, [{}])[0].std())

    def _axis(self, column: Any, frame: pd.DataFrame, steps: int) -> Axis | None:
        others = [c for c in self.asker.model.schema.inputs if c.kind in TABULAR and c.name != column.name]
        return make_axis(frame, column, others, steps)

    def columns(self) -> tuple[tuple[Curve, ...], tuple[Monotonicity, ...], dict[str, str]]:
        """Return the curves, strongest first, the directions, and the columns that have neither."""
        curves, moves, left_out = [], {}, {}
        with Stage("effects", len(self.chosen)) as stage:
            for column in self.chosen:
                axis = self._axis(column, self.frame, self.settings.steps)
                if axis is None:
                    left_out[column.name] = "The rows that were looked at hold fewer than two values."
                else:
                    curves.append(self._curve(axis, moves))
                stage.step(column.name)
        adjusted = holm(np.array([curve.p_value for curve in curves]))
        told = [replace(curve, p_value=float(p)) for curve, p in zip(curves, adjusted, strict=True)]
        told = sorted(told, key=lambda curve: -curve.strength)
        return tuple(told), tuple(moves[c.column] for c in told if c.column in moves), left_out

    def _curve(self, axis: Axis, moves: dict[str, Monotonicity]) -> Curve:
        """Return the curve of a column; the direction of a number is added to ``moves``."""
        tests, followed = len(self.chosen), self.frame.iloc[: self.settings.followed]
        answers = None
        if axis.kind == "number" or self.method == "partial_dependence":
            answers = profiles(self.asker, followed, axis)
        if axis.kind == "number":
            moves[axis.column] = monotonicity(axis, answers, self.names[: len(followed)], self.spread)
        if self.method == "partial_dependence":
            return partial_dependence(axis, answers, spread=self.spread, seed=self.seed, tests=tests)
        return accumulated(self.asker, self.frame, axis, spread=self.spread, seed=self.seed, tests=tests)

    def pairs(self, names: list[str]) -> tuple[Interaction, ...]:
        """Return the pairs that stand out on some rows, measured on others."""
        if len(names) < 2 or not self.settings.pairs or not self.spread:
            return ()
        cut = min(pairwise.SCREENED, len(self.frame) // 3)
        found = pairwise.screen(
            self.asker,
            self.frame.iloc[:cut],
            names,
            most=self.settings.pairs,
            spread=self.spread,
            seed=self.seed,
        )
        rest = self.frame.iloc[cut : cut + self.settings.pair_rows].reset_index(drop=True)
        wanted = {name for pair in found for name in pair[:2]}
        axes = {
            c.name: self._axis(c, rest, self.settings.pair_steps) for c in self.chosen if c.name in wanted
        }
        known = {name: axis for name, axis in axes.items() if axis is not None}
        pairs = [pair for pair in found if pair[0] in known and pair[1] in known]
        return pairwise.measure(self.asker, rest, known, pairs, spread=self.spread, seed=self.seed)
