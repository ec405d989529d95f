"""The grammar: study sentences as people were shown them, another language as a file, plurals, and edge texts."""

import math
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.core.errors import ConfigError
from salience.core.unit import Unit
from salience.data.kinds import KINDS
from salience.explain.explanation import Explanation
from salience.explain.phrasing import probability
from salience.explain.words import Claim, check, parse, verbalize
from salience.explain.words.grammar import Grammar, grammar
from salience.explain.words.slots import Slots
from salience.testing.words import check_words, random_explanation

GERMAN = str(Path(__file__).parent / "fixtures" / "german.yaml")


def explained(text: str, values: list[float], /, **changes: object) -> Explanation:
    units = KINDS["text"].units("review", text)
    base = random_explanation(2)
    options = {
        "units": units, "values": tuple(values), "inputs": {"review": text}, "kinds": {"review": "text"}, "target": "yes",
        "prediction": "yes", "probability": 0.9, "quantity": "log-odds", "signed": True, "target_column": "",
        "faithfulness": None, "medians": {}, "row": 0,
    }  # fmt: skip
    return replace(base, **{**options, **changes})


def cells(values: dict[str, object], numbers: list[float], /, **changes: object) -> Explanation:
    kinds = {name: "number" if isinstance(value, float) else "category" for name, value in values.items()}
    units = tuple(u for n, v in values.items() for u in KINDS[kinds[n]].units(n, v))
    return explained(
        "", [], **{"units": units, "values": tuple(numbers), "inputs": values, "kinds": kinds, **changes}
    )


def study(e: Explanation, seed: int = 0, **options: object) -> str:
    words = verbalize(e, style="study", seed=seed, **options)
    assert check(words, e) == []
    return str(words)


# -- study sentences -----------------------------------------------------------------------------------


def test_one_word():
    texts = {study(explained("great dress", [2.0, 0.1]), seed) for seed in range(150)}
    assert {text.split(".")[0] for text in texts} >= {
        "The word “great” is most important for the prediction",
        "The word “great” was most salient for the outcome of the model",
        "The word “great” spoke strongly for the model's prediction",
    }


def test_number_agreement_and_tense():
    e = explained("great dress but lovely seams", [2.0, 1.5, 0.0, 3.0, 0.0])
    texts = [str(verbalize(e, style="study", seed=seed, coverage=1.0)) for seed in range(200)]
    one = r"The phrase “great dress” (is|was) most \w+ (for|of) [\w' ]+, (but|while) the word “lovely” \1 "
    many = r"The phrase “great dress” and the word “lovely” (are|were) most "
    assert any(re.match(one, text) for text in texts)
    assert {m[1] for text in texts if (m := re.match(many, text))} == {"are", "were"}
    for text in texts:
        first = text.split(". ")[0]
        assert not re.search("“great dress” (are|were)|, (but|while) the word “lovely” (are|were)", first)
        assert not (re.search(r"\b(is|are)\b", first) and re.search(r"\b(was|were)\b", first))


def test_two_parts_of_one_name_are_both():
    e = explained("good but lovely", [2.0, 0.0, 1.5])
    assert any(
        study(e, seed, coverage=1.0).startswith("Both words “good” and “lovely” ") for seed in range(150)
    )


def test_three_parts_are_listed():
    e = explained("good but lovely but soft", [2.0, 0.0, 1.5, 0.0, 1.4])
    texts = [study(e, seed, coverage=1.0) for seed in range(60)]
    assert any(text.startswith("The words “good”, “lovely” and “soft” ") for text in texts)
    assert not any("Both words “good”" in text for text in texts)


def test_punctuation_is_called_punctuation():
    e = explained("good ! but", [0.0, 2.0, 0.0])
    assert study(e).startswith("Punctuation (“!”) ")
    assert "the punctuation “!”" in str(verbalize(e))


def test_a_phrase_with_a_full_stop_inside_is_a_span():
    assert "the span “film . the”" in str(verbalize(explained("film . the", [1.0, 1.0, 1.0])))


