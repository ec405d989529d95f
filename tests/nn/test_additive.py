"""Additive attention and the two-way LSTM under it, against formulas written out, and against rows alone."""

import pytest
import torch

from salience.models.encoders.bilstm_attention import AttentiveBiLSTM
from salience.nn.attention.self_attention.additive import AdditiveAttention
from salience.nn.blocks.bilstm import BiLSTM
from salience.nn.watch import watching

LENGTHS = (5, 0, 3, 1)


def batch(dim=4, dtype=torch.float64):
    torch.manual_seed(0)
    x = torch.randn(len(LENGTHS), 5, dim, dtype=dtype)
    mask = torch.arange(5)[None, :] < torch.tensor(LENGTHS)[:, None]
    return x, mask


def by_hand(lstm, x):
    """Run one row through the cell's equations: input, forget, cell and output gate, both ways."""
    outputs = []
    for suffix, steps in (("", range(len(x))), ("_reverse", reversed(range(len(x))))):
        w, u = (getattr(lstm, f"weight_{n}_l0{suffix}") for n in ("ih", "hh"))
        bias = getattr(lstm, f"bias_ih_l0{suffix}") + getattr(lstm, f"bias_hh_l0{suffix}")
        h = c = torch.zeros(u.shape[1], dtype=x.dtype)
        states = [None] * len(x)
        for t in steps:
            i, f, g, o = (w @ x[t] + u @ h + bias).chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states[t] = h
        outputs.append(torch.stack(states))
    return torch.cat(outputs, dim=1)


def test_lstm_states_are_those_of_each_row_alone_and_zero_elsewhere():
    torch.manual_seed(1)
    lstm = BiLSTM(4, 3).double()
    x, mask = batch()
    context, last = lstm(x, mask)
    for row, length in enumerate(LENGTHS):
        assert not context[row, length:].any()
        if not length:
            assert not last[row].any()
            continue
        wanted = by_hand(lstm.lstm, x[row, :length])
        torch.testing.assert_close(context[row, :length], wanted, atol=1e-12, rtol=0)
        ends = torch.cat([wanted[-1, :3], wanted[0, 3:]])
        torch.testing.assert_close(last[row], ends, atol=1e-12, rtol=0)


def test_padding_never_reaches_the_result():
    lstm = BiLSTM(4, 3).double()
    x, mask = batch()
    noisy = torch.where(mask.unsqueeze(-1), x, 1e6)
    for found, wanted in zip(lstm(noisy, mask), lstm(x, mask), strict=True):
        assert torch.equal(found, wanted)


def test_pooling_is_the_published_formula():
    torch.manual_seed(2)
    pool = AdditiveAttention(4, 6).double()
    x, mask = batch()
    first, _, second = pool.score
    assert second.bias is None
    found, weights = pool(x, mask), pool.weights(x, mask)
    for row, length in enumerate(LENGTHS):
        real = x[row, :length]
        logits = second.weight @ torch.tanh(first.weight @ real.T + first.bias[:, None])
        alpha = torch.exp(logits[0]) / torch.exp(logits[0]).sum()
        torch.testing.assert_close(weights[row, :length], alpha, atol=1e-12, rtol=0)
        torch.testing.assert_close(found[row], (alpha[:, None] * real).sum(0), atol=1e-12, rtol=0)
        assert not weights[row, length:].any()
    assert not found[1].any()


def test_gradients_of_lstm_and_pooling():
    torch.manual_seed(3)
    network = AttentiveBiLSTM(3, 2, dropout=0.0).double()
    x, mask = batch(3)
    assert torch.autograd.gradcheck(lambda v: network(v, mask), (x.requires_grad_(),))


def test_the_weights_shown_are_those_used_and_attention_ignores_the_mode():
    network = AttentiveBiLSTM(4, 3, dropout=0.5).double()
    x, mask = batch()
    found = network.train().attention(x, mask)["source2token"]
    assert network.training
    with watching() as watch:
        network.eval()(x, mask)
    torch.testing.assert_close(watch.shown[""]["source2token"][0].seen(), found)
    torch.testing.assert_close(found.sum(1), mask.any(1).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_padding_is_finite_backward_too(dtype):
    network = AttentiveBiLSTM(4, 3, dropout=0.0).to(dtype)
    x, mask = batch(dtype=dtype)
    context, vector = network(x.requires_grad_(), torch.zeros_like(mask))
    assert not context.any() and not vector.any()
    vector.sum().backward()
    assert bool(x.grad.isfinite().all())
