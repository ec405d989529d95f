"""Tables and sentences for the terminal, from the same value objects that the report shows."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

MARKS = {
    "pass": ("✓", "green"),
    "warn": ("!", "yellow"),
    "fail": ("✗", "red"),
    "info": ("·", "cyan"),
    "not measured": ("–", "dim"),
}
METRIC_NAMES = {
    "auroc": "AUROC ↑", "accuracy": "accuracy ↑", "macro_f1": "macro-F1 ↑", "log_loss": "log loss ↓",
    "rmse": "RMSE ↓", "mae": "MAE ↓", "r2": "R² ↑", "mean_auroc": "mean AUROC ↑", "micro_f1": "micro-F1 ↑",
    "label_accuracy": "label accuracy ↑", "subset_accuracy": "all labels right ↑", "mean_rmse": "mean RMSE ↓",
    "mean_mae": "mean MAE ↓", "mean_r2": "mean R² ↑",
}  # fmt: skip
SHORT_METRICS = {
    "comprehensiveness": "compr.", "sufficiency": "suff.", "deletion_auc": "del.", "insertion_auc": "ins.",
    "faithfulness_correlation": "corr.", "faithfulness_estimate": "est.", "tau_loo": "τ", "infidelity": "infid.",
    "complexity": "entropy", "sensitivity_max": "sens.", "sparseness": "Gini",
}  # fmt: skip
LONGEST_CELL = 44


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as a person writes it; a dash for none."""
    if value is None or value != value:
        return "–"
    if value and (abs(value) >= 10_000 or abs(value) < 10**-digits):
        return f"{value:.{digits}g}"
    return f"{value:.{digits}f}"


def with_interval(score: dict[str, Any] | None) -> str:
    """Return ``0.951 (0.944–0.958)``."""
    if not score:
        return "–"
    low, high = score.get("interval") or (None, None)
    shown = number(score["value"])
    return shown if low is None or high is None else f"{shown} ({number(low)} to {number(high)})"


def printable(text: str) -> str:
    """Return text without control characters, which could move the cursor or change colours; same length."""
    return "".join(c if c.isprintable() else ("\n" if c == "\n" else " ") for c in text)


def shorten(value: Any, length: int = LONGEST_CELL) -> str:
    """Return a value on one line, cut at a readable length."""
    text = " ".join(str(value).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()
) -> Group:
    """Return a plain table under its title; ``right`` names the columns of numbers. Cells are text, never markup."""
    result = Table(box=None, pad_edge=False)
    for column in columns:
        result.add_column(escape(column), justify="right" if column in right else "left", header_style="dim")
    for row in rows:
        result.add_row(*(cell if isinstance(cell, Text) else Text(printable(str(cell))) for cell in row))
    return Group(Text(printable(title), style="bold"), result)


