"""Coherence: closed forms, agreement of methods, and what must not be measured silently."""

import math

import numpy as np
import pytest
import torch
from coherence_models import case, classified
from torch import nn

from salience.core.errors import ConfigError, UnsupportedError
from salience.training.coherence import CoherenceHistory, coherence
from salience.training.coherence.interval import unbiased_interval


class Given(nn.Module):
    """A parameter whose gradient for an example is that example."""

    def __init__(self, size, dtype=torch.float64):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size, dtype=dtype))


def product(module, batch):
    return batch @ module.weight


def of(gradients, batch=2, **options):
    gradients = torch.as_tensor(gradients, dtype=torch.float64)
    return coherence(Given(gradients.shape[1]), product, gradients.split(batch), **options)


@pytest.mark.parametrize("method", ["exact", "per_example"])
def test_closed_forms(method):
    alike = of(torch.ones(8, 3), method=method)
    assert alike.alpha == pytest.approx(1) and alike.unbiased == pytest.approx(1)
    assert alike.noise_scale == pytest.approx(0) and alike.batch_bound == pytest.approx(1)
    apart = of(torch.diag(torch.arange(1.0, 9)), method=method)
    assert apart.m_coherence == pytest.approx(1) and apart.unbiased == pytest.approx(0, abs=1e-12)
    assert apart.alpha == pytest.approx(1 / 8) and apart.gradient_diversity == pytest.approx(1)
    against = of(torch.tensor([[1.0], [-1.0]] * 4), method=method)
    assert against.alpha == 0 and against.noise_scale == math.inf and against.unbiased < 0


def test_definitions_hold_for_any_gradients():
    rng = np.random.default_rng(0)
    g = rng.normal(size=(24, 5)) + 0.4
    found = of(g)
    assert found.alpha == pytest.approx((g.mean(0) ** 2).sum() / (g**2).sum(1).mean())
    pairs = g @ g.T
    mean_product = (pairs.sum() - np.trace(pairs)) / (24 * 23)
    assert found.unbiased == pytest.approx(mean_product / np.trace(pairs) * 24)
    assert found.squared_norms == pytest.approx((g**2).sum(1))
    assert found.alpha == pytest.approx(1 / (1 + found.noise_scale))
    assert found.at_size(24) == pytest.approx(found.alpha)


def test_layers_and_parameters_add_up_to_the_whole():
    net, batch = case("cnn, group norm", rows=12)
    found = coherence(net, classified, [batch])
    for parts in (found.by_layer, found.by_parameter):
        assert sum(p.share for p in parts.values()) == pytest.approx(1)
        assert sum(p.share * p.alpha for p in parts.values()) == pytest.approx(found.alpha)
    assert set(found.by_layer) == {"0", "1", "4", "5", "9"}


def test_examples_without_a_gradient_dilute_alpha():
    g = np.vstack([np.random.default_rng(1).normal(size=(6, 4)), np.zeros((18, 4))])
    found, rest = of(g), of(g[:6])
    assert found.active_share == pytest.approx(0.25)
    assert found.active_alpha == pytest.approx(rest.alpha)
    assert found.alpha == pytest.approx(0.25 * rest.alpha)
    assert "75%" in found.words()


@pytest.mark.parametrize("method", ["exact", "per_example", "signs"])
def test_no_gradient_at_all_is_not_a_number(method):
    found = of(torch.zeros(6, 3), method=method)
    assert math.isnan(found.alpha) and "0/0" in found.reason and found.words() == found.reason


def test_signs_agree_within_their_error():
    net, (x, y) = case("mlp", rows=64)
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)]
    exact = coherence(net, classified, batches)
    signs = coherence(net, classified, batches, method="signs", draws=64)
    assert abs(signs.alpha - exact.alpha) < 4 * signs.standard_error < 0.6 * exact.alpha
    assert signs.gradient_squared_norm == pytest.approx(exact.gradient_squared_norm)


def test_a_sample_in_other_batches_says_the_same():
    net, (x, y) = case("cnn, batch norm", rows=12)
    whole = coherence(net, classified, [(x, y)])
    parts = coherence(net, classified, [(x[:5], y[:5]), (x[5:], y[5:])], groups=1)
    assert parts.alpha == pytest.approx(whole.alpha, rel=1e-10)
    assert whole.interval is None and "No interval" in whole.reason


def test_the_loss_may_have_any_scale():
    net, batch = case("mlp")
    scaled = coherence(net, lambda m, b: 1000 * classified(m, b), [batch])
    assert scaled.alpha == pytest.approx(coherence(net, classified, [batch]).alpha)


