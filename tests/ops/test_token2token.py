"""The streamed token-to-token attention against the plain one and against known answers."""

import math

import pytest
import torch

from salience.core.errors import ConfigError
from salience.ops.token2token import fast, naive

SIZES = [(tokens, dim) for tokens in (1, 2, 7, 63, 65, 130) for dim in (1, 5, 100)]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ragged_mask(batch, tokens, generator):
    """A full row, an empty row, a row of one token, random lengths."""
    lengths = torch.randint(0, tokens + 1, (batch,), generator=generator)
    lengths[:3] = torch.tensor([tokens, 0, 1])
    return torch.arange(tokens) < lengths[:, None]


def inputs(batch, tokens, dim, dtype=torch.float64, spread=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scales = (spread, spread, 1.0)
    tensors = [torch.randn(batch, tokens, dim, dtype=dtype, generator=generator) * s for s in scales]
    return [t.requires_grad_() for t in tensors], ragged_mask(batch, tokens, generator)


def outputs_and_gradients(op, tensors, mask, direction, **options):
    output = op(*tensors, mask, direction, **options)
    projection = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return output, *torch.autograd.grad((output * projection).sum(), tensors)


@pytest.mark.parametrize("direction", naive.DIRECTIONS)
@pytest.mark.parametrize(("tokens", "dim"), SIZES)
def test_fast_equals_naive_in_output_and_every_gradient(tokens, dim, direction):
    tensors, mask = inputs(4, tokens, dim)
    expected = outputs_and_gradients(naive.token2token, tensors, mask, direction)
    for got, want in zip(
        outputs_and_gradients(fast.token2token, tensors, mask, direction), expected, strict=True
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("direction", naive.DIRECTIONS)
def test_small_tiles_that_cut_rows_and_features_give_the_same(direction, monkeypatch):
    tensors, mask = inputs(5, 33, 7)
    expected = outputs_and_gradients(naive.token2token, tensors, mask, direction)
    for size in (1, 40, 33 * 7, 500):
        monkeypatch.setitem(fast.TILE_NUMBERS, "cpu", size)
        got = outputs_and_gradients(fast.token2token, tensors, mask, direction)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("direction", naive.DIRECTIONS)
def test_padding_may_lie_anywhere(direction):
    tensors, _ = inputs(6, 20, 3)
    mask = torch.rand(6, 20, generator=torch.Generator().manual_seed(1)) < 0.6
    expected = outputs_and_gradients(naive.token2token, tensors, mask, direction)
    for got, want in zip(
        outputs_and_gradients(fast.token2token, tensors, mask, direction), expected, strict=True
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("op", [naive.token2token, fast.token2token])
@pytest.mark.parametrize("direction", naive.DIRECTIONS)
def test_gradcheck(op, direction):
    tensors, mask = inputs(3, 5, 2, spread=2.0)
    assert torch.autograd.gradcheck(lambda *t: op(*t, mask, direction, c=3.0), tensors)


@pytest.mark.parametrize("spread", [1.0, 10.0])
def test_float32_stays_near_the_float64_oracle(spread):
    tensors, mask = inputs(4, 65, 20, spread=spread)
    single = [t.detach().float().requires_grad_() for t in tensors]
    oracle = [t.detach().double().requires_grad_() for t in single]
    want = outputs_and_gradients(naive.token2token, oracle, mask, "forward")
    errors = {
        op.__module__: [
            (a.double() - b).abs().max().item()
            for a, b in zip(outputs_and_gradients(op, single, mask, "forward"), want, strict=True)
        ]
        for op in (naive.token2token, fast.token2token)
    }
    assert max(errors["salience.ops.token2token.fast"]) < 1e-5
    assert errors["salience.ops.token2token.fast"][0] < 2e-6 * spread, errors


@pytest.mark.parametrize("shift", [0.0, 80.0, 3000.0])
def test_logits_far_out_do_not_overflow(shift):
    """Opposite shifts of the two parts cancel; equal ones saturate every logit and leave a plain mean."""
    tensors, _ = inputs(3, 9, 4, dtype=torch.float32)
    mask = torch.ones(3, 9, dtype=torch.bool)
    dependent, head, values = (t.detach() for t in tensors)
    usual = fast.token2token(dependent, head, values, mask, "forward")
    cancelled = fast.token2token(dependent + shift, head - shift, values, mask, "forward")
    torch.testing.assert_close(cancelled, usual, rtol=0, atol=1e-6 + 1e-6 * shift)
    if shift:
        flat = fast.token2token(dependent + shift, head + shift, values, mask, "forward")
        mean = torch.stack([values[:, :j].mean(dim=1) for j in range(1, 9)], dim=1)
        torch.testing.assert_close(flat[:, 1:], mean, rtol=0, atol=1e-6)


def test_one_sharp_key_far_from_the_others():
    """A key that saturates upward beside keys that saturate downward: weights e^c against e^-c."""
    dependent = torch.tensor([-90.0, 90.0, -90.0, 0.0]).view(1, 4, 1)
    values = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 4, 1)
    mask = torch.ones(1, 4, dtype=torch.bool)
    got = fast.token2token(dependent, torch.zeros(1, 4, 1), values, mask, "forward")[0, 3, 0].item()
    low, high = math.exp(-5), math.exp(5)
    assert got == pytest.approx((5 * low + 2 * high) / (2 * low + high), abs=1e-6)


@pytest.mark.parametrize("op", [naive.token2token, fast.token2token])
def test_rows_without_a_legal_key_are_exactly_zero(op):
    tensors, mask = inputs(4, 6, 3)
    forward, backward = (op(*tensors, mask, direction) for direction in ("forward", "backward"))
    assert torch.equal(forward[:, 0], torch.zeros(4, 3, dtype=torch.float64))
    assert torch.equal(backward[0, -1], torch.zeros(3, dtype=torch.float64))
    for output in (forward, backward):
        assert output[~mask].abs().max() == 0
        assert output[1].abs().max() == 0  # the empty row
        assert output[2].abs().max() == 0  # the row of one token


@pytest.mark.parametrize("op", [naive.token2token, fast.token2token])
def test_known_answer_of_two_keys(op):
    """Third token, forward: softmax of 5 tanh(0.2) and 5 tanh(0.6) over the first two."""
    dependent = torch.tensor([1.0, 3.0, 9.0], dtype=torch.float64).view(1, 3, 1)
    values = torch.tensor([10.0, 20.0, 90.0], dtype=torch.float64).view(1, 3, 1)
    mask = torch.ones(1, 3, dtype=torch.bool)
    got = op(dependent, torch.zeros_like(dependent), values, mask, "forward")
    weights = [math.exp(5 * math.tanh(0.2)), math.exp(5 * math.tanh(0.6))]
    assert got[0, 2, 0].item() == pytest.approx((10 * weights[0] + 20 * weights[1]) / sum(weights))
    assert got[0, 1, 0].item() == pytest.approx(10.0)


@pytest.mark.parametrize("direction", naive.DIRECTIONS)
def test_attention_adds_up_to_one_over_legal_keys_only(direction):
    tensors, mask = inputs(4, 6, 3)
    output, attention = naive.token2token(*tensors, mask, direction, return_attention=True)
    legal = naive.direction_mask(6, direction) & mask[:, None, :] & mask[:, :, None]
    assert attention[~legal].abs().max() == 0
    expected = legal.any(dim=2, keepdim=True).double().expand(-1, -1, 3)
    torch.testing.assert_close(attention.sum(dim=2), expected)
    torch.testing.assert_close(torch.einsum("bjid,bid->bjd", attention, tensors[2]), output)


@pytest.mark.parametrize("direction", naive.DIRECTIONS)
def test_padding_content_has_no_influence(direction):
    tensors, mask = inputs(5, 9, 4)
    poisoned = [t.detach().masked_fill(~mask[..., None], torch.nan).requires_grad_() for t in tensors]
    clean = outputs_and_gradients(fast.token2token, tensors, mask, direction)
    for got, want in zip(
        outputs_and_gradients(fast.token2token, poisoned, mask, direction), clean, strict=True
    ):
        assert torch.equal(got, want)


def test_batch_of_one_equals_the_row_in_a_batch():
    tensors, mask = inputs(5, 40, 6, dtype=torch.float32)
    together = fast.token2token(*tensors, mask, "backward")
    for row in range(5):
        alone = fast.token2token(*(t[row : row + 1] for t in tensors), mask[row : row + 1], "backward")
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 3])
def test_runs_are_bit_equal_on_one_and_on_several_threads(threads, monkeypatch):
    monkeypatch.setitem(fast.TILE_NUMBERS, "cpu", 300)  # many tiles
    tensors, mask = inputs(9, 40, 6, dtype=torch.float32)
    first = outputs_and_gradients(fast.token2token, tensors, mask, "diagonal")
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for _ in range(3):
        again = outputs_and_gradients(fast.token2token, tensors, mask, "diagonal")
        for a, b in zip(first, again, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6 if threads > 1 else 0)
    repeated = outputs_and_gradients(fast.token2token, tensors, mask, "diagonal")
    assert all(torch.equal(a, b) for a, b in zip(again, repeated, strict=True))


