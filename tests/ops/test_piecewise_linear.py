"""Piecewise linear functions: gathered and dense forms beside the reference, far outside the range too; derivatives."""

import numpy as np
import pytest
import torch

from salience.ops.piecewise_linear import fast, naive
from salience.ops.piecewise_linear.naive import Bins

COUNTS = (1, 2, 8, 9, 16, 17, 1)


def bins_of(counts=COUNTS, dtype=torch.float64, seed=0):
    """Return bins of unequal widths, as many as said for each feature, and the edges."""
    rng = np.random.default_rng(seed)
    edges = [np.cumsum(rng.gamma(1.0, 1.0, count + 1) + 1e-3) - count / 2 for count in counts]
    padded = torch.full((len(counts), max(counts) + 1), torch.inf, dtype=dtype)
    for i, edge in enumerate(edges):
        padded[i, : len(edge)] = torch.tensor(edge)
    return Bins.between(padded), edges


def numbers(edges, reach, rows=40, dtype=torch.float64):
    """Return numbers that lie inside, on edges, and up to ``reach`` outside."""
    rng = np.random.default_rng(1)
    on = np.stack([rng.choice(edge, 12) for edge in edges], 1)
    x = np.concatenate([rng.uniform(-reach, reach, (rows, len(edges))), on])
    return torch.tensor(x, dtype=dtype)


def parameters(bins, dim=5, dtype=torch.float64):
    random = torch.Generator().manual_seed(2)
    features, slots = bins.left.shape
    return [
        torch.randn(*shape, generator=random, dtype=dtype)
        for shape in ((features, slots, dim), (features, dim), (features, dim))
    ]


@pytest.fixture(params=["dense", "gathered"])
def form(request, monkeypatch):
    monkeypatch.setattr(fast, "DENSE_UP_TO", 2**60 if request.param == "dense" else -1)
    return request.param


def with_gradients(operator, x, bins, given, upstream):
    leaves = [None if tensor is None else tensor.clone().requires_grad_() for tensor in (x, *given)]
    out = operator(leaves[0], bins, *leaves[1:])
    return [out, *torch.autograd.grad(out, [leaf for leaf in leaves if leaf is not None], upstream)]


@pytest.mark.parametrize("reach", [3.0, 1e6])
@pytest.mark.parametrize("parts", ["ramps", "bias", "line"])
def test_both_forms_equal_the_reference(form, parts, reach):
    bins, edges = bins_of()
    x = numbers(edges, reach)
    weight, slope, bias = parameters(bins)
    given = (weight, slope if parts == "line" else None, None if parts == "ramps" else bias)
    upstream = torch.randn(*x.shape, 5, dtype=torch.float64)
    found = with_gradients(fast.piecewise_linear, x, bins, given, upstream)
    wanted = with_gradients(naive.piecewise_linear, x, bins, given, upstream)
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).abs().max() <= 1e-12 * other.abs().max()


def test_the_reference_equals_interpolation_between_edges(form):
    """Inside the range, the function is numpy's interpolation of its values at the edges."""
    bins, edges = bins_of()
    weight, _, _ = parameters(bins, dim=1)
    for i, edge in enumerate(edges):
        x = np.linspace(edge[0], edge[-1], 50)
        at_edges = np.concatenate([[0.0], np.cumsum(weight[i, : len(edge) - 1, 0].numpy())])
        batch = torch.zeros(50, len(edges), dtype=torch.float64)
        batch[:, i] = torch.tensor(x)
        found = fast.piecewise_linear(batch, bins, weight)[:, i, 0]
        np.testing.assert_allclose(found.numpy(), np.interp(x, edge, at_edges), rtol=0, atol=1e-12)


def test_gradients_and_second_gradients_are_right(form):
    bins, _ = bins_of((1, 3, 2))
    x = torch.tensor([[0.3, -0.4, 5.0], [-3.0, 1.1, 0.2]], dtype=torch.float64, requires_grad=True)
    given = [tensor.requires_grad_() for tensor in parameters(bins, 2)]

    def function(*inputs):
        return fast.piecewise_linear(inputs[0], bins, *inputs[1:])

    assert torch.autograd.gradcheck(function, (x, *given))
    assert torch.autograd.gradgradcheck(function, (x, *given))


