"""Are test rows already among the training rows?"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from salience.audit.context import AuditContext
from salience.audit.features import by_kind
from salience.audit.intervals import wilson
from salience.audit.make import make_finding
from salience.audit.near_text import NearText, is_long, normalise
from salience.audit.phrases import metric_name, number, percent, points
from salience.core.errors import UnsupportedError
from salience.core.finding import Control, Finding
from salience.core.stats import bootstrap, generator

CARD = {
    "key": "duplicates",
    "kind": "check",
    "order": 40,
    "title": "Duplicates across the split",
    "entry": "run",
    "summary": "Test rows whose inputs, or whose text (nearly: Jaccard of word triples at least 0.8), occur among the "
    "training rows; the score with and without them; training rows among themselves as the control.",
    "question": "Has the model already seen some of the test rows in training?",
    "tasks": ["classification", "regression", "multi-label", "multi-regression"],
    "pass": "less than 1 % of the test rows",
    "warn": "1 % or more",
    "fail": "more than 10 %, and the score falls beyond noise without them",
}
FEW, MANY = 0.01, 0.10
MAX_NEAR = 50_000
MIN_ROWS = 10


def run(context: AuditContext) -> list[Finding]:
    """Look every test row up among the training rows.

    Raises:
        UnsupportedError: fewer than 10 training or test rows.
    """
    train, test = Rows(context, "train"), Rows(context, "test")
    if min(len(train.cells), len(test.cells)) < MIN_ROWS:
        raise UnsupportedError(
            "Too few rows to look for duplicates", "", f"Give at least {MIN_ROWS} a split."
        )
    near = NearText(train.texts[:MAX_NEAR])
    found = lookup(train, near, test)
    seen = found["kind"] >= 0
    share, rows = float(seen.mean()), len(seen)
    control, control_rows = _control(context, train, near, rows)
    score = _score_without(context, seen)
    verdict = _verdict(share, score)
    cure = "Remove the duplicates before splitting, or split by group so that copies stay together."
    return [
        make_finding(
            CARD,
            answer=_answer(context, found, share, control, score),
            verdict=verdict,
            value=share,
            unit="share of test rows",
            interval=wilson(share, rows),
            control=Control(
                "training rows found again among the other training rows",
                control,
                wilson(control, control_rows),
            ),
            rows=rows,
            advice="" if verdict == "pass" else cure,
            tables={"duplicates": _table(context, test, found), "score": [score]},
        )
    ]


KINDS = ("all inputs equal", "same text, other cells differ", "nearly the same text")


class Rows:
    """The rows of one split as keys: ``texts`` (normalised, joined) and ``cells`` (texts and all other inputs)."""

    def __init__(self, context: AuditContext, split: str) -> None:
        frame, kinds = context.inputs(split), by_kind(context.schema)
        texts = [frame[name].map(normalise) for name in kinds["text"]]
        joined = [" ".join(parts).strip() for parts in zip(*texts, strict=True)]
        self.texts = joined if texts else [""] * len(frame)
        others = [frame[name].map(cell_key) for kind in kinds if kind != "text" for name in kinds[kind]]
        self.cells = ["\x1f".join(parts) for parts in zip(*texts, *others, strict=True)]


def cell_key(value: Any) -> str:
    """Return a key of a number, category or image cell: equal keys, equal contents."""
    if value is None or isinstance(value, str | int | float):
        return _file_key(value) if isinstance(value, str) and _is_file(value) else str(value)
    data = value if isinstance(value, bytes) else np.asarray(value).tobytes()
    return hashlib.sha256(data).hexdigest()


def _is_file(value: str) -> bool:
    return len(value) < 1000 and "." in value and Path(value).is_file()


def _file_key(value: str) -> str:
    return hashlib.sha256(Path(value).read_bytes()).hexdigest()


def lookup(train: Rows, near: NearText, test: Rows) -> dict[str, np.ndarray]:
    """Return for each test row the kind of its duplicate (index of :data:`KINDS`, −1 if none) and where it is."""
    cells = _first(train.cells)
    texts = _first([text if is_long(text) else None for text in train.texts])
    by_cells = np.array([cells.get(key, -1) for key in test.cells], dtype=int)
    by_text = np.array([texts.get(key, -1) for key in test.texts], dtype=int)
    by_near = near.find(test.texts)
    candidates = np.stack([by_cells, by_text, by_near])
    kind = np.where((candidates >= 0).any(axis=0), (candidates >= 0).argmax(axis=0), -1)
    return {"kind": kind, "match": candidates[np.maximum(kind, 0), np.arange(len(kind))]}


def _first(keys: list[Any]) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for position, key in enumerate(keys):
        found.setdefault(key, position)
    found.pop(None, None)
    return found


def _control(context: AuditContext, train: Rows, near: NearText, rows: int) -> tuple[float, int]:
    """Return the share of training rows that occur again among the others, over as many rows as the test split."""
    limit = min(rows, len(train.texts), MAX_NEAR)
    index = generator(context.seed, "duplicates").permutation(min(len(train.texts), MAX_NEAR))[:limit]
    cells, texts = Counter(train.cells), Counter(train.texts)
    again = near.find_again(index) >= 0
    for place, i in enumerate(index):
        text = train.texts[i]
        again[place] |= cells[train.cells[i]] > 1 or (is_long(text) and texts[text] > 1)
    return float(again.mean()), len(index)


def _score_without(context: AuditContext, seen: np.ndarray) -> dict[str, Any]:
    """Return the main metric on all test rows and on those not seen in training, and the paired difference."""
    truth, predicted = context.truth("test"), context.predictions("test")

    def change(y: np.ndarray, p: np.ndarray, s: np.ndarray) -> float:
        if s.all():
            return float("nan")
        return context.gain(context.score(y, p), context.score(y[~s], p[~s]))

    low, high = bootstrap(change, truth, predicted, seen, replicates=context.replicates, seed=context.seed)
    everything = context.score(truth, predicted)
    rest = context.score(truth[~seen], predicted[~seen]) if (~seen).any() else float("nan")
    return {
        "metric": metric_name(context.metric),
        "all test rows": everything,
        "without duplicates": rest,
        "gain from duplicates": change(truth, predicted, seen),
        "gain low": low,
        "gain high": high,
    }


def _verdict(share: float, score: dict[str, Any]) -> str:
    if share < FEW:
        return "pass"
    return "fail" if share > MANY and score["gain low"] > 0 else "warn"


def _agrees(context: AuditContext, found: dict[str, np.ndarray]) -> np.ndarray:
    """Return whether a test row has the target, or all targets, of its duplicate."""
    same = context.truth("test") == context.truth("train")[np.maximum(found["match"], 0)]
    return same.reshape(len(same), -1).all(axis=1)


def _table(context: AuditContext, test: Rows, found: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    same, lines = _agrees(context, found), []
    blank, has_text = np.array([not text for text in test.texts]), bool(by_kind(context.schema)["text"])
    for index, name in enumerate(KINDS):
        inside = found["kind"] == index
        lines.append(
            {
                "duplicate": name,
                "rows": int(inside.sum()),
                "share": inside.mean(),
                "same target": int((inside & same).sum()),
                "different target": int((inside & ~same).sum()),
                **({"without any text": int((inside & blank).sum())} if has_text else {}),
            }
        )
    return lines


def _answer(
    context: AuditContext, found: dict[str, np.ndarray], share: float, control: float, score: dict[str, Any]
) -> str:
    seen = found["kind"] >= 0
    if not seen.any():
        return (
            f"None of the {len(seen):,} test rows occurs among the training rows (0.0 %, {points(wilson(0.0, len(seen)))}). "
            f"Among the training rows themselves {percent(control)} occur more than once."
        )
    exact, different = int((found["kind"] == 0).sum()), int((seen & ~_agrees(context, found)).sum())
    return (
        f"{int(seen.sum()):,} of {len(seen):,} test rows ({percent(share)}, {points(wilson(share, len(seen)))}) occur "
        f"among the training rows: {exact:,} with all inputs equal, the others with the same or nearly the same text; "
        f"{different:,} of them have another target there. Among the training rows themselves {percent(control)} "
        f"occur more than once. {score['metric']} is {number(score['all test rows'])} on all test rows and "
        f"{number(score['without duplicates'])} without them."
    )