def records_table(title: str, records: Sequence[dict[str, Any]]) -> Group:
    """Return a table of flat dictionaries; columns in order of first appearance."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    is_number = [
        name for name in columns if all(isinstance(r.get(name), int | float | None) for r in records)
    ]
    rows = [[_cell(record.get(name)) for name in columns] for record in records]
    return table(title, columns, rows, right=is_number)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return "" if value is None else shorten(value)


def schema_table(columns: Sequence[dict[str, Any]], title: str = "Columns") -> Group:
    """Return the schema: what each column is taken for, and why."""
    rows = [
        (
            column["name"],
            column.get("kind") or "",
            column.get("role") or "",
            f"{column['missing']:.1%}"
            if isinstance(column.get("missing"), float)
            else column.get("missing", ""),
            column.get("distinct", ""),
            _examples(column.get("examples") or ()),
            column.get("reason") or "",
        )
        for column in columns
    ]
    names = ("column", "kind", "role", "missing", "distinct", "examples", "why")
    return table(title, names, rows, right=("missing", "distinct"))


def _examples(values: Sequence[Any]) -> str:
    """Return all examples if they are short, else the first."""
    together = ", ".join(str(value) for value in values)
    return together if len(together) <= 36 else shorten(values[0], 36)


def metrics_table(metrics: dict[str, Any], title: str = "") -> Group:
    """Return test scores of the model beside those of the baselines, each with its 95 % interval."""
    test = dict(metrics["test"])
    baselines = test.pop("baselines", {})
    names = [name for name in METRIC_NAMES if name in test]
    rows = [["this model", *(with_interval(test[name]) for name in names)]]
    rows += [
        [baseline, *(with_interval(scores.get(name)) for name in names)]
        for baseline, scores in baselines.items()
    ]
    title = title or "Scores on the test rows (95 % interval)"
    whole = table(title, ["", *(METRIC_NAMES[name] for name in names)], rows)
    each = {name: test[name]["targets"] for name in names if "targets" in test[name]}
    return Group(whole, Text(), _targets_table(each)) if each else whole


def _targets_table(each: dict[str, dict[str, Any]]) -> Group:
    """Return the scores of this model on each of several targets."""
    names = [METRIC_NAMES[name].removeprefix("mean ") for name in each]
    rows = [
        [target, *(with_interval(scores[target]) for scores in each.values())]
        for target in next(iter(each.values()))
    ]
    return table("This model, target by target", ["target", *names], rows)


def findings_table(findings: Sequence[Any]) -> Group:
    """Return findings with a mark for each verdict."""
    order = {
        verdict: position for position, verdict in enumerate(("fail", "warn", "pass", "info", "not measured"))
    }
    rows = []
    for finding in sorted(findings, key=lambda f: order[f.verdict]):
        mark, style = MARKS[finding.verdict]
        answer = finding.answer + (
            f" {finding.advice}" if finding.advice and finding.verdict != "pass" else ""
        )
        rows.append((Text(mark, style=style), finding.check, answer))
    return table("Findings", ("", "check", "answer"), rows)


def highlighted(explanation: Any, *, strength: float = 0.15) -> list[Text]:
    """Return the inputs of an explanation, supporting units in blue, opposing ones in orange and underlined.

    A unit is marked if its value is at least ``strength`` of the largest one.
    """
    largest = max((abs(value) for value in explanation.values if math.isfinite(value)), default=0.0) or 1.0
    shares = {
        unit: value / largest for unit, value in zip(explanation.units, explanation.values, strict=True)
    }
    lines = []
    for column in dict.fromkeys(unit.column for unit in explanation.units):
        units = {unit: share for unit, share in shares.items() if unit.column == column}
        lines.append(_highlighted_column(column, explanation.inputs.get(column), units, strength))
    return lines


def _highlighted_column(column: str, value: Any, shares: dict[Any, float], strength: float) -> Text:
    kinds = {unit.kind for unit in shares}
    if kinds != {"text"}:
        line = Text()
        for unit, share in shares.items():
            line.append(printable(unit.label), style=_style(share, strength)).append("  ")
        return line
    line = Text(f"{printable(column)}: ", style="dim").append(Text(printable(str(value)), style="default"))
    start_of_text = len(column) + 2
    for unit, share in shares.items():
        start, stop = unit.locator
        style = _style(share, strength)
        if style:
            line.stylize(style, start_of_text + int(start), start_of_text + int(stop))
    return line


def _style(share: float, strength: float) -> str:
    if not abs(share) >= strength:  # also NaN
        return ""
    style = "bold blue" if share > 0 else "bold underline dark_orange"
    return f"reverse {style}" if abs(share) >= 0.5 else style


def explanation_view(explanation: Any) -> list[Any]:
    """Return one explanation: the row with marked units, then the sentences that say the same in words."""
    sentences = [Text(f"  {printable(sentence.text)}") for sentence in explanation.words().sentences]
    legend = (
        "blue speaks for the answer, orange and underlined against it"
        if explanation.signed
        else "blue: the model looks here"
    )
    return [
        *(Text("  ").append(line) for line in highlighted(explanation)),
        Text(f"  {legend}", style="dim"),
        Text(),
        *sentences,
    ]


def leaderboard_view(board: Any) -> list[Any]:
    """Return a comparison of explainers: scores beside controls, costs, verdicts."""
    from salience.explain.leaderboard_text import ARROWS

    metrics = list(dict.fromkeys(cell.metric for cell in board.cells))
    better = {cell.metric: cell.better for cell in board.cells}
    heads = [f"{SHORT_METRICS.get(m, m)} {ARROWS[better[m]]}" for m in metrics]
    rows = [
        [
            method.name,
            *(_score(board.cell(method.name, metric)) for metric in metrics),
            "" if method.control else f"{method.seconds / max(board.rows, 1):.3f}",
        ]
        for method in board.methods
    ]
    title = f"Explainers on {board.rows} rows (means; ▲ better, ▼ worse than random)"
    head = ("method", *heads, "s a row")
    view: list[Any] = [table(title, head, rows, right=head[1:]), ""]
    view += [f"{method.name} {method.verdict}." for method in board.methods if not method.control]
    return view + [f"Left out: {name}. {reason}" for name, reason in board.left_out.items()]


def _score(cell: Any) -> str:
    from salience.explain.leaderboard_text import MARKS

    return number(cell.mean) + MARKS[cell.beats]
