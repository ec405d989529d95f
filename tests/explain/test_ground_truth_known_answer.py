"""Hand-set networks read nothing outside their region, and sound explainers say so."""

import numpy as np
import pytest
import torch

from salience.explain.ground_truth import known_answer
from salience.explain.ground_truth.localisation import localise, summarise
from salience.explain.model import WhiteBox
from salience.explain.rows import records

NETWORKS = {subject.name: subject for subject in known_answer.networks(rows=6)}
SOUND = ("gradient_x_input", "integrated_gradients", "leave_one_out", "permutation_shapley")
each = pytest.mark.parametrize("name", NETWORKS)


def outside(subject, row):
    units = subject.model.units(row)
    inside = subject.inside(row, units)
    return tuple(unit for unit, share in zip(units, inside, strict=True) if share == 0)


@each
def test_what_lies_outside_the_region_can_be_taken_away_without_any_effect(name):
    subject = NETWORKS[name]
    rows = records(subject.model, subject.frame)
    without = subject.frame.copy()
    for column in without:
        cells = [subject.model.remove(row, outside(subject, row))[column] for row in rows]
        without[column] = np.array([*cells, None], dtype=object)[:-1]
    if without.dtypes.eq(object).all() and subject.model.schema.inputs[0].kind == "number":
        without = without.astype(float)
    before, after = (subject.model.outputs(frame) for frame in (subject.frame, without))
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert np.ptp(before[:, 1]) > 0.1  # it does read something


@each
def test_every_row_has_units_inside_and_outside(name):
    subject = NETWORKS[name]
    assert isinstance(subject.model, WhiteBox)
    for row in records(subject.model, subject.frame):
        inside = subject.inside(row, subject.model.units(row))
        assert 0 < inside.mean() < 1


@each
@pytest.mark.parametrize("method", SOUND)
def test_sound_explainers_put_everything_inside(name, method):
    scores = known_answer.score(NETWORKS[name], method)
    assert len(scores) == 6
    for score in scores:
        assert score.attr == pytest.approx(1, abs=1e-5)
        assert score.pointing == 1


@pytest.mark.parametrize(
    "name", [name for name, subject in NETWORKS.items() if subject.linear or "table" in name]
)
def test_kernel_shapley_puts_everything_inside_where_it_is_exact(name):
    assert all(
        s.attr == pytest.approx(1, abs=1e-4) for s in known_answer.score(NETWORKS[name], "kernel_shapley")
    )


def test_attention_weights_of_the_attending_network_lie_inside():
    scores = known_answer.score(NETWORKS["attention, text"], "attention")
    assert all(score.attr == pytest.approx(1, abs=1e-6) for score in scores)


@each
def test_a_random_map_scores_the_share_of_the_region(name):
    subject, rng = NETWORKS[name], np.random.default_rng(0)
    row = records(subject.model, subject.frame)[0]
    inside = subject.inside(row, subject.model.units(row))
    found = summarise([localise(rng.standard_normal(len(inside)), inside) for _ in range(500)])
    assert found["low"] - 0.01 < inside.mean() < found["high"] + 0.01


@each
def test_the_random_control_has_the_share_of_the_region_in_its_interval(name):
    kind, _, what = name.partition(", ")
    maker = {"picture": known_answer.image_network, "text": known_answer.text_network}.get(what)
    subject = maker(kind, 64) if maker else known_answer.table_network(64)
    found = summarise(known_answer.score(subject, "random"))
    assert found["low"] < found["uniform"] < found["high"]


def test_a_wider_reader_is_caught():
    """The check can fail: a convolution that is not kept off the border reads outside."""
    subject = known_answer.image_network("convolution", 4)
    encoder = subject.model.encoders["image_0"]
    encoder.mask = torch.nn.functional.max_pool2d(encoder.mask[None], 5, 1, 2)[0]
    assert all(score.attr < 0.999 for score in known_answer.score(subject, "gradient_x_input"))
