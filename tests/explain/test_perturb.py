"""Sets of units are taken away once each, in few calls, with the numbers that rows alone would give."""

import numpy as np
import pytest
import torch

from salience.explain.perturb import Perturber, distinct, singles
from salience.explain.rows import records
from salience.explain.target import resolve, score
from salience.testing.toy import LinearToy, ToyFailureError, toy_frame

torch.set_num_threads(1)


def asked(model, frame, sets=7, seed=0):
    rng = np.random.default_rng(seed)
    rows = records(model, frame)
    return rows, [rng.random((sets, len(model.units(row)))) < 0.5 for row in rows]


def one_by_one(model, rows, removed):
    return [
        np.stack(
            [
                model._output(
                    model.remove(row, tuple(u for u, g in zip(model.units(row), s, strict=True) if g))
                )
                for s in sets
            ]
        )
        for row, sets in zip(rows, removed, strict=True)
    ]


class Masks(LinearToy):
    """Answers sets itself."""

    def outputs_without(self, rows, removed):
        self.calls += 1
        return one_by_one(self, rows, removed)


@pytest.mark.parametrize("kind", [LinearToy, Masks])
@pytest.mark.parametrize("memory_mb", [256, 0.02])
def test_outputs_are_those_of_changed_rows(kind, memory_mb):
    model = kind("multiclass", "nonlinear")
    rows, removed = asked(model, toy_frame(5, 1, "multiclass"))
    perturber = Perturber(model, memory_mb)
    found = perturber.outputs(rows, removed)
    for one, expected in zip(found, one_by_one(model, rows, removed), strict=True):
        np.testing.assert_allclose(one, expected, atol=1e-12)
    assert model.calls == 1 if memory_mb == 256 else model.calls > 3
    assert perturber.forwards == perturber.row_forwards.sum()
    assert perturber.seconds > 0


def test_equal_sets_are_evaluated_once():
    model = LinearToy()
    rows, removed = asked(model, toy_frame(3, 2), sets=3)
    removed = [np.concatenate([sets, sets[::-1]]) for sets in removed]
    perturber = Perturber(model)
    found = perturber.outputs(rows, removed)
    assert perturber.forwards == model.rows_seen == 9
    assert perturber.row_forwards.tolist() == [3, 3, 3]
    for one in found:
        np.testing.assert_array_equal(one[:3], one[:2:-1])


def test_scores_follow_each_rows_target():
    model, frame = LinearToy("multiclass"), toy_frame(4, 3, "multiclass")
    rows, removed = asked(model, frame)
    targets = resolve(model.schema, "predicted", model.outputs(frame))
    outputs = Perturber(model).outputs(rows, removed)
    for one, out, target in zip(
        Perturber(model).scores(rows, removed, targets), outputs, targets, strict=True
    ):
        np.testing.assert_allclose(one, score(out, [target] * len(out)))


@pytest.mark.parametrize("kind", [LinearToy, Masks])
def test_rows_without_sets_and_without_units(kind):
    model, frame = kind(), toy_frame(2, 4)
    rows = records(model, frame)
    none = [np.zeros((0, len(model.units(row))), bool) for row in rows]
    targets = resolve(model.schema, "yes", model.outputs(frame))
    assert [len(found) for found in Perturber(model).scores(rows, none, targets)] == [0, 0]
    assert Perturber(model).outputs([], []) == []
    mixed = [none[0], singles(len(model.units(rows[1])))]
    assert [len(found) for found in Perturber(model).scores(rows, mixed, targets)] == [0, len(mixed[1])]


def test_the_model_is_left_as_it_was_also_when_it_throws():
    model = LinearToy(fail_after=0).train()
    rows, removed = asked(LinearToy(), toy_frame(2, 5))
    with pytest.raises(ToyFailureError):
        Perturber(model).outputs(rows, removed)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


def test_distinct_keeps_the_order_of_first_appearance():
    sets = np.array([[1, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]], bool)
    first, inverse = distinct(sets)
    np.testing.assert_array_equal(first, sets[[0, 1, 3]])
    np.testing.assert_array_equal(inverse, [0, 1, 0, 2])
    np.testing.assert_array_equal(first[inverse], sets)
    assert distinct(np.zeros((3, 0), bool))[0].shape == (1, 0)


def test_singles_are_nothing_everything_and_each_alone():
    np.testing.assert_array_equal(singles(2), [[0, 0], [1, 1], [1, 0], [0, 1]])
    assert singles(0).shape == (2, 0)
