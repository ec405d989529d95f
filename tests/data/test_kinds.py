"""Kinds: canonical values, units, removal of units."""

import io
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from salience.core.errors import DataError
from salience.data.images import load_image
from salience.data.kinds import KINDS, number_text, pixel_box, to_label
from salience.data.words import words


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="PNG")
    return file.getvalue()


RED_BLUE = np.zeros((8, 8, 3), dtype=np.uint8)
RED_BLUE[:, :4, 0] = 200
RED_BLUE[:, 4:, 2] = 200


def test_text_parse_makes_missing_empty():
    parsed = KINDS["text"].parse(pd.Series(["a", None, float("nan"), 3, "\ud800x"], name="t"))
    assert parsed.tolist() == ["a", "", "", "3", "\ufffdx"]


def test_text_units_carry_offsets():
    units = KINDS["text"].units("Review", "I don't know.")
    assert [u.label for u in units] == ["I", "don't", "know", "."]
    assert units[1].locator == (2, 7)


@given(st.text(alphabet="ab1'. ,-é\u0301👍日\n", max_size=40), st.data())
def test_removed_words_leave_the_others_as_they_were(text, data):
    kind = KINDS["text"]
    units = kind.units("t", text)
    gone = data.draw(st.sets(st.sampled_from(range(len(units))))) if units else set()
    left = kind.remove(text, [units[i] for i in sorted(gone)], "")
    assert words(left) == [u.label for i, u in enumerate(units) if i not in gone]


def test_text_remove_known_answers():
    kind = KINDS["text"]
    units = kind.units("t", "a well-made  dress")
    assert kind.remove("a well-made  dress", [units[2]]) == "a well made  dress"
    assert kind.remove("a well-made  dress", units[:1]) == "well-made  dress"
    assert kind.remove("a well-made  dress", units) == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", 1.0),
        (" 2.5 ", 2.5),
        ("1,234.5", 1234.5),
        ("1e3", 1000.0),
        ("", None),
        ("NA", None),
        ("inf", None),
        (True, 1.0),
    ],
)
def test_number_texts(value, expected):
    parsed = KINDS["number"].parse(pd.Series([value, "7"], dtype=object, name="n"))
    assert parsed.dtype == np.float64
    assert (np.isnan(parsed[0]) and expected is None) or parsed[0] == expected


def test_number_names_the_cells_that_are_none():
    with pytest.raises(
        DataError, match=r"file\.csv: row 2 holds 'abc', row 4 holds '1_0'.*--kind Age=category"
    ) as info:
        KINDS["number"].parse(pd.Series(["1", "abc", "3", "1_0"], name="Age"), "file.csv")
    assert info.value.code == "SAL-D030"


def test_number_unit_and_baseline():
    kind = KINDS["number"]
    assert [kind.units("Age", v)[0].label for v in (34.0, 0.125, float("nan"))] == [
        "Age = 34",
        "Age = 0.125",
        "Age = missing",
    ]
    assert kind.baseline(pd.Series([1.0, 3.0, np.nan])) == 2.0
    assert kind.baseline(pd.Series([np.nan])) == 0.0
    assert kind.remove(5.0, kind.units("Age", 5.0), 2.0) == 2.0
    assert kind.remove(5.0, (), 2.0) == 5.0


def test_category_labels():
    parsed = KINDS["category"].parse(pd.Series([1.0, "1", " a  b ", None, True, ""], dtype=object, name="c"))
    assert parsed.tolist() == ["1", "1", "a b", None, "1", None]  # True equals 1 in Python
    assert to_label(True) == "True"
    assert to_label(np.float64(0.5)) == "0.5"
    unit = KINDS["category"].units("Division", "General")[0]
    assert unit.label == "Division = General"


def test_category_refuses_lists_by_row():
    with pytest.raises(DataError, match="row 2 holds") as info:
        KINDS["category"].parse(pd.Series(["a", [1, 2]], name="c"))
    assert info.value.code == "SAL-D032"


@pytest.mark.parametrize("form", ["array", "bytes", "pil", "path"])
def test_image_forms_and_removal(form, tmp_path):
    (tmp_path / "x.png").write_bytes(png(RED_BLUE))
    value = {
        "array": RED_BLUE,
        "bytes": png(RED_BLUE),
        "pil": Image.fromarray(RED_BLUE),
        "path": str(tmp_path / "x.png"),
    }[form]
    kind = KINDS["image"]
    assert kind.parse(pd.Series([value, None], dtype=object, name="i"))[1] is None
    units = kind.units("i", value)
    assert len(units) == 16
    assert units[5].label == "upper left"
    assert units[5].locator == (0.25, 0.25, 0.5, 0.5)
    changed = np.array(kind.remove(value, [units[5]]))
    assert (changed[2:4, 2:4] == [100, 0, 100]).all()
    changed[2:4, 2:4] = RED_BLUE[2:4, 2:4]
    assert (changed == RED_BLUE).all()
    everything = np.asarray(kind.remove(value, units))
    assert (everything == [100, 0, 100]).all()
    assert (np.asarray(load_image(value)) == RED_BLUE).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 6))
def test_regions_tile_the_picture(width, height, grid):
    from salience.data.kinds import Image as ImageKind

    covered = np.zeros((height, width), dtype=int)
    labels = set()
    for unit in ImageKind(grid).units("i", "x.png"):
        left, top, right, bottom = pixel_box(unit.locator, (width, height))
        covered[top:bottom, left:right] += 1
        labels.add(unit.label)
    assert (covered == 1).all()
    assert len(labels) == grid * grid


def test_image_parse_names_a_missing_file():
    with pytest.raises(DataError, match=r"photos\.csv, row 2, column 'photo': .*nowhere\.png") as info:
        KINDS["image"].parse(pd.Series([None, "/nowhere.png"], name="photo"), "photos.csv")
    assert info.value.code == "SAL-D040"


def test_truncated_image_is_a_clear_error():
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    with pytest.raises(DataError, match="photos, row 1: bytes") as info:
        load_image(png(noise)[:2000], "photos, row 1")
    assert info.value.code == "SAL-D041"


def test_decompression_bomb_is_refused_before_decoding(monkeypatch):
    monkeypatch.setattr("salience.data.images.MAX_PIXELS", 63)
    with pytest.raises(DataError, match=r"8 × 8 pixels") as info:
        load_image(png(RED_BLUE))
    assert info.value.code == "SAL-D042"


def test_transparency_and_deep_grey():
    clear = np.zeros((2, 2, 4), dtype=np.uint8)
    assert (np.asarray(load_image(png(clear))) == 255).all()
    deep = np.array([[0, 65535]], dtype=np.uint16)
    assert np.asarray(load_image(png(deep)))[0, :, 0].tolist() == [0, 255]


@given(st.binary(max_size=200))
def test_random_bytes_never_escape_as_another_error(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for prefix in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0"):
            try:
                load_image(prefix + data)
            except DataError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize(("value", "expected"), [(1e20, "1e+20"), (1234567.0, "1234567"), (-0.5, "-0.5")])
def test_number_text(value, expected):
    assert number_text(value) == expected
