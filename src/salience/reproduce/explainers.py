"""Reproduction: which explainer is truest? Every method and every metric on three text sets and one image set."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from salience.api import Predictor
from salience.core.progress import Stage
from salience.core.stats import generator
from salience.data.datasets.download import cache_folder
from salience.data.schema import infer
from salience.explain.board import Leaderboard
from salience.explain.leaderboard import compare
from salience.explain.leaderboard_text import MARKS
from salience.reproduce.finished import once
from salience.reproduce.sentences import present, splits

CARD = {
    "key": "explainers",
    "kind": "reproduction",
    "title": "Explainers side by side: TREC, SUBJ, SST-2 and digits",
    "entry": "run",
    "summary": "A small model for each set, every explainer that is defined for it, and every faithfulness metric beside random, uniform and inverse controls.",
    "deviates": "One small model and one seed a set: the order of methods belongs to these models, not to the methods alone.",
    "cost": "about half an hour of processor time, resumed where it was stopped; quick: two minutes",
}
DEFAULT_DATA = Path("../shared/data")
TEXTS = ("trec", "subj", "sst2")
IMAGES = "digits"
METHODS = {
    "text": (
        "gradient", "gradient_x_input", "integrated_gradients", "smooth_grad", "attention", "leave_one_out",
        "occlusion", "lime", "permutation_shapley", "kernel_shapley", "rise",
    ),
    "image": (
        "gradient", "gradient_x_input", "integrated_gradients", "smooth_grad", "grad_cam", "leave_one_out",
        "occlusion", "lime", "permutation_shapley", "kernel_shapley", "rise",
    ),
}  # fmt: skip
METRICS = (
    "comprehensiveness", "sufficiency", "aopc", "deletion_auc", "insertion_auc", "tau_loo",
    "faithfulness_correlation", "infidelity", "complexity",
)  # fmt: skip
SHORT = dict(zip(METRICS, ("compr. ↑", "suff. ↓", "aopc ↑", "del. ↓", "ins. ↑", "τ ↑", "corr. ↑", "infid. ↓", "entropy ↓"), strict=True))  # fmt: skip
TEXT_OPTIONS = [
    "model.text.name=disan", "model.text.args.ngram_dim=0", "model.text.args.dim=100", "model.text.args.dropout=0.4",
    "model.hidden=[100]", "training.learning_rate=0.002",
]  # fmt: skip
EPOCHS, QUICK_EPOCHS = {"trec": 8, "subj": 3, "sst2": 4, IMAGES: 20}, 2
ROWS, QUICK_ROWS = 60, 8
QUICK_METHODS = ("integrated_gradients", "leave_one_out", "gradient_x_input")
LONGEST = 40  # units of a row that is explained; exact and sampled methods then cost seconds, not minutes


def run(data: Path | None = None, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Train a model on each set and compare explainers on test rows.

    Args:
        data: folder with ``trec``, ``subj``, ``sst2`` and ``glove100``; digits come with scikit-learn.
        quick: TREC and digits, two epochs, eight rows, three methods.
        seed: seed of models, rows and methods.

    Returns:
        ``shown``, short rows for a terminal; ``rows``, one a set, method and metric: mean with interval, difference from the random control with interval
        and p-value (Holm), rows that are not defined, forwards and seconds; ``accuracy`` of each model, percent of
        its test rows; ``tables``, Markdown by set; ``left_out``, methods that a model does not allow; ``summary``.

    Raises:
        DataError: a file is absent.
    """
    root = Path(data) if data else DEFAULT_DATA
    names = (TEXTS[0], IMAGES) if quick else (*TEXTS, IMAGES)
    folder, rows, boards = cache_folder() / "reproduce" / "explainers", [], {}
    with Stage("reproduce", len(names)) as stage:
        for name in names:
            boards[name] = once(folder, _settings(name, quick, seed), _work(root, name, quick, seed))
            rows += [{"data": name, **row} for row in boards[name]["rows"]]
            stage.step(f"{name}, {boards[name]['accuracy']:.1f} % right")
    return {
        "rows": rows,
        "shown": _shown(rows),
        "accuracy": {name: board["accuracy"] for name, board in boards.items()},
        "tables": {name: board["markdown"] for name, board in boards.items()},
        "left_out": {name: board["left_out"] for name, board in boards.items()},
        "summary": {
            line: verdict for name, board in boards.items() for line, verdict in _summary(name, board)
        },
    }


