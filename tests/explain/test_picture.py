"""Explanations as PNG pictures."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageColor

from salience.core.errors import ConfigError
from salience.explain import markup
from salience.explain.engine import explain
from salience.explain.picture import WIDTH, draw, full, tint
from salience.testing.toy import LinearToy, toy_frame


@pytest.fixture(scope="module")
def explanation():
    return explain(
        LinearToy(image=True), toy_frame(1, 1, image=True), method="leave_one_out", faithfulness=False
    )[0]


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def count(data, value, share=100):
    """Count the pixels that have exactly the tint of a value."""
    return int((pixels(data) == tint(value, share)).all(-1).sum())


def test_signs_have_colours_and_kinds_of_line(explanation):
    shown = pixels(draw(explanation))
    assert shown.shape[1] == WIDTH
    for value in (1.0, -1.0):
        assert (shown == ImageColor.getrgb(full(value))).all(-1).sum() > 20


def test_values_of_zero_are_not_marked(explanation):
    zero = draw(replace(explanation, values=tuple(0.0 for _ in explanation.values)))
    negative = draw(replace(explanation, values=tuple(-1.0 for _ in explanation.values)))
    assert count(zero, -1.0) < count(negative, -1.0) / 5  # what is left is the key to the marks


def test_the_strongest_cell_has_the_longest_bar(explanation):
    cells = [i for i, unit in enumerate(explanation.units) if unit.kind == "number"]
    values = [0.0] * len(explanation.values)
    values[cells[0]] = 1.0
    one = count(draw(replace(explanation, values=tuple(values))), 1.0)
    values[cells[1]] = 1.0
    two = count(draw(replace(explanation, values=tuple(values))), 1.0)
    values[cells[1]] = 0.5
    half = count(draw(replace(explanation, values=tuple(values))), 1.0)
    assert half - one == pytest.approx((two - one) / 2, rel=0.05)


@pytest.mark.parametrize(
    "text", ["", " ", "\n\n", "word " * 3000, "a" * 5000, "‮evil\x1b[31m", "日本語", "“quoted”"]
)
def test_any_text_is_drawn(text):
    frame = toy_frame(1, 1).assign(review=text)
    found = explain(LinearToy(), frame, method="leave_one_out", faithfulness=False)[0]
    assert pixels(draw(found)).shape[1] == WIDTH


def test_values_that_are_no_numbers_and_missing_pictures_are_drawn(explanation):
    inputs = {**explanation.inputs, "photo": None}
    holes = replace(explanation, values=tuple(math.nan for _ in explanation.values), inputs=inputs)
    assert pixels(draw(holes)).shape[1] == WIDTH


def test_it_is_saved_by_the_ending_of_the_name(explanation, tmp_path):
    path = explanation.save(tmp_path / "one.png")
    with Image.open(path) as picture:
        assert picture.format == "PNG"
    with pytest.raises(ConfigError, match=r"\.png"):
        explanation.save(tmp_path / "one.gif")


def test_tints_grow_with_the_share():
    light, strong = (sum(tint(1.0, share)) for share in (10, 100))
    assert strong < light < 3 * 255
    assert markup.COLOURS["light"]["positive"] == full(2.0)