def test_evidence_against():
    texts = {study(explained("thin", [-2.0]), seed) for seed in range(30)}
    assert any("The word “thin” spoke strongly against the prediction." in text for text in texts)


def test_study_sentences_do_not_name_the_class_unless_another_one_is_explained():
    e = explained("great", [1.0])
    assert not any("yes" in study(e, seed) for seed in range(40))
    assert not any("yes" in study(replace(e, values=(-1.0,)), seed) for seed in range(40))
    other = replace(e, target="no")
    assert all("“no”" in study(other, seed) for seed in range(10))


def test_the_same_row_gets_the_same_sentence():
    e = explained("great dress", [1.0, 2.0])
    assert str(verbalize(e, style="study")) == str(verbalize(e, style="study"))
    assert len({str(verbalize(replace(e, row=row), style="study")) for row in range(30)}) > 3


def test_skeletons_are_as_many_as_people_wrote():
    """The study's 200 texts have 180 skeletons; ours must vary as well."""
    e = explained("good but lovely but soft", [2.0, 0.0, 1.5, 0.0, 1.4])
    assert len({study(e, seed, coverage=1.0) for seed in range(300)}) >= 60


# -- numbers, categories, mixed rows -----------------------------------------------------------------------


def test_a_number_is_compared_with_the_training_median():
    e = cells({"age": 33.0, "shop": "tops"}, [-0.05, 1.0], medians={"age": 43.0})
    assert (
        "“age” being 33, below the training median of 43 (−0.05, 100 % of all that speaks against it)."
        in str(verbalize(e))
    )
    texts = {study(e, seed) for seed in range(40)}
    assert any(
        "“age” 33, below the median of 43, spoke slightly against the prediction." in text for text in texts
    )


@pytest.mark.parametrize(
    ("value", "median", "said"),
    [
        (33.0, 43.0, "33, below the training median of 43 ("),
        (50.0, 43.0, "50, above the training median of 43 ("),
        (43.0, 43.0, "43, exactly at the training median of 43 ("),
        (-1e-7, 0.5, "−1e-07, below the training median of 0.5 ("),
        (1e20, 43.0, "1e+20, above the training median of 43 ("),
        (math.nan, 43.0, "missing ("),
        (33.0, math.nan, "33 ("),
    ],
)
def test_numbers_as_they_are(value, median, said):
    e = cells({"age": value}, [1.0], medians={"age": median})
    check_words(verbalize, e)
    assert f"“age” being {said}" in str(verbalize(e))
    study(e)


def test_a_wrong_comparison_is_caught():
    e = cells({"age": 33.0}, [1.0], medians={"age": 43.0})
    assert check(verbalize(e), replace(e, medians={"age": 23.0})) == [
        "evidence: reference",
        "evidence: relation",
    ]


def test_a_category_in_raw_words():
    e = cells({"shop": "a ”quoted” one"}, [1.0])
    assert "“shop” being “a ””quoted”” one”" in str(verbalize(e))


def test_a_cell_with_a_label_of_its_own():
    e = cells({"age": 33.0}, [1.0], units=(Unit("age", "number", "34 years old"),))
    check_words(verbalize, e)
    assert "the cell “34 years old”" in str(verbalize(e))


def test_the_column_that_decided():
    e = cells({"shop": "tops", "age": 33.0}, [0.81, 0.19])
    assert "The category “shop” decided, with 81 % of all that speaks for it." in str(verbalize(e))
    wrong = replace(e, values=(0.19, 0.81))
    assert "decided: column" in check(verbalize(e), wrong)


def test_no_column_decided():
    e = cells({"a": "x", "b": "x", "c": "x"}, [0.4, 0.3, 0.3])
    text = "No column decided alone; the category “a” comes first, with 40 % of all that speaks for it."
    assert text in str(verbalize(e))


# -- the coverage target ---------------------------------------------------------------------------------