def test_an_error_in_a_worker_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setitem(fast.TILE_NUMBERS, "cpu", 50)

    def broken(*_):
        raise MemoryError("planned")

    monkeypatch.setattr(fast, "_exponentials", broken)
    tensors, mask = inputs(5, 40, 6)
    with pytest.raises(MemoryError, match="planned"):
        fast.token2token(*tensors, mask, "forward")


def test_texts_beyond_the_length_for_kept_views_give_the_same(monkeypatch):
    tensors, mask = inputs(3, 30, 4)
    expected = outputs_and_gradients(fast.token2token, tensors, mask, "backward")
    monkeypatch.setattr(fast, "KEEP_VIEWS_UP_TO", 0)
    got = outputs_and_gradients(fast.token2token, tensors, mask, "backward")
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_low_precision_inputs_keep_their_type_and_are_computed_in_float32():
    tensors, mask = inputs(4, 30, 5, dtype=torch.float32)
    low = [t.detach().bfloat16().requires_grad_() for t in tensors]
    single = [t.detach().float().requires_grad_() for t in low]
    got = outputs_and_gradients(fast.token2token, low, mask, "forward")
    want = outputs_and_gradients(fast.token2token, single, mask, "forward")
    assert {t.dtype for t in got} == {torch.bfloat16}
    torch.testing.assert_close(got[0].float(), want[0], rtol=8e-3, atol=8e-3)


