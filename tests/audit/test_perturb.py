import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from salience.audit.perturb import (
    CONTROL,
    PERTURBATIONS,
    darken,
    drop_words,
    erase,
    grain,
    mistype,
    more_space,
    noise,
    perturbed,
    typos,
)

LONG = " ".join(["wonderful"] * 500)


def rng():
    return np.random.default_rng(0)


@given(st.text(alphabet="abcdef", min_size=1, max_size=8), st.integers(0, 1000))
def test_a_typing_error_is_one_small_edit(word, seed):
    found = mistype(word, np.random.default_rng(seed))
    assert abs(len(found) - len(word)) <= 1
    if len(found) == len(word):
        assert sorted(found) == sorted(word)
    longer, shorter = max(found, word, key=len), min(found, word, key=len)
    if len(longer) > len(shorter):
        assert any(longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer)))


def test_a_tenth_of_the_words_is_mistyped():
    changed = sum(word != "wonderful" for word in typos(LONG, rng()).split())
    assert 20 <= changed <= 80


def test_typing_errors_spare_short_words_and_spacing():
    text = "it  is,\nso\tit is"
    assert typos(text, rng()) == text


def test_a_tenth_of_the_words_is_dropped_but_never_all():
    assert 410 <= len(drop_words(LONG, rng()).split()) <= 480
    assert all(drop_words("word", np.random.default_rng(seed)) == "word" for seed in range(50))
    assert drop_words("", rng()) == ""


@given(st.text(max_size=40))
def test_white_space_keeps_every_word(text):
    assert more_space(text, rng()).split() == text.split()


def test_noise_is_a_tenth_of_the_training_spread():
    values, train = pd.Series(np.zeros(5000)), pd.Series(np.random.default_rng(1).normal(0, 3, 5000))
    assert noise(values, rng(), train).std() == pytest.approx(0.3, rel=0.1)


def test_noise_keeps_missing_numbers_and_constant_columns():
    found = noise(pd.Series([1.0, np.nan]), rng(), pd.Series([2.0, 2.0]))
    assert found[0] == 1.0
    assert np.isnan(found[1])
    assert noise(pd.Series([1.0]), rng(), pd.Series([2.0]))[0] == 1.0


def test_pictures_change_and_missing_ones_stay():
    values = pd.Series([Image.new("RGB", (8, 8), (100, 100, 100)), None], dtype=object)
    dark, noisy = darken(values, rng(), values), grain(values, rng(), values)
    assert np.asarray(dark[0]).mean() == 80
    assert np.asarray(noisy[0]).std() == pytest.approx(0.05 * 255, rel=0.2)
    assert dark[1] is None and noisy[1] is None


def test_only_the_columns_of_the_kind_change():
    rows = pd.DataFrame({"t": ["some long words"], "u": ["as they are"], "c": ["x"]})
    before = rows.copy()
    found = perturbed(rows, ["t"], CONTROL, rows, rng())
    assert found["t"][0] == " some  long  words "
    assert list(found["u"]) == ["as they are"] and list(found["c"]) == ["x"]
    pd.testing.assert_frame_equal(rows, before)
    assert list(erase(rows["c"], rng(), rows["c"])) == [None]


def test_every_kind_of_column_has_a_perturbation():
    assert {p.kind for p in PERTURBATIONS} == {"text", "number", "category", "image"}
    assert len({p.name for p in PERTURBATIONS}) == len(PERTURBATIONS)
