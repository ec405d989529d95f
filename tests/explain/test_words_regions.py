"""Regions of a picture in words: where, how large, and what colour, all measured."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from salience.core.unit import Unit
from salience.data.kinds import KINDS
from salience.explain.words import check, verbalize
from salience.explain.words.regions import PLACES, connected, look, place, size, touching
from salience.testing.words import check_words, random_explanation

GRID = KINDS["image"].units("photo", 0)  # 4 × 4


def picture(colour: tuple[int, int, int], background: tuple[int, int, int] = (128, 128, 128)) -> Image.Image:
    """Return 16 × 16 pixels whose upper left quarter has a colour."""
    pixels = np.full((16, 16, 3), background, dtype=np.uint8)
    pixels[:8, :8] = colour
    return Image.fromarray(pixels)


def explained(values: list[float], image: object = None, units: tuple[Unit, ...] = GRID):
    base = random_explanation(2)
    return replace(
        base, units=units, values=tuple(values), inputs={"photo": image}, kinds={"photo": "image"}, target="yes",
        prediction="yes", probability=0.9, quantity="log-odds", signed=True, faithfulness=None, target_column="",
    )  # fmt: skip


def marked(*places: int, value: float = 1.0) -> list[float]:
    return [value if i in places else 0.0 for i in range(16)]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([0], "upper left"), ([3], "upper right"), ([12], "lower left"), ([15], "lower right"), ([1, 2], "top"),
        ([13, 14], "bottom"), ([4, 8], "left"), ([7, 11], "right"), ([5, 6, 9, 10], "centre"), (range(16), "everywhere"),
    ],
)  # fmt: skip
def test_place(cells, expected):
    assert place([GRID[i] for i in cells]) == expected


def test_places_are_all_told_apart():
    assert len({name for row in PLACES for name in row}) == 9


def test_size():
    assert [size([GRID[i] for i in range(n)]) for n in (1, 2, 4, 5, 16)] == [
        "small",
        "",
        "",
        "large",
        "large",
    ]


def test_touching_needs_a_shared_edge():
    assert touching(GRID[0], GRID[1])
    assert touching(GRID[0], GRID[4])
    assert not touching(GRID[0], GRID[5])
    assert not touching(GRID[0], GRID[2])
    assert connected([GRID[i] for i in (0, 1, 5, 9)])
    assert not connected([GRID[i] for i in (0, 1, 10)])


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((220, 20, 20), ("", "red", "even")), ((30, 160, 40), ("", "green", "even")), ((20, 40, 200), ("dark", "blue", "even")),
        ((250, 240, 40), ("bright", "yellow", "even")), ((120, 70, 20), ("", "brown", "even")), ((240, 140, 30), ("", "orange", "even")),
        ((128, 128, 128), ("", "grey", "even")), ((0, 0, 0), ("", "black", "even")), ((255, 255, 255), ("", "white", "even")),
        ((40, 42, 44), ("dark", "grey", "even")), ((20, 200, 190), ("", "turquoise", "even")), ((150, 40, 220), ("", "purple", "even")),
        ((240, 60, 160), ("", "pink", "even")), ((140, 120, 110), ("", "", "even")),
    ],
)  # fmt: skip
def test_colours_are_measured(colour, expected):
    assert look(picture(colour), [GRID[0], GRID[1]]) == expected


def test_texture_is_measured():
    chessboard = np.indices((16, 16)).sum(axis=0) % 2 * 255
    busy = Image.fromarray(np.repeat(chessboard[..., None], 3, axis=2).astype(np.uint8))
    assert look(busy, [GRID[0]])[2] == "busy"
    ramp = Image.fromarray(
        np.repeat(np.linspace(40, 200, 64, dtype=np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    )
    assert look(ramp, list(GRID))[2] == ""


def test_two_colours_have_no_name():
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[::2], pixels[1::2] = (220, 20, 20), (20, 40, 220)
    assert look(Image.fromarray(pixels), list(GRID))[1] == ""


@pytest.mark.parametrize("image", [None, b"no picture at all", "/no/such/file.png"])
def test_without_pixels_nothing_is_said_of_them(image):
    assert look(image, [GRID[0]]) == ("", "", "")


def test_a_picture_of_one_pixel():
    assert look(Image.new("RGB", (1, 1), (220, 20, 20)), [GRID[15]]) in (("", "", ""), ("", "red", "even"))


def test_sentence_of_a_region():
    e = explained(marked(0), picture((220, 20, 20)))
    text = "What speaks most for “yes” is a small red even region in the upper left (+1.00, 100 %"
    assert text in str(verbalize(e))
    check_words(verbalize, e)


def test_touching_regions_are_one_area():
    e = explained(marked(0, 1, 4, 5), picture((220, 20, 20)))
    claims = [c for c in verbalize(e).claims if c.kind == "evidence"]
    assert [(c.phrase, c.units, c.colour) for c in claims] == [("upper left", (0, 1, 4, 5), "red")]
    apart = explained(marked(0, 15))
    assert [c.units for c in verbalize(apart, coverage=1.0).claims if c.kind == "evidence"] == [(0,), (15,)]


def test_a_wrong_colour_or_place_is_caught():
    words = verbalize(explained(marked(0), picture((220, 20, 20))))
    assert check(words, explained(marked(0), picture((20, 40, 220)))) == ["evidence: colour"]
    moved = tuple(
        replace(unit, locator=tuple(1 - x for x in (*unit.locator[2:], *unit.locator[:2]))) for unit in GRID
    )
    assert "evidence: phrase" in check(words, explained(marked(0), picture((220, 20, 20)), moved))


def test_regions_that_do_not_touch_are_not_one():
    e = explained(marked(0, 15))
    words = verbalize(e)
    claim = replace(words.claims[1], units=(0, 15), value=2.0, share=100)
    sentence = replace(words.sentences[1], claims=(claim,))
    problems = check(replace(words, sentences=(sentence,)), e)
    assert "evidence: one place" in problems


def test_a_segment_without_a_box_is_named_by_its_label():
    e = explained([1.0], None, (Unit("photo", "image", "segment 3"),))
    check_words(verbalize, e)
    assert "the region “segment 3”" in str(verbalize(e))


def test_two_pictures_are_told_apart():
    e = replace(
        explained(marked(0)), kinds={"photo": "image", "map": "image"}, inputs={"photo": None, "map": None}
    )
    assert "a small region in the upper left of “photo”" in str(verbalize(e))


def test_study_sentence_of_a_region():
    texts = {str(verbalize(explained(marked(0)), style="study", seed=s)) for s in range(30)}
    assert any(text.startswith("A small region in the upper left was most ") for text in texts)
