"""``salience demo``."""

import time
from typing import Any

from salience.cli.answer import Answer
from salience.cli.options import Seed
from salience.core.registry import load

EXAMPLES = ("salience demo",)
TRAINING_ROWS = 500
TARGET = "recommends"
QUICK = ("min_updates=100", "threads=1")  # enough for 500 short rows


def command(seed: Seed = None) -> Answer:
    """Train a small model on made-up reviews and explain one prediction; nothing is downloaded.

    The reviews follow a rule that is known, so the explanation can be compared with the truth.
    """
    from salience.api import Predictor

    started = time.monotonic()
    frame = load("dataset", "toy-reviews")(seed=seed or 0)
    training, held_out = frame.iloc[:TRAINING_ROWS], frame.iloc[TRAINING_ROWS:]
    predictor = Predictor(TARGET, preset="fast", seed=seed or 0, overrides=QUICK).fit(training)
    row = _telling_row(held_out)
    explanation = predictor.explain(row, seed=seed or 0)[0]
    metrics = predictor.evaluate(held_out)
    seconds = time.monotonic() - started
    rule = rule_of(row)
    data = {
        "seconds": round(seconds, 1),
        "training_rows": len(training),
        "metrics": metrics,
        "explanation": explanation.to_json(),
        "sentences": [sentence.text for sentence in explanation.words().sentences],
        "rule": rule,
    }
    return Answer(data, _view(data, explanation, len(held_out)))


def _telling_row(frame: Any) -> Any:
    """Return the first row whose review holds words on both sides."""
    from salience.data.datasets.toy_reviews import WORDS

    for position, text in enumerate(frame["review"]):
        signs = {WORDS[word] > 0 for word in WORDS if word in text}
        if len(signs) == 2:
            return frame.iloc[[position]]
    return frame.iloc[:1]


def rule_of(row: Any) -> dict[str, float]:
    """Return what each part of one row adds to the log-odds by the rule that made the rows."""
    from salience.data.datasets import toy_reviews as toy

    cells = row.iloc[0]
    words = {word: weight for word, weight in toy.WORDS.items() if word in cells["review"]}
    days, delivery = cells["days late"], cells["delivery"]
    return {
        **words,
        f"days late = {days:g}": toy.DAYS_LATE * days,
        f"delivery = {delivery}": toy.DELIVERY[delivery],
    }


def _view(data: dict[str, Any], explanation: Any, rows: int) -> list[Any]:
    from salience.cli.views import explanation_view, with_interval

    accuracy = with_interval(data["metrics"]["accuracy"])
    rule = ", ".join(f"{part} {weight:+.2f}" for part, weight in data["rule"].items())
    return [
        f"A DiSAN model, trained on {data['training_rows']} made-up reviews; accuracy {accuracy} on {rows} others.",
        "",
        *explanation_view(explanation),
        "",
        f"  The rule that made this row (log-odds of 'yes'): {rule}",
        "",
        f"{data['seconds']:.1f} s. Next: salience run clothing-reviews --drop Rating",
    ]