def test_no_pairwise_tensor_is_allocated():
    """The largest tensor made on the way is a small multiple of the input, not tokens times it."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            sizes = [
                t.untyped_storage().nbytes()
                for t in torch.utils._pytree.tree_leaves(result)
                if isinstance(t, torch.Tensor)
            ]
            largest = max(largest, *sizes, 0)
            return result

    tensors, mask = inputs(3, 200, 8, dtype=torch.float32)
    with Watch():
        outputs_and_gradients(fast.token2token, tensors, mask, "forward")
    assert largest <= 8 * 3 * 200 * 8 * 4


@pytest.mark.parametrize("op", [naive.token2token, fast.token2token])
def test_bad_arguments_say_what_to_do(op):
    tensors, mask = inputs(3, 4, 2)
    with pytest.raises(ConfigError, match=r"'forwards'.*Did you mean 'forward'"):
        op(*tensors, mask, "forwards")
    with pytest.raises(ConfigError, match=r"shapes that do not agree.*\(3, 4, 2\)"):
        op(*tensors, mask[:, :3], "forward")


def test_the_bound_must_leave_exponentials_representable():
    tensors, mask = inputs(3, 4, 2)
    for c in (0.0, -1.0, 41.0):
        with pytest.raises(ConfigError, match="Use 0 < c <= 40"):
            fast.token2token(*tensors, mask, "forward", c=c)