def test_parts_are_named_until_they_cover_enough():
    values = [3.0, 0.0, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0, 1.0]
    e = explained("a b c d e f g h i", values)
    count = {
        c: len([x for x in verbalize(e, coverage=c).claims if x.kind == "evidence"])
        for c in (0.0, 0.3, 0.5, 0.7)
    }
    assert count == {0.0: 1, 0.3: 1, 0.5: 2, 0.7: 3}


def test_the_reason_is_given_where_the_target_is_not_reached():
    text = " ".join(f"w{i} ," for i in range(50))
    e = explained(text, [1.0, 0.0] * 50)
    words = verbalize(e)
    assert (
        "Together these four parts make up 8 % of all that speaks for it; the rest is spread over 46 weaker parts."
        in str(words)
    )
    together = next(c for c in words.claims if c.kind == "coverage")
    wrong = replace(words, sentences=tuple(s for s in words.sentences if together not in s.claims))
    assert check(wrong, e) == []  # a sentence less is no false claim
    assert check(verbalize(replace(e, values=(1.0, 0.0) * 49 + (0.0, 0.0))), e) == ["coverage: rest"]


def test_weaker_parts_are_named_to_reach_the_target():
    e = explained("a , b , c", [1.0, 0.0, 0.09, 0.0, 0.08])
    named = [c.phrase for c in verbalize(e, coverage=0.99).claims if c.kind == "evidence"]
    assert named == ["a", "b", "c"]


def test_summary_parts_are_stretches_of_the_text():
    values = [0.0] * 40
    for i, v in ((5, 2.0), (6, 2.0), (7, 2.0), (20, 1.5), (22, 1.5), (30, 0.4), (35, -1.0)):
        values[i] = v
    e = explained(" ".join(f"w{i}" for i in range(40)), values)
    words = verbalize(e, parts="summary", coverage=1.0)
    assert check(words, e) == []
    assert next(c for c in words.claims if c.kind == "evidence").phrase == "w5 w6 w7"


@pytest.mark.parametrize("option", ["style", "parts", "language"])
def test_unknown_options_are_refused(option):
    with pytest.raises(ConfigError):
        verbalize(random_explanation(0), **{option: "unheard of"})


@pytest.mark.parametrize(
    "options",
    [{"style": "study"}, {"style": "study", "parts": "summary"}, {"coverage": 1.0, "k": 12}, {"k": 1}],
)
def test_made_up_explanations_in_every_style(options):
    for seed in range(120):
        check_words(lambda e: verbalize(e, **options), random_explanation(seed))


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**31), values=st.lists(st.floats(), max_size=30), text=st.text(max_size=80))
def test_any_text_and_any_numbers_in_study_sentences(seed, values, text):
    check_words(lambda e: verbalize(e, style="study"), random_explanation(seed, values, text))


# -- edge texts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        "»guillemets«",
        "“quotes” inside ””",
        "\u202eright\u202c-to-left",
        "a\x00\x1b[31mb",
        "w" * 5000,
        "漢字",
        "👩‍👩‍👧",
        "a. B",
        "the words “0” and “1”",
    ],
)
def test_odd_words_are_quoted_and_read_back(word):
    e = explained(word, [1.0] * len(KINDS["text"].units("review", word)))
    for style in ("plain", "study"):
        check_words(lambda e, style=style: verbalize(e, style=style), e)
        assert not any(ord(c) < 32 or 0x202A <= ord(c) <= 0x202E for c in str(verbalize(e, style=style)))


def test_duplicate_words_are_told_apart_by_position():
    e = explained("good bad good bad good", [0.2, -1.0, 3.0, 0.0, 0.1])
    for style in ("plain", "study"):
        claims = [c for c in verbalize(e, style=style).claims if c.kind == "evidence"]
        assert [(c.phrase, c.units) for c in claims] == [("good", (2,)), ("bad", (1,))]


# -- another language ------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["plain", "study"])
def test_a_language_is_a_file(style):
    for seed in range(120):
        check_words(lambda e: verbalize(e, style=style, language=GERMAN), random_explanation(seed))


