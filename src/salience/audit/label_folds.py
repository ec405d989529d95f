"""What models that are trained on parts of the rows say about each row: while it was learned, and unseen.

Every row is left out by one model, which gives probabilities that do not know its label, and learned by the others,
which say how easily: how low its loss was from the first epoch to the best one, and whether the steps that all rows
made together went its way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from salience.core.progress import Stage
from salience.core.stats import generator
from salience.models.table_model import TableModel
from salience.models.temperature import calibrate
from salience.training.loop import History

Fit = Callable[[pd.DataFrame, pd.DataFrame, Sequence[Any]], tuple[TableModel, History]]
BATCH, ALIKE = 256, 3
TINY = 1e-12


def run(
    model: TableModel, examples: list[Any]
) -> tuple[Float[Tensor, "row class"], Float[Tensor, "row dim"]]:
    """Return joined logits, and vectors as the head gets them, of prepared rows, in evaluation mode."""
    order = sorted(range(len(examples)), key=lambda i: model.length(examples[i]))
    place = torch.empty(len(order), dtype=torch.long)
    place[torch.tensor(order)] = torch.arange(len(order))
    logits: list[Tensor] = []
    seen: list[Tensor] = []
    hook = model.fusion.register_forward_hook(lambda _module, _inputs, output: seen.append(output.flatten(1)))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(order), BATCH):
                batch = model.collate([examples[i] for i in order[start : start + BATCH]])
                logits.append(model.forward_tokens(model.embed(batch)))
    finally:
        hook.remove()
        model.train(was_training)
    return torch.cat(logits).double().cpu()[place], torch.cat(seen).float().cpu()[place]


class Dynamics:
    """Follow each training row's loss over epochs, and its alignment with the steps that all rows made together.

    The alignment of an epoch is the integral of the row's gradient along the way that the weights went in it, which is
    the fall of the row's loss; divided by the length of the way, and by the norm of the gradient by the row's outputs,
    so that hard rows do not count more for being hard. One row is a small part of the way; early in training, before
    rows are memorised, a low value says that the other rows pull away from its label. No second pass is needed, and any
    architecture will do.

    Args:
        frame: the training rows, canonical.
        target: class index of each.
    """

    def __init__(self, frame: pd.DataFrame, target: np.ndarray) -> None:
        self.frame, self.target = frame, torch.as_tensor(target)
        self.rows = torch.arange(len(target))
        self.losses: list[np.ndarray] = []
        self.alignments: list[np.ndarray] = []

    def after_backward(self, model: nn.Module, rows: int) -> None:
        """Note losses and weights before the first step."""
        if not self.losses:
            self.examples = model.prepare(self.frame)
            self.weights = [p.detach().clone() for p in model.parameters()]
            self.losses.append(self._look(model)[0])

    def end_epoch(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """Note losses and alignments of the epoch."""
        loss, slope = self._look(model)
        now = [p.detach().clone() for p in model.parameters()]
        way = sum(float((a - b).square().sum()) for a, b in zip(now, self.weights, strict=True)) ** 0.5
        self.alignments.append((self.losses[-1] - loss) / np.maximum(slope * way, TINY))
        self.losses.append(loss)
        self.weights = now
        return {}

    def _look(self, model: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        """Return each row's loss and the norm of its gradient by the outputs."""
        log_p = run(model, self.examples)[0].log_softmax(1)
        residual = log_p.exp()
        residual[self.rows, self.target] -= 1
        return (-log_p[self.rows, self.target]).numpy(), residual.norm(dim=1).numpy()

    def means(self, epochs: int) -> tuple[np.ndarray, np.ndarray]:
        """Return each row's mean loss and mean alignment over the first epochs."""
        return np.mean(self.losses[1 : epochs + 1], axis=0), np.mean(self.alignments[:epochs], axis=0)