def test_half_precision_does_not_overflow():
    net = Given(4, dtype=torch.float16)
    batch = torch.full((6, 4), 2000.0, dtype=torch.float16)
    found = coherence(net, product, [batch])
    assert found.alpha == pytest.approx(1, rel=1e-3) and found.squared_norms == pytest.approx(16e6, rel=1e-3)


def test_dropout_is_off_or_has_the_same_masks_for_all_methods():
    net, batch = case("mlp", rows=8)
    assert coherence(net, classified, [batch]).alpha == coherence(net, classified, [batch]).alpha
    exact = coherence(net, classified, [batch], train=True, seed=3)
    again = coherence(net, classified, [batch], train=True, seed=3)
    assert exact.alpha == again.alpha and "dropout was on" in exact.notes[0]
    assert exact.alpha != coherence(net, classified, [batch], train=True, seed=4).alpha


def test_nothing_is_left_behind():
    net, batch = case("cnn, batch norm")
    net.train()
    net[0].eval()
    mean, state = net[1].running_mean.clone(), torch.get_rng_state()
    for method in ("exact", "per_example", "signs"):
        found = coherence(net, classified, [batch], method=method, train=True)
        assert "running statistics" in found.notes[0]
    assert torch.equal(mean, net[1].running_mean) and torch.equal(state, torch.get_rng_state())
    assert net.training and net[1].training and not net[0].training
    assert all(p.grad is None for p in net.parameters())


def test_statistics_of_the_batch_are_refused():
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3))
    with pytest.raises(UnsupportedError, match="statistics of the batch"):
        coherence(net, classified, [(torch.randn(6, 5), torch.zeros(6, dtype=torch.long))])


def test_examples_that_depend_on_each_other_are_noticed():
    net, (x, y) = case("mlp")
    found = coherence(net, lambda m, b: classified(m, b) * m(b[0]).mean(), [(x, y)])
    assert found.method == "per_example" and "a single example has another gradient" in found.reason


def test_an_axis_that_cannot_be_told_is_noticed():
    net, batch = case("transformer, batch second", rows=8)  # as many words, with the first token, as examples
    found = coherence(net, classified, [batch])
    assert found.method == "per_example"
    assert found.alpha == pytest.approx(coherence(net, classified, [batch], method="per_example").alpha)


def test_what_cannot_be_measured_is_refused():
    net, batch = case("mlp")
    with pytest.raises(ConfigError, match="one loss an example"):
        coherence(net, lambda m, b: classified(m, b).mean(), [batch])
    with pytest.raises(ConfigError, match="no batch"):
        coherence(net, classified, [])
    with pytest.raises(ConfigError, match="Unknown method"):
        coherence(net, classified, [batch], method="exat")
    with pytest.raises(ConfigError, match="are trained"):
        coherence(net.requires_grad_(False), classified, [batch])


def test_intervals_cover():
    """Groups of rows of a known distribution: E g·g' = |mean|², E g² = |mean|² + size."""
    rng = np.random.default_rng(0)
    mean, size, hits = np.full(10, 0.3), 10, 0
    truth = (mean**2).sum() / ((mean**2).sum() + size)
    for repeat in range(150):
        g = rng.normal(size=(16, 12, size)) + mean
        sums = g.sum(1)
        low, high = unbiased_interval(
            sums @ sums.T, (g**2).sum((1, 2)), np.full(16, 12), replicates=200, seed=repeat
        )
        hits += low <= truth <= high
    assert 0.9 <= hits / 150 <= 1.0


def test_history_follows_training():
    net, batch = case("mlp", rows=12)
    probe = CoherenceHistory(classified, [batch], every=2, options={"check": 0})
    for epoch in range(3):
        record = probe.end_epoch(net, epoch)
        assert bool(record) == (epoch % 2 == 0)
        with torch.no_grad():
            net[0].weight.mul_(0.5)
    frame = probe.to_frame()
    assert list(frame["epoch"]) == [0, 2] and frame["m_coherence"].nunique() == 2
    assert {"0", "3", "5"} <= set(probe.layers().columns)
    assert [p["value"] for p in probe.points()] == list(frame["unbiased"])


def test_processes_add_up(tmp_path):
    net, batch = case("mlp")
    dist = torch.distributed
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        found = coherence(net, classified, [batch] * 4, processes=dist.group.WORLD)
    finally:
        dist.destroy_process_group()
    alone = coherence(net, classified, [batch] * 4)
    assert found.alpha == alone.alpha and found.interval == alone.interval and found.m == 24