def _settings(name: str, quick: bool, seed: int) -> list[Any]:
    kind = "image" if name == IMAGES else "text"
    methods = QUICK_METHODS if quick else METHODS[kind]
    epochs, rows = (QUICK_EPOCHS, QUICK_ROWS) if quick else (EPOCHS[name], ROWS)
    return [name, kind, list(methods), list(METRICS), epochs, rows, TEXT_OPTIONS, seed]


def _work(root: Path, name: str, quick: bool, seed: int) -> Callable[[Path], dict[str, Any]]:
    _, kind, methods, metrics, epochs, rows, options, _ = _settings(name, quick, seed)

    def work(folder: Path) -> dict[str, Any]:
        train, held, test, target = _images(seed) if kind == "image" else _texts(root, name, seed)
        more = [f"model.text.args.vectors={present(root / 'glove100' / 'glove100_f16.npz')}", *options]
        predictor = Predictor(
            target, seed=seed, overrides=[f"training.epochs={epochs}", *(more if kind == "text" else [])]
        )
        schema = infer(
            pd.concat([train, held]), target, kinds={"text": "text"} if kind == "text" else {}, source=name
        )
        predictor.fit_split(schema, train, held, folder=folder)
        hits = predictor.predict(test).astype(str).to_numpy() == test[target].astype(str).to_numpy()
        chosen = _chosen(predictor, test, rows, seed)
        board = compare(predictor.model, chosen, methods, metrics, seed=seed, keep=folder / "cells.json")
        return {"accuracy": 100 * float(hits.mean()), **_parts(board)}

    return work


def _texts(root: Path, name: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, str]:
    _, train, held, test = next(iter(splits(root, name, 1, seed)))
    return train, held, test, "label"


def _images(seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, str]:
    from salience.data.datasets.digits import load

    frame = load()
    part = generator(seed, "digits").permutation(len(frame)) % 10
    return frame[part > 2], frame[part == 2], frame[part < 2], "digit"


def _chosen(predictor: Predictor, test: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """Return canonical test rows, drawn at random among those that are not too long."""
    frame = predictor.schema.parse(test, target=False)
    order = generator(seed, "rows").permutation(len(frame))
    return frame.iloc[list(_short(predictor, frame, order, rows))]


def _short(predictor: Predictor, frame: pd.DataFrame, order: Any, rows: int) -> Iterator[int]:
    for position in order:
        if rows and 2 <= len(predictor.model.units(frame.iloc[position].to_dict())) <= LONGEST:
            rows -= 1
            yield position


def _parts(board: Leaderboard) -> dict[str, Any]:
    verdicts = [m for m in board.methods if not m.control]
    verdicts.sort(key=lambda m: -sum(cell.beats is True for cell in board.cells if cell.method == m.name))
    return {
        "rows": board.to_frame().to_dict("records"),
        "verdicts": {m.name: m.verdict for m in verdicts},
        "markdown": board.to_markdown(),
        "left_out": board.left_out,
    }


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one line a set and method, one column a metric: its mean, and ▲ or ▼ where it is better or worse than random."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        line = lines.setdefault((row["data"], row["method"]), {"part": row["data"], "method": row["method"]})
        defined = row["mean"] is not None
        line[SHORT[row["metric"]]] = f"{row['mean']:.3g}{MARKS[row['beats']]}" if defined else "–"
    return list(lines.values())


def _summary(name: str, board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield name, f"the model is right on {board['accuracy']:.1f} % of its test rows"
    for method, verdict in board["verdicts"].items():
        yield f"{name}, {method}", verdict
