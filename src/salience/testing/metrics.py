"""Checks that every metric must pass; ``salience check`` runs them, on a metric of your own too.

Each check takes a card and the entry of a metric, and raises AssertionError with a sentence that says what to mend.
The truth is known: on the linear toy the gradient times the input is what each unit adds.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from salience.core.registry import Card
from salience.explain.engine import explain
from salience.explain.explanation import Explanation
from salience.explain.scores import Scores
from salience.testing.toy import LinearToy, toy_frame

FIELDS = ("convention", "better", "family", "needs", "kinds", "tasks")
FAMILIES = ("faithfulness", "robustness", "sanity", "complexity", "axioms", "plausibility")
ROWS, SEED = 8, 11
EXACT = 1e-9


def per_explanation(card: Card) -> bool:
    """Tell whether a metric gives each explanation a number; one that judges a whole data set is a function."""
    return card.get("per", "explanation") == "explanation"


@lru_cache(maxsize=4)
def _subject(image: bool) -> tuple[LinearToy, dict[str, tuple[Explanation, ...]]]:
    """Return a model and its rows explained by the truth, at random, and by the opposite of the truth."""
    model, frame = LinearToy(image=image), toy_frame(ROWS, SEED, image=image)
    truth = explain(model, frame, method="gradient_x_input", faithfulness=False)
    found = {
        "truth": truth,
        "random": explain(model, frame, method="random", faithfulness=False),
        "inverse": [replace(e, values=tuple(-v for v in e.values)) for e in truth],
    }
    return model, {name: tuple(group) for name, group in found.items()}


def _run(card: Card, entry: Any, name: str = "truth", change: Any = None, *, seed: int = 0) -> Scores:
    model, explained = _subject("text" not in card.fields["kinds"])
    group = list(explained[name])
    return _scores(card, entry, model, group if change is None else change(group), seed=seed)


def _scores(
    card: Card, entry: Any, model: Any, explanations: Sequence[Explanation], *, seed: int = 0
) -> Scores:
    metric = entry()
    if card.get("needs") == "rationales":
        metric = entry(rationales={e.row: _marks(e) for e in _subject(False)[1]["truth"]})
    return metric.scores(model, explanations, seed=seed, memory_mb=64)


def _marks(explanation: Explanation) -> list[bool]:
    """Return what people would mark: the units that speak for the answer."""
    return [value > 0 for value in explanation.values]


def check_metric_fields_are_there(card: Card, entry: Any) -> None:
    """Require the fields that say what a metric is, which way is better, and what it asks of a model."""
    missing = [name for name in FIELDS if name not in card.fields]
    assert not missing, f"the card lacks {', '.join(missing)}"
    assert card.fields["better"] in ("higher", "lower"), "better is 'higher' or 'lower'"
    assert card.fields["family"] in FAMILIES, f"family is one of {', '.join(FAMILIES)}"


def check_scores_have_their_form(card: Card, entry: Any) -> None:
    """Require one number an explanation, a convention in words, and costs."""
    scores = _run(card, entry)
    assert scores.values.shape == (ROWS,), f"{ROWS} explanations got values of shape {scores.values.shape}"
    assert len(scores.convention) > 20 and scores.convention.endswith("."), "the convention is no sentence"
    assert scores.forwards >= 0 and scores.seconds >= 0, "costs are below zero"
    assert scores.undefined < ROWS, f"no explanation of the toy has a score: {scores.reason!r}"


def check_truth_beats_random_beats_inverse(card: Card, entry: Any) -> None:
    """Require, of a metric of faithfulness, that the truth is ahead of random values, and these of the opposite."""
    if card.fields["family"] != "faithfulness":
        return
    sign = 1 if card.fields["better"] == "higher" else -1
    means = [sign * _run(card, entry, name).mean for name in ("truth", "random", "inverse")]
    assert means[0] > means[1] > means[2], f"truth, random, inverse score {np.round(means, 4).tolist()}"


def check_scale_does_not_matter(card: Card, entry: Any) -> None:
    """Require equal scores of values in another unit, unless the card says ``"scale_free": False``."""
    if not card.get("scale_free", True):
        return
    scaled = _run(card, entry, change=lambda group: [_with(e, 4 * np.array(e.values)) for e in group])
    same = np.allclose(scaled.values, _run(card, entry).values, atol=EXACT, equal_nan=True)
    assert same, "values times four get another score; say 'scale_free': False if that is meant"


def check_batch_does_not_matter(card: Card, entry: Any) -> None:
    """Require the same score of an explanation alone and among others."""
    together, (model, explained) = _run(card, entry), _subject("text" not in card.fields["kinds"])
    for i, explanation in enumerate(explained["truth"]):
        alone = _scores(card, entry, model, [explanation]).values[0]
        same = np.isclose(alone, together.values[i], atol=1e-7, equal_nan=True)
        assert same, f"explanation {i} gets {alone:.6g} alone and {together.values[i]:.6g} among others"


def check_seed_decides(card: Card, entry: Any) -> None:
    """Require equal scores of two runs with one seed, whatever state random numbers are in."""
    first, again = _run(card, entry, seed=3), _run(card, entry, seed=3)
    assert np.array_equal(first.values, again.values, equal_nan=True), "one seed gives two scores"


def check_nothing_to_measure_is_nan(card: Card, entry: Any) -> None:
    """Require NaN where no unit has a value and where there is no unit, and no crash for a single one or zeros."""
    nothing = _run(card, entry, change=lambda g: [_with(e, np.full(len(e.units), np.nan)) for e in g])
    assert np.isnan(nothing.values).all(), "an explanation without any value gets a score"
    for change in (_zeros, _one_unit):
        values = _run(card, entry, change=change).values
        assert not np.isinf(values).any(), "a score is infinite"
    model, explained = _subject("text" not in card.fields["kinds"])
    empty = replace(explained["truth"][0], row="empty", units=(), values=())
    assert np.isnan(_scores(card, entry, model, [empty]).values).all(), "a row without units gets a score"
    assert _scores(card, entry, model, []).values.shape == (0,), "no explanation needs no score"


def _zeros(group: list[Explanation]) -> list[Explanation]:
    return [_with(e, np.zeros(len(e.units))) for e in group]


def _one_unit(group: list[Explanation]) -> list[Explanation]:
    """Return explanations in which all units but one have no value."""
    return [_with(e, np.where(np.arange(len(e.units)) == 0, 1.0, np.nan)) for e in group]


def _with(explanation: Explanation, values: np.ndarray) -> Explanation:
    return replace(explanation, values=tuple(values.tolist()))


def check_leaves_the_model_alone(card: Card, entry: Any) -> None:
    """Require the weights, the mode and the rows of the explanations to be as they were."""
    model, explained = _subject("text" not in card.fields["kinds"])
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    rows = [dict(e.inputs) for e in explained["truth"]]
    model.train()
    _run(card, entry)
    assert model.training, "the model is left in evaluation mode"
    changed = [name for name, value in model.state_dict().items() if not bool((value == weights[name]).all())]
    assert not changed, f"the weights {', '.join(changed)} were changed"
    assert rows == [dict(e.inputs) for e in explained["truth"]], "a row of an explanation was changed"


def check_counts_what_the_model_evaluates(card: Card, entry: Any) -> None:
    """Require that forwards are the rows that the model evaluated."""
    model, _ = _subject("text" not in card.fields["kinds"])
    before = model.rows_seen
    stated = _run(card, entry).forwards
    seen = model.rows_seen - before
    assert stated == seen, f"{stated} evaluations are stated, {seen} were made"


CHECKS = (
    check_metric_fields_are_there,
    check_scores_have_their_form,
    check_truth_beats_random_beats_inverse,
    check_scale_does_not_matter,
    check_batch_does_not_matter,
    check_seed_decides,
    check_nothing_to_measure_is_nan,
    check_leaves_the_model_alone,
    check_counts_what_the_model_evaluates,
)


def checks_for(card: Card) -> tuple[Any, ...]:
    """Return the checks of a metric: all, or that of its card alone where it judges a whole data set."""
    return CHECKS if per_explanation(card) else CHECKS[:1]
