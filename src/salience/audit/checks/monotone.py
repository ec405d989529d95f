"""Does the answer move with a column only in the direction that was declared?"""

from typing import Any

from salience.audit.context import AuditContext
from salience.audit.make import make_finding
from salience.audit.phrases import number, percent
from salience.core.errors import ConfigError, UnsupportedError, nearest
from salience.core.finding import Control, Finding
from salience.explain.tables.ask import Asker
from salience.explain.tables.axis import Axis, make_axis
from salience.explain.tables.curves import profiles
from salience.explain.tables.monotone import Monotonicity, Moves, monotonicity
from salience.explain.tables.sentences import answer_of
from salience.explain.target import Target

CARD = {
    "key": "monotone",
    "kind": "check",
    "order": 65,
    "title": "Declared directions of columns",
    "entry": "run",
    "summary": "Follows test rows over the values of each column whose direction is declared, and counts the rows whose answer "
    "turns against it; the opposite direction as the control. Says whether the model's weights prove it for all rows.",
    "question": "Do columns move the answer only in the direction that is declared?",
    "tasks": ["classification", "regression"],
    "pass": "no row turns against a declared direction",
    "warn": "at most 5 % of rows do, each step by at most 1 % of the spread of the answers",
    "fail": "more, or by more",
}
WORDS = {"increasing": 1, "decreasing": -1}
LIMIT, STEPS = 300, 20
FEW, SMALL = 0.05, 0.01  # shares of rows, and of the spread of the answers


def run(context: AuditContext) -> list[Finding]:
    """Follow test rows over the values of the columns with a declared direction.

    Raises:
        UnsupportedError: no direction is declared, or the task has no order of answers.
        ConfigError: a declared column does not exist, or a direction has another name.
    """
    declared = _declared(context)
    target = _target(context)
    asker = Asker(context.model, target)
    rows = context.inputs("test").iloc[context.sample("test", LIMIT, "monotone")]
    spread = float(asker(rows, [{}])[0].std())
    found = {name: _follow(context, asker, rows, name, spread) for name in declared}
    context.forwards += asker.forwards
    lines = [_line(name, sign, found[name], spread) for name, sign in declared.items()]
    lines.sort(key=lambda line: (-line["value"], -line["largest turn"]))
    worst, proof = lines[0], _proof(context, declared)
    return [
        make_finding(
            CARD,
            answer=_answer(lines, len(rows), target, proof),
            verdict=_verdict(lines),
            value=worst["value"],
            unit="share of rows",
            interval=(worst["low"], worst["high"]),
            control=Control(f"the opposite direction of {worst['column']!r}", worst["control"]),
            rows=len(rows),
            advice="" if worst["value"] == 0 else _advice(worst),
            tables={"directions": lines},
        )
    ]


def _declared(context: AuditContext) -> dict[str, int]:
    """Return the directions that the audit was told, or else those that the model was built with."""
    from salience.models.monotone import directions

    told = {name: _sign(direction) for name, direction in context.directions.items()}
    declared = told or directions(context.model)
    if not declared:
        raise UnsupportedError(
            "No direction is declared",
            "",
            "Declare what is known, as in: salience audit MODEL FILE --direction COLUMN=increasing.",
        )
    known = {c.name: c for c in context.schema.inputs if c.kind == "number"}
    for name in declared:
        if name not in known:
            raise ConfigError(
                f"There is no number column {name!r}", "", nearest(name, known), code="SAL-C001"
            )
    return declared


def _sign(direction: str) -> int:
    if direction not in WORDS:
        raise ConfigError(
            f"Unknown direction {direction!r}", "", nearest(str(direction), WORDS), code="SAL-C004"
        )
    return WORDS[direction]


def _target(context: AuditContext) -> Target:
    """Return the answer that is followed: the number, or the log-odds of the last class (of two, the positive one)."""
    classes = context.schema.classes
    if context.task == "regression":
        return Target(0, context.schema.target.name, "value")
    if context.task == "classification":
        return Target(len(classes) - 1, classes[-1], "log-odds")
    raise UnsupportedError("A direction needs classes or one number", f"The task is {context.task}.", "")


def _follow(context: AuditContext, asker: Asker, rows: Any, name: str, spread: float) -> Monotonicity | None:
    """Return how often the answer falls and rises; None where the test rows hold one value."""
    column = next(c for c in context.schema.inputs if c.name == name)
    axis: Axis | None = make_axis(context.inputs("test"), column, [], STEPS)
    if axis is None:
        return None
    return monotonicity(axis, profiles(asker, rows, axis), rows.index, spread)


def _line(name: str, sign: int, found: Monotonicity | None, spread: float) -> dict[str, Any]:
    """Return a line of evidence: share of rows that turn against the direction, the opposite as control."""
    none = Moves(0.0, (0.0, 1.0), 0.0, None)
    against, along = none, none
    if found is not None:
        against, along = (found.falls, found.rises) if sign > 0 else (found.rises, found.falls)
    worst = against.worst or {}
    return {
        "column": name,
        "value": against.rows,
        "low": against.interval[0],
        "high": against.interval[1],
        "control": along.rows,
        "direction": "increasing" if sign > 0 else "decreasing",
        "share of steps": against.steps,
        "largest turn": abs(worst.get("change", 0.0)) / (spread or 1.0),
        "row": worst.get("row"),
        "from": worst.get("from"),
        "to": worst.get("to"),
    }


def _proof(context: AuditContext, declared: dict[str, int]) -> bool | None:
    """Return whether the model's weights prove all that is declared; None where nothing is built in."""
    from salience.models.monotone import directions, prove

    built = directions(context.model)
    if not built or any(built.get(name) != sign for name, sign in declared.items()):
        return None
    return prove(context.model).holds


def _verdict(lines: list[dict[str, Any]]) -> str:
    rows, turn = (max(line[name] for line in lines) for name in ("value", "largest turn"))
    if rows == 0:
        return "pass"
    return "warn" if rows <= FEW and turn <= SMALL else "fail"


def _answer(lines: list[dict[str, Any]], rows: int, target: Target, proof: bool | None) -> str:
    worst, bad = lines[0], [line for line in lines if line["value"] > 0]
    columns = f"{len(lines)} column{'s' if len(lines) > 1 else ''}"
    if bad:
        said = (
            f"{len(bad)} of {columns} with a declared direction move some answer against it. The worst is "
            f"{worst['column']!r}, declared {worst['direction']}: {percent(worst['value'])} of {rows} rows turn (95 % interval "
            f"{percent(worst['low'])} to {percent(worst['high'])}), most in row {worst['row']}, from {number(worst['from'])} "
            f"to {number(worst['to'])}, by {percent(worst['largest turn'])} of the spread of the answers."
        )
    else:
        verb = "moves" if len(lines) == 1 else "move"
        said = (
            f"The {columns} with a declared direction {verb} no answer against it, in {rows} rows followed over their values; "
            f"at most {percent(max(line['high'] for line in lines))} of rows could do so."
        )
        flat = [line["column"] for line in lines if line["control"] == 0]
        said += f" {flat[0]!r} moves no answer at all." if flat else ""
    proofs = {None: "", True: " The weights prove it for every row.", False: " The weights do not prove it."}
    return f"Followed is {answer_of(target.name, target.quantity)}. {said}{proofs[proof]}"


def _advice(worst: dict[str, Any]) -> str:
    return (
        f"Look at row {worst['row']}; to rule it out, train with model.fusion=monotone_mlp and "
        f"model.fusion.args.{worst['direction']}=[{worst['column']!r}]."
    )
