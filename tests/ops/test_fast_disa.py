"""The two-product form of Fast-DiSA against the explicit softmax over pairs."""

import pytest
import torch

from salience.core.errors import ConfigError
from salience.ops.fast_disa import fast, naive


def inputs(tokens, dim, dtype=torch.float64, heads=4, spread=1.0):
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(4, heads, tokens, dim, dtype=dtype, generator=generator) * spread for _ in range(4)
    ]
    lengths = torch.tensor([tokens, 0, 1, (tokens + 1) // 2])
    return [t.requires_grad_() for t in tensors], torch.arange(tokens) < lengths[:, None]


def outputs_and_gradients(op, tensors, mask, score):
    output = op(*tensors, mask, score=score)
    projection = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return output, *torch.autograd.grad((output * projection).sum(), tensors)


@pytest.mark.parametrize("score", naive.SCORES)
@pytest.mark.parametrize("tokens", [1, 2, 7, 33])
@pytest.mark.parametrize("dim", [1, 5])
def test_two_products_equal_the_softmax_over_pairs(tokens, dim, score):
    tensors, mask = inputs(tokens, dim)
    want = outputs_and_gradients(naive.fast_disa, tensors, mask, score)
    for a, b in zip(outputs_and_gradients(fast.fast_disa, tensors, mask, score), want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("op", [naive.fast_disa, fast.fast_disa])
@pytest.mark.parametrize("score", naive.SCORES)
def test_gradcheck(op, score):
    tensors, mask = inputs(3, 1, heads=2)
    assert torch.autograd.gradcheck(lambda *t: op(*t, mask, score=score), tensors)


@pytest.mark.parametrize("score", naive.SCORES)
def test_large_logits_neither_overflow_nor_vanish(score):
    tensors, mask = inputs(9, 3, dtype=torch.float32, spread=3.0)
    query, key, feature, values = (t.detach() for t in tensors)
    for shift in (-300.0, 300.0):
        got = fast.fast_disa(query, key, feature + shift, values, mask, score=score)
        want = fast.fast_disa(query, key, feature, values, mask, score=score)
        torch.testing.assert_close(got, want, rtol=0, atol=2e-4)
    hot = fast.fast_disa(query * 100, key * 100, feature, values, mask, score=score)
    assert torch.isfinite(hot).all()


@pytest.mark.parametrize("op", [naive.fast_disa, fast.fast_disa])
@pytest.mark.parametrize("score", naive.SCORES)
def test_rows_without_a_legal_key_are_exactly_zero(op, score):
    tensors, mask = inputs(6, 3)
    output = op(*tensors, mask, score=score)
    assert output[:, :2, 0].abs().max() == 0  # forward heads, first token
    assert output[0, 2:, -1].abs().max() == 0  # backward heads, last token
    assert output.transpose(1, 2)[~mask].abs().max() == 0
    assert output[1:3].abs().max() == 0


def test_half_of_the_heads_look_at_earlier_tokens_and_half_at_later_ones():
    tensors, mask = inputs(6, 3)
    _, attention = naive.fast_disa(*tensors, mask, return_attention=True)
    later = torch.ones(6, 6).triu().bool()
    assert attention[:, :2, later].abs().max() == 0
    assert attention[:, 2:, later.T].abs().max() == 0
    assert attention[0, 0, 3, :3].sum(dim=0).tolist() == pytest.approx([1.0] * 3)


def test_bad_arguments_say_what_to_do():
    tensors, mask = inputs(3, 2, heads=3)
    with pytest.raises(ConfigError, match=r"num_heads=3.*Use an even number"):
        fast.fast_disa(*tensors, mask)
    with pytest.raises(ConfigError, match=r"score='sigmoids'.*Did you mean 'sigmoid'"):
        fast.fast_disa(*tensors, mask, score="sigmoids")
