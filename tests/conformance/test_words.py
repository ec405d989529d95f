"""Words say what the numbers say; and each way of saying something else is caught."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.explain.explanation import Explanation
from salience.explain.phrasing import clean, quote, rounded, written
from salience.explain.words import Sentence, Words, check, parse, verbalize
from salience.explain.words.grammar import write
from salience.testing.words import ODD_TEXTS, check_words, random_explanation

CASES = [random_explanation(seed) for seed in range(300)]


def test_three_hundred_made_up_explanations():
    for explanation in CASES:
        check_words(verbalize, explanation)


def test_made_up_explanations_cover_every_kind_of_claim():
    # "empty" needs a row without any cell: test_no_units
    kinds = {claim.kind for e in CASES for claim in verbalize(e).claims}
    assert kinds >= {
        "prediction",
        "unpredicted",
        "target",
        "evidence",
        "coverage",
        "decided",
        "nothing",
        "zero",
        "missing",
        "part",
        "truth",
        "unmeasured",
    }
    sides = {claim.side for e in CASES for claim in verbalize(e).claims}
    assert sides == {"", "class", "value", "text", "next", "weight", "look"}


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**31), values=st.lists(st.floats(), max_size=30), text=st.text(max_size=80))
def test_any_text_and_any_numbers(seed, values, text):
    check_words(verbalize, random_explanation(seed, values, text))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_quoted_text_is_read_back(text):
    explanation = replace(
        random_explanation(1), target=text, prediction=text, quantity="log-odds", probability=0.5
    )
    assert parse(str(verbalize(explanation)))[0].target == clean(text)
    assert quote(text).count("\n") == 0


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e100, 1e100, allow_nan=False))
def test_written_numbers_are_read_back(value):
    assert rounded(rounded(value)) == rounded(value)
    assert math.isclose(rounded(value), value, rel_tol=0.5, abs_tol=1e-300)
    assert float(written(value).replace(",", "")) >= 0


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_html_is_escaped_once(text):
    html = verbalize(random_explanation(3, [1.0], text)).to_html()
    assert "<" not in html
    assert "&amp;amp;amp;" not in html


# -- each wrong claim is caught, and nothing else is ---------------------------------------------------


def every_part(explanation: Explanation) -> Words:
    return verbalize(explanation, coverage=1.0)


def plain() -> Explanation:
    explanation = random_explanation(0, text="great dress but awful , awful seams")
    units = tuple(u for u in explanation.units if u.column == "title")
    values = (2.0, 1.0, 0.0, -1.0, -0.5, 0.5, -0.25)
    return replace(
        explanation, medians={}, units=units, values=values, inputs={"title": explanation.inputs["title"]},
        kinds={"title": "text"}, target="yes", prediction="yes", probability=0.9, quantity="log-odds",
        signed=True, target_column="opinion", faithfulness=replace(CASES_WITH_TRUTH.faithfulness, scale="probability"),
    )  # fmt: skip


CASES_WITH_TRUTH = next(e for e in CASES if e.faithfulness)


def altered(words: Words, kind: str, **changes: object) -> Words:
    """Return the words with the first claim of a kind changed, in claim and text alike."""
    sentences, done = [], False
    for sentence in words.sentences:
        claims = sentence.claims
        if claims[0].kind == kind and not done:
            claims = (replace(claims[0], **changes), *claims[1:])
            done = True
        sentences.append(Sentence(write(claims), claims))
    assert done
    return Words(tuple(sentences))


def test_plain_sentences():
    assert str(every_part(plain())).startswith(
        "The model predicts “yes” for “opinion” with probability 0.90. "
        "What speaks most for “yes” is the phrase “great dress” (+3.00, 86 % of all that speaks for it), "
        "followed by the word “awful” (+0.50, 14 %). Together these two parts make up 100 % of all that speaks for it. "
        "What speaks most against “yes” is the phrase “awful ,” (−1.50, 86 % of all that speaks against it), "
        "followed by the word “seams” (−0.25, 14 %). "
    )


WRONG = {
    "prediction: value": ("prediction", {"value": 0.8}),
    "prediction: column": ("prediction", {"column": "other"}),
    "prediction: target": ("prediction", {"target": "no"}),
    "evidence: value": ("evidence", {"value": 3.01}),
    "evidence: share": ("evidence", {"share": 85}),
    "evidence: phrase": ("evidence", {"phrase": "great dresses"}),
    "evidence: column": ("evidence", {"column": "review"}),
    "coverage: count": ("coverage", {"count": 3}),
    "coverage: share": ("coverage", {"share": 99}),
    "truth: value": ("truth", {"value": 0.77}),
    "truth: control": ("truth", {"control": -0.77}),
}


@pytest.mark.parametrize("problem", WRONG)
def test_a_wrong_claim_is_caught(problem):
    explanation = plain()
    kind, changes = WRONG[problem]
    assert check(altered(every_part(explanation), kind, **changes), explanation) == [problem]


def test_a_wrong_verdict_is_caught():
    explanation = plain()
    other = "doubtful" if explanation.faithfulness.verdict != "doubtful" else "supported"
    assert check(altered(verbalize(explanation), "truth", verdict=other), explanation) == ["truth: verdict"]


def test_a_text_that_differs_from_its_claims_is_caught():
    words = verbalize(plain())
    first = replace(words.sentences[0], text=words.sentences[0].text.replace("0.90", "0.91"))
    problems = check(Words((first, *words.sentences[1:])), plain())
    assert len(problems) == 1
    assert "does not say what is claimed" in problems[0]


def test_free_prose_is_not_taken_for_claims():
    with pytest.raises(ValueError, match="not a sentence of this grammar"):
        parse("The dress is simply wonderful.")


def generator_that(change):
    """Return a generator of words that changes the explanation before it speaks."""
    return lambda explanation: verbalize(change(explanation))


BROKEN = {
    "sign": lambda e: replace(e, values=tuple(-v for v in e.values)),
    "value": lambda e: replace(e, values=tuple(1.5 * v for v in e.values)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_generator_that_speaks_of_other_numbers_fails(name):
    with pytest.raises(AssertionError, match=name):
        check_words(generator_that(BROKEN[name]), plain())


def test_a_generator_that_forgets_the_strongest_part_fails():
    words = every_part(plain())
    weaker = (replace(words.sentences[1].claims[1], rank=1),)
    sentences = (words.sentences[0], Sentence(write(weaker), weaker), *words.sentences[3:])
    assert check(Words(sentences), plain()) == ["evidence: rank"]


def test_a_generator_that_joins_words_from_two_places_fails():
    words = verbalize(plain())
    jump = replace(
        words.sentences[1].claims[0],
        units=(0, 1, 5),
        value=3.5,
        share=100,
        phrase="great dress but awful , awful",
    )
    sentences = (words.sentences[0], Sentence(write((jump,)), (jump,)), *words.sentences[3:])
    assert check(Words(sentences), plain()) == ["evidence: one place"]


def test_a_generator_that_is_silent_about_truth_fails():
    def silent(explanation):
        return Words(verbalize(explanation).sentences[:-1])

    with pytest.raises(AssertionError, match="whether the explanation is true"):
        check_words(silent, plain())


# -- awkward rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.0], "every value is zero"),
        ([-1.0], "Nothing speaks for “yes”."),
        ([1.0], "Nothing speaks against “yes”."),
        ([math.nan], "Seven parts have no value."),
        ([math.inf, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], "One part has no value."),
    ],
)
def test_awkward_values(values, said):
    explanation = plain()
    explanation = replace(explanation, values=tuple((values * 7)[:7]))
    check_words(verbalize, explanation)
    assert said in str(verbalize(explanation))


def test_no_units():
    explanation = replace(plain(), units=(), values=(), inputs={"title": ""}, faithfulness=None)
    check_words(verbalize, explanation)
    assert "This row has no parts to explain. Whether this explanation is true was not measured." in str(
        verbalize(explanation)
    )


def test_one_unit():
    explanation = replace(plain(), units=plain().units[:1], values=(0.3,))
    check_words(verbalize, explanation)
    assert "the word “great” (+0.30, 100 % of all that speaks for it)." in str(verbalize(explanation))


def test_the_same_word_twice_is_told_apart_by_position():
    evidence = [c for c in every_part(plain()).claims if c.kind == "evidence"]
    assert [(c.phrase, c.units, c.sign) for c in evidence if "awful" in c.phrase] == [
        ("awful", (5,), 1),
        ("awful ,", (3, 4), -1),
    ]


def test_five_thousand_words():
    text = "word " * 5000
    values = np.random.default_rng(0).normal(size=5000).tolist()
    explanation = random_explanation(0, values, text.strip())
    check_words(verbalize, explanation)
    assert len(str(verbalize(explanation))) < 2000


STYLES = {"plain": {}, "study": {"style": "study"}, "summary": {"style": "study", "parts": "summary"}}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "values",
    [
        [],
        [0.0] * 7,
        [math.nan] * 7,
        [-1.0] * 7,
        [math.inf] * 7,
        [1.0, *[math.nan] * 6],
        [1e-320] * 7,
        [-0.0] * 7,
    ],
    ids=["empty", "zero", "nan", "negative", "infinite", "one", "tiny", "minus zero"],
)
def test_awkward_rows_in_every_style(style, values):
    explanation = plain()
    explanation = replace(explanation, units=explanation.units[: len(values)], values=tuple(values))
    check_words(lambda e: verbalize(e, **STYLES[style]), explanation)


@pytest.mark.parametrize("style", STYLES)
def test_five_thousand_words_in_every_style(style):
    values = np.random.default_rng(0).standard_t(2, 5000).tolist()
    explanation = random_explanation(0, values, " ".join(f"word{i % 97}" for i in range(5000)))
    check_words(lambda e: verbalize(e, **STYLES[style]), explanation)