def test_german_sentences():
    e = cells({"age": 33.5, "shop": "tops"}, [-0.05, 1.25], medians={"age": 43.25})
    text = str(verbalize(e, language=GERMAN))
    assert text == (
        "Das Modell sagt „yes“ voraus, mit Wahrscheinlichkeit 0,90. Für „yes“ spricht vor allem „shop“ mit „tops“ "
        "(+1,25; 100 % von allem dafür). Entschieden hat die Kategorie „shop“, mit 100 % von allem dafür. "
        "Gegen „yes“ spricht vor allem „age“ mit 33,5, unter dem Median von 43,25 (−0,05; 100 % von allem dagegen). "
        "Ob diese Erklärung stimmt, wurde nicht gemessen."
    )
    assert parse(text, GERMAN)[0] == Claim("prediction", "yes", side="class", value=0.9)
    with pytest.raises(ValueError, match="not a sentence"):
        parse(text)


def test_german_study_sentence_begins_with_a_noun():
    e = explained("gut !", [0.0, 2.0])
    assert str(verbalize(e, style="study", language=GERMAN)).startswith(
        "Satzzeichen „!“ war am wichtigsten für die "
    )


def test_no_word_of_english_is_in_the_code():
    """With every word of the grammar replaced, no sentence holds an English one."""
    data = yaml.safe_load(Path(GERMAN).read_text(encoding="utf-8"))
    assert set(data) == set(grammar().data)
    text = " ".join(str(verbalize(random_explanation(seed), language=GERMAN)) for seed in range(40))
    for word in (" the ", " of ", " is ", " and ", " random "):
        assert word not in Slots(data).hide(text)[0]


def test_plural_rules():
    data = {
        **grammar().data,
        "plural_rules": {"one": {"is": [1]}, "few": {"ends": [2, 3, 4], "not_ends": [12, 13, 14]}},
    }
    forms = {"one": "część", "few": "części", "other": "części (wielu)"}
    chosen = {n: Slots(data).plural(n, forms) for n in (0, 1, 2, 4, 5, 12, 22, 112)}
    assert chosen == {
        0: "other",
        1: "one",
        2: "few",
        4: "few",
        5: "other",
        12: "other",
        22: "few",
        112: "other",
    }


def test_a_broken_grammar_is_refused(tmp_path):
    path = tmp_path / "odd.yaml"
    path.write_text("language: x\n")
    with pytest.raises(ConfigError, match="no grammar"):
        grammar(str(path))


def test_an_unknown_gap_is_refused():
    data = {**grammar().data, "plain": {**grammar().data["plain"], "zero": ["Nothing {happens.here}."]}}
    with pytest.raises(ConfigError, match="happens"):
        Grammar(data)


def test_every_form_of_the_grammar_is_read_as_itself():
    """No sentence of the grammar may be read as another one: each form is filled and read, many times."""
    seen = set()
    for seed in range(300):
        e = random_explanation(seed)
        words = verbalize(e, style=random.Random(seed).choice(["plain", "study"]), coverage=0.9)
        for sentence in words.sentences:
            seen |= {(c.kind, c.side, c.sign) for c in parse(sentence.text)}
    sides = [
        ("class", 1),
        ("class", -1),
        ("value", 1),
        ("value", -1),
        ("text", 1),
        ("text", -1),
        ("weight", 1),
        ("weight", -1),
        ("look", 1),
    ]
    assert {("evidence", *pair) for pair in sides} <= seen


@pytest.mark.parametrize("text", [",... and the future", "German,...). In", ",. NOT THIS TIME,, a", "a,,b"])
def test_marks_inside_a_quotation_stay_as_they_are(text):
    count = len(KINDS["text"].units("review", text))
    words = explained(text, [1.0] * count).words()
    assert parse(str(words)) == [claim.said() for claim in words.claims]
    assert f"“{text}”" in str(words)


@pytest.mark.parametrize(
    "value", [0.0, 1e-9, 0.004999, 0.005, 0.00500001, 0.5, 0.9949, 0.99499999, 0.995, 0.99996, 1.0]
)
def test_a_probability_that_is_read_back_is_written_alike(value):
    assert float(probability(float(probability(value)))) == float(probability(value))
