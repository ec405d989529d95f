"""The five changes of pictures: masks by the formulas at several sizes, and nothing changes outside."""

import colorsys

import numpy as np
import pytest

from salience.core.errors import ConfigError
from salience.explain import ground_truth as gt
from salience.explain.ground_truth.images import turn_hue

MANIPULATIONS = [
    gt.PeripheralBlurring("p", radius=90, sigma=12),
    gt.CentreBrightnessShift("p", radius=60, shift=-0.3),
    gt.CentreBrightnessShift("p", radius=60, shift=0.4),
    gt.StripedHueShift("p", shift=0.2),
    gt.StripedNoise("p", share=0.5),
    gt.Watermark("p", top=150, bottom=210, size=40),
]
NAMES = [f"{type(m).__name__}{i}" for i, m in enumerate(MANIPULATIONS)]
SHAPES = [(32, 32), (64, 64), (224, 224), (48, 80)]


def picture(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("manipulation", MANIPULATIONS, ids=NAMES)
def test_nothing_changes_outside_the_mask_and_something_inside(manipulation, shape):
    before = picture(shape)
    kept = before.copy()
    after = manipulation.apply({"p": before, "q": 1}, np.random.default_rng(1))["p"]
    mask = manipulation.area({"p": before})["p"]
    assert mask.shape == shape and after.shape == before.shape and after.dtype == np.uint8
    assert np.array_equal(after[~mask], before[~mask])
    assert (after[mask] != before[mask]).any()
    assert np.array_equal(before, kept)


@pytest.mark.parametrize("side", [32, 64, 224])
@pytest.mark.parametrize("radius", [30, 50, 80, 112, 130])
def test_discs_hold_the_pixels_whose_centre_is_within_the_radius(side, radius):
    inside = np.zeros((side, side), dtype=bool)
    for row in range(side):
        for column in range(side):
            x, y = (2 * (i + 0.5) / side - 1 for i in (row, column))
            inside[row, column] = (x * x + y * y) ** 0.5 <= radius / 112
    assert np.array_equal(gt.CentreBrightnessShift("p", radius=radius).mask(side, side), inside)
    assert np.array_equal(gt.PeripheralBlurring("p", radius=radius).mask(side, side), ~inside)


def test_a_disc_at_full_size_is_the_drawn_ellipse_but_for_a_ring_of_a_pixel():
    from PIL import Image, ImageDraw
    from scipy.ndimage import binary_dilation, binary_erosion

    drawn = Image.new("1", (224, 224))
    ImageDraw.Draw(drawn).ellipse((112 - 80, 112 - 80, 112 + 80, 112 + 80), fill=1)
    ours, theirs = ~gt.PeripheralBlurring("p", radius=80).mask(224, 224), np.asarray(drawn)
    assert not (ours & ~binary_dilation(theirs, iterations=2)).any()
    assert not (binary_erosion(theirs, iterations=2) & ~ours).any()


@pytest.mark.parametrize("side, rows", [(224, range(62, 162)), (64, range(18, 46)), (32, range(9, 23))])
def test_bands_are_rows(side, rows):
    mask = gt.StripedHueShift("p").mask(side, side)
    assert mask.any(axis=1).nonzero()[0].tolist() == list(rows)
    assert mask[rows.start].all()
    assert gt.StripedNoise("p", 62, 162).mask(side, side).tolist() == mask.tolist()


def test_the_watermark_box_is_rows_and_columns():
    mask = gt.Watermark("p").mask(224, 224)
    assert mask.sum() == 20 * 184
    assert mask[200:220, 20:204].all()
    wide = gt.Watermark("p").mask(112, 448)
    assert wide[100:110, 40:408].all() and wide.sum() == 10 * 368


def test_brightness_follows_the_formula_and_keeps_the_hue():
    before = np.full((224, 224, 3), (200, 100, 50), dtype=np.uint8)
    after = gt.CentreBrightnessShift("p").change(before, None).astype(float)
    distance = np.hypot(*np.meshgrid(*[(np.arange(224) + 0.5) / 112 - 1] * 2))
    reach = 50 / 112
    moved = 200 / 255 - 0.2 * np.cos(0.25 * np.pi * distance / (reach / 2)) ** 2
    inside = distance <= reach
    assert np.abs(after.max(axis=2) / 255 - moved)[inside].max() <= 0.5 / 255 + 1e-9
    ratio = after[112, 112] / before[112, 112]
    assert np.ptp(ratio) < 0.02


def test_black_gets_brighter_as_grey():
    after = gt.CentreBrightnessShift("p", shift=0.4).change(np.zeros((64, 64, 3), np.uint8), None)
    assert np.ptp(after[32, 32]) == 0 and after[32, 32, 0] == pytest.approx(0.4 * 255, abs=1)


@pytest.mark.parametrize("turn", [-0.5, -0.13, 0.0, 0.04, 0.31, 0.5])
def test_hues_turn_as_in_the_standard_library(turn):
    pixels = picture((12, 12), 3)
    pixels[0, :3] = [(0, 0, 0), (90, 90, 90), (255, 255, 255)]
    found = turn_hue(pixels, np.full((12, 12), turn))
    for colour, ours in zip(pixels.reshape(-1, 3), found.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(colour / 255))
        expected = 255 * np.array(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value))
        assert np.abs(ours - expected).max() <= 0.5 + 1e-6


def test_stripes_turn_hues_both_ways():
    before = np.full((224, 224, 3), (200, 100, 50), dtype=np.uint8)
    after = gt.StripedHueShift("p", shift=0.1).apply({"p": before}, None)["p"]
    hues = np.array([colorsys.rgb_to_hsv(*(after[row, 0] / 255))[0] for row in range(62, 162)])
    rows = np.arange(62, 162) + 0.5
    wave = np.sin(2 * np.pi * (rows - 112) / 100)
    expected = (colorsys.rgb_to_hsv(*(before[0, 0] / 255))[0] + 0.1 * np.sign(wave) * wave**2) % 1
    assert np.abs((hues - expected + 0.5) % 1 - 0.5).max() < 0.01


def test_noise_replaces_its_share_of_the_band():
    before = np.full((224, 224, 3), 7, dtype=np.uint8)
    after = gt.StripedNoise("p", 0, 224, 0.1).apply({"p": before}, np.random.default_rng(0))["p"]
    assert (after != 7).any(axis=2).mean() == pytest.approx(0.1, abs=0.006)


def test_the_watermark_has_black_and_white_and_moves():
    grey = np.full((224, 224, 3), 128, dtype=np.uint8)
    mark = gt.Watermark("p", top=100, bottom=220, size=30)
    after = [mark.apply({"p": grey}, np.random.default_rng(seed))["p"] for seed in (0, 0, 1)]
    assert after[0].min() == 0 and after[0].max() == 255
    assert np.array_equal(after[0], after[1]) and not np.array_equal(after[0], after[2])


def test_pictures_of_every_form_are_read_and_missing_ones_do_not_fit():
    from PIL import Image

    mark = gt.StripedNoise("p", share=1.0)
    image = Image.fromarray(picture((32, 32)))
    assert mark.apply({"p": image}, np.random.default_rng(0))["p"].shape == (32, 32, 3)
    assert mark.fits({"p": image}) and not mark.fits({"p": None})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: gt.StripedNoise("p", share=1.5),
        lambda: gt.StripedHueShift("p", 100, 100),
        lambda: gt.PeripheralBlurring("p", radius=0),
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        wrong()
