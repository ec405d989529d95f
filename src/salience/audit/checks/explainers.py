"""Which way of explaining is truest on this model?"""

from typing import Any

import numpy as np

from salience.audit.context import AuditContext
from salience.audit.make import make_finding
from salience.audit.phrases import between, number
from salience.core.errors import UnsupportedError
from salience.core.finding import Control, Finding
from salience.explain.board import Cell, Leaderboard
from salience.explain.leaderboard import RANDOM, compare
from salience.explain.leaderboard_text import ARROWS, MARKS
from salience.explain.model import BlackBox

CARD = {
    "key": "explainers",
    "kind": "check",
    "order": 75,
    "title": "Explainers side by side",
    "entry": "run",
    "summary": "Explains a sample of test rows by several methods and measures all of them, beside random, uniform and inverse explanations of the same rows.",
    "question": "Which way of explaining is truest on this model?",
    "paper": "ERASER: A Benchmark to Evaluate Rationalized NLP Models (DeYoung et al., ACL 2020)",
    "year": 2020,
    "faithful": "comprehensiveness and sufficiency as its scorer has them; the other metrics name their papers",
    "tasks": ["classification", "regression", "multi-label", "multi-regression"],
    "pass": "the method of this report beats random on at least half of the metrics, and no other method beats it",
    "warn": "another method is truer, or it beats random on fewer metrics",
    "fail": "it beats random on no metric",
}
ROWS, FEWEST = 24, 12  # fewer rows cannot show a difference at the corrected level
METHODS = ("integrated_gradients", "gradient_x_input", "attention", "leave_one_out")
METRICS = ("comprehensiveness", "sufficiency", "faithfulness_correlation", "tau_loo")
FIRST = METRICS[0]


def run(context: AuditContext) -> list[Finding]:
    """Compare explainers on test rows.

    Raises:
        UnsupportedError: there are fewer than 12 test rows, or the model has no units.
    """
    if not isinstance(context.model, BlackBox):
        raise UnsupportedError(
            "The model cannot be explained",
            type(context.model).__name__,
            "It needs units(row) and remove(row, units).",
        )
    limit = 3 * ROWS if context.quick else ROWS  # quick takes a third
    rows = context.inputs("test").iloc[context.sample("test", limit, "explainers")]
    if len(rows) < FEWEST:
        raise UnsupportedError(
            "Too few rows to tell explainers apart", f"{len(rows)} test rows.", f"Give at least {FEWEST}."
        )
    own = context.explanations[0].method if context.explanations else METHODS[0]
    methods = tuple(dict.fromkeys((own, *METHODS)))
    board = compare(context.model, rows, methods, METRICS, seed=context.seed)
    best = max(_rivals(board), key=lambda name: _score(board, name))
    cell, random = board.cell(own, FIRST), board.cell(RANDOM, FIRST)
    return [
        make_finding(
            CARD,
            answer=_answer(board, own, best),
            verdict=_verdict(board, own, best),
            value=cell.mean,
            unit="comprehensiveness",
            interval=cell.interval,
            control=Control("random units of the same rows", random.mean, random.interval),
            rows=board.rows,
            advice="" if best == own else f"Explain with method={best!r} and compare.",
            tables={"scores (95 % interval; ▲ better, ▼ worse than random)": _scores(board), "costs and verdicts": _costs(board), "agreement": _agreement(board)},
        )
    ]  # fmt: skip


def _rivals(board: Leaderboard) -> list[str]:
    return [method.name for method in board.methods if not method.control]


def _beats(board: Leaderboard, name: str) -> int:
    return sum(cell.beats is True for cell in board.cells if cell.method == name)


def _score(board: Leaderboard, name: str) -> tuple[int, float]:
    """Return on how many metrics a method beats random, then by how much on the first."""
    difference = board.cell(name, FIRST).difference
    return _beats(board, name), difference if np.isfinite(difference) else -np.inf


def _verdict(board: Leaderboard, own: str, best: str) -> str:
    if not _beats(board, own):
        return "fail"
    half = 2 * _beats(board, own) >= len({cell.metric for cell in board.cells})
    return "pass" if half and _beats(board, best) == _beats(board, own) else "warn"


def _answer(board: Leaderboard, own: str, best: str) -> str:
    said = {method.name: method.verdict for method in board.methods}
    cell = board.cell(own, FIRST)
    text = (
        f"On {board.rows} rows, {own}, which this report shows, {said[own]}. Removing what it names changes the answer "
        f"by {number(cell.mean)} on average, {number(cell.difference)} more than random units ({between(cell.difference_interval)}). "
    )
    if best == own:
        return text + "No other method that was tried does better."
    other = board.cell(best, FIRST)
    return (
        text
        + f"{best} {said[best]}; its difference is {number(other.difference)} ({between(other.difference_interval)})."
    )


def _scores(board: Leaderboard) -> list[dict[str, Any]]:
    """Return one line a method, one column a metric: mean, interval, and ▲ or ▼ where it is better or worse than random."""
    metrics = dict.fromkeys(cell.metric for cell in board.cells)
    return [
        {"method": m.name}
        | {f"{x} {ARROWS[(c := board.cell(m.name, x)).better]}": _score_of(c) for x in metrics}
        for m in board.methods
    ]


def _score_of(cell: Cell) -> str:
    if not np.isfinite(cell.mean):
        return "not defined"
    low, high = cell.interval
    return f"{number(cell.mean)} ({number(low)} to {number(high)}){MARKS[cell.beats]}"


def _costs(board: Leaderboard) -> list[dict[str, Any]]:
    return [
        {
            "method": method.name,
            "evaluations a row": method.forwards / board.rows,
            "prediction changes without the top 20 %": method.changed,
            "verdict": method.verdict,
        }
        for method in board.methods
    ]


def _agreement(board: Leaderboard) -> list[dict[str, Any]]:
    rivals = _rivals(board)
    return [
        {"method": pair["a"], "other": pair["b"], "rank correlation": pair["spearman"], "overlap of the top 20 %": pair["overlap"]}
        for pair in board.agreement
        if pair["a"] in rivals and pair["b"] in rivals
    ]  # fmt: skip
