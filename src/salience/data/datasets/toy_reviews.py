"""Toy reviews: rows made by a known rule, so that an explanation can be judged against the truth."""

import numpy as np
import pandas as pd

CARD = {
    "key": "toy-reviews",
    "kind": "dataset",
    "title": "Toy reviews made by a known rule",
    "entry": "load",
    "summary": "Short reviews with days of delay and a way of delivery; words, number and category add up to the"
    " answer by weights that are written in the file.",
    "source": "generated",
    "licence": "Apache-2.0",
    "kinds": ["text", "number", "category"],
    "target": "recommends",
    "task": "classification",
    "rows": 600,
}
WORDS = {
    "lovely": 2.0, "sturdy": 1.5, "comfortable": 1.5, "warm": 1.0,
    "broken": -2.0, "flimsy": -1.5, "scratchy": -1.5, "cold": -1.0,
}  # fmt: skip
DAYS_LATE = -0.25  # log-odds a day
DELIVERY = {"courier": 0.5, "post": 0.0, "locker": -0.5}
BIAS = 0.75
OPENINGS = ("I ordered a {thing}", "Bought this {thing}", "My {thing} arrived", "This {thing} was a present")
THINGS = ("lamp", "chair", "jacket", "blanket", "kettle", "rug")
VERDICTS = ("and it is {word}.", "which feels {word}.", "; it turned out {word}.", "and I find it {word}.")
MORE = ("The colour is grey.", "It came in a box.", "Also quite {word}.", "My sister says it is {word}.")


def load(cache: object = None, *, rows: int = 600, seed: int = 0) -> pd.DataFrame:
    """Return the rows; nothing is downloaded or stored.

    Args:
        cache: not used; every data set takes it.
        rows: number of rows.
        seed: the same seed gives the same rows.
    """
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "review": [_review(rng) for _ in range(rows)],
            "days late": rng.integers(0, 10, rows).astype(float),
            "delivery": rng.choice(list(DELIVERY), rows),
        }
    )
    odds = log_odds(frame)
    frame["recommends"] = np.where(odds + rng.logistic(0, 0.4, rows) > 0, "yes", "no")
    return frame


def log_odds(frame: pd.DataFrame) -> np.ndarray:
    """Return what the rule says before noise: positive where ``recommends`` is ``"yes"``."""
    words = frame["review"].map(lambda text: sum(weight for word, weight in WORDS.items() if word in text))
    return (BIAS + words + DAYS_LATE * frame["days late"] + frame["delivery"].map(DELIVERY)).to_numpy(float)


def _review(rng: np.random.Generator) -> str:
    opening = str(rng.choice(OPENINGS)).format(thing=rng.choice(THINGS))
    first, second = rng.choice(list(WORDS), 2, replace=False)
    verdict = str(rng.choice(VERDICTS)).format(word=first)
    text = f"{opening} {verdict}".replace(" ;", ";")
    more = str(rng.choice(MORE)).format(word=second)
    return f"{text} {more}" if rng.random() < 0.7 else text
