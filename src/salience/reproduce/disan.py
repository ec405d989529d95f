"""Reproduction: DiSAN on sentence classification, at a declared scale, beside the published accuracy."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from salience.api import Predictor
from salience.core.progress import Stage
from salience.data.schema import infer
from salience.reproduce.sentences import Split, present, splits

CARD = {
    "key": "disan",
    "kind": "reproduction",
    "title": "DiSAN on TREC, SUBJ, SST-2 and SST-5",
    "entry": "run",
    "summary": "Test accuracy of the exact DiSAN encoder with 100-d GloVe vectors, beside the paper's figures with 300-d vectors.",
    "paper": "DiSAN: Directional Self-Attention Network for RNN/CNN-Free Language Understanding (Shen et al., AAAI 2018)",
    "year": 2018,
    "url": "https://arxiv.org/abs/1709.04696",
    "deviates": "100-d vectors of 60,000 words in place of 300-d of 400,000; sentences only, no phrases; AdamW in place of Adadelta; SUBJ on some of its ten folds.",
    "cost": "about half an hour on two cores; quick: a few minutes",
}
PUBLISHED = {"trec": 94.2, "subj": 94.2, "sst2": None, "sst5": 51.72}
DEFAULT_DATA = Path("../shared/data")
EPOCHS = {"trec": 20, "subj": 6, "sst2": 8, "sst5": 8}
OPTIONS = [
    "model.text.name=disan", "model.text.args.ngram_dim=0", "model.text.args.dim=100", "model.text.args.dropout=0.4",
    "model.text.args.word_dropout=0.1",
    "model.text.args.min_count=1", "model.hidden=[100]", "model.dropout=0.4",
    "training.patience=5", "training.learning_rate=0.002", "training.batch_size=64", "training.average=0.99",
]  # fmt: skip


def run(data: Path | None = None, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Train and test DiSAN on every set.

    Args:
        data: folder with ``trec``, ``subj``, ``sst2``, ``sst5`` and ``glove100``.
        quick: one seed and one fold, half of the epochs; otherwise three seeds (SUBJ: three folds, one seed each).
        seed: first seed.

    Returns:
        ``rows``, one a set (mean over seeds, each seed's accuracy, published accuracy, gap), and a ``summary``.

    Raises:
        DataError: a file is absent.
    """
    root = Path(data) if data else DEFAULT_DATA
    vectors = present(root / "glove100" / "glove100_f16.npz")
    repeats = 1 if quick else 3
    rows = []
    with Stage("reproduce", repeats * len(PUBLISHED)) as stage:
        for name in PUBLISHED:
            results = []
            for split in splits(root, name, repeats, seed):
                results.append(_accuracy(split, vectors, seed + len(results), quick))
                stage.step(f"{name} {results[-1]['accuracy']:.2f} %")
            rows.append(_row(name, results))
    return {"rows": rows, "summary": _summary(rows), "gap": CARD["deviates"]}


def _accuracy(split: Split, vectors: Path, seed: int, quick: bool) -> dict[str, float]:
    name, train, held, test = split
    epochs = EPOCHS[name] // 2 if quick else EPOCHS[name]
    options = [*OPTIONS, f"training.epochs={epochs}", f"model.text.args.vectors={vectors}"]
    predictor = Predictor("label", kinds={"text": "text"}, seed=seed, overrides=options)
    schema = infer(pd.concat([train, held]), "label", kinds={"text": "text"}, source=name)
    started = time.perf_counter()
    predictor.fit_split(schema, train, held)
    hits = predictor.predict(test).to_numpy() == test["label"].to_numpy()
    return {
        "accuracy": 100 * float(hits.mean()),
        "test_rows": len(test),
        "seconds": time.perf_counter() - started,
    }


def _row(name: str, results: list[dict[str, float]]) -> dict[str, Any]:
    scores = np.array([r["accuracy"] for r in results])
    folds = sum(r["test_rows"] for r in results)  # folds hold different rows, seeds the same
    tested = folds if name == "subj" else results[0]["test_rows"]
    sampling = 1.96 * np.sqrt(scores.mean() * (100 - scores.mean()) / tested)
    published = PUBLISHED[name]
    return {
        "data": name,
        "accuracy": round(float(scores.mean()), 2),
        "low": round(float(scores.mean() - sampling), 2),
        "high": round(float(scores.mean() + sampling), 2),
        "each": " ".join(f"{s:.2f}" for s in scores),
        "published": published,
        "gap": None if published is None else round(float(scores.mean()) - published, 2),
        "seconds": round(sum(r["seconds"] for r in results), 1),
    }


def _summary(rows: list[dict[str, Any]]) -> str:
    parts = [
        f"{r['data']} {r['accuracy']:.1f} %"
        + (f" (published {r['published']:.1f} %)" if r["published"] else "")
        for r in rows
    ]
    return "Test accuracy: " + ", ".join(parts) + "."
