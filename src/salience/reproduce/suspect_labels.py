"""Experiment: labels flipped on purpose, and who finds them: our rankings beside cleanlab on the same probabilities."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from salience.audit.label_folds import signals
from salience.audit.labels import auroc, rankings, trainer_of, with_labels
from salience.core.extras import require
from salience.core.progress import Stage
from salience.core.stats import bootstrap, generator
from salience.data.datasets.download import cache_folder
from salience.data.schema import infer
from salience.models.table_model import ModelConfig, Part, TableModel
from salience.reproduce.finished import once
from salience.reproduce.number_tables import load as load_table
from salience.reproduce.sentences import read as read_sentences
from salience.training.loop import TrainingConfig

CARD = {
    "key": "suspect-labels",
    "kind": "reproduction",
    "title": "Wrong labels found: how rows are learned, unseen models, and cleanlab",
    "entry": "run",
    "summary": "Labels of digits, questions and bank customers are flipped, 10 % and 20 % to any class and 10 % to the next class; AUROC and average precision of each ranking with intervals, and the paired difference to cleanlab on the same out-of-fold probabilities.",
    "paper": "On the Generalization Mystery in Deep Learning (Chatterjee, Zielinski, 2022); Confident Learning (Northcutt, Jiang, Chuang, 2021)",
    "year": 2022,
    "deviates": "no published table has this form; the rankings were chosen on other seeds (100 and above) than those reported.",
    "cost": "a quarter of an hour on one core, trainings are kept; quick: a minute",
}
DEFAULT_DATA = Path("../shared/data")
NAMES = ("digits", "trec", "churn")
NOISE = (("any class", 0.1), ("any class", 0.2), ("next class", 0.1))
FULL: dict[str, Any] = {"sets": NAMES, "noise": NOISE, "rows": 2000, "seeds": 3, "folds": 5, "epochs": 15}
QUICK: dict[str, Any] = {
    **FULL,
    "sets": ("digits",),
    "noise": NOISE[1:2],
    "rows": 500,
    "seeds": 1,
    "folds": 3,
}
TRAINING: dict[str, Any] = {"learning_rate": 3e-3, "batch_size": 64, "patience": 3}
QUESTIONS = ModelConfig(text=Part("fast_disan", {"dim": 48, "embedding_dim": 64}), hidden=(64,))
RIVAL = "cleanlab"
REPLICATES = 300


def run(data: Path | None = None, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Flip labels and measure who finds them.

    What is measured is kept in the cache folder (``SALIENCE_CACHE``).

    Args:
        data: folder with ``trec`` and ``churn``.
        quick: digits with one kind of noise, few rows.
        seed: first seed.

    Returns:
        ``rows``: one a set, kind of noise and ranking, with AUROC and average precision, means over seeds and 95 %
        intervals over rows; ``difference`` is the paired difference of AUROC to cleanlab. A ``summary``.

    Raises:
        DataError: a file is absent.
        MissingExtraError: cleanlab is not installed.
    """
    require("cleanlab")
    plan, root = QUICK if quick else FULL, Path(data) if data else DEFAULT_DATA
    folder = cache_folder() / "reproduce" / "suspect-labels"
    todo = [
        (s, n, kind, share)
        for s in range(plan["seeds"])
        for n in plan["sets"]
        for kind, share in plan["noise"]
    ]
    found: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    with Stage("reproduce", len(todo)) as stage:
        for number, name, kind, share in todo:
            options = {"name": name, "kind": kind, "share": share, "seed": seed + number}
            options |= {key: plan[key] for key in ("rows", "folds", "epochs")}
            result = once(folder, [options, TRAINING], lambda _, o=options: measured(root, **o))
            found.setdefault((name, kind, share), []).append(result)
            stage.step(f"{name}, {share:.0%} to {kind}: AUROC {result['combined']['auroc']:.3f}")
    rows = [row for key, results in found.items() for row in rows_of(*key, results)]
    return {"rows": rows, "summary": summary(rows), "gap": CARD["deviates"]}


def summary(rows: list[dict[str, Any]]) -> str:
    """Say where the combined ranking is above, level with or below cleanlab."""
    ours = [row for row in rows if row["ranking"] == "combined"]
    above = sum(row["difference_low"] > 0 for row in ours)
    below = sum(row["difference_high"] < 0 for row in ours)
    return (
        f"The combined ranking is above cleanlab in AUROC in {above} of {len(ours)} settings, below in {below}, and level "
        "within the interval in the others."
    )


# -- data ------------------------------------------------------------------------------------------


