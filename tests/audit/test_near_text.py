import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.audit.near_text import NearText, is_long, normalise, shingles

texts = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=0, max_size=14).map(" ".join), max_size=12
)


def jaccard(a, b):
    a, b = shingles(a), shingles(b)
    return len(a & b) / len(a | b) if a and b else 0.0


@settings(max_examples=150, deadline=None)
@given(known=texts, asked=texts, threshold=st.sampled_from([0.5, 0.8, 1.0]))
def test_finds_the_most_similar_as_comparing_all_pairs_does(known, asked, threshold):
    found = NearText(known, threshold).find(asked)
    for text, position in zip(asked, found, strict=True):
        best = max([jaccard(text, other) for other in known], default=0.0)
        if best >= threshold:
            assert jaccard(text, known[position]) == pytest.approx(best)
        else:
            assert position == -1


def test_finds_itself_again_only_in_another_row():
    text = "one two three four five six"
    near = NearText([text, "something else that is quite long", text])
    np.testing.assert_array_equal(near.find_again(np.arange(3)), [2, -1, 0])


def test_normalise_drops_case_marks_and_spacing():
    assert normalise("  Hello,\n WORLD!! ") == "hello world"


def test_short_texts_have_no_triples():
    assert shingles("only four words here") == frozenset()
    assert not is_long("only four words here")
    assert len(shingles("these are five words now")) == 3
