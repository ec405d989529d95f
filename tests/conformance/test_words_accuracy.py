"""What sentences say, read from the text alone, over a thousand explanations of each kind of unit."""

import math
from dataclasses import replace
from functools import lru_cache, partial

import pytest

from salience.explain.engine import explain
from salience.explain.explanation import Explanation
from salience.explain.words import verbalize
from salience.explain.words.accuracy import read_back
from salience.testing.language_toy import LanguageToy, toy_contexts
from salience.testing.toy import LinearToy, toy_frame
from salience.testing.words import KINDS_OF_ROW, of_kind, random_explanation

STYLES = {
    "plain": verbalize,
    "study": partial(verbalize, style="study"),
    "summary": partial(verbalize, style="study", parts="summary"),
}


@lru_cache(maxsize=2)
def made_up(count: int) -> tuple[Explanation, ...]:
    return tuple(random_explanation(seed) for seed in range(count))


@lru_cache(maxsize=2)
def of_toys(count: int) -> tuple[Explanation, ...]:
    """Return explanations of models whose answers are known, by three methods and for every task."""
    found, rows = [], count // 10
    for task in ("binary", "multiclass", "regression"):
        model, frame = LinearToy(task, image=True), toy_frame(rows, seed=1, task=task, image=True)
        for method in ("integrated_gradients", "gradient_x_input", "random"):
            found += explain(
                model, model.schema.parse(frame, target=False), method=method, faithfulness=False
            )
    view = LanguageToy()
    found += explain(view, toy_contexts(rows), method="gradient_x_input", faithfulness=False)
    return tuple(found)


def perfect(rates: dict[str, float], values: bool) -> None:
    assert rates["parts"] > 40
    assert (rates["sign"], rates["rank"], rates["hallucinations"], rates["covered"]) == (1.0, 1.0, 0.0, 1.0)
    numbers = [rates["value"], rates["share"]]
    assert numbers == [1.0, 1.0] if values else all(map(math.isnan, numbers))


SOURCES = {"made up": made_up, "known models": of_toys}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", KINDS_OF_ROW)
def test_a_hundred_explanations(kind, style, source):
    rates = read_back([of_kind(e, kind) for e in SOURCES[source](100)], STYLES[style])
    assert rates["explanations"] == 100
    perfect(rates, style == "plain")


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", KINDS_OF_ROW)
def test_a_thousand_explanations(kind, style, source):
    rates = read_back([of_kind(e, kind) for e in SOURCES[source](1000)], STYLES[style])
    assert rates["explanations"] == 1000
    perfect(rates, style == "plain")


WRONG = {
    "sign": lambda e: replace(e, values=tuple(-v for v in e.values)),
    "value": lambda e: replace(e, values=tuple(1.5 * v for v in e.values)),
    "rank": lambda e: replace(e, values=tuple(math.copysign(1 / (1e-3 + abs(v)), v) for v in e.values)),
    "hallucinations": lambda e: replace(
        e, inputs={n: f"x{c}" if isinstance(c, str) else c for n, c in e.inputs.items()},
        units=tuple(replace(u, label=f"other {u.label}") for u in e.units),
    ),
    "covered": lambda e: replace(e, values=tuple(v if abs(v) > 0.5 else 0.0 for v in e.values)),
}  # fmt: skip


@pytest.mark.parametrize("rate", WRONG)
def test_words_about_something_else_are_found_out(rate):
    rows = [e for e in of_toys(100) if any(e.values)]
    rates = read_back(rows, lambda e: verbalize(WRONG[rate](e)))
    assert rates[rate] > 0.1 if rate == "hallucinations" else rates[rate] < 1.0


def test_nothing_named_has_no_rates():
    rates = read_back([replace(e, values=(0.0,) * len(e.values)) for e in made_up(100)[:5]])
    assert rates["parts"] == 0
    assert math.isnan(rates["sign"])
