"""Effects in plain sentences: which way a column moves the answer, by how much, and whether that is more than noise."""

from typing import TYPE_CHECKING

from salience.explain.phrasing import quote, with_sign, written
from salience.explain.tables.contributions import BinContribution, ColumnContributions
from salience.explain.tables.curves import Curve
from salience.explain.tables.interactions import Interaction
from salience.explain.tables.labels import number_label
from salience.explain.tables.monotone import Monotonicity, Moves

if TYPE_CHECKING:
    from salience.explain.tables.effects import Effects

NAMED = 5  # categories of a column that are named on each side


def words(effects: "Effects") -> tuple[str, ...]:
    """Return what was found, curves first, each followed by its direction; then pairs; then what was left out."""
    told = [text for curve in effects.curves for text in curve_words(effects, curve)]
    return (*told, *pair_words(effects), *left_words(effects))


def curve_words(effects: "Effects", curve: Curve) -> tuple[str, ...]:
    """Return what one column does, and which way where it does anything."""
    answer = answer_of(effects.target, effects.quantity)
    directions = [m for m in effects.monotone if m.column == curve.column and curve.real]
    return (curve_sentence(curve, answer), *(direction_sentence(m, answer) for m in directions))


def pair_words(effects: "Effects") -> tuple[str, ...]:
    """Return the pairs beyond noise, or that there is none."""
    answer = answer_of(effects.target, effects.quantity)
    told = tuple(pair_sentence(p, answer, effects.spread) for p in effects.interactions if p.real)
    return told or (_no_pairs(effects),)


def left_words(effects: "Effects") -> tuple[str, ...]:
    """Return which columns have no curve, and why."""
    return tuple(f"{quote(name)} has no curve. {why}" for name, why in effects.left_out.items())


def _no_pairs(effects: "Effects") -> str:
    if len(effects.curves) < 2:
        return "There is one column, so no pair to look at."
    looked = len(effects.interactions)
    if not looked:
        return "No pair of columns was found whose joint effect is more than the sum of their effects."
    pairs = "pair" if looked == 1 else "pairs"
    return f"Of the {looked} {pairs} of columns that stood out, none has a joint effect beyond noise."


def answer_of(target: str, quantity: str) -> str:
    """Return what the effects are on, in words."""
    return f"the log-odds of {quote(target)}" if quantity == "log-odds" else f"the predicted {quote(target)}"


def curve_sentence(curve: Curve, answer: str) -> str:
    """Return what one column does on average."""
    name = quote(curve.column)
    if not curve.real:
        return (
            f"{name} has no effect on {answer} on average that is beyond noise: strength {written(curve.strength)}, and "
            f"chance reaches {written(curve.control)}."
        )
    said = _category(curve) if curve.kind == "category" else _number(curve, answer)
    low, high = (written(end) for end in curve.interval)
    return f"{name}: {said} Strength {written(curve.strength)} ({low} to {high}; chance reaches {written(curve.control)})."


def _number(curve: Curve, answer: str) -> str:
    first, last = curve.effect[0], curve.effect[-1]
    steps = [b - a for a, b in zip(curve.effect, curve.effect[1:], strict=False)]
    ends = f"from {_at(curve, 0)} to {_at(curve, len(steps))}."
    if all(step >= 0 for step in steps) and last > first:
        return f"the higher, the higher {answer}, {ends}"
    if all(step <= 0 for step in steps) and last < first:
        return f"the higher, the lower {answer}, {ends}"
    high, low = (max(range(len(curve.effect)), key=lambda i: sign * curve.effect[i]) for sign in (1, -1))
    return f"{answer} is highest with {_at(curve, high)} and lowest with {_at(curve, low)}."


def _at(curve: Curve, i: int) -> str:
    span = f"{_signed(curve.low[i])} to {_signed(curve.high[i])}"
    return f"{_signed(curve.effect[i])} at {curve.labels[i]} ({span})"


def _signed(value: float) -> str:
    return with_sign(value) if float(written(value).replace(",", "")) else "0"


def _category(curve: Curve) -> str:
    order = sorted(range(len(curve.labels)), key=lambda i: -curve.effect[i])
    above = [i for i in order if curve.low[i] > 0][:NAMED]
    below = [i for i in reversed(order) if curve.high[i] < 0][:NAMED]
    parts = [
        f"{verb} with {', '.join(f'{quote(curve.labels[i])} {_signed(curve.effect[i])}' for i in side)}"
        for verb, side in (("higher", above), ("lower", below))
        if side
    ]
    return f"{' and '.join(parts)}." if parts else "no single value lies apart from the mean beyond noise."


def direction_sentence(found: Monotonicity, answer: str) -> str:
    """Return which way the answer goes when the column rises."""
    name, looked = (
        quote(found.column),
        f"{found.rows} rows, {found.steps} step{'s' if found.steps > 1 else ''} each",
    )
    if found.direction == "constant":
        return f"When only {name} rises, {answer} never moves ({looked})."
    if found.direction != "mixed":
        never, moves = ("falls", found.falls) if found.direction == "increasing" else ("rises", found.rises)
        return (
            f"When only {name} rises, {answer} never {never} ({looked}; it could do so in at most "
            f"{_percent(moves.interval[1])} of rows)."
        )
    ways = ((found.falls, "falls"), (found.rises, "rises"))
    (less, verb), (_, mostly) = sorted(ways, key=lambda way: way[0].steps)
    return (
        f"When only {name} rises, {answer} mostly {mostly}, but it {verb} somewhere in {_percent(less.rows)} of rows "
        f"({_percent(less.interval[0])} to {_percent(less.interval[1])}) and at {_percent(less.steps)} of steps ({looked}); "
        f"{_worst(less)}."
    )


def _worst(moves: Moves) -> str:
    worst = moves.worst or {}
    ends = f"from {number_label(worst['from'])} to {number_label(worst['to'])}"
    return f"most in row {worst['row']}, {ends}: {_signed(worst['change'])}"


def _percent(share: float) -> str:
    digits = 1 if 0 < share < 0.1 or 0.99 < share < 0.9995 else 0
    return f"{100 * share:.{digits}f}\u00a0%"


def pair_sentence(pair: Interaction, answer: str, spread: float) -> str:
    """Return what two columns do together beyond what each does alone."""
    first, second = (quote(name) for name in pair.columns)
    low, high = (written(end) for end in pair.interval)
    return (
        f"What {first} does depends on {second}: together they move {answer} by {written(pair.strength)} "
        f"({low} to {high}) beyond their own effects, {_percent(pair.strength / (spread or 1.0))} of the spread of the "
        f"answers; chance reaches {written(pair.control)}."
    )


def bin_sentence(column: ColumnContributions, line: BinContribution) -> str:
    """Return the contribution of one bin: ``"age 37–42: +0.30 (+0.20 to +0.40, 120 rows)"``, with its truth."""
    low, high = map(_signed, line.interval)
    rows = f"{line.rows:,} row" + ("s" if line.rows != 1 else "")
    truth = (
        "" if line.supported is None else f"; {_percent(line.supported)} of these explanations beat random"
    )
    return f"{column.column} {line.label}: {_signed(line.mean)} ({low} to {high}, {rows}{truth})"
