"""The leaderboard as a page of Markdown: scores beside controls, costs, agreement, definitions, verdicts."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from salience.explain.board import Cell, Leaderboard

MARKS = {True: " ▲", False: " ▼", None: ""}
ARROWS = {"higher": "↑", "lower": "↓"}


def markdown(board: "Leaderboard") -> str:
    """Return all tables and sentences."""
    parts = [_scores(board), _legend(board), _costs(board), _agreement(board), _definitions(board)]
    if board.left_out:
        parts.append("\n".join(f"- Left out: {name}. {reason}" for name, reason in board.left_out.items()))
    return "\n\n".join(part for part in parts if part) + "\n"


def _scores(board: "Leaderboard") -> str:
    better = {cell.metric: cell.better for cell in board.cells}
    head = ["method", *(f"{metric} {ARROWS[way]}" for metric, way in better.items()), "verdict"]
    known = {(cell.method, cell.metric): cell for cell in board.cells}
    lines = [
        [
            _cell(method.name),
            *(_score(known[method.name, metric]) for metric in better),
            _cell(method.verdict),
        ]
        for method in board.methods
    ]
    return _table(head, lines)


def _score(cell: "Cell") -> str:
    if math.isnan(cell.mean):
        return "not defined"
    low, high = cell.interval
    undefined = f" ({cell.undefined} undefined)" if cell.undefined else ""
    return f"{number(cell.mean)} [{number(low)}, {number(high)}]{MARKS[cell.beats]}{undefined}"


def _legend(board: "Leaderboard") -> str:
    return (
        f"Means over {board.rows} rows with 95 % bootstrap intervals. ↑ higher is better, ↓ lower is better. ▲ better and "
        "▼ worse than the random control, for metrics that ask whether an explanation is true (paired sign-flip test, Holm's "
        "correction over these metrics and all methods, 5 %). "
        "random is the mean of three draws; uniform gives every unit as much; inverse turns the signs of the first method."
    )


def _costs(board: "Leaderboard") -> str:
    head = [
        "method",
        "evaluations to explain a row",
        "seconds a row",
        "prediction changes without the top 20 %",
    ]
    lines = [
        [
            _cell(m.name),
            number(m.forwards / board.rows),
            number(m.seconds / board.rows),
            _share(m.changed, m.changed_interval),
        ]
        for m in board.methods
        if not m.control
    ]
    controls = [
        [_cell(m.name), "", "", _share(m.changed, m.changed_interval)] for m in board.methods if m.control
    ]
    return _table(head, lines + controls)


def _share(value: float, interval: tuple[float, float]) -> str:
    if math.isnan(value):
        return ""
    return f"{100 * value:.0f} % [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]"


def _agreement(board: "Leaderboard") -> str:
    head = ["methods", "rank correlation of values", "overlap of the top 20 %"]
    lines = [
        [_cell(f"{pair['a']} and {pair['b']}"), number(pair["spearman"]), _share_of(pair["overlap"])]
        for pair in board.agreement
    ]
    return _table(head, lines)


def _share_of(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.0f} %"


def _definitions(board: "Leaderboard") -> str:
    return "\n".join(f"- {metric}: {words}" for metric, words in board.conventions.items())


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [list(head), ["---"] * len(head), *map(list, lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(text: str) -> str:
    """Return text that does not end a cell of a table."""
    return " ".join(text.replace("|", "\\|").split())


def number(value: float) -> str:
    """Return a number with three significant digits; an en dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.3g}".replace("-", "−")