def test_bins_without_numbers_get_gradients_of_exactly_zero(form):
    """Rounding there would be enough for Adam to take whole steps."""
    bins, edges = bins_of((6, 3))
    weight, slope, bias = (tensor.requires_grad_() for tensor in parameters(bins))
    x = torch.tensor(
        np.stack(
            [np.random.default_rng(0).uniform(edges[0][1], edges[0][3], 50), np.full(50, edges[1][0])], 1
        )
    )
    found = fast.piecewise_linear(x, bins, weight, slope, bias)
    (gradient,) = torch.autograd.grad(found, weight, torch.randn_like(found))
    assert not gradient[0, 3:].any() and gradient[0, :3].all()
    assert not gradient[1, 1:].any()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_finite_number_gives_none_and_touches_no_other(form, value):
    bins, edges = bins_of()
    x = numbers(edges, 3.0)
    wanted = fast.piecewise_linear(x, bins, *parameters(bins))
    x[3, 2] = value
    found = fast.piecewise_linear(x, bins, *parameters(bins))
    assert not found[3, 2].isfinite().any()
    found[3, 2] = wanted[3, 2]
    assert torch.equal(found, wanted)


def test_small_batches_and_large_ones_agree():
    bins, edges = bins_of()
    x = numbers(edges, 3.0, rows=6000)
    assert x.numel() * bins.left.shape[1] > fast.DENSE_UP_TO
    given = parameters(bins)
    torch.testing.assert_close(
        fast.piecewise_linear(x, bins, *given)[:9],
        fast.piecewise_linear(x[:9], bins, *given),
        rtol=1e-12,
        atol=1e-12,
    )


def test_results_repeat_bit_for_bit(form):
    bins, edges = bins_of(dtype=torch.float32)
    x = numbers(edges, 3.0, dtype=torch.float32)
    upstream = torch.randn(*x.shape, 5)
    runs = [
        with_gradients(fast.piecewise_linear, x, bins, parameters(bins, dtype=torch.float32), upstream)
        for _ in range(2)
    ]
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_float32_is_near_float64(form):
    exact, edges = bins_of()
    bins, x = Bins(*(tensor.float() for tensor in exact)), numbers(edges, 3.0)
    given = parameters(exact)
    found = fast.piecewise_linear(x.float(), bins, *(tensor.float() for tensor in given))
    wanted = fast.piecewise_linear(x, exact, *given)
    assert (found.double() - wanted).abs().max() < 3e-6 * wanted.abs().max()


def test_no_array_of_all_ramps_is_kept(monkeypatch):
    """What the gathered form saves for its backward pass does not grow with the number of bins."""
    monkeypatch.setattr(fast, "DENSE_UP_TO", -1)
    kept = {}
    for count in (8, 256):
        bins, edges = bins_of((count, count), torch.float32)
        given = [tensor.requires_grad_() for tensor in parameters(bins, dtype=torch.float32)]
        own, sizes = {tensor.data_ptr() for tensor in given}, []

        def pack(tensor, own=own, sizes=sizes):
            sizes.append(0 if tensor.data_ptr() in own else tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            fast.piecewise_linear(numbers(edges, 3.0, rows=988, dtype=torch.float32), bins, *given)
        kept[count] = sum(sizes)
    assert kept[8] == kept[256] <= 3 * 2 * 1000


def test_transforms_are_served():
    bins, edges = bins_of((4, 3))
    x = numbers(edges, 3.0, rows=5)
    weight, slope, bias = parameters(bins, 2)

    def loss(weight, row):
        return fast.piecewise_linear(row, bins, weight, slope, bias).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weight, x)
    for gradient, row in zip(each, x, strict=True):
        leaf = weight.clone().requires_grad_()
        torch.testing.assert_close(
            gradient, torch.autograd.grad(loss(leaf, row), leaf)[0], rtol=1e-12, atol=1e-12
        )


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, of forward mode
def test_forward_mode_is_served():
    bins, edges = bins_of((4, 3))
    x = numbers(edges, 3.0, rows=5)
    weight, slope, bias = parameters(bins, 2)
    tangent = torch.randn_like(weight)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(weight, tangent)
        found = torch.autograd.forward_ad.unpack_dual(
            fast.piecewise_linear(x, bins, dual, slope, bias)
        ).tangent
    torch.testing.assert_close(found, fast.piecewise_linear(x, bins, tangent))  # linear in the weight
