"""Test explainers on a model that is known to use a known region: train a twin, check it, score its explanations."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from salience.core import registry
from salience.core.errors import ConfigError, SalienceError, UnsupportedError
from salience.core.progress import Stage
from salience.core.stats import generator, mean_interval
from salience.data import readers, splits
from salience.data.schema import Schema
from salience.explain import engine
from salience.explain.explanation import Explanation
from salience.explain.ground_truth.design import Altered, Design, alter
from salience.explain.ground_truth.localisation import (
    MEASURES,
    Localisation,
    dilated,
    finite_mean,
    localise,
    summarise,
)
from salience.explain.model import BlackBox

Fit = Callable[[Schema, pd.DataFrame, pd.DataFrame], BlackBox]
Methods = Sequence[Any] | Mapping[str, Mapping[str, Any]]
MARGIN = 0.05  # by which accuracy must exceed what the old features allow
FLIPS = 0.95  # share of predictions that must follow the manipulation
COLUMNS = (
    "method", "class", "rows", *MEASURES, "low", "high", "undefined", "grown", "pixels", "forwards", "seconds", "refused"
)  # fmt: skip
ALL, ORACLE = "all", "oracle"


@dataclass(frozen=True)
class Preconditions:
    """Say whether a model is known to use the region, so that explanations of it can be scored.

    Attributes:
        accuracy: on changed test rows, in [0, 1].
        interval: its 95 % bootstrap interval.
        best_original: p*, the best accuracy that anything outside the region allows.
        flips: share of rightly predicted rows whose prediction changes to the other label when the row is changed as the
            other label asks, in [0, 1].
        rows: number of test rows.
        reason: why explanations cannot be scored; empty if they can.
    """

    accuracy: float
    interval: tuple[float, float]
    best_original: float
    flips: float
    rows: int
    reason: str


def preconditions(model: BlackBox, test: Altered, *, margin: float = MARGIN) -> Preconditions:
    """Check that a model uses the manipulation: it is right more often than p*, and its prediction follows a switch.

    Args:
        model: trained on changed rows of another split.
        test: changed rows that it has not seen.
        margin: by which the lower end of the accuracy's interval must exceed p*.
    """
    switched = test.switched()
    predicted, after = (np.asarray(model.outputs(part.frame)).argmax(axis=1) for part in (test, switched))
    right = predicted == test.label
    flips = float((after == switched.label)[right].mean()) if right.any() else 0.0
    low, high = mean_interval(right)
    best = test.design.best_original
    reason = ""
    if low < best + margin:
        reason = f"accuracy {right.mean():.3f} (from {low:.3f}) is not {margin:g} above p* = {best:.3f}"
    elif flips < FLIPS:
        reason = f"only {100 * flips:.1f} % of predictions follow the manipulation"
    return Preconditions(float(right.mean()), (low, high), best, flips, len(right), reason)


@dataclass(frozen=True)
class GroundTruth:
    """Scores of explainers where the truth is known.

    Attributes:
        preconditions: what makes the scores mean something.
        scores: one line a method and class (``"all"`` for both together): means of the measures of
            :class:`~salience.explain.ground_truth.localisation.Localisation`, the interval of Attr%, ``grown`` (Attr%
            with the region grown by one cell), ``pixels`` (Attr% of pixel maps, where the method gives them), rows,
            undefined rows, evaluations and seconds; ``refused`` says why a method is not defined here.
        left_out: rows that could not carry the manipulation.
    """

    preconditions: Preconditions
    scores: pd.DataFrame
    left_out: int

    def __str__(self) -> str:
        p, shown = self.preconditions, self.scores[self.scores["class"] == ALL]
        names = ["method", "attr", "low", "high", "uniform", "normalised", "pointing", "undefined", "refused"]
        about = f"Accuracy {p.accuracy:.3f}, at most {p.best_original:.3f} without the region; {100 * p.flips:.1f} % of predictions follow it."
        return f"{about}\n{shown[names].to_string(index=False, float_format='{:.3f}'.format)}"


def check_methods(
    trainer: Any,
    frame: pd.DataFrame,
    design: Design,
    methods: Methods | None = None,
    *,
    schema: Schema | None = None,
    rows: int = 64,
    seed: int = 0,
    margin: float = MARGIN,
    memory_mb: int | float = 256,
) -> GroundTruth:
    """Train a twin on changed data, and score how well explainers find what it must use.

    The rows are split in training (60 %), validation and test rows; each part is changed with draws of its own. The
    given predictor stays as it is.

    Args:
        trainer: a :class:`salience.Predictor`, whose configuration the twin gets, or a function of schema, training rows
            and validation rows that returns a model of :mod:`salience.explain.model`.
        frame: rows with the target, which has as many classes as the design.
        design: how rows are changed; see :class:`~salience.explain.ground_truth.design.Design`.
        methods: explainers, by their keys or as objects of one's own; or keys and options; all that are defined for the
            model if none. The oracle is told the region.
        schema: schema of the rows; the predictor's own, or what it infers, if none.
        rows: test rows that are explained, drawn at random.
        seed: seed of splits, draws, and methods.
        margin: as in :func:`preconditions`.
        memory_mb: memory for one pass of the model, in MiB.

    Raises:
        SalienceError: the twin does not use the region for certain, so that no score would mean anything (SAL-G001).
        ConfigError: no schema is known.
    """
    schema = schema or _schema(trainer, frame)
    parts = altered_splits(frame, schema, design, seed=seed)
    schema = schema.fitted(parts["train"].frame)
    model = _twin(trainer)(schema, parts["train"].frame, parts["validation"].frame)
    found = preconditions(model, parts["test"], margin=margin)
    if found.reason:
        raise SalienceError(
            "The model is not known to use the manipulated region, so explainers cannot be scored on it",
            f"{found.reason[0].upper()}{found.reason[1:]}.",
            "Train longer, make the manipulation easier to see, or keep fewer of the old labels.",
            code="SAL-G001",
        )
    scores = score_methods(model, parts["test"], methods, rows=rows, seed=seed, memory_mb=memory_mb)
    return GroundTruth(found, scores, sum(part.left_out for part in parts.values()))


def _schema(trainer: Any, frame: pd.DataFrame) -> Schema:
    if getattr(trainer, "schema", None) is not None:
        return trainer.schema
    if hasattr(trainer, "infer"):  # a predictor that is not trained yet
        return trainer.infer(readers.read(frame, target=trainer.config.target))
    raise ConfigError(
        "check_methods needs a schema",
        "A function.",
        "Give schema=salience.data.schema.infer(frame, target).",
    )


def altered_splits(
    frame: pd.DataFrame, schema: Schema, design: Design, *, seed: int = 0
) -> dict[str, Altered]:
    """Split rows in training (60 %), validation and test rows, and change each part with draws of its own."""
    named = splits.split(frame, schema, how="stratified", test=0.2, validation=0.2, seed=seed)
    return {name: alter(frame[named == name], schema, design, seed=seed, split=name) for name in splits.NAMES}


def _twin(trainer: Any) -> Fit:
    if not hasattr(trainer, "fit_split"):
        return trainer

    def fit(schema: Schema, train: pd.DataFrame, validation: pd.DataFrame) -> BlackBox:
        return copy.copy(trainer).fit_split(schema, train, validation).model

    return fit


def score_methods(
    model: BlackBox,
    test: Altered,
    methods: Methods | None = None,
    *,
    rows: int = 64,
    seed: int = 0,
    memory_mb: int | float = 256,
) -> pd.DataFrame:
    """Score explainers on changed rows; both classes together and each apart.

    The class without a change shows itself by absence, which a map can hardly point at: its line says so.

    Args:
        model: a model that :func:`preconditions` finds nothing wrong with.
        test: changed rows that it has not seen.
        methods: explainers, by their keys or as objects of one's own; or keys and options; all that are defined for the
            model if none. The oracle is told the region.
        rows: rows that are explained, drawn at random.
        seed: seed of the draw and of the methods.
        memory_mb: memory for one pass of the model, in MiB.
    """
    chosen = np.sort(generator(seed, "rows").permutation(len(test.frame))[:rows])
    frame = test.frame.iloc[chosen]
    labels = np.array(test.classes, dtype=object)[test.label[chosen]]
    lines: list[dict[str, Any]] = []
    asked = methods if methods is not None else [card.key for card in registry.cards("explainer")]
    pairs = list(asked.items()) if isinstance(asked, Mapping) else [(method, {}) for method in asked]
    with Stage("ground truth", len(pairs)) as stage:
        for method, options in pairs:
            own = {"region": test.region} if method == ORACLE else {}
            how = {"options": own | dict(options), "seed": seed, "memory_mb": memory_mb}
            lines += _method_lines(model, test, frame, labels, method, how)
            stage.step(str(method))
    if methods is None:  # what is not defined here was not asked for
        lines = [line for line in lines if not line["refused"]]
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _method_lines(
    model: BlackBox,
    test: Altered,
    frame: pd.DataFrame,
    labels: np.ndarray,
    method: Any,
    how: dict[str, Any],
) -> list[dict[str, Any]]:
    try:
        explanations = engine.explain(model, frame, method=method, faithfulness=False, **how)
    except UnsupportedError as error:
        return [{"method": str(method), "class": ALL, "rows": 0, "refused": str(error)}]
    scored = [score_explanation(explanation, test) for explanation in explanations]
    name, lines = explanations[0].method if explanations else str(method), []
    for label in (ALL, *test.classes):
        part = [i for i in range(len(frame)) if label in (ALL, labels[i])]
        cost = {
            "forwards": sum(explanations[i].forwards for i in part),
            "seconds": sum(explanations[i].seconds for i in part),
        }
        means = _means([scored[i] for i in part])
        lines.append({"method": name, "class": label, "rows": len(part), **means, **cost, "refused": ""})
    return lines


def _means(scored: list[tuple[Localisation, float, float]]) -> dict[str, float]:
    scores, grown, pixels = zip(*scored, strict=True) if scored else ((), (), ())
    return {**summarise(scores), "grown": finite_mean(grown), "pixels": finite_mean(pixels)}


def score_explanation(explanation: Explanation, test: Altered) -> tuple[Localisation, float, float]:
    """Return the scores of one explanation, its Attr% with the grown region, and that of its pixel maps (or NaN)."""
    inside = test.inside(explanation.inputs, explanation.units)
    values = np.array(explanation.values)
    grown = localise(values, dilated(explanation.units, inside)).attr
    return localise(values, inside), grown, _pixel_score(explanation, test)


def _pixel_score(explanation: Explanation, test: Altered) -> float:
    areas = test.design.areas(explanation.inputs)
    pairs = [
        (explanation.evidence[f"pixels:{column}"], areas[column])
        for column, kind in explanation.kinds.items()
        if kind == "image" and f"pixels:{column}" in explanation.evidence and column in areas
    ]
    if len(pairs) != 1:
        return np.nan
    values, mask = pairs[0]
    return localise(np.asarray(values), _resized(mask, np.shape(values))).attr


def _resized(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the share of each pixel of a map that lies in the mask."""
    from PIL import Image

    if mask.shape == shape:
        return mask
    picture = Image.fromarray(mask.astype(np.float32)).resize(shape[::-1], Image.Resampling.BOX)
    return np.asarray(picture, dtype=np.float64)
