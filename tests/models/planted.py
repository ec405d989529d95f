"""Texts in which one planted word decides the label, and a predictor that is trained on them."""

import numpy as np
import pandas as pd

from salience import Predictor

PLANTED = {"no": "alpha", "yes": "omega"}
SMALL = {
    "model.text.args.dim": 16, "model.text.args.embedding_dim": 16, "model.text.args.vectors": "random",
    "model.text.args.min_count": 1, "min_updates": 0,
    "training.learning_rate": 0.01, "training.batch_size": 64, "training.patience": 99,
}  # fmt: skip


def planted(rows: int, seed: int) -> pd.DataFrame:
    """Return texts of 6 to 12 filler words with one word that gives the label away, at a random place."""
    rng = np.random.default_rng(seed)
    filler = [f"w{i}" for i in range(30)]
    texts, labels = [], []
    for _ in range(rows):
        words = list(rng.choice(filler, rng.integers(6, 13)))
        labels.append(str(rng.choice(list(PLANTED))))
        words[rng.integers(len(words))] = PLANTED[labels[-1]]
        texts.append(" ".join(words))
    return pd.DataFrame({"text": texts, "label": labels})


def predictor(key: str, epochs: int, **options: object) -> Predictor:
    """Return an untrained small predictor with this text encoder."""
    given = {**SMALL, "training.epochs": epochs, **{f"model.text.args.{n}": v for n, v in options.items()}}
    overrides = [f"model.text.name={key}", *(f"{name}={value}" for name, value in given.items())]
    return Predictor("label", kinds={"text": "text"}, seed=1, overrides=overrides)


def trained(key: str, epochs: int, rows: int, **options: object) -> Predictor:
    """Return a trained one."""
    frame = planted(rows, 0)
    return predictor(key, epochs, **options).fit(frame, validation=planted(80, 1))
