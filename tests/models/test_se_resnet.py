"""Image encoder: sources of pictures, sizes, regions in order, missing pictures, learning."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from salience.core.errors import ConfigError, DataError
from salience.data.kinds import KINDS
from salience.models.encoders.se_resnet import SEResNetEncoder
from salience.models.slots import MLP

GRID = KINDS["image"].grid


def picture(seed=0, size=(8, 8)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3)).astype(np.uint8))


def frame(*cells):
    return pd.DataFrame({"photo": pd.Series(cells, dtype=object)})


def fitted(rows=None, **args):
    torch.manual_seed(0)
    encoder = SEResNetEncoder(["photo"], **{"size": 8, "width": 8, "blocks": 1, **args})
    rows = frame(*map(picture, range(4))) if rows is None else rows
    encoder.fit(rows, np.zeros(len(rows)), torch.Generator().manual_seed(0))
    return encoder.eval()


def embedded(encoder, *cells):
    return encoder.embed(encoder.collate(encoder.prepare(frame(*cells))))


def test_a_path_bytes_an_array_and_an_image_give_the_same_tokens(tmp_path):
    image = picture(size=(20, 12))
    image.save(tmp_path / "a.png")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    tokens = embedded(fitted(), image, str(tmp_path / "a.png"), buffer.getvalue(), np.asarray(image))
    assert all(torch.equal(tokens.values[0], tokens.values[i]) for i in range(1, 4))


def test_a_damaged_picture_is_named_by_row_and_column():
    with pytest.raises(DataError, match=r"row 1, column 'photo'"):
        fitted().prepare(frame(picture(), b"\x89PNG\r\n\x1a\nbroken"))


@pytest.mark.parametrize("size", [4, 8, 10, 17, 32])
def test_any_size_is_rounded_down_to_whole_regions(size):
    encoder = fitted(size=size)
    tokens = embedded(encoder, picture(size=(40, 30)))
    side = size // GRID
    assert tokens.values.shape == (1, GRID * GRID, side * side * 3)
    context, vector = encoder.encode(tokens)
    assert context.values.shape[1] == GRID * GRID and vector.shape == (1, encoder.dim)


@pytest.mark.parametrize("args", [{"size": 3}, {"width": 0}, {"blocks": 0}])
def test_impossible_sizes_are_refused(args):
    with pytest.raises(ConfigError, match="too small"):
        SEResNetEncoder(["photo"], **args)


@pytest.mark.parametrize("width", [1, 6, 12])
def test_widths_that_eight_groups_do_not_divide_run(width):
    assert fitted(width=width).encode(embedded(fitted(width=width), picture()))[1].isfinite().all()


@pytest.mark.parametrize("source", [(8, 8), (64, 48)])
def test_tokens_are_in_the_order_of_the_units_and_at_their_places(source):
    encoder, grey = fitted(), Image.new("RGB", source, (128, 128, 128))
    plain = embedded(encoder, grey).values[0]
    for number, unit in enumerate(encoder.units({"photo": grey})):
        left, top, right, bottom = unit.locator
        spot = grey.copy()
        box = (left * source[0], top * source[1], right * source[0], bottom * source[1])
        spot.paste((255, 0, 0), tuple(round(v) for v in box))
        change = (embedded(encoder, spot).values[0] - plain).abs().sum(1)
        assert int(change.argmax()) == number
        assert float(change[number]) > 0.8 * float(change.sum()) or source != (8, 8)


def test_joining_the_tokens_gives_the_picture_back():
    encoder, image = fitted(), picture()
    seen = {}
    encoder.network.register_forward_pre_hook(lambda _, args: seen.update(image=args[0]))
    encoder.encode(embedded(encoder, image))
    pixels = seen["image"][0].permute(1, 2, 0) * encoder.std + encoder.mean
    torch.testing.assert_close(pixels * 255, torch.tensor(np.asarray(image)).float(), atol=1e-3, rtol=1e-4)


def test_a_missing_picture_has_the_mean_colour_and_no_units():
    encoder = fitted()
    tokens = embedded(encoder, None, picture())
    assert not tokens.values[0].any() and tokens.unit[0].unique().tolist() == [-1]
    assert encoder.units({"photo": None}) == ()
    assert tokens.unit[1].tolist() == list(range(GRID * GRID))


def test_a_black_picture_is_not_a_missing_one():
    tokens = embedded(fitted(), Image.new("RGB", (8, 8)))
    assert tokens.values.any() and tokens.unit[0].tolist() == list(range(GRID * GRID))


def test_the_baseline_equals_the_picture_with_every_region_removed():
    encoder = fitted()
    image = Image.fromarray(np.full((8, 8, 3), 90, np.uint8))
    image.paste((94, 94, 94), (0, 0, 4, 8))  # the mean colour, 92, is a whole number
    units = encoder.units({"photo": image})
    removed = embedded(encoder, KINDS["image"].remove(image, units)).values
    neutral = encoder.baseline(encoder.collate(encoder.prepare(frame(image)))).values
    torch.testing.assert_close(removed, neutral, atol=1e-5, rtol=1e-5)


def test_colours_are_standardised_over_training_pictures_without_the_missing_ones():
    rows = frame(*map(picture, range(6)), None, None)
    encoder = fitted(rows)
    values = embedded(encoder, *rows["photo"][:6]).values.reshape(-1, 3)
    torch.testing.assert_close(values.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.std(0), torch.ones(3), atol=1e-2, rtol=0)


def test_training_shifts_and_mirrors_and_evaluation_does_not():
    encoder = fitted(shift=0.25, flip=True)
    batch = encoder.collate(encoder.prepare(frame(picture())))
    torch.manual_seed(1)
    encoder.train()
    assert len({encoder.embed(batch).values.sum(2).flatten().numpy().tobytes() for _ in range(8)}) > 1
    encoder.eval()
    assert torch.equal(encoder.embed(batch).values, encoder.embed(batch).values)


def test_it_learns_to_tell_where_a_bright_spot_is():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60, (96, 8, 8, 3)).astype(np.uint8)
    labels = rng.integers(0, 2, 96)
    for image, label in zip(pixels, labels, strict=True):
        row, column = rng.integers(0, 6, 2)
        image[row : row + 2, column : column + 2] = (250, 40, 40) if label else (40, 40, 250)
    rows = frame(*map(Image.fromarray, pixels))
    encoder = fitted(rows.iloc[:64], shift=0.0)
    head = MLP(encoder.dim, 2)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    batch, target = encoder.collate(encoder.prepare(rows.iloc[:64])), torch.tensor(labels[:64])
    for _ in range(25):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(encoder.encode(encoder.embed(batch))[1]), target).backward()
        optimizer.step()
    test = encoder.collate(encoder.prepare(rows.iloc[64:]))
    found = head(encoder.encode(encoder.embed(test))[1]).argmax(1)
    assert float((found == torch.tensor(labels[64:])).float().mean()) > 0.9
