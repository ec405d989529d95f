"""Scores of predictions, the same for our models and for every baseline.

All functions take numpy arrays; scikit-learn is imported inside, since it is slow to import.
"""

from collections.abc import Callable

import numpy as np

from salience.core.stats import bootstrap

HIGHER_IS_BETTER = {
    "accuracy": True, "macro_f1": True, "auroc": True, "log_loss": False, "rmse": False, "mae": False, "r2": True,
}  # fmt: skip
MAIN = {"classification": "auroc", "regression": "rmse"}


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


METRICS: dict[str, dict[str, Callable[..., float]]] = {
    "classification": {"auroc": auroc, "accuracy": accuracy, "macro_f1": macro_f1, "log_loss": log_loss},
    "regression": {"rmse": rmse, "mae": mae, "r2": r2},
}


def scores(task: str, truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return every metric of a task.

    Args:
        task: ``"classification"`` (``predicted`` are probabilities, rows × classes; ``truth`` class indices)
            or ``"regression"`` (both in units of the target).
        truth: one entry a row.
        predicted: one entry or one row of probabilities a row.
    """
    return {name: function(truth, predicted) for name, function in METRICS[task].items()}


def scores_with_intervals(
    task: str, truth: np.ndarray, predicted: np.ndarray, *, seed: int = 0, replicates: int = 200
) -> dict[str, dict[str, object]]:
    """Return every metric with its bootstrap interval: ``{"auroc": {"value": …, "interval": [low, high]}}``."""
    result: dict[str, dict[str, object]] = {}
    for name, function in METRICS[task].items():
        low, high = bootstrap(function, truth, predicted, replicates=replicates, seed=seed)
        result[name] = {"value": function(truth, predicted), "interval": [low, high]}
    return result
