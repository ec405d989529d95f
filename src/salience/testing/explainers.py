"""Checks that every explainer must pass; run them on one of your own with :func:`check_explainer`.

Each check takes an explainer and its card, and raises AssertionError with a sentence that says what is wrong. The
models are the hand-set toys of :mod:`salience.testing.toy`, whose answers are known.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import torch

from salience.explain.attribution import Attribution
from salience.explain.rows import records
from salience.explain.target import Target, resolve, score
from salience.testing.toy import CLASSES, LinearToy, ToyFailureError, toy_frame

EXACT = 1e-7
ROWS = 5


def run(
    explainer: Any, model: LinearToy, frame: pd.DataFrame, target: Any = "predicted", *, seed: int = 0
) -> tuple[list[Attribution], list[Target]]:
    """Return the attributions of a frame and the targets that were asked for."""
    targets = resolve(model.schema, target, model.outputs(frame))
    return explainer.attribute(model, frame, targets, seed=seed, memory_mb=64), targets


def _say(condition: Any, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def check_linear(explainer: Any, card: dict[str, Any]) -> None:
    """Exact contributions on a linear model: two classes, one class against another, and regression."""
    for task, target in (
        ("binary", "predicted"),
        ("multiclass", ("good", "bad")),
        ("regression", "predicted"),
    ):
        model, frame = LinearToy(task), toy_frame(ROWS, 1, task)
        for position, row in enumerate(records(model, frame)):
            found, targets = run(explainer, model, frame.iloc[position : position + 1], target)
            parts = score(model.contributions(row), targets * len(found[0].values))
            gap = np.abs(found[0].values - parts).max()
            _say(gap <= EXACT, f"values differ from the exact contributions by {gap:.2g} ({task})")


def check_zero(explainer: Any, card: dict[str, Any]) -> None:
    """A model that ignores its input gives zeros."""
    for task in ("binary", "regression"):
        found, _ = run(explainer, LinearToy(task, "zero"), toy_frame(ROWS, 2, task))
        largest = max(np.abs(a.values).max() for a in found)
        _say(largest == 0, f"a model that ignores its input got a value of {largest:.2g}")


def check_batch(explainer: Any, card: dict[str, Any]) -> None:
    """A row explained in a batch of longer rows gets the values that it gets alone."""
    model, frame = LinearToy("binary", "nonlinear"), toy_frame(ROWS, 3)
    together, _ = run(explainer, model, frame, "yes")
    for position, batched in enumerate(together):
        alone = run(explainer, model, frame.iloc[position : position + 1], "yes")[0][0]
        same = np.allclose(batched.values, alone.values, atol=EXACT, equal_nan=True)
        _say(same, f"row {position} gets other values in a batch than alone")


def check_complete(explainer: Any, card: dict[str, Any]) -> None:
    """The stated completeness gap is the true one, and within 1 % where the card promises completeness."""
    model, frame = LinearToy("multiclass", "nonlinear"), toy_frame(ROWS, 4, "multiclass")
    found, targets = run(explainer, model, frame)
    rows = pd.DataFrame([model.remove(row, model.units(row)) for row in records(model, frame)])
    change = score(model.outputs(frame), targets) - score(model.outputs(rows), targets)
    for attribution, true_change in zip(found, change, strict=True):
        if not card["complete"]:
            _say(attribution.completeness_gap is None, "a gap is stated, though completeness is not promised")
            continue
        gap = attribution.values.sum() - true_change
        stated = attribution.completeness_gap
        _say(stated is not None and abs(stated - gap) <= 1e-5, f"the gap is {gap:.2g}, stated is {stated}")
        _say(abs(gap) <= 0.01 * abs(true_change) + 1e-5, f"the gap is {gap:.2g} of {true_change:.2g}")


def check_target(explainer: Any, card: dict[str, Any]) -> None:
    """Of two classes, what speaks for one speaks against the other; a method without target gives the same."""
    model, frame = LinearToy("binary", "nonlinear"), toy_frame(ROWS, 5)
    no, yes = (run(explainer, model, frame, name)[0] for name in CLASSES["binary"])
    sign = -1.0 if card.get("uses_target", True) else 1.0
    for a, b in zip(no, yes, strict=True):
        same = np.allclose(a.values, sign * b.values, atol=EXACT, equal_nan=True)
        _say(same, "the values do not follow the target")


def check_kinds(explainer: Any, card: dict[str, Any]) -> None:
    """Every unit of a kind that the card claims has a finite value, also in rows with empty cells."""
    model, frame = LinearToy(image=True), toy_frame(ROWS, 6, image=True)
    holes = frame.iloc[:2].assign(title="", review="", age=np.nan, department=[None, "hats"], photo=None)
    for part in (frame, holes):
        found, _ = run(explainer, model, part)
        for row, attribution in zip(records(model, part), found, strict=True):
            units = model.units(row)
            _say(attribution.values.shape == (len(units),), "there is not one value a unit")
            for unit, value in zip(units, attribution.values, strict=True):
                fine = np.isfinite(value) or unit.kind not in card["kinds"]
                _say(fine, f"the {unit.kind} unit {unit.label!r} has no finite value")


def check_cost(explainer: Any, card: dict[str, Any]) -> None:
    """Model evaluations are counted, none too few, and seconds are filled."""
    model, frame = LinearToy("binary", "nonlinear"), toy_frame(ROWS, 7)
    targets = resolve(model.schema, "predicted", model.outputs(frame))
    model.rows_seen = 0
    found = explainer.attribute(model, frame, targets, seed=0, memory_mb=64)
    counted = sum(a.forwards for a in found)
    _say(counted >= model.rows_seen, f"{model.rows_seen} rows were evaluated, {counted} are stated")
    _say(counted > 0 or card.get("control"), "no evaluation is stated")
    _say(all(a.seconds > 0 for a in found), "no seconds are stated")


def _state(model: LinearToy) -> tuple[Any, ...]:
    modes = tuple(m.training for m in model.modules())
    parameters = tuple((p.requires_grad, id(p.grad), float(p.detach().sum())) for p in model.parameters())
    hooks = tuple(len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules())
    numbers = np.random.get_state()[1].tobytes()  # noqa: NPY002
    return modes, parameters, hooks, torch.get_rng_state().numpy().tobytes(), numbers


def check_state(explainer: Any, card: dict[str, Any]) -> None:
    """Mode, gradients, hooks and random state are as before, also when the model throws."""
    frame = toy_frame(ROWS, 8)
    targets = resolve(LinearToy().schema, "predicted", LinearToy().outputs(frame))
    for fail_after in (None, 0, 1, 2):
        model = LinearToy(fail_after=fail_after).train()
        model.dropout.eval()
        model.number.requires_grad_(False)
        model.text.grad = torch.ones_like(model.text)
        before = _state(model)
        with suppress(ToyFailureError):
            explainer.attribute(model, frame, targets, seed=0, memory_mb=64)
        when = "" if fail_after is None else " when the model throws"
        _say(_state(model) == before, f"the model or the random state is not as it was before{when}")


def check_seed(explainer: Any, card: dict[str, Any]) -> None:
    """The same seed gives the same numbers; a control gives others for another seed."""
    model, frame = LinearToy("binary", "nonlinear"), toy_frame(ROWS, 9)
    first, again, other = (run(explainer, model, frame, seed=seed)[0] for seed in (0, 0, 1))
    same = all(np.array_equal(a.values, b.values, equal_nan=True) for a, b in zip(first, again, strict=True))
    _say(same, "the same seed gives other numbers")
    moved = any(not np.array_equal(a.values, b.values) for a, b in zip(first, other, strict=True))
    _say(moved or not card.get("control"), "a random control gives the same numbers for another seed")


def check_empty(explainer: Any, card: dict[str, Any]) -> None:
    """A frame without rows gives an empty list."""
    found, _ = run(explainer, LinearToy(), toy_frame(3, 0).iloc[:0])
    _say(found == [], "a frame without rows does not give an empty list")


CHECKS: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "linear": check_linear,
    "zero": check_zero,
    "batch": check_batch,
    "complete": check_complete,
    "target": check_target,
    "kinds": check_kinds,
    "cost": check_cost,
    "state": check_state,
    "seed": check_seed,
    "empty": check_empty,
}


def checks_for(card: dict[str, Any]) -> list[str]:
    """Return the names of the checks that a card asks for.

    Exact contributions and zeros are asked of methods whose card says ``exact_linear``; the rest of all.
    """
    return [name for name in CHECKS if card["exact_linear"] or name not in ("linear", "zero")]


def check_explainer(explainer: Any, card: dict[str, Any]) -> dict[str, str]:
    """Run all checks of an explainer; return what is wrong, by check, empty if nothing."""
    problems = {}
    for name in checks_for(card):
        try:
            CHECKS[name](explainer, card)
        except AssertionError as error:
            problems[name] = str(error)
    return problems
