"""Compare explainers on one model and its data: every score beside its controls, with intervals, tests, costs and a verdict."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from salience.core import registry
from salience.core.errors import ConfigError, SalienceError, UnsupportedError
from salience.core.io import dumps, read_json, write_json
from salience.core.progress import Stage
from salience.core.stats import holm, mean_interval, sign_flip_test
from salience.explain.board import Cell, Leaderboard, Method
from salience.explain.engine import explain
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox, WhiteBox
from salience.explain.options import build
from salience.explain.orders import order_of, shares, tops, values_of, with_nothing
from salience.explain.reexplain import attribute_again
from salience.explain.remember import Remembering
from salience.explain.scores import Scores, spearman
from salience.explain.target import Spec

METHODS = ("integrated_gradients", "gradient_x_input", "attention", "leave_one_out", "permutation_shapley")
METRICS = ("comprehensiveness", "sufficiency", "aopc", "faithfulness_correlation", "tau_loo")
RANDOM, UNIFORM, INVERSE = CONTROLS = ("random", "uniform", "inverse")
TOP = 0.2  # share of the units whose removal may change the prediction, and whose overlap is agreement
LEVEL = 0.05
NOT_TRUTH = (
    "robustness",
    "complexity",
    "axioms",
)  # families in which a random control can win without being right
DRAWS = 3  # of the random control, averaged
FLIPS = 100  # replicates of a sign-flip test for each test that Holm's correction counts
FEWEST_FLIPS = 2000


@dataclass
class _Board:
    """What is needed to fill the table."""

    model: Any
    explained: dict[str, list[Explanation]]
    metrics: dict[str, Any]
    seed: int
    memory_mb: int | float
    shared: Remembering
    keep: Path | None
    left_out: dict[str, str] = field(default_factory=dict)
    saved: dict[str, Any] = field(default_factory=dict)


def compare(
    model: BlackBox,
    frame: pd.DataFrame,
    methods: Sequence[Any] | Mapping[str, Any],
    metrics: Sequence[Any] | Mapping[str, Any] = METRICS,
    *,
    target: Spec = "predicted",
    seed: int = 0,
    memory_mb: int | float = 256,
    keep: str | Path | None = None,
) -> Leaderboard:
    """Explain rows by several methods and measure all of them, beside controls.

    The controls ``"random"`` (mean of three), ``"uniform"`` and ``"inverse"`` (the first method with its signs turned)
    are always added.

    Args:
        model: a model of :mod:`salience.explain.model`.
        frame: canonical rows.
        methods: keys of explainers; or a mapping of names to keys, to pairs of a key and its options, or to explainers.
        metrics: keys of metrics; or a mapping of names to keys, to pairs of a key and its options, or to metrics.
        target: what is explained; see :func:`salience.explain.target.resolve`.
        seed: seed of methods, controls and tests.
        memory_mb: memory for one pass of the model, in MiB.
        keep: a JSON file that keeps finished cells; a comparison that was broken off goes on from it.

    Returns:
        The table. A method or metric that this model does not allow is left out, with the reason.

    Raises:
        ConfigError: an unknown key or option, no method at all, or no row.
    """
    wanted, explained, left_out = _named("explainer", methods, skip=CONTROLS), {}, {}
    with Stage("explain", len(wanted)) as stage:
        for name, explainer in wanted.items():
            try:
                found = explain(
                    model,
                    frame,
                    method=explainer,
                    target=target,
                    seed=seed,
                    memory_mb=memory_mb,
                    faithfulness=False,
                )
                explained[name] = [replace(e, method=name) for e in found]
            except UnsupportedError as error:
                left_out[name] = f"{error.what}. {error.received}".strip()
            stage.step(name)
    if not explained:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items()) or "No method was named."
        raise ConfigError("There is no method to compare", why, "Name a method that this model allows.")
    board = judge(model, explained, metrics, explainers=wanted, seed=seed, memory_mb=memory_mb, keep=keep)
    return replace(board, left_out={**left_out, **board.left_out})


def judge(
    model: BlackBox,
    explained: Mapping[str, Sequence[Explanation]],
    metrics: Sequence[Any] | Mapping[str, Any] = METRICS,
    *,
    explainers: Mapping[str, Any] | None = None,
    seed: int = 0,
    memory_mb: int | float = 256,
    keep: str | Path | None = None,
) -> Leaderboard:
    """Measure explanations that are there already, from whatever source, beside controls.

    Args:
        model: the model that was explained.
        explained: by name of a method, explanations of the same rows in the same order.
        metrics: as in :func:`compare`.
        explainers: explainers by name, for metrics that explain once more.
        seed: seed of controls and tests.
        memory_mb: memory for one pass of the model, in MiB.
        keep: as in :func:`compare`.

    Raises:
        ConfigError: nothing to judge, or explanations of different rows.
    """
    begin = perf_counter()
    own = {name: list(found) for name, found in explained.items()}
    _check_rows(own)
    controls = _controls(model, next(iter(own.values())), seed, memory_mb)
    inverse_of = next(iter(own))
    known = {**_registered(own), **(explainers or {})}
    known |= {RANDOM: registry.load("explainer", RANDOM)(), UNIFORM: registry.load("explainer", UNIFORM)()}
    if inverse_of in known:
        known[INVERSE] = registry.load("explainer", INVERSE)(known[inverse_of])
    board = _Board(
        model,
        {**own, **controls},
        {name: _with_explainers(m, known) for name, m in _named("metric", metrics).items()},
        seed,
        memory_mb,
        Remembering(model, memory_mb),
        Path(keep) if keep else None,
    )
    scores = _filled(board)
    cells = _cells(board, scores)
    return Leaderboard(
        cells,
        tuple(_method(board, name, cells) for name in (*own, *CONTROLS)),
        _agreement(board, seed),
        {metric: found.convention for (_, metric), found in scores.items()},
        board.left_out,
        len(next(iter(own.values()))),
        seed,
        board.shared.forwards,
        perf_counter() - begin,
    )


def _named(kind: str, given: Sequence[Any] | Mapping[str, Any], skip: Sequence[str] = ()) -> dict[str, Any]:
    """Return objects by name, from keys, pairs of key and options, and objects."""
    pairs = given.items() if isinstance(given, Mapping) else [(_name_of(x), x) for x in given]
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in skip:
            continue
        key, options = value if isinstance(value, tuple) else (value, {})
        found[name] = build(registry.load(kind, key), options, key) if isinstance(key, str) else key
    return found


def _name_of(given: Any) -> str:
    if isinstance(given, str):
        return given
    if isinstance(given, tuple):
        return given[0]
    return card_of(given).get("key", type(given).__name__)


def card_of(found: Any) -> dict[str, Any]:
    """Return the card of a metric or explainer object, ``{}`` if its module has none."""
    return getattr(sys.modules.get(type(found).__module__), "CARD", {})


def _registered(own: Mapping[str, Any]) -> dict[str, Any]:
    keys = {card.key for card in registry.cards("explainer")}
    return {name: registry.load("explainer", name)() for name in own if name in keys}


def _with_explainers(metric: Any, known: dict[str, Any]) -> Any:
    has = is_dataclass(metric) and any(f.name == "explainers" for f in fields(metric))
    return replace(metric, explainers={**known, **metric.explainers}) if has else metric


def _check_rows(own: Mapping[str, list[Explanation]]) -> None:
    if not own or not next(iter(own.values())):
        raise ConfigError("There is nothing to compare", "No explanation.", "Give rows, and methods.")
    first = next(iter(own.values()))
    for name, found in own.items():
        same = len(found) == len(first) and all(
            (a.row, a.units, a.target_index) == (b.row, b.units, b.target_index)
            for a, b in zip(found, first, strict=True)
        )
        if not same:
            raise ConfigError(
                "Methods must explain the same rows, units and targets",
                f"{name!r} differs from {next(iter(own))!r}.",
                "Explain one frame with one target by all methods.",
            )


def _controls(
    model: Any, base: list[Explanation], seed: int, memory_mb: int | float
) -> dict[str, list[Explanation]]:
    """Return explanations of the same rows by the controls; the inverse is that of the method given."""
    found: dict[str, list[Explanation]] = {RANDOM: [], UNIFORM: []}
    for name, draw in [*((RANDOM, draw) for draw in range(DRAWS)), (UNIFORM, 0)]:
        bare = [replace(e, seed=seed + draw, baseline_output=None, evidence={}) for e in base]
        parts = attribute_again(model, registry.load("explainer", name)(), bare, memory_mb)
        found[name] += [_with_values(e, name, a.values) for e, a in zip(bare, parts, strict=True)]
    return {**found, INVERSE: [_with_values(e, INVERSE, -values_of(e)) for e in base]}


def _with_values(explanation: Explanation, name: str, values: Float[np.ndarray, " unit"]) -> Explanation:
    return replace(
        explanation, method=name, values=tuple(values), forwards=0, seconds=0.0, completeness_gap=None
    )


def _filled(board: _Board) -> dict[tuple[str, str], Scores]:
    """Return the scores of every method by every metric that the model allows; what is done already is read."""
    board.saved = read_json(board.keep) if board.keep and board.keep.exists() else {}
    found: dict[tuple[str, str], Scores] = {}
    with Stage("measure", len(board.metrics) * len(board.explained)) as stage:
        for metric in list(board.metrics):
            try:
                for method in board.explained:
                    found[method, metric] = _scores(board, method, metric)
                    stage.step(f"{metric}: {method}")
            except SalienceError as error:
                board.left_out[metric] = f"{error.what}. {error.received}".strip()
                del board.metrics[metric]
                found = {key: scores for key, scores in found.items() if key[1] != metric}
    return found


def _scores(board: _Board, method: str, metric: str) -> Scores:
    name, found = f"{metric} of {method}", board.metrics[metric]
    _allowed(board.model, found)
    key = _digest(board, method, found) if board.keep else ""
    saved = board.saved.get(name, {})
    if key and saved.get("digest") == key:
        values = np.array([np.nan if v is None else v for v in saved["values"]], dtype=float)
        return Scores(values, saved["convention"], saved["forwards"], saved["seconds"], saved["reason"])
    model = board.shared if card_of(found).get("needs") == "black_box" else board.model
    scores = found.scores(model, board.explained[method], seed=board.seed, memory_mb=board.memory_mb)
    if method == RANDOM:
        values = _mean_of_draws(scores.values)
        scores = replace(
            scores, values=values, forwards=scores.forwards // DRAWS, seconds=scores.seconds / DRAWS
        )
    if board.keep:
        board.saved[name] = {"digest": key, **asdict(scores)}
        write_json(board.keep, board.saved)
    return scores


def _allowed(model: Any, metric: Any) -> None:
    card = card_of(metric)
    if card.get("needs") == "white_box" and not isinstance(model, WhiteBox):
        raise UnsupportedError("The metric needs a model that shows its embedded input", type(model).__name__)
    if card.get("per") == "data set":
        raise UnsupportedError("The metric judges a whole data set", "It is a function of its own")


def _mean_of_draws(values: Float[np.ndarray, " explanation"]) -> Float[np.ndarray, " row"]:
    draws = values.reshape(DRAWS, -1)
    known = ~np.isnan(draws)
    return np.where(known.any(0), np.where(known, draws, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)


def _digest(board: _Board, method: str, metric: Any) -> str:
    """Return what a cell depends on: the values, the seed, the metric and what the model answers to the rows."""
    found = board.explained[method]
    rows = [e.inputs for e in found]
    sets = [with_nothing(np.ones((1, len(e.units)), dtype=bool)) for e in found]
    outputs = [part.tolist() for part in board.shared.outputs_without(rows, sets)]
    about = [repr(metric), board.seed, [[str(e.row), e.values, e.target_index] for e in found], outputs]
    return hashlib.sha256(dumps(about, indent=None).encode()).hexdigest()


def _cells(board: _Board, scores: dict[tuple[str, str], Scores]) -> tuple[Cell, ...]:
    rivals = [m for m, metric in board.metrics.items() if card_of(metric).get("family") not in NOT_TRUTH]
    counted = [key for key in scores if key[0] not in CONTROLS and key[1] in rivals]
    flips = max(FEWEST_FLIPS, FLIPS * len(counted))
    paired = {key: found.values - scores[RANDOM, key[1]].values for key, found in scores.items()}
    paired = {key: d[~np.isnan(d)] for key, d in paired.items()}
    p = {
        key: sign_flip_test(d, replicates=flips, seed=board.seed) if len(d) and key[0] != RANDOM else np.nan
        for key, d in paired.items()
    }
    tested = [key for key in counted if not np.isnan(p[key])]
    corrected = dict(zip(tested, holm(np.array([p[key] for key in tested])).tolist(), strict=True))
    return tuple(
        _cell(board, key, scores[key], paired[key], p[key], corrected.get(key, np.nan)) for key in scores
    )


def _cell(
    board: _Board,
    key: tuple[str, str],
    scores: Scores,
    paired: Float[np.ndarray, " pair"],
    p: float,
    corrected: float,
) -> Cell:
    method, metric = key
    better = better_of(board.metrics[metric])
    known = scores.values[~np.isnan(scores.values)]
    difference = float(paired.mean()) if len(paired) else np.nan
    shown = corrected <= LEVEL and difference != 0
    return Cell(
        method, metric, better, scores.mean, mean_interval(known, seed=board.seed), difference,
        mean_interval(paired, seed=board.seed), p, corrected, (difference > 0) == (better == "higher") if shown else None,
        len(scores.values), scores.undefined, scores.forwards, scores.seconds, scores.reason,
    )  # fmt: skip


def better_of(metric: Any) -> str:
    """Return ``"higher"`` or ``"lower"``: what the metric says with its options, else its card."""
    return getattr(metric, "better", None) or card_of(metric).get("better", "higher")


def _method(board: _Board, name: str, cells: Sequence[Cell]) -> Method:
    found = board.explained[name]
    changed = _changed(board, found)
    known = changed[~np.isnan(changed)]
    forwards, seconds = sum(e.forwards for e in found), sum(e.seconds for e in found)
    share = float(known.mean()) if len(known) else np.nan
    interval = mean_interval(known, seed=board.seed)
    true = {m for m, metric in board.metrics.items() if card_of(metric).get("family") == "faithfulness"}
    mine = [cell for cell in cells if cell.method == name and cell.metric in true]
    return Method(name, name in CONTROLS, forwards, seconds, share, interval, _verdict(name, mine))


def _changed(board: _Board, found: list[Explanation]) -> Float[np.ndarray, " explanation"]:
    """Return 1 where the predicted class is another without the top 20 % of the units, 0 where it is the same.

    Of several labels, where the explained one is predicted otherwise.
    """
    classes = [i for i, e in enumerate(found) if e.quantity == "log-odds" and np.isfinite(e.values).any()]
    result = np.full(len(found), np.nan)
    sets = [
        with_nothing(tops(order_of(found[i], board.seed), shares(len(found[i].units), [TOP])))
        for i in classes
    ]
    answered = board.shared.outputs_without([found[i].inputs for i in classes], sets)
    result[classes] = [
        float(_answer(o[0], found[i]) != _answer(o[1], found[i]))
        for i, o in zip(classes, answered, strict=True)
    ]
    return result


def _answer(outputs: Float[np.ndarray, " output"], explanation: Explanation) -> int:
    return int(outputs[explanation.target_index] >= 0 if explanation.independent else outputs.argmax())


def _verdict(name: str, cells: Sequence[Cell]) -> str:
    """Say on how many metrics of faithfulness a method beats random, and on which it does not."""
    if name == RANDOM:
        return "the control itself"
    if name in CONTROLS:
        return "a control"
    defined = [cell for cell in cells if not np.isnan(cell.p_holm)]
    if not defined:
        return "no metric of faithfulness is defined for it"
    beats = [cell for cell in defined if cell.beats]
    text = f"beats random on {len(beats)} of {len(defined)} metrics of faithfulness"
    worse = [cell.metric for cell in defined if cell.beats is False]
    equal = [cell.metric for cell in defined if cell.beats is None]
    text += f"; no better on {', '.join(equal)}" if equal else ""
    return text + (f"; worse on {', '.join(worse)}" if worse else "")


def _agreement(board: _Board, seed: int) -> tuple[dict[str, Any], ...]:
    """Return for each pair of methods the mean rank correlation of values and the mean overlap of the top 20 %."""
    rows = len(next(iter(board.explained.values())))
    found = {name: e[:rows] for name, e in board.explained.items() if name != INVERSE}
    values = {name: [values_of(e) for e in group] for name, group in found.items()}
    top = {
        name: [tops(order_of(e, seed), shares(len(e.units), [TOP]))[0] for e in group]
        for name, group in found.items()
    }
    lines = []
    names = list(found)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            ranks = [spearman(x, y) for x, y in zip(values[a], values[b], strict=True)]
            overlap = [(x & y).sum() / x.sum() for x, y in zip(top[a], top[b], strict=True) if x.any()]
            lines.append({"a": a, "b": b, "spearman": _mean(ranks), "overlap": _mean(overlap)})
    return tuple(lines)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
