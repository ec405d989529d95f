"""Numbers as words, the same in every finding."""

import math

NAMES = {
    "auroc": "AUROC", "accuracy": "accuracy", "macro_f1": "macro-F1", "log_loss": "log loss (nats)",
    "rmse": "RMSE", "mae": "MAE", "r2": "R²", "mean_auroc": "mean AUROC", "micro_f1": "micro-F1",
    "label_accuracy": "label accuracy", "subset_accuracy": "subset accuracy", "hamming_loss": "Hamming loss",
    "mean_rmse": "mean RMSE", "mean_mae": "mean MAE", "mean_r2": "mean R²",
}  # fmt: skip


def number(value: float) -> str:
    """Return three decimals near one, four significant digits elsewhere, ``"undefined"`` for NaN."""
    if not math.isfinite(value):
        return "undefined"
    if 0 < abs(value) < 0.1:
        return f"{value:.4f}" if abs(value) >= 0.00005 else f"{value:.1e}"
    if value == 0 or 0.1 <= abs(value) < 10:
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else "undefined"


def between(interval: tuple[float, float]) -> str:
    """Return ``"95 % interval 0.945 to 0.957"``."""
    return f"95 % interval {number(interval[0])} to {number(interval[1])}"


def points(interval: tuple[float, float]) -> str:
    """Return an interval of shares in percentages."""
    return f"95 % interval {percent(interval[0])} to {percent(interval[1])}"


def metric_name(key: str) -> str:
    """Return a metric's name as people write it."""
    return NAMES.get(key, key)
