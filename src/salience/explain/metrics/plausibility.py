"""Plausibility: whether an explanation names the words that people marked. It says nothing about the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from salience.core.errors import ConfigError
from salience.explain.explanation import Explanation
from salience.explain.model import BlackBox
from salience.explain.options import within
from salience.explain.orders import order_of, tops, values_of
from salience.explain.scores import Scores, one_of

CARD = {
    "key": "plausibility",
    "kind": "metric",
    "title": "Plausibility",
    "entry": "Plausibility",
    "summary": "Agreement with the units that people marked as the reason: token F1, overlap, span F1, or the area under precision and recall.",
    "convention": "F1 of the top units and the marked units, as many top units as are marked.",
    "better": "higher",
    "family": "plausibility",
    "needs": "rationales",
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "paper": "ERASER (DeYoung et al., ACL 2020)",
    "year": 2020,
    "url": "https://arxiv.org/abs/1911.03429",
    "source": "paper",
    "faithful": "Token F1, intersection over union, span F1 at an overlap above one half, and average precision of the values.",
    "deviates": "Units are words, not sub-words; by default as many top units are taken as people marked.",
    "cost": "none",
    "defaults": {"measure": "token_f1", "k": None},
}
MEASURES = {
    "token_f1": "F1 of the top units and the marked units",
    "iou": "intersection over union of the top units and the marked units",
    "span_f1": "F1 of runs of top units and runs of marked units, which match where their overlap is above one half of their union",
    "auprc": "average precision of the values in finding the marked units",
}
Rationale = Sequence[bool] | Sequence[tuple[str, int, int]] | None


@dataclass(frozen=True)
class Plausibility:
    """Compare with human rationales.

    Args:
        rationales: from the name of a row (``explanation.row``) to what people marked: one boolean a unit, or
            ``(column, start, stop)`` character spans. Rows without one get NaN.
        measure: ``"token_f1"``, ``"iou"``, ``"span_f1"`` or ``"auprc"``.
        k: number of top units; None for as many as people marked. Not used by ``"auprc"``.
    """

    rationales: Mapping[Any, Rationale] = field(default_factory=dict)
    measure: str = "token_f1"
    k: int | None = None

    def __post_init__(self) -> None:
        one_of("measure", self.measure, MEASURES)
        within("k", 1 if self.k is None else self.k, 1)

    def scores(
        self,
        model: BlackBox,
        explanations: Sequence[Explanation],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> Scores:
        """Return the agreement of each explanation, in [0, 1]; NaN where nothing is marked.

        Raises:
            ConfigError: a mask that is not one boolean a unit.
        """
        begin = perf_counter()
        values = np.array([self._score(e, seed) for e in explanations], dtype=float)
        many = "as many top units as are marked" if self.k is None else f"{self.k} top units"
        taken = "a unit without a value comes last" if self.measure == "auprc" else many
        convention = f"{MEASURES[self.measure]}; {taken}."
        absent = sum(not self.rationales.get(e.row) for e in explanations)
        reason = f"{absent} rows have no rationale" if absent else ""
        return Scores(values, convention, 0, perf_counter() - begin, reason)

    def _score(self, explanation: Explanation, seed: int) -> float:
        marked = marks(explanation, self.rationales.get(explanation.row))
        values = values_of(explanation)
        if not marked.any() or np.isnan(values).all():
            return float("nan")
        if self.measure == "auprc":
            return average_precision(values, marked)
        top = tops(order_of(explanation, seed), [self.k or int(marked.sum())])[0]
        return {"token_f1": _f1, "iou": _iou, "span_f1": _span_f1}[self.measure](top, marked)


def marks(explanation: Explanation, rationale: Rationale) -> Bool[np.ndarray, " unit"]:
    """Return for each unit whether people marked it; a word counts where a span touches it."""
    units = explanation.units
    given = [] if rationale is None else list(rationale)
    if not given:
        return np.zeros(len(units), dtype=bool)
    if isinstance(given[0], tuple | list):
        found = [
            any(
                u.column == c and u.kind == "text" and u.locator[0] < b and a < u.locator[1]
                for c, a, b in given
            )
            for u in units
        ]
        return np.array(found, dtype=bool)
    if len(given) != len(units):
        raise ConfigError(
            "A rationale needs one mark a unit",
            f"Row {explanation.row!r}: {len(given)} marks for {len(units)} units.",
            "Give one boolean for each of model.units(row), or character spans.",
        )
    return np.array(given, dtype=bool)


def average_precision(values: Float[np.ndarray, " unit"], marked: Bool[np.ndarray, " unit"]) -> float:
    """Return Σ (recall_k − recall_{k−1}) · precision_k over thresholds; equal values share one threshold."""
    from sklearn.metrics import average_precision_score

    known = np.nan_to_num(values, nan=np.nanmin(values) - 1.0)
    return float(average_precision_score(marked, known))


def _f1(top: np.ndarray, marked: np.ndarray) -> float:
    return float(2 * (top & marked).sum() / (top.sum() + marked.sum()))


def _iou(top: np.ndarray, marked: np.ndarray) -> float:
    return float((top & marked).sum() / (top | marked).sum())


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _span_f1(top: np.ndarray, marked: np.ndarray) -> float:
    found, true = _runs(top), _runs(marked)
    pairs = [(f, t) for f in found for t in true if _overlap(f, t) > 0.5]
    precision = len({f for f, _ in pairs}) / len(found)
    recall = len({t for _, t in pairs}) / len(true)
    return 2 * precision * recall / (precision + recall) if pairs else 0.0


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> float:
    both = min(a[1], b[1]) - max(a[0], b[0])
    return max(both, 0) / (a[1] - a[0] + b[1] - b[0] - max(both, 0))
