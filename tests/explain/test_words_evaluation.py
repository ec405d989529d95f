"""What is measured of a text about an explanation, against numbers worked out by hand."""

import math

import numpy as np
import pytest

from salience.data.kinds import KINDS
from salience.explain.engine import explain
from salience.explain.explanation import Explanation
from salience.explain.words.evaluation import (
    coverage_at,
    length,
    measure,
    reading_ease,
    summary,
    syllables,
)
from salience.explain.words.representations import (
    Mask,
    Part,
    Shown,
    free_text,
    heat_map,
    rationale,
    sentences,
    shuffled,
    whole_text,
)
from salience.testing.toy import LinearToy, toy_frame
from salience.testing.words import random_explanation

TEXT = "great plot , poor acting and good music , great fun"
VALUES = (0.9, 0.1, 0.0, -0.5, -0.2, 0.01, 0.4, 0.3, 0.004, 0.6, 0.2)


def made(values=VALUES, text=TEXT, target="positive"):
    units = KINDS["text"].units("review", text)
    return Explanation(
        units=units, values=values, inputs={"review": text}, kinds={"review": "text"}, row=0, method="made_up",
        target=target, quantity="log-odds", prediction=target, probability=0.9, output=1.0, baseline_output=0.0,
        baseline="nothing",
    )  # fmt: skip


# -- coverage ------------------------------------------------------------------------------------------


def test_coverage_by_word_counts_every_place_of_a_word_and_rounds():
    found = coverage_at('The words "great" and "Music" speak for it.', made())
    whole = 0.9 + 0.1 + 0.01 + 0.4 + 0.3 + 0.6 + 0.2  # 0.004 is rounded away
    expected = np.cumsum([0.9, 0.6, 0.3, 0, 0, 0, 0, 0, 0, 0]) / whole
    assert found == pytest.approx(expected)


def test_coverage_by_place_counts_each_place_once():
    found = coverage_at('The words "great" and "Music" speak for it.', made(), by="place")
    whole = sum(v for v in VALUES if v > 0)
    assert found == pytest.approx(np.cumsum([0.9, 0.3, 0, 0, 0, 0, 0, 0, 0, 0]) / whole)


def test_punctuation_is_quoted_where_it_is_spoken_of():
    e = made((0.0, 0.0, 0.5, 0, 0, 0, 0, 0, 0.3, 0.2, 0))
    assert coverage_at("Nothing.", e)[-1] == 0
    assert coverage_at("Punctuation is salient.", e)[-1] == pytest.approx(0.8)


def test_coverage_of_sentences_knows_the_places():
    e = made()
    named = {i for claim in e.words().claims if claim.kind == "evidence" for i in claim.units}
    whole = sum(v for v in VALUES if v > 0)
    expected = sum(VALUES[i] for i in named if VALUES[i] > 0) / whole
    assert coverage_at(e.words(), e, by="place")[-1] == pytest.approx(expected)
    assert 0 < expected <= 1


@pytest.mark.parametrize("by", ["word", "place"])
@pytest.mark.parametrize(
    "values", [(0.0,) * 11, (-1.0,) * 11, (math.nan,) * 11], ids=["zero", "negative", "nan"]
)
def test_coverage_of_nothing_is_undefined(values, by):
    assert np.isnan(coverage_at('"great"', made(values), by=by)).all()


@pytest.mark.parametrize("seed", range(20))
def test_coverage_is_a_growing_share(seed):
    e = random_explanation(seed)
    for text in (e.words(), str(e.words()), '"good" and "the"'):
        for by in ("word", "place"):
            found = coverage_at(text, e, by=by)
            if np.isfinite(found).all():
                assert (np.diff(found) >= -1e-12).all()
                assert 0 <= found[0] <= found[-1] <= 1 + 1e-9


# -- style ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("the", 1), ("cat", 1), ("like", 1), ("liked", 1), ("likes", 1), ("wanted", 2), ("boxes", 2), ("played", 1),
        ("table", 2), ("whole", 1), ("movie", 2), ("radio", 3), ("nation", 2), ("special", 2), ("prediction", 3),
        ("probability", 5), ("free", 1), ("evidence", 3), ("strawberry", 3), ("serious", 2), ("", 1), ("1999", 1),
    ],
)  # fmt: skip
def test_syllables(word, count):
    assert syllables(word) == count


