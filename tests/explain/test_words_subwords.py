"""Pieces become words: their sums, their text, and the way back to the pieces."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.core.errors import ConfigError
from salience.explain.words.searches import Threshold, span_search
from salience.explain.words.subwords import detokenise, merge


def test_word_pieces():
    tokens = ["[CLS]", "the", "fun", "##nies", "##t", "film", ".", "[SEP]"]
    merged = merge(tokens, [9.0, 0.0, 1.0, 2.0, 3.0, -1.0, 0.5, 9.0])
    assert merged.words == ("[CLS]", "the", "funniest", "film", ".", "[SEP]")
    assert merged.values.tolist() == [9.0, 0.0, 6.0, -1.0, 0.5, 9.0]
    assert merged.special.tolist() == [True, False, False, False, False, True]
    assert merged.tokens_of([2, 4]) == (2, 3, 4, 6)
    assert merged.text_of(range(6)) == "the funniest film."
    assert merged.text_of([4, 1]) == "the … ."


def test_byte_level_pieces_with_accents_marks_and_contractions():
    tokens = ["<s>", "It", "'s", "Ġna", "Ã¯", "ve", ",", "ĠI", "Ġdon", "'t", "Ġcare", "Ċ", "Bye", "!", "</s>"]
    merged = merge(tokens, np.ones(len(tokens)))
    assert merged.words == ("<s>", "It's", "naïve", ",", "I", "don't", "care", "", "Bye", "!", "</s>")
    assert merged.text_of([1, 2, 3, 4, 5, 6]) == "It's naïve, I don't care"


def test_a_character_that_is_cut_in_two_is_put_together():
    assert merge(["Ġcaf", "Ã", "©", "Ġbar"], [1, 1, 1, 1]).words == ("café", "bar")


def test_sentence_pieces():
    merged = merge(["▁The", "▁fun", "ni", "est", ".", "▁", "film"], [0, 1, 1, 1, 0, 2, 3])
    assert merged.words == ("The", "funniest", ".", "film")
    assert merged.values.tolist() == [0, 3, 0, 5]


def test_the_same_word_twice_stays_two():
    merged = merge(["good", "##ness", "good", "##ness"], [1.0, 2.0, -3.0, 1.0])
    assert merged.words == ("goodness", "goodness")
    assert merged.values.tolist() == [3.0, -2.0]
    assert merged.tokens_of([1]) == (2, 3)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "##b", "Ġc", "▁d", ".", "##", "[SEP]", "Ġ", "'s", ""]), st.floats(-9, 9)
        ),
        max_size=20,
    )
)
def test_every_piece_is_in_one_word_and_sums_are_kept(pairs):
    tokens, values = [t for t, _ in pairs], [v for _, v in pairs]
    merged = merge(tokens, values)
    assert merged.tokens_of(range(len(merged.words))) == tuple(range(len(tokens)))
    assert math.isclose(math.fsum(merged.values), math.fsum(values), abs_tol=1e-12)


def test_searches_on_words_map_back_to_pieces():
    tokens = ["[CLS]", "a", "great", "fun", "##ny", "film", ".", "so", "so", "[SEP]"]
    merged = merge(tokens, [0.0, 0.0, 2.0, 1.0, 1.5, 2.0, 0.0, 0.0, 0.0, 0.0])
    best = span_search(merged.values, mask=merged.special, threshold=Threshold("quantile", 1))[0]
    assert [merged.words[i] for i in best.indices] == ["great", "funny", "film"]
    assert merged.tokens_of(best.indices) == (2, 3, 4, 5)


def test_nan_stays_with_its_word():
    values = merge(["fun", "##ny", "film"], [math.nan, 1.0, 2.0]).values
    assert np.isnan(values).tolist() == [True, False]


def test_no_tokens():
    merged = merge([], [])
    assert merged.words == ()
    assert merged.values.shape == (0,)


def test_wrong_input_is_refused():
    with pytest.raises(ConfigError, match="one value a token"):
        merge(["a"], [])
    with pytest.raises(ConfigError, match="Unknown scheme"):
        merge(["a"], [1.0], scheme="morphemes")


def test_detokenise():
    assert (
        detokenise(["He", "(", "not", "I", ")", "said", ":", "“", "no", "”", "!"]) == "He (not I) said: “no”!"
    )
