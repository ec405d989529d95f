"""The cutting rule: known answers, and properties that hold for any text."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salience.data.words import cut, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t ", []),
        ("I don't love it.", ["I", "don't", "love", "it", "."]),
        ("It’s 5'4\" tall", ["It’s", "5'4", '"', "tall"]),
        ("well-made and/or snake_case", ["well", "-", "made", "and", "/", "or", "snake", "_", "case"]),
        ("3.5 of 1,000 or 1,2345", ["3.5", "of", "1,000", "or", "1", ",", "2345"]),
        ("'quoted' rock'n'roll'", ["'", "quoted", "'", "rock'n'roll", "'"]),
        ("...!!", [".", ".", ".", "!", "!"]),
        ("Größe naïve", ["Größe", "naïve"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("日本語 text", ["日", "本", "語", "text"]),
        ("👩🏽‍💻👍🏿 ok", ["👩🏽‍💻", "👍🏿", "ok"]),
        ("می‌خواهم", ["می‌خواهم"]),
    ],
)
def test_known_answers(text, expected):
    assert [text[a:b] for a, b in cut(text)] == expected
    assert words(text) == expected


@given(st.text())
def test_pieces_cover_every_visible_character_once(text):
    spans = cut(text)
    assert all(a < b for a, b in spans)
    assert all(previous[1] <= following[0] for previous, following in pairwise(spans))
    covered = {i for a, b in spans for i in range(a, b)}
    assert covered == {i for i, character in enumerate(text) if not character.isspace()}


@given(st.lists(st.text(alphabet="ab1'. ,-é\u0301", max_size=8), max_size=6))
def test_a_piece_alone_is_cut_the_same(parts):
    text = " ".join(parts)
    for a, b in cut(text):
        assert words(text[a:b]) == [text[a:b]]