def rows_with(name: str, root: Path, rows: int, seed: int) -> tuple[pd.DataFrame, str, ModelConfig]:
    """Return at most so many random rows of a set, its target and the parts of its model."""
    load: dict[str, Callable[[Path], tuple[pd.DataFrame, str]]] = {
        "digits": _digits, "trec": _trec, "churn": _churn
    }  # fmt: skip
    frame, target = load[name](root)
    chosen = generator(seed, "rows", name).permutation(len(frame))[:rows]
    parts = QUESTIONS if name == "trec" else ModelConfig(hidden=(128,))
    return frame.iloc[np.sort(chosen)].reset_index(drop=True), target, parts


def _digits(root: Path) -> tuple[pd.DataFrame, str]:
    from sklearn.datasets import load_digits

    pixels, label = load_digits(return_X_y=True)
    names = [f"pixel {i}" for i in range(pixels.shape[1])]
    varied = pixels.std(0) > 0
    frame = pd.DataFrame(pixels, columns=names).loc[:, varied]
    return frame.assign(digit=[str(d) for d in label]), "digit"


def _trec(root: Path) -> tuple[pd.DataFrame, str]:
    return read_sentences(root / "trec" / "TREC.train.all", "latin-1"), "label"


def _churn(root: Path) -> tuple[pd.DataFrame, str]:
    table = load_table("churn", root)
    frame = pd.concat([table.train, table.validation, table.test])
    return frame.assign(exited=frame["exited"].map({0: "stayed", 1: "left"})), "exited"


def flipped(
    label: np.ndarray, classes: int, kind: str, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels of which a random share is moved to any other or to the next class, and which ones."""
    rng = generator(seed, "flips", kind)
    changed = rng.random(len(label)) < share
    by = np.ones(len(label), dtype=int) if kind == "next class" else rng.integers(1, classes, len(label))
    return np.where(changed, (label + by) % classes, label), changed


# -- one measurement -------------------------------------------------------------------------------


def measured(
    root: Path, *, name: str, kind: str, share: float, seed: int, rows: int, folds: int, epochs: int
) -> dict[str, Any]:
    """Flip labels of one set, train, and measure every ranking.

    Returns:
        By ranking: ``auroc`` and ``precision`` with intervals, and ``difference`` to cleanlab with its interval.
    """
    frame, target, parts = rows_with(name, root, rows, seed)
    kinds = {} if name == "trec" else dict.fromkeys(frame.select_dtypes("number").columns, "number")
    schema = infer(frame, target, task="classification", kinds=kinds, source=name).fitted(frame)
    rows_in = schema.parse(frame, target=True)
    label, changed = flipped(schema.encode_target(rows_in), len(schema.classes), kind, share, seed)
    torch.manual_seed(seed)
    training = TrainingConfig(epochs=epochs, **TRAINING)
    fit = trainer_of(TableModel(schema, parts), training, seed)
    found = signals(fit, with_labels(rows_in, schema, label), label, folds=folds, seed=seed)
    ranks = rankings(found) | rivals(label, found.probabilities)
    draws = {"replicates": REPLICATES, "seed": seed}
    return {
        ranking: {
            "auroc": auroc(changed, values),
            "auroc_interval": bootstrap(auroc, changed, values, **draws),
            "precision": average_precision(changed, values),
            "precision_interval": bootstrap(average_precision, changed, values, **draws),
            "difference": auroc(changed, values) - auroc(changed, ranks[RIVAL]),
            "difference_interval": bootstrap(_gain, changed, values, ranks[RIVAL], **draws),
        }
        for ranking, values in ranks.items()
    }


def rivals(label: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Return suspicion by cleanlab's two scores of label quality, from the same out-of-fold probabilities."""
    from cleanlab.rank import get_label_quality_scores

    score = partial(get_label_quality_scores, label, probabilities)
    return {RIVAL: -score(), "cleanlab, normalised margin": -score(method="normalized_margin")}


def _gain(changed: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> float:
    return auroc(changed, ours) - auroc(changed, theirs)


def average_precision(changed: np.ndarray, suspicion: np.ndarray) -> float:
    """Return the average precision of a ranking; NaN where no label was changed."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(changed, suspicion)) if changed.any() else float("nan")


def rows_of(name: str, kind: str, share: float, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a line a ranking: means over seeds; the ends of intervals are averaged and narrowed by their number."""
    rows = []
    for ranking in results[0]:
        row: dict[str, Any] = {
            "data": name,
            "noise": kind,
            "share": share,
            "ranking": ranking,
            "seeds": len(results),
        }
        for measure in ("auroc", "precision", "difference"):
            value = float(np.mean([r[ranking][measure] for r in results]))
            ends = np.array([r[ranking][f"{measure}_interval"] for r in results])
            low, high = value + (ends.mean(0) - value) / len(results) ** 0.5
            row |= {measure: value, f"{measure}_low": float(low), f"{measure}_high": float(high)}
        rows.append(row)
    return rows
