"""Explain rows: run a method, dress its numbers as explanations, and measure whether they are true."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from salience.core import registry
from salience.core.errors import ConfigError, UnsupportedError
from salience.core.progress import Stage
from salience.explain.attribution import Attribution
from salience.explain.explanation import Explanation, kinds_of
from salience.explain.faithfulness import measure
from salience.explain.model import BlackBox, WhiteBox
from salience.explain.options import build
from salience.explain.rows import records
from salience.explain.target import NO, YES, Spec, Target, resolve

GROUP = 32  # rows explained together; keeps progress moving and memory bounded


def explain(
    model: BlackBox,
    frame: pd.DataFrame,
    *,
    method: Any = "integrated_gradients",
    options: Mapping[str, Any] | None = None,
    target: Spec = "predicted",
    seed: int = 0,
    memory_mb: int | float = 256,
    faithfulness: bool = True,
) -> list[Explanation]:
    """Explain every row of a frame.

    Args:
        model: a model of :mod:`salience.explain.model`.
        frame: canonical rows, as ``model.schema.parse`` returns them.
        method: key of an explainer, as ``salience list explainers`` shows them, or an explainer of your own: an
            object with ``attribute``, and with a dictionary ``card`` or a ``CARD`` in its module.
        options: options of a method that is named by its key; its card shows the defaults.
        target: ``"predicted"``, a class, a pair of classes, or one of several targets; see :func:`salience.explain.target.resolve`.
        seed: seed of the method and of the random control.
        memory_mb: memory for one pass of the model, in MiB.
        faithfulness: whether to measure if the explanations are true.

    Returns:
        One explanation a row, in the order of the frame.

    Raises:
        ConfigError: unknown method, option or class; the nearest name is suggested.
        UnsupportedError: the method is not defined for this model.
    """
    explainer, card = _explainer(method, options or {})
    if card.get("needs") == "white_box" and not isinstance(model, WhiteBox):
        raise UnsupportedError(
            f"The method {card.key!r} needs a model that shows its embedded input",
            f"{type(model).__name__} can only be called.",
            "Use method='leave_one_out'.",
        )
    result: dict[int, Explanation] = {}
    order = np.argsort([len(model.units(row)) for row in records(model, frame)], kind="stable")
    with Stage("explain", len(frame)) as stage:
        for start in range(0, len(frame), GROUP):  # rows of like length together waste little on padding
            positions = order[start : start + GROUP]
            group = frame.iloc[positions]
            outputs = np.asarray(model.outputs(group), dtype=np.float64)
            targets = resolve(model.schema, target, outputs)
            found = explainer.attribute(model, group, targets, seed=seed, memory_mb=memory_mb)
            signed = getattr(explainer, "signed", card.get("signed", True))  # may depend on its options
            dressed = _dress(model, group, outputs, targets, found, card, seed, signed)
            done = measured(model, dressed, seed, memory_mb) if faithfulness else dressed
            result |= dict(zip(positions.tolist(), done, strict=True))
            for _ in done:
                stage.step(card.key)
    return [result[position] for position in range(len(frame))]


def _explainer(method: Any, options: Mapping[str, Any]) -> tuple[Any, registry.Card]:
    """Return the explainer that was asked for, and its card."""
    if isinstance(method, str):
        card = registry.card("explainer", method)
        return build(registry.load("explainer", method), options, method), card
    if isinstance(method, type) or not callable(getattr(method, "attribute", None)):
        raise ConfigError(
            "The method is no explainer", repr(method), "Give a key, or an object with a method `attribute`."
        )
    if options:
        raise ConfigError(
            "Options belong to a method that is named by its key",
            f"{', '.join(options)} for {type(method).__name__}.",
            "Give them to the object when it is made.",
        )
    return method, _card(method)


def _card(method: Any) -> registry.Card:
    """Return the card of an object: its own, or that of the module of its class or of a class above."""
    modules = [sys.modules[cls.__module__] for cls in type(method).__mro__ if cls.__module__ in sys.modules]
    found = [getattr(method, "card", None), *(getattr(module, "CARD", None) for module in modules)]
    for fields in found:
        if isinstance(fields, dict) and fields.get("key"):
            return registry.Card(type(method).__module__, fields)
    raise ConfigError(
        f"The explainer {type(method).__name__} has no card",
        "Neither an attribute `card` nor a CARD in its module.",
        "Give it one: card = {'key': 'mine', 'needs': 'black_box'}.",
    )


def measured(
    model: BlackBox, explanations: list[Explanation], seed: int, memory_mb: int | float
) -> list[Explanation]:
    """Return explanations with a measurement of whether they are true."""
    found = measure(model, explanations, seed=seed, memory_mb=memory_mb)
    return [replace(e, faithfulness=f) for e, f in zip(explanations, found, strict=True)]


def _dress(
    model: BlackBox,
    frame: pd.DataFrame,
    outputs: np.ndarray,
    targets: Sequence[Target],
    found: Sequence[Attribution],
    card: registry.Card,
    seed: int,
    signed: bool,
) -> list[Explanation]:
    kinds = kinds_of(model.schema.inputs)
    medians = {
        c.name: c.baseline for c in model.schema.inputs if c.kind == "number" and c.baseline is not None
    }
    answers = predictions(model, outputs, targets)
    return [
        Explanation(
            units=model.units(inputs),
            values=tuple(attribution.values.tolist()),
            inputs=inputs,
            kinds=kinds,
            row=getattr(name, "item", lambda name=name: name)(),
            method=card.key,
            target=target.name,
            quantity=target.quantity,
            prediction=prediction,
            probability=probability,
            output=attribution.output,
            baseline_output=attribution.baseline_output,
            baseline=attribution.baseline,
            completeness_gap=attribution.completeness_gap,
            seed=seed,
            forwards=attribution.forwards,
            seconds=attribution.seconds,
            signed=signed,
            target_index=target.index,
            against_index=target.against,
            independent=target.independent,
            target_column=target_column(model, target),
            evidence=attribution.evidence,
            medians=medians,
        )
        for inputs, name, target, attribution, (prediction, probability) in zip(
            records(model, frame), frame.index, targets, found, answers, strict=True
        )
    ]


def target_column(model: BlackBox, target: Target) -> str:
    """Return the name of the column that a target is about; empty where there is none."""
    columns = model.schema.targets
    position = target.index if len(columns) > 1 else 0
    return columns[position].name if columns else ""


def predictions(
    model: BlackBox, outputs: np.ndarray, targets: Sequence[Target]
) -> list[tuple[Any, float | None]]:
    """Return what is predicted for each row's target: a class or yes or no with its probability, or a number."""
    task, classes = model.schema.task, model.schema.classes
    if task == "multi-label":
        chosen = model.predict_proba(outputs)[np.arange(len(outputs)), [t.index for t in targets]]
        return [(YES, float(p)) if p >= 0.5 else (NO, float(1 - p)) for p in chosen]
    if classes is None:
        index = [t.index if task == "multi-regression" else 0 for t in targets]
        return [(float(value), None) for value in outputs[np.arange(len(outputs)), index]]
    probabilities = model.predict_proba(outputs)
    best = probabilities.argmax(axis=1)
    return [(classes[i], float(p[i])) for i, p in zip(best, probabilities, strict=True)]
