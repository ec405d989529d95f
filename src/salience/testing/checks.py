"""What every audit check must do: answer with an interval and a control, repeat itself, refuse with a reason.

:data:`CHECKS` holds the rules that need no knowledge of the check. Two more need a known answer, which the author
of a check gives in a test: :func:`assert_value` and :func:`coverage`, with :func:`column_context` to set it up.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch

from salience.audit.context import AuditContext
from salience.audit.engine import run_check
from salience.audit.levels import read_policy
from salience.audit.phrases import number, percent
from salience.core.finding import Cost, Finding
from salience.core.io import dumps
from salience.core.registry import Card
from salience.data.schema import Column, Schema
from salience.explain.engine import explain
from salience.models.table_model import TABULAR, ModelConfig, TableModel
from salience.testing.toy import LinearToy, toy_frame

Run = Callable[[AuditContext], list[Finding]]
TOYS = {
    "classification": ("binary", "multiclass"), "regression": ("regression",),
    "multi-label": ("multi-label",), "multi-regression": ("multi-regression",),
}  # fmt: skip
ROWS = 160


class ColumnModel:
    """Predict what the column ``score`` says: log-odds of the second class, or the value."""

    def __init__(self, task: str) -> None:
        self._task = task

    def outputs(self, frame: pd.DataFrame) -> np.ndarray:
        """Return logits ``(row, 2)``, or values ``(row, 1)``."""
        score = frame["score"].to_numpy(dtype=float)
        return score[:, None] if self._task == "regression" else np.stack([-score / 2, score / 2], axis=1)


def column_context(
    score: np.ndarray, truth: np.ndarray, *, task: str = "classification", seed: int = 0, **cells: Any
) -> AuditContext:
    """Return a context whose model states a given score for each row; its answers are known in advance.

    Args:
        score: log-odds that the truth is 1, or predicted values.
        truth: 0 or 1, or values.
        task: ``"classification"`` or ``"regression"``.
        seed: seed of the check.
        cells: more input columns, of numbers or of strings (categories). The same rows serve as training and test
            rows, except under ``quick=True``, which is passed on.
    """
    quick = cells.pop("quick", True)
    frame = pd.DataFrame({"score": score, **cells})
    kinds = {n: "number" if pd.api.types.is_numeric_dtype(frame[n]) else "category" for n in frame.columns}
    columns = [Column(name, kind, "input") for name, kind in kinds.items()]
    classes = ["0", "1"] if task == "classification" else None
    schema = Schema((*columns, Column("truth", "category" if classes else "number", "target")), task, classes)
    frame["truth"] = [str(int(t)) for t in truth] if classes else truth
    return AuditContext(ColumnModel(task), schema, {"train": frame, "test": frame}, seed=seed, quick=quick)


def toy_context(task: str, *, rows: int = ROWS, seed: int = 0) -> AuditContext:
    """Return a context of the linear toy model with explained rows.

    Args:
        task: as for :func:`salience.testing.toy.toy_schema`.
        rows: number of training rows, and of test rows.
        seed: seed of the rows.
    """
    model = LinearToy(task)
    frames = {split: toy_frame(rows, seed + i, task) for i, split in enumerate(("train", "test"))}
    some = model.schema.parse(frames["test"].head(8), target=False)
    explanations = explain(model, some, method="leave_one_out") if rows >= 8 else []
    profile = {field: next(iter(options)) for field, options in read_policy().options.items()}
    return AuditContext(
        model, model.schema, frames, explanations=tuple(explanations), cost={"train_seconds": 1.5}, quick=True, profile=profile,
        directions={"age": "increasing"},
    )  # fmt: skip


@lru_cache(maxsize=8)
def _cached_context(task: str) -> AuditContext:
    return toy_context(task)


def fresh_context(task: str) -> AuditContext:
    """Return :func:`toy_context` with rows of its own, and without anything cached by an earlier check."""
    context = _cached_context(task)
    return replace(context, frames={split: frame.copy() for split, frame in context.frames.items()})


@lru_cache(maxsize=8)
def _table_model(task: str) -> TableModel:
    """Return an untrained model of the toy's numbers and categories, small enough to be trained anew by a check."""
    context = _cached_context(task)
    seen = tuple(c for c in context.schema.columns if c.role != "input" or c.kind in TABULAR)
    model = TableModel(replace(context.schema, columns=seen), ModelConfig(hidden=(8,)))
    model.fit_parts(context.inputs("train"), context.truth("train"), torch.Generator().manual_seed(0))
    return model.eval()


def _retrains(card: Card) -> bool:
    """Tell whether the check trains the model's own architecture anew."""
    return bool(card.get("retrains"))


def _context(task: str, retrains: bool) -> AuditContext:
    """Return the toy's context; for a check that trains anew with a model that can be."""
    context = fresh_context(task)
    if not retrains:
        return context
    model = _table_model(task)
    return replace(context, model=model, schema=model.schema)


def assert_value(run: Run, context: AuditContext, expected: float, tolerance: float) -> Finding:
    """Require that a check finds a value that is known in advance, and return its first finding."""
    finding = run(context)[0]
    assert finding.value is not None, f"not measured: {finding.answer}"
    distance = abs(finding.value - expected)
    assert distance <= tolerance, f"value {finding.value:.6g}, known answer {expected:.6g} ± {tolerance:g}"
    return finding


