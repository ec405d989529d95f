"""Scores of predictions, the same for our models and for every baseline.

All functions take numpy arrays; scikit-learn is imported inside, since it is slow to import. Scores of several targets
are means over the targets of the score of each (a target where it is not defined is left out), or, as ``micro_f1``,
``subset_accuracy`` and ``hamming_loss``, defined on all of them together.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from salience.core.stats import bootstrap

HIGHER_IS_BETTER = {
    "accuracy": True, "macro_f1": True, "auroc": True, "log_loss": False, "rmse": False, "mae": False, "r2": True,
    "mean_auroc": True, "micro_f1": True, "label_accuracy": True, "subset_accuracy": True, "hamming_loss": False,
    "mean_r2": True, "mean_rmse": False, "mean_mae": False,
}  # fmt: skip
MAIN = {
    "classification": "auroc", "regression": "rmse", "multi-label": "mean_auroc", "multi-regression": "mean_r2",
}  # fmt: skip
PROBABLE = ("classification", "multi-label")  # tasks whose predictions are probabilities


def as_predictions(task: str, outputs: np.ndarray) -> np.ndarray:
    """Return what metrics take, from what a model returns.

    Args:
        task: the task of the model.
        outputs: ``(row, output)``: logits, or the targets in their own units.

    Returns:
        Probabilities ``(row, class)`` that sum to one; values ``(row,)``; of several targets the probability of each
        label, or the value of each target, ``(row, target)``.
    """
    from scipy.special import expit, softmax

    if task == "classification":
        return softmax(outputs, axis=1)
    if task == "multi-label":
        return expit(outputs)
    return outputs[:, 0] if task == "regression" else outputs


def accuracy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of rows whose most probable class is the true one."""
    return float((probabilities.argmax(1) == truth).mean())


def macro_f1(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean over classes of F1; a class that neither occurs nor is predicted is left out."""
    predicted = probabilities.argmax(1)
    scores = []
    for label in range(probabilities.shape[1]):
        hits = ((predicted == label) & (truth == label)).sum()
        total = (predicted == label).sum() + (truth == label).sum()
        if total:
            scores.append(2 * hits / total)
    return float(np.mean(scores))


def binary_auroc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Return the probability that a positive row outranks a negative one (ties count half); NaN for one class."""
    from scipy.stats import rankdata

    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def auroc(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return AUROC; with more than two classes the unweighted mean of one-against-rest over classes that occur."""
    classes = probabilities.shape[1]
    if classes == 2:
        return binary_auroc(truth == 1, probabilities[:, 1])
    scores = [binary_auroc(truth == c, probabilities[:, c]) for c in range(classes)]
    defined = [s for s in scores if np.isfinite(s)]
    return float(np.mean(defined)) if defined else float("nan")


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean negative log probability (nats) of the true class, clipped at 1e-12."""
    return float(-np.log(np.clip(probabilities[np.arange(len(truth)), truth], 1e-12, 1.0)).mean())


def rmse(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the root mean squared error, in units of the target."""
    return float(np.sqrt(np.mean((truth - predicted) ** 2)))


def mae(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean absolute error, in units of the target."""
    return float(np.mean(np.abs(truth - predicted)))


def r2(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the share of variance explained; NaN for a constant target."""
    total = ((truth - truth.mean()) ** 2).sum()
    return float(1 - ((truth - predicted) ** 2).sum() / total) if total > 0 else float("nan")


def label_auroc(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return AUROC of one label."""
    return binary_auroc(truth == 1, probabilities)


def label_accuracy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of rows whose label is predicted right, at a probability of one half; also over all labels."""
    return float(((probabilities >= 0.5) == truth).mean())


def label_f1(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return F1 of a label at one half, of all labels together if there are several; NaN if none occurs or is predicted."""
    predicted, true = probabilities >= 0.5, truth == 1
    total = predicted.sum() + true.sum()
    return float(2 * (predicted & true).sum() / total) if total else float("nan")


def subset_accuracy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of rows with all labels right."""
    return float(((probabilities >= 0.5) == truth).all(axis=1).mean())


def hamming_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of labels, over all rows, that are predicted wrong."""
    return 1.0 - label_accuracy(truth, probabilities)


def label_log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean negative log probability (nats) of what each label is, clipped at 1e-12."""
    of_truth = np.where(truth == 1, probabilities, 1 - probabilities)
    return float(-np.log(np.clip(of_truth, 1e-12, 1.0)).mean())


def over_targets(score: Callable[..., float], truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean over targets of a score of each; NaN if it is defined for none."""
    each = np.array([score(truth[:, i], predicted[:, i]) for i in range(truth.shape[1])])
    defined = each[np.isfinite(each)]
    return float(defined.mean()) if len(defined) else float("nan")


EACH: dict[str, dict[str, Callable[..., float]]] = {
    "multi-label": {"mean_auroc": label_auroc, "macro_f1": label_f1, "label_accuracy": label_accuracy},
    "multi-regression": {"mean_r2": r2, "mean_rmse": rmse, "mean_mae": mae},
}
METRICS: dict[str, dict[str, Callable[..., float]]] = {
    "classification": {"auroc": auroc, "accuracy": accuracy, "macro_f1": macro_f1, "log_loss": log_loss},
    "regression": {"rmse": rmse, "mae": mae, "r2": r2},
    **{task: {name: partial(over_targets, one) for name, one in each.items()} for task, each in EACH.items()},
}
METRICS["multi-label"] |= {
    "micro_f1": label_f1,
    "subset_accuracy": subset_accuracy,
    "hamming_loss": hamming_loss,
    "log_loss": label_log_loss,
}


def scores(task: str, truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return every metric of a task.

    Args:
        task: one of the four tasks.
        truth: one entry a row: a class index or a value; of several targets ``(row, target)``.
        predicted: what :func:`as_predictions` returns.
    """
    return {name: function(truth, predicted) for name, function in METRICS[task].items()}


def scores_with_intervals(
    task: str,
    truth: np.ndarray,
    predicted: np.ndarray,
    *,
    targets: Sequence[str] = (),
    seed: int = 0,
    replicates: int = 200,
) -> dict[str, dict[str, Any]]:
    """Return every metric with its bootstrap interval.

    Args:
        task: as for :func:`scores`.
        truth: likewise.
        predicted: likewise.
        targets: names of several targets, to be scored one by one too.
        seed: seed of the resampling.
        replicates: number of resamples.

    Returns:
        ``{"rmse": {"value": …, "interval": [low, high]}}``; a metric that is a mean over targets also has
        ``"targets": {name: {"value", "interval"}}``.
    """

    def scored(function: Callable[..., float], y: np.ndarray, p: np.ndarray) -> dict[str, Any]:
        low, high = bootstrap(function, y, p, replicates=replicates, seed=seed)
        return {"value": function(y, p), "interval": [low, high]}

    result = {name: scored(function, truth, predicted) for name, function in METRICS[task].items()}
    for name, function in EACH.get(task, {}).items() if targets else ():
        columns = zip(targets, truth.T, predicted.T, strict=True)
        result[name]["targets"] = {target: scored(function, y, p) for target, y, p in columns}
    return result
