"""Suspect labels: rows whose label the other rows speak against, with reasons, an estimate and a control."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata

from salience.audit.intervals import wilson
from salience.audit.label_folds import ALIKE, Fit, Signals, signals
from salience.core.errors import ConfigError, UnsupportedError
from salience.core.metrics import scores
from salience.core.stats import bootstrap, generator
from salience.data.schema import Schema
from salience.models.table_model import TableModel
from salience.training.loop import History, Trainer, TrainingConfig

FEWEST_FOLDS, FEWEST_ROWS = 3, 30
PLANTED = 0.05
REPLICATES = 200


@dataclass(frozen=True)
class PlantedFlips:
    """Say how many labels that were changed on purpose are found again: whether the ranking can be believed here.

    Attributes:
        flipped: labels changed, at random, to another class.
        auroc: chance that a changed row ranks above one that was left alone, by ranking.
        intervals: 95 % interval of each, over rows.
        found: share of the changed rows among the ``flipped`` most suspicious.
        found_interval: its 95 % interval.
    """

    flipped: int
    auroc: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    found: float
    found_interval: tuple[float, float]


@dataclass(frozen=True)
class SuspectLabels:
    """Hold rows by how suspicious their labels are.

    Attributes:
        table: one line a row, the most suspicious first: ``row`` (its index), ``label``, ``suggested``, ``suspicion``
            (share of the rows that are less suspicious), ``flagged``, ``alignment``, ``loss``, ``self_confidence``,
            ``alike`` (labels of the most alike rows) and ``reason``.
        wrong: estimated number of wrong labels.
        interval: its 95 % interval, over rows.
        control: planted flips; None if it was not asked for.
        signals: what the ranking is made of, in the order of the rows.
    """

    table: pd.DataFrame
    wrong: float
    interval: tuple[float, float]
    control: PlantedFlips | None
    signals: Signals

    def words(self) -> str:
        """Return what was found, in two or three sentences."""
        rows = len(self.table)
        low, high = self.interval
        text = (
            f"About {self.wrong:.0f} of {rows:,} labels look wrong ({self.wrong / rows:.1%}, 95 % interval {low:.0f} to "
            f"{high:.0f}); rows that no model gets right count among them."
        )
        if self.control is None:
            return text
        auroc, ends = self.control.auroc["combined"], self.control.intervals["combined"]
        return (
            f"{text} Control: of {self.control.flipped} labels that were changed on purpose {self.control.found:.0%} are "
            f"among the {self.control.flipped} most suspicious rows; AUROC {auroc:.3f} ({ends[0]:.3f} to {ends[1]:.3f})."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the table and the estimates as plain data."""
        control = None if self.control is None else vars(self.control)
        lines = self.table.to_dict("records")
        return {"rows": lines, "wrong": self.wrong, "interval": list(self.interval), "control": control}


def suspect_labels(
    model: TableModel,
    frame: pd.DataFrame,
    *,
    training: TrainingConfig | None = None,
    fit: Fit | None = None,
    folds: int = 5,
    control: bool = True,
    seed: int = 0,
) -> SuspectLabels:
    """Rank rows by how much their label is spoken against.

    A row is judged by models that did not see it, and by how it was learned by those that did: four ranks (out-of-fold
    probability of the label and its margin, mean loss in training, alignment with the other rows' gradient) are
    averaged. The model itself is not changed; as many new ones of its kind are trained as there are folds, and as many
    again for the control.

    Args:
        model: a model of the kind to train; its weights are not used.
        frame: rows with their target.
        training: how to train; the model's own options are not known to it.
        fit: trains another way: from rows, rows that decide when to stop, and watchers, to a model and its history.
        folds: number of models, at least 3.
        control: change 5 % of the labels on purpose, and say how many are found.
        seed: seed of folds, weights, flips and intervals.

    Raises:
        UnsupportedError: the target is no class, or there are too few rows.
        ConfigError: fewer than three folds.
    """
    schema = model.schema
    _check(schema, folds, len(frame))
    rows = schema.parse(frame, target=True)
    _check(schema, folds, len(rows))
    fit = fit or trainer_of(model, training or TrainingConfig(), seed)
    label = schema.encode_target(rows)
    found = signals(fit, rows, label, folds=folds, seed=seed)
    planted = planted_flips(fit, rows, schema, folds=folds, seed=seed) if control else None
    wrong = estimate_wrong(found.label, found.probabilities)
    interval = bootstrap(estimate_wrong, found.label, found.probabilities, replicates=REPLICATES, seed=seed)
    table = table_of(found, rows.index, list(schema.classes))
    return SuspectLabels(table, wrong, interval, planted, found)