def test_reading_ease_is_flesch():
    assert reading_ease("The cat sat on the mat.") == pytest.approx(206.835 - 1.015 * 6 - 84.6)
    assert reading_ease("The cat sat. The cat sat.") > reading_ease("The cat sat and the cat sat.")
    assert reading_ease("Go! “Why?” Well…") == pytest.approx(206.835 - 1.015 * 3 / 2 - 84.6)
    assert math.isnan(reading_ease(" — !"))
    assert length("The word “don't” (0.41, 3 %).") == 5


# -- truth ---------------------------------------------------------------------------------------------


def test_what_is_measured_of_a_text():
    text = 'The word "great" (1.00) is the most important, "poor" is against it. "wonderful" helps. "plot" is key, but it is 99 %.'
    found = measure(text, made())
    assert (found.quotes, found.quote_precision) == (4, 0.75)
    assert found.sign == pytest.approx(3 / 4)
    assert (found.hallucinations, found.uncheckable) == (1, 1)
    assert found.words == length(text)
    assert found.value < 1


def test_sentences_are_wholly_true():
    frame = toy_frame(6, 3, image=True)
    for e in explain(LinearToy(image=True), frame):
        found = measure(e.words(), e)
        assert (found.sign, found.rank, found.value, found.hallucinations, found.uncheckable) == (
            1,
            1,
            1,
            0,
            0,
        )
        assert found.quote_precision == 1


def test_sentences_about_another_row_are_found_out():
    first, second = explain(LinearToy(), toy_frame(2, 5), target="yes")
    found = measure(first.words(), second)
    assert found.value < 1
    assert found.hallucinations > 0


def test_a_text_without_claims_has_no_accuracy():
    found = measure("The model predicted positive.", made())
    assert all(math.isnan(v) for v in (found.quote_precision, found.sign, found.rank, found.value))


def test_summary_leaves_out_what_is_undefined():
    texts = ['"great" is important.', "The model predicted positive."]
    found = summary([measure(text, made()) for text in texts])
    assert found["quote precision"][0] == 1
    assert found["quotes"][0] == 0.5
    low, high = found["coverage@1"][1:]
    assert low <= found["coverage@1"][0] <= high
    assert math.isnan(found["value"][0])
    assert {f"coverage by place@{k}" for k in range(1, 11)} <= set(found)


# -- representations -----------------------------------------------------------------------------------


def test_heat_map():
    found = heat_map(made(), tokens=3)
    assert found.text == "great (+1.00), great (+0.67), poor (−0.56)"
    assert found.parts == (Part("great", 1, 1.0), Part("great", 1, 0.6 / 0.9), Part("poor", -1, 0.5 / 0.9))


def test_rationale_keeps_words_for_the_answer_in_their_order():
    found = rationale(made(), rate=0.3)
    assert found.text == "great … good music … great"
    assert [part.word for part in found.parts] == ["great", "good", "music", "great"]
    assert rationale(made((-1.0,) * 11)) == Shown("", ())


def test_sentences_and_free_text_give_words_their_side():
    assert Part("poor", -1) in sentences(made().words()).parts
    found = free_text('"great fun" is important, but "poor" is against it; "wonderful" too.', made())
    assert found.parts == (Part("great", 1), Part("fun", 1), Part("poor", -1))


def test_controls():
    e = made()
    other = shuffled(e, seed=1)
    assert sorted(other.values) == sorted(e.values)
    assert other.values != e.values
    assert shuffled(e, seed=1).values == other.values
    assert [part.word for part in whole_text(e).parts] == TEXT.split()
    assert {part.sign for part in whole_text(e).parts} == {0}


@pytest.mark.parametrize("seed", range(20))
def test_odd_explanations_can_be_shown(seed):
    e = random_explanation(seed)
    for shown in (heat_map(e), rationale(e), sentences(e.words()), whole_text(e), heat_map(shuffled(e))):
        assert all(math.isfinite(part.weight) for part in shown.parts)
        assert "\n" not in shown.text


def test_label_words_are_masked():
    mask = Mask(["Sci/Tech", "Sports", "World"])
    text = "The sport's fans: WORLD records, worldly sports; tech-savvy. Worlds apart."
    assert (
        mask.text(text) == "The {label} fans: {label} records, worldly {label}; {label}-savvy. {label} apart."
    )
    shown = Shown("world cup (+1.00)", (Part("world", 1), Part("cup", 1)))
    assert mask.shown(shown) == Shown("{label} cup (+1.00)", (Part("cup", 1),))
    assert Mask(["no", "é"]).text("no change") == "no change"
    assert Mask(["a.c"], "?").text("abc (acc) acc") == "abc (acc) acc"
