import math

import pytest
import torch
from torch import nn

from salience.training.schedule import decay_groups, rate_at


def test_rate_rises_linearly_then_falls_along_a_cosine():
    rates = [rate_at(i, 100, 2.0, 0.1) for i in range(101)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    assert rates[30] == pytest.approx(1 + math.cos(math.pi * 20 / 90))


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.05), (2, 0.0), (3, 1.0)])
def test_short_trainings_have_positive_rates(total, warmup):
    assert all(0 < rate_at(i, total, 1.0, warmup) <= 1 for i in range(total))


def test_only_trained_matrices_decay():
    model = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2))
    model[3].requires_grad_(False)
    decayed, others = decay_groups(model, 0.1)
    assert [p.shape for p in decayed["params"]] == [torch.Size([5, 4])]
    assert len(others["params"]) == 4  # embedding, bias, and the norm's two
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