def _check(schema: Schema, folds: int, rows: int) -> None:
    if schema.task != "classification":
        raise UnsupportedError(
            "Suspect labels are looked for among classes",
            f"The task is {schema.task}.",
            "For numbers look at the largest errors.",
        )
    if folds < FEWEST_FOLDS:
        raise ConfigError(
            "folds is out of range", f"Got {folds}, want {FEWEST_FOLDS} or more.", code="SAL-C005"
        )
    if rows < FEWEST_ROWS:
        raise UnsupportedError(
            "There are too few rows to look for suspect labels",
            f"{rows} rows.",
            f"Give at least {FEWEST_ROWS}.",
        )


def trainer_of(model: TableModel, training: TrainingConfig, seed: int) -> Fit:
    """Return what trains a new model of the same parts.

    Encoders that need a training of their own before are not known here; :meth:`salience.Predictor.suspect_labels`
    trains them too.
    """
    schema = model.schema

    def fit(rows: pd.DataFrame, held: pd.DataFrame, watchers: Sequence[Any]) -> tuple[TableModel, History]:
        torch.manual_seed(seed)
        new = TableModel(schema, model.config)
        target, truth = schema.encode_target(rows), schema.encode_target(held)
        new.fit_parts(rows, target, torch.Generator().manual_seed(seed))

        def evaluate(current: Any) -> dict[str, float]:
            return scores(schema.task, truth, current.predict_proba(current.outputs(held)))

        trainer = Trainer(new, training, seed=seed, watchers=watchers)
        return new, trainer.fit(new.prepare(rows), target, evaluate, "log_loss", False)

    return fit


# -- ranking ---------------------------------------------------------------------------------------


def rankings(found: Signals) -> dict[str, np.ndarray]:
    """Return suspicion by each ranking, as the share of rows that are less suspicious, in [0, 1]."""
    single = {
        "alignment": found.alignment,
        "loss": -found.loss,
        "self-confidence": found.self_confidence,
        "margin": found.margin,
    }
    ranks = {name: _share(-value) for name, value in single.items()}
    ranks["alignment and loss"] = _share(ranks["alignment"] + ranks["loss"])
    ranks["combined"] = _share(sum(ranks[name] for name in single))
    return ranks


def _share(suspicion: np.ndarray) -> np.ndarray:
    return (rankdata(suspicion) - 1) / max(len(suspicion) - 1, 1)


