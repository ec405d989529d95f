"""The mini-batch law, by simulation and in a stream of gradients."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from salience.training.coherence import MiniBatchCoherence, batch_alpha, example_alpha


def gradients(rows=64, size=30, share=0.2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, size)) + share


def test_law_and_inverse():
    assert batch_alpha(0.3, 1) == 0.3
    for alpha in (0.0, 0.01, 0.5, 1.0):
        for k in (2, 16, 500):
            assert example_alpha(batch_alpha(alpha, k), k) == pytest.approx(alpha)


@pytest.mark.parametrize("k", [2, 8])
def test_law_holds_for_batches_drawn_at_random(k):
    g = gradients()
    alpha = (g.mean(0) ** 2).sum() / (g**2).sum(1).mean()
    rng = np.random.default_rng(1)
    means = g[rng.integers(0, len(g), (20_000, k))].mean(1)
    measured = (means.mean(0) ** 2).sum() / (means**2).sum(1).mean()
    assert measured == pytest.approx(batch_alpha(alpha, k), rel=0.03)


def stream(g, k, steps, decay=0.99, seed=0):
    model, rng = nn.Linear(g.shape[1], 1, bias=False), np.random.default_rng(seed)
    watcher = MiniBatchCoherence(decay)
    for _ in range(steps):
        mean = g[rng.integers(0, len(g), k)].mean(0)
        model.weight.grad = torch.as_tensor(mean, dtype=torch.float32)[None]
        watcher.after_backward(model, k)
    return watcher, model


@pytest.mark.parametrize("k", [1, 4, 16])
def test_a_stream_of_mini_batches_tells_alpha_of_examples(k):
    g = gradients(rows=400)
    watcher, model = stream(g, k, 3000, decay=0.999)
    alpha = (g.mean(0) ** 2).sum() / (g**2).sum(1).mean()
    assert watcher.alpha == pytest.approx(alpha, rel=0.15)
    assert watcher.end_epoch(model, 0) == {"coherence": watcher.alpha}


def test_unrelated_gradients_give_about_zero():
    watcher, _ = stream(np.random.default_rng(2).normal(size=(20_000, 200)), 4, 1500, decay=0.998)
    assert abs(watcher.alpha) < 0.005


def test_it_needs_two_steps_and_skips_what_is_not_finite():
    model, watcher = nn.Linear(2, 1, bias=False), MiniBatchCoherence()
    assert math.isnan(watcher.alpha)
    for value in (1.0, math.inf, 1.0, 1.0):
        model.weight.grad = torch.full((1, 2), value)
        watcher.after_backward(model, 3)
    assert watcher.alpha == pytest.approx(1)