def coverage(run: Run, contexts: Iterable[AuditContext], truth: float) -> float:
    """Return the share of simulated contexts whose interval covers the true value."""
    covered = []
    for context in contexts:
        low, high = run(context)[0].interval or (float("nan"), float("nan"))
        covered.append(low <= truth <= high)
    return float(np.mean(covered))


def _toys(card: Card) -> list[str]:
    return [toy for task in card.get("tasks") or TOYS for toy in TOYS[task]]


@lru_cache(maxsize=8)
def _findings(run: Run, toy: str, retrains: bool) -> list[Finding]:
    return run(_context(toy, retrains))


def _measured(card: Card, run: Run) -> list[Finding]:
    return [finding for toy in _toys(card) for finding in _findings(run, toy, _retrains(card))]


def check_answers_with_findings(card: Card, run: Run) -> None:
    """Require at least one finding for every task of the card, with its key, a question and an answer."""
    for toy in _toys(card):
        findings = _findings(run, toy, _retrains(card))
        assert isinstance(findings, list) and findings, f"no finding on the {toy} toy"
        for finding in findings:
            assert isinstance(finding, Finding), f"{type(finding).__name__} is no Finding"
            assert finding.check == card.key, f"finding of {finding.check!r}, card of {card.key!r}"
            assert finding.question.strip().endswith("?"), f"no question: {finding.question!r}"
            assert finding.answer.strip().endswith("."), f"no sentence: {finding.answer!r}"
            assert finding.verdict != "not measured", f"not measured on the {toy} toy: {finding.answer}"
            assert finding.rows > 0, "rows is 0"


def check_value_has_unit_and_interval(card: Card, run: Run) -> None:
    """Require a value with its unit and a finite interval around it; a decision by rules has none (``"decides": True``)."""
    for finding in _measured(card, run):
        assert finding.value is not None and np.isfinite(finding.value), "no value"
        assert finding.unit, "no unit"
        if card.get("decides"):
            continue
        assert finding.interval is not None, "no interval"
        low, high = finding.interval
        assert low <= finding.value <= high, f"value {finding.value} outside its interval {low} to {high}"


def check_control_is_present(card: Card, run: Run) -> None:
    """Require what a random or trivial answer scores, with a name that says so; not of a decision by rules."""
    for finding in [] if card.get("decides") else _measured(card, run):
        assert finding.control is not None, "no control"
        assert finding.control.name, "the control has no name"
        assert finding.control.value is not None and np.isfinite(finding.control.value), (
            "control without value"
        )


def check_answer_states_the_value(card: Card, run: Run) -> None:
    """Require that the sentence holds the value, as :mod:`salience.audit.phrases` writes it; not of a decision by rules."""
    for finding in [] if card.get("decides") else _measured(card, run):
        forms = {number(finding.value), percent(finding.value), f"{finding.value:g}"}
        assert any(form in finding.answer for form in forms), f"{sorted(forms)} not in {finding.answer!r}"


def check_round_trips_through_json(card: Card, run: Run) -> None:
    """Require that a finding written as strict JSON and read back is equal."""
    for finding in _measured(card, run):
        again = Finding.from_json(json.loads(dumps(finding)))
        assert again == finding, "JSON changes the finding; build it with salience.audit.make.make_finding"


def check_same_seed_same_finding(card: Card, run: Run) -> None:
    """Require equal findings of two runs with one seed, except for what is timed (``"timed": True`` in the card)."""
    if card.get("timed"):
        return
    for toy in _toys(card):
        once, again = _findings(run, toy, _retrains(card)), run(_context(toy, _retrains(card)))
        first, second = ([replace(finding, cost=Cost()) for finding in found] for found in (once, again))
        assert first == second, f"two runs with the same seed differ on the {toy} toy"


def check_refuses_with_a_reason(card: Card, run: Run) -> None:
    """Require a refusal that says why where there are no rows, and no crash where there are three."""
    context = _context(_toys(card)[0], _retrains(card))
    nothing = {split: frame.iloc[:0] for split, frame in context.frames.items()}
    (finding, *_) = run_check(card, run, replace(context, frames=nothing, explanations=()))
    assert finding.verdict == "not measured", f"without rows the verdict is {finding.verdict!r}"
    assert len(finding.answer) > 20 and finding.value is None, "a refusal needs a reason and no value"
    few = {split: frame.head(3) for split, frame in context.frames.items()}
    for finding in run_check(card, run, replace(context, frames=few, explanations=())):
        assert finding.verdict == "not measured" or finding.value is not None, "neither a value nor a refusal"


def check_leaves_rows_and_model_alone(card: Card, run: Run) -> None:
    """Require that the given rows and the model's parameters are the same afterwards."""
    context = _context(_toys(card)[0], _retrains(card))
    frames = {split: frame.copy(deep=True) for split, frame in context.frames.items()}
    weights = {name: value.clone() for name, value in context.model.state_dict().items()}
    run(context)
    for split, frame in frames.items():
        assert frame.equals(context.frames[split]), f"the {split} rows were changed"
    for name, value in context.model.state_dict().items():
        assert bool((value == weights[name]).all()), f"parameter {name} was changed"


CHECKS = (
    check_answers_with_findings,
    check_value_has_unit_and_interval,
    check_control_is_present,
    check_answer_states_the_value,
    check_round_trips_through_json,
    check_same_seed_same_finding,
    check_refuses_with_a_reason,
    check_leaves_rows_and_model_alone,
)