def confident(label: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the class that each row confidently belongs to, −1 where there is none.

    A row belongs to a class if its probability reaches the mean probability that rows with that label have; to the most
    likely one of several. Source: Northcutt, Jiang, Chuang, Confident Learning, JAIR 2021.
    """
    classes = np.arange(probabilities.shape[1])
    thresholds = np.array(
        [probabilities[label == c, c].mean() if (label == c).any() else 2.0 for c in classes]
    )
    above = np.where(probabilities >= thresholds, probabilities, -1.0)
    return np.where(above.max(1) > 0, above.argmax(1), -1)


def estimate_wrong(label: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the estimated number of wrong labels: rows that confidently belong to another class.

    Of every class the share among the rows that confidently belong anywhere is carried over to all its rows.
    """
    belongs = confident(label, probabilities)
    total = 0.0
    for c in np.unique(label):
        sure = belongs[(label == c) & (belongs >= 0)]
        total += float((label == c).sum() * (sure != c).mean()) if len(sure) else 0.0
    return total


def table_of(found: Signals, index: pd.Index, classes: list[str]) -> pd.DataFrame:
    """Return the rows with their scores and reasons, the most suspicious first."""
    names = np.array(classes, dtype=object)
    ranks = rankings(found)
    belongs = confident(found.label, found.probabilities)
    alike = names[found.label[found.alike]]
    table = pd.DataFrame(
        {
            "row": index,
            "label": names[found.label],
            "suggested": names[np.where(found.margin < 0, found.other, found.label)],
            "suspicion": ranks["combined"],
            "flagged": (belongs >= 0) & (belongs != found.label),
            "alignment": found.alignment,
            "loss": found.loss,
            "self_confidence": found.self_confidence,
            "alike": [", ".join(line) for line in alike],
            "reason": [_reason(found, ranks, names, alike, i) for i in range(len(index))],
        }
    )
    return table.sort_values("suspicion", ascending=False, kind="stable").reset_index(drop=True)


def _reason(
    found: Signals, ranks: dict[str, np.ndarray], names: np.ndarray, alike: np.ndarray, i: int
) -> str:
    other, label = names[found.other[i]], names[found.label[i]]
    p, q = found.probabilities[i, found.other[i]], found.self_confidence[i]
    parts = [f"a model that did not see it gives {other} {p:.2f} and {label} {q:.2f}"]
    if found.alignment[i] < 0:
        parts.append("its gradient points against that of the other rows")
    elif ranks["alignment"][i] > 0.5:
        parts.append(
            f"its gradient agrees with that of the other rows less than that of {ranks['alignment'][i]:.0%}"
        )
    if ranks["loss"][i] > 0.5:
        parts.append(f"it is learned later than {ranks['loss'][i]:.0%} of the rows")
    counts = [f"{(alike[i] == name).sum()} {name}" for name in dict.fromkeys(alike[i])]
    parts.append(f"the {ALIKE} most alike rows are {', '.join(counts)}")
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


# -- control ---------------------------------------------------------------------------------------


def flip(label: np.ndarray, classes: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels of which a random share is changed to another class, and which ones."""
    rng = generator(seed, "planted flips")
    chosen = np.zeros(len(label), dtype=bool)
    chosen[rng.choice(len(label), max(1, round(share * len(label))), replace=False)] = True
    moved = (label + rng.integers(1, classes, len(label))) % classes
    return np.where(chosen, moved, label), chosen


def with_labels(frame: pd.DataFrame, schema: Schema, label: np.ndarray) -> pd.DataFrame:
    """Return canonical rows with other labels."""
    return frame.assign(**{schema.target.name: np.array(schema.classes, dtype=object)[label]})


def planted_flips(fit: Fit, rows: pd.DataFrame, schema: Schema, *, folds: int, seed: int) -> PlantedFlips:
    """Change labels on purpose, rank all rows anew, and say how many of the changed ones are found."""
    label, changed = flip(schema.encode_target(rows), len(schema.classes), PLANTED, seed)
    ranks = rankings(signals(fit, with_labels(rows, schema, label), label, folds=folds, seed=seed))
    flipped = int(changed.sum())
    top = np.argsort(-ranks["combined"], kind="stable")[:flipped]
    found = float(changed[top].mean())
    return PlantedFlips(
        flipped,
        {name: auroc(changed, values) for name, values in ranks.items()},
        {name: bootstrap(auroc, changed, v, replicates=REPLICATES, seed=seed) for name, v in ranks.items()},
        found,
        wilson(found, flipped),
    )


def auroc(changed: np.ndarray, suspicion: np.ndarray) -> float:
    """Return the chance that a changed row ranks above one that is not; ties count half; NaN without either."""
    some = int(changed.sum())
    if some in (0, len(changed)):
        return float("nan")
    above = rankdata(suspicion)[changed].sum() - some * (some + 1) / 2
    return float(above / (some * (len(changed) - some)))