@dataclass(frozen=True)
class Signals:
    """Hold what the models say about each row, in the order of the rows.

    Attributes:
        label: class index that is given.
        probabilities: class probabilities of the model that did not see the row, calibrated.
        loss: mean loss over the epochs of the models that learned the row, up to their best epoch.
        alignment: mean alignment, likewise.
        alike: positions of the rows most alike, among those that the left-out row's model learned.
    """

    label: np.ndarray
    probabilities: np.ndarray
    loss: np.ndarray
    alignment: np.ndarray
    alike: np.ndarray

    @property
    def self_confidence(self) -> np.ndarray:
        """Out-of-fold probability of the given label."""
        return self.probabilities[np.arange(len(self.label)), self.label]

    @property
    def other(self) -> np.ndarray:
        """The most likely other class."""
        return _without(self.probabilities, self.label).argmax(1)

    @property
    def margin(self) -> np.ndarray:
        """Out-of-fold probability of the given label less that of the most likely other class."""
        return margin_of(self.label, self.probabilities)

    def at(self, rows: np.ndarray) -> "Signals":
        """Return the signals of some rows."""
        return Signals(*(getattr(self, f.name)[rows] for f in fields(self)))


def margin_of(
    label: Int[np.ndarray, " row"], probabilities: Float[np.ndarray, "row class"]
) -> Float[np.ndarray, " row"]:
    """Return the probability of the given label less that of the most likely other class."""
    return probabilities[np.arange(len(label)), label] - _without(probabilities, label).max(1)


def _without(probabilities: np.ndarray, label: np.ndarray) -> np.ndarray:
    others = probabilities.copy()
    others[np.arange(len(label)), label] = -1.0
    return others


def stratified_folds(label: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each row, every class dealt out evenly."""
    order = generator(seed, "label folds").permutation(len(label))
    order = order[np.argsort(label[order], kind="stable")]
    found = np.empty(len(label), dtype=int)
    found[order] = np.arange(len(label)) % folds
    return found


def signals(fit: Fit, frame: pd.DataFrame, label: np.ndarray, *, folds: int, seed: int) -> Signals:
    """Train one model a fold and gather what they say about each row.

    Half of the next fold decides when a model stops, so that each row is learned by all but one or two models.

    Args:
        fit: trains on rows, stops by others, and shows the training to watchers.
        frame: canonical rows with their target.
        label: class index of each row.
        folds: number of models, at least 3.
        seed: seed of the folds.
    """
    fold = stratified_folds(label, folds, seed)
    half = generator(seed, "label halves").random(len(label)) < 0.5
    sums, times = np.zeros((2, len(label))), np.zeros(len(label))
    probabilities: np.ndarray | None = None
    alike = np.zeros((len(label), ALIKE), dtype=int)
    with Stage("labels", folds) as stage:
        for number in range(folds):
            out, stops = fold == number, (fold == (number + 1) % folds) & half
            learned = np.flatnonzero(~out & ~stops)
            dynamics = Dynamics(frame.iloc[learned], label[learned])
            model, history = fit(frame.iloc[learned], frame[stops], [dynamics])
            sums[:, learned] += dynamics.means(max(history.best_epoch + 1, 1))
            times[learned] += 1
            calibrate(model, frame[stops], label[stops])
            found = model.predict_proba(model.outputs(frame[out]))
            probabilities = np.zeros((len(label), found.shape[1])) if probabilities is None else probabilities
            probabilities[out] = found
            alike[out] = learned[most_alike(model, frame[out], frame.iloc[learned])]
            stage.step(f"fold {number + 1} of {folds}")
    loss, alignment = sums / times
    return Signals(label, probabilities, loss, alignment, alike)


def most_alike(model: TableModel, frame: pd.DataFrame, others: pd.DataFrame) -> np.ndarray:
    """Return for each row the positions of the three others whose vectors, as the head gets them, are most alike.

    By cosine, the nearest first; where there are fewer others the first one is repeated.
    """
    rows, against = (_vectors(model, part) for part in (frame, others))
    count = min(ALIKE, len(against))
    found = torch.cat([(part @ against.T).topk(count, dim=1).indices for part in rows.split(BATCH)]).numpy()
    return np.concatenate([found, *[found[:, :1]] * (ALIKE - count)], axis=1)


def _vectors(model: TableModel, frame: pd.DataFrame) -> Float[Tensor, "row dim"]:
    return nn.functional.normalize(run(model, model.prepare(frame))[1], dim=1)
