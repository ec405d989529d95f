"""Checks that every explainer must pass; run them on one of your own with :func:`check_explainer`.

Each check takes an explainer, its card and a subject, and raises AssertionError with a sentence that says what is
wrong. A subject makes hand-set models whose answers are known: tables (:mod:`salience.testing.toy`) or contexts of a
language model (:mod:`salience.testing.language_toy`).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from salience.core import registry
from salience.core.registry import Card
from salience.explain.attribution import Attribution
from salience.explain.rows import records
from salience.explain.target import Target, resolve, score
from salience.testing.language_toy import LanguageToy, toy_contexts
from salience.testing.toy import CLASSES, LinearToy, ToyFailureError, toy_frame

EXACT = 1e-7
ROWS = 5
LONG = 5000  # words of a long row
BUDGET = 64  # evaluations of a long row, for methods that take a limit
LIMITS = ("max_forwards", "samples")  # attributes of an explainer that bound its evaluations


@dataclass(frozen=True)
class Subject:
    """Make models and rows with known answers.

    Attributes:
        model: from task, variant (``"linear"``, ``"nonlinear"``, ``"zero"``) and ``fail_after`` to a model that counts
            ``rows_seen`` and knows the ``contributions`` of a row.
        frame: from number of rows, seed and task to rows.
        linear: tasks and targets whose value is linear in what the units add.
        zero: tasks of models that ignore their input.
        curved: a task whose nonlinear model is checked for completeness.
        opposites: a task, and two targets of which one is the other with the sign turned.
        holes: from a seed to a model, rows, and rows with empty cells, of all kinds of unit.
        negative: a model, a row, and a target that everything in the row speaks against.
        long: a model, and a row of 5,000 words.
    """

    model: Callable[..., Any]
    frame: Callable[[int, int, str], pd.DataFrame]
    linear: Sequence[tuple[str, Any]]
    zero: Sequence[str]
    curved: str
    opposites: tuple[str, Any, Any]
    holes: Callable[[int], tuple[Any, pd.DataFrame, pd.DataFrame]]
    negative: Callable[[], tuple[Any, pd.DataFrame, Any]]
    long: Callable[[], tuple[Any, pd.DataFrame]]


def _table_holes(seed: int) -> tuple[LinearToy, pd.DataFrame, pd.DataFrame]:
    frame = toy_frame(ROWS, seed, image=True)
    cells = {"title": "", "review": ["", "dress"], "age": np.nan, "department": [None, "hats"], "photo": None}
    return LinearToy(image=True), frame, frame.iloc[:2].assign(**cells)


def _table_negative() -> tuple[LinearToy, pd.DataFrame, str]:
    cells = {"title": "thin", "review": "awful poor bad", "age": 20.0, "price": 50.0, "department": "tops"}
    return LinearToy(), toy_frame(1, 0).assign(**cells), "yes"


def _table_long() -> tuple[LinearToy, pd.DataFrame]:
    return LinearToy(), toy_frame(1, 0).assign(review=" ".join(["good dress , bad"] * (LONG // 4)))


def _language_holes(seed: int) -> tuple[LanguageToy, pd.DataFrame, pd.DataFrame]:
    frame = toy_contexts(ROWS, seed)
    return LanguageToy(), frame, _contexts("", " ", "\n\n", "the", "the\ncrown ,  \n")


def _contexts(*texts: str) -> pd.DataFrame:
    return pd.DataFrame({"context": pd.Series(list(texts), dtype=object)})


TABLE = Subject(
    LinearToy,
    toy_frame,
    (("binary", "predicted"), ("multiclass", ("good", "bad")), ("regression", "predicted")),
    ("binary", "regression"),
    "multiclass",
    ("binary", *CLASSES["binary"]),
    _table_holes,
    _table_negative,
    _table_long,
)
LANGUAGE = Subject(
    lambda task="", variant="linear", fail_after=None: LanguageToy(variant, fail_after=fail_after),
    lambda rows, seed, task="": toy_contexts(rows, seed),
    (("next token", ("king", "queen")), ("next token", ("dog", "of"))),
    ("next token",),
    "next token",
    ("next token", ("king", "queen"), ("queen", "king")),
    _language_holes,
    lambda: (LanguageToy(), _contexts("she not she not"), ("king", "dog")),
    lambda: (LanguageToy(), _contexts("the crown " * (LONG // 2))),
)


def run(
    explainer: Any, model: Any, frame: pd.DataFrame, target: Any = "predicted", *, seed: int = 0
) -> tuple[list[Attribution], list[Target]]:
    """Return the attributions of a frame and the targets that were asked for."""
    targets = resolve(model.schema, target, model.outputs(frame))
    return explainer.attribute(model, frame, targets, seed=seed, memory_mb=64), targets


def _say(condition: Any, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _bent(card: dict[str, Any]) -> str:
    """Return the model that checks use where known answers are not needed: a linear one for methods that refuse others."""
    return card.get("variant", "nonlinear")


def check_linear(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """Exact contributions on a linear model: two classes, one class or token against another, and regression."""
    for task, target in subject.linear:
        model, frame = subject.model(task), subject.frame(ROWS, 1, task)
        for position, row in enumerate(records(model, frame)):
            found, targets = run(explainer, model, frame.iloc[position : position + 1], target)
            parts = score(model.contributions(row), targets * len(found[0].values))
            gap = np.abs(found[0].values - parts).max()
            _say(gap <= EXACT, f"values differ from the exact contributions by {gap:.2g} ({task})")


def check_zero(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """A model that ignores its input gives zeros."""
    for task in subject.zero:
        found, _ = run(explainer, subject.model(task, "zero"), subject.frame(ROWS, 2, task))
        largest = max(np.abs(a.values[np.isfinite(a.values)]).max(initial=0) for a in found)
        _say(largest == 0, f"a model that ignores its input got a value of {largest:.2g}")


def check_batch(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """A row explained in a batch of longer rows gets the values that it gets alone."""
    task, target, _ = subject.opposites
    model, frame = subject.model(task, _bent(card)), subject.frame(ROWS, 3, task)
    together, _ = run(explainer, model, frame, target)
    for position, batched in enumerate(together):
        alone = run(explainer, model, frame.iloc[position : position + 1], target)[0][0]
        same = np.allclose(batched.values, alone.values, atol=EXACT, equal_nan=True)
        _say(same, f"row {position} gets other values in a batch than alone")


def check_complete(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """The stated completeness gap is the true one, and within 1 % where the card promises completeness."""
    task = subject.curved
    model, frame = subject.model(task, _bent(card)), subject.frame(ROWS, 4, task)
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


def check_target(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """What speaks for one of two speaks against the other; a method without target or signs gives the same.

    Of a method that shows only what speaks for the target (``rectified``), no unit may speak for both.
    """
    task, *targets = subject.opposites
    model, frame = subject.model(task, _bent(card)), subject.frame(ROWS, 5, task)
    one, other = (run(explainer, model, frame, target)[0] for target in targets)
    sign = -1.0 if card.get("uses_target", True) and card["signed"] else 1.0
    for a, b in zip(one, other, strict=True):
        same = np.allclose(a.values, sign * b.values, atol=EXACT, equal_nan=True)
        if card.get("rectified"):
            same = np.nanmax(np.abs(a.values * b.values)) <= EXACT
        _say(same, "the values do not follow the target")


def check_kinds(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """Every unit of a kind that the card claims has a finite value, also in rows with empty cells."""
    model, frame, holes = subject.holes(6)
    for part in (frame, holes):
        found, _ = run(explainer, model, part)
        for row, attribution in zip(records(model, part), found, strict=True):
            units = model.units(row)
            _say(attribution.values.shape == (len(units),), "there is not one value a unit")
            for unit, value in zip(units, attribution.values, strict=True):
                fine = np.isfinite(value) or unit.kind not in card["kinds"]
                _say(fine, f"the {unit.kind} unit {unit.label!r} has no finite value")


def check_cost(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """Model evaluations are counted, none too few, and seconds are filled."""
    task = subject.opposites[0]
    model, frame = subject.model(task, _bent(card)), subject.frame(ROWS, 7, task)
    targets = resolve(model.schema, "predicted", model.outputs(frame))
    model.rows_seen = 0
    found = explainer.attribute(model, frame, targets, seed=0, memory_mb=64)
    counted = sum(a.forwards for a in found)
    _say(counted >= model.rows_seen, f"{model.rows_seen} rows were evaluated, {counted} are stated")
    _say(counted > 0 or card.get("control"), "no evaluation is stated")
    _say(all(a.seconds > 0 for a in found), "no seconds are stated")


def _state(model: Any) -> tuple[Any, ...]:
    modes = tuple(m.training for m in model.modules())
    parameters = tuple((p.requires_grad, id(p.grad), float(p.detach().sum())) for p in model.parameters())
    hooks = tuple(len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules())
    numbers = np.random.get_state()[1].tobytes()  # noqa: NPY002
    return modes, parameters, hooks, torch.get_rng_state().numpy().tobytes(), numbers


def check_state(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """Mode, gradients, hooks and random state are as before, also when the model throws."""
    task = subject.opposites[0]
    frame, sound = subject.frame(ROWS, 8, task), subject.model(task)
    targets = resolve(sound.schema, "predicted", sound.outputs(frame))
    for fail_after in (None, 0, 1, 2):
        model = subject.model(task, fail_after=fail_after).train()
        next(m for m in model.modules() if isinstance(m, torch.nn.Dropout)).eval()
        first, second, *_ = model.parameters()
        second.requires_grad_(False)
        first.grad = torch.ones_like(first)
        before = _state(model)
        with suppress(ToyFailureError):
            explainer.attribute(model, frame, targets, seed=0, memory_mb=64)
        when = "" if fail_after is None else " when the model throws"
        _say(_state(model) == before, f"the model or the random state is not as it was before{when}")


def check_seed(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """The same seed gives the same numbers; a control gives others for another seed."""
    task = subject.opposites[0]
    model, frame = subject.model(task, _bent(card)), subject.frame(ROWS, 9, task)
    first, again, other = (run(explainer, model, frame, seed=seed)[0] for seed in (0, 0, 1))
    same = all(np.array_equal(a.values, b.values, equal_nan=True) for a, b in zip(first, again, strict=True))
    _say(same, "the same seed gives other numbers")
    moved = any(not np.array_equal(a.values, b.values) for a, b in zip(first, other, strict=True))
    _say(moved or not card.get("drawn"), "a random control gives the same numbers for another seed")


def check_empty(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """A frame without rows gives an empty list."""
    task = subject.opposites[0]
    found, _ = run(explainer, subject.model(task), subject.frame(3, 0, task).iloc[:0])
    _say(found == [], "a frame without rows does not give an empty list")


def check_neutral(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """A row from which everything was taken away is explained like any other."""
    model, frame, _ = subject.holes(10)
    gone = pd.DataFrame([model.remove(row, model.units(row)) for row in records(model, frame)])
    for row, attribution in zip(records(model, gone), run(explainer, model, gone)[0], strict=True):
        units = model.units(row)
        _say(attribution.values.shape == (len(units),), "there is not one value a unit")
        claimed = np.array([unit.kind in card["kinds"] for unit in units], dtype=bool)
        _say(np.isfinite(attribution.values[claimed]).all(), "a row without its units has no finite values")


def check_negative(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """Where every unit speaks against the target, the values of a method with signs say so."""
    model, frame, target = subject.negative()
    values = run(explainer, model, frame, target)[0][0].values
    _say(
        np.nansum(values) < 0,
        f"everything speaks against the target, the values add up to {np.nansum(values):.2g}",
    )
    _say(
        np.nanmax(values) <= 0.1 * np.nanmax(np.abs(values)),
        "a unit that speaks against it has a value above zero",
    )


def check_nan(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """A model that answers NaN is no reason to fail; a control that does not call it keeps its values."""
    task = subject.opposites[0]
    model, frame = subject.model(task), subject.frame(2, 11, task)
    targets = resolve(model.schema, subject.opposites[1], model.outputs(frame))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    answer = model.outputs
    model.outputs = lambda part: np.full_like(answer(part), np.nan)
    for row, attribution in zip(
        records(model, frame), explainer.attribute(model, frame, targets, seed=0, memory_mb=64), strict=True
    ):
        _say(attribution.values.shape == (len(model.units(row)),), "there is not one value a unit")
        signs = card.get("uses_target", True) and np.isfinite(attribution.values).any()
        _say(not signs, "a model that answers NaN got a finite value")


def check_memory(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """A small memory budget changes the calls of the model, and no number."""
    task = subject.opposites[0]
    model, frame = subject.model(task, _bent(card)), subject.frame(ROWS, 12, task)
    targets = resolve(model.schema, "predicted", model.outputs(frame))
    large, small = (
        explainer.attribute(model, frame, targets, seed=0, memory_mb=memory_mb) for memory_mb in (256, 0.05)
    )
    for a, b in zip(large, small, strict=True):
        same = np.allclose(a.values, b.values, atol=EXACT, equal_nan=True)
        _say(same, "a small memory budget gives other values")


def check_long(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> None:
    """A row of 5,000 words has a value for each, within the evaluations that the method was allowed."""
    model, frame = subject.long()
    limited = with_limit(explainer, BUDGET)
    found, _ = run(limited, model, frame)
    units = model.units(records(model, frame)[0])
    claimed = np.array([unit.kind in card["kinds"] for unit in units])
    _say(len(units) >= LONG and found[0].values.shape == (len(units),), "there is not one value a unit")
    _say(np.isfinite(found[0].values[claimed]).all(), "a unit of a long row has no finite value")
    if limited is not explainer:
        allowed = BUDGET + 8  # the whole and the empty row, and two ends of a path
        _say(found[0].forwards <= allowed, f"{found[0].forwards} evaluations, {allowed} were allowed")


def with_limit(explainer: Any, evaluations: int) -> Any:
    """Return a copy of an explainer that may evaluate less, or the explainer itself where it has no limit."""
    if hasattr(explainer, "explainer"):  # one that changes another's values
        changed = copy(explainer)
        changed.explainer = with_limit(explainer.explainer, evaluations)
        return changed
    names = [name for name in LIMITS if hasattr(explainer, name)]
    if not names:
        return explainer
    changed = copy(explainer)
    for name in names:
        setattr(changed, name, evaluations)
    return changed


CHECKS: dict[str, Callable[..., None]] = {
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
    "neutral": check_neutral,
    "negative": check_negative,
    "nan": check_nan,
    "memory": check_memory,
    "long": check_long,
}


def checks_for(card: dict[str, Any]) -> list[str]:
    """Return the names of the checks that a card asks for.

    Exact contributions are asked of methods whose card says ``exact_linear``; zeros of these and of those that watch the
    answer fall (a bare gradient at a zero embedding is none); signs of those that have signs and are no control. A
    method that needs a special model is left out.
    """
    if card["needs"] not in ("black_box", "white_box"):
        return []
    targeted = card.get("uses_target", True)
    signs = targeted and card["signed"] and "text" in card["kinds"] and not card.get("control")
    falls = targeted and (card["exact_linear"] or card["needs"] == "black_box")
    asked = {"linear": card["exact_linear"], "zero": falls, "negative": signs}
    return [name for name in CHECKS if asked.get(name, True)]


def built(card: Card) -> Any:
    """Return the explainer of a card with its tiny options; the oracle knows that every other unit matters."""
    entry = registry.load("explainer", card.key)
    if card.key != "oracle":
        return entry(**card.get("tiny", {}))
    return entry(region=lambda row, units: np.arange(len(units)) % 2 == 0)


def check_explainer(explainer: Any, card: dict[str, Any], subject: Subject = TABLE) -> dict[str, str]:
    """Run all checks of an explainer on a subject; return what is wrong, by check, empty if nothing."""
    problems = {}
    for name in checks_for(card):
        try:
            CHECKS[name](explainer, card, subject)
        except AssertionError as error:
            problems[name] = str(error)
    return problems
