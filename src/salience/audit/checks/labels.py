"""Which test rows have a label that looks wrong?"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from salience.audit.context import AuditContext
from salience.audit.label_folds import margin_of, most_alike
from salience.audit.labels import auroc, confident, estimate_wrong, flip
from salience.audit.make import make_finding
from salience.audit.phrases import percent, points
from salience.core.errors import UnsupportedError
from salience.core.finding import Control, Finding
from salience.core.stats import bootstrap
from salience.models.table_model import TableModel

CARD = {
    "key": "labels",
    "kind": "check",
    "order": 45,
    "title": "Suspect labels",
    "entry": "run",
    "summary": "Test rows that confidently belong to another class than their label says, with the rows to look at and "
    "the training rows most like them; labels changed on purpose as the control. No model is trained.",
    "question": "Do labels of test rows look wrong?",
    "paper": "Confident Learning: Estimating Uncertainty in Dataset Labels (Northcutt, Jiang, Chuang, JAIR 2021)",
    "year": 2021,
    "url": "https://arxiv.org/abs/1911.00068",
    "faithful": "thresholds: the mean probability of a class among the rows with its label; the counts they give.",
    "deviates": "one trained model and rows it did not see, in place of cross-validation",
    "tasks": ["classification"],
    "pass": "the estimated share of wrong labels, with its interval, is under 1 %",
    "warn": "the interval begins above 1 %, and 9 of 10 labels that are changed on purpose rank above the others",
}
SHOWN, SHARE, PLANTED, FINDS = 20, 0.01, 0.05, 0.9
FEWEST = 30


def run(context: AuditContext) -> list[Finding]:
    """Compare the labels of test rows with what the model gives, and look for changed ones as a control.

    Raises:
        UnsupportedError: the target is no class, there are no training rows, or fewer than 30 test rows.
    """
    if context.task != "classification":
        raise UnsupportedError("Labels are looked at among classes", f"The task is {context.task}.", "")
    context.inputs("train")
    label, given = context.truth("test"), context.probabilities("test")
    if len(label) < FEWEST:
        raise UnsupportedError(
            "Too few rows to look for suspect labels", f"{len(label)} test rows.", f"Give {FEWEST}."
        )
    share, interval = (
        _share(label, given),
        bootstrap(_share, label, given, replicates=context.replicates, seed=context.seed),
    )
    planted, planted_interval = _planted(context, label, given)
    verdict = _verdict(interval, planted)
    lines = _lines(context, label, given)
    return [
        make_finding(
            CARD,
            answer=_answer(context, share, interval, planted, len(lines)),
            verdict=verdict,
            value=share,
            unit="share of test rows",
            interval=interval,
            control=Control("labels changed on purpose: AUROC of finding them", planted, planted_interval),
            rows=len(label),
            advice=""
            if verdict == "pass"
            else "Look at the rows; salience suspects ranks the training rows too.",
            tables={"suspect labels": lines} if lines else {},
        )
    ]


def _share(label: Int[np.ndarray, " row"], given: Float[np.ndarray, "row class"]) -> float:
    return estimate_wrong(label, given) / len(label)


def _planted(
    context: AuditContext, label: Int[np.ndarray, " row"], given: Float[np.ndarray, "row class"]
) -> tuple[float, tuple[float, float]]:
    """Return the AUROC of finding labels that were changed at random, and its interval."""
    moved, changed = flip(label, given.shape[1], PLANTED, context.seed)
    suspicion = -margin_of(moved, given)
    draws = {"replicates": context.replicates, "seed": context.seed}
    return auroc(changed, suspicion), bootstrap(auroc, changed, suspicion, **draws)


def _verdict(interval: tuple[float, float], planted: float) -> str:
    if interval[1] < SHARE:
        return "pass"
    return "warn" if interval[0] > SHARE and planted >= FINDS else "info"


def _lines(
    context: AuditContext, label: Int[np.ndarray, " row"], given: Float[np.ndarray, "row class"]
) -> list[dict[str, Any]]:
    """Return the most suspicious of the rows that confidently belong to another class."""
    belongs, margin = confident(label, given), margin_of(label, given)
    found = np.flatnonzero((belongs >= 0) & (belongs != label))
    found = found[np.argsort(margin[found], kind="stable")][:SHOWN]
    if not len(found):
        return []
    names = list(context.schema.classes)
    alike = _alike(context, found)
    return [
        {
            "row": int(i), "label": names[label[i]], "suggested": names[belongs[i]],
            "p(label)": given[i, label[i]], "p(suggested)": given[i, belongs[i]],
            **({"most alike training rows": alike[place]} if alike else {}),
        }
        for place, i in enumerate(found)
    ]  # fmt: skip


def _alike(context: AuditContext, rows: Int[np.ndarray, " row"]) -> list[str]:
    """Return the labels of the training rows that are most like each row; none where the model is a black box."""
    if not isinstance(context.model, TableModel):
        return []
    sample = context.sample("train", 5000, "suspect labels")
    names = np.array(context.schema.classes, dtype=object)[context.truth("train")[sample]]
    nearest = most_alike(
        context.model, context.inputs("test").iloc[rows], context.inputs("train").iloc[sample]
    )
    return [", ".join(names[line]) for line in nearest]


def _answer(
    context: AuditContext, share: float, interval: tuple[float, float], planted: float, shown: int
) -> str:
    text = (
        f"About {percent(share)} of the {len(context.truth('test')):,} test labels look wrong ({points(interval)}), among "
        "them rows that the model itself has wrong. A label that was changed on purpose ranks above one that was left "
        f"alone with a chance of {percent(planted)}."
    )
    return f"{text} {shown} rows to look at are listed." if shown else f"{text} No row stands out."
