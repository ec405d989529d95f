"""Piecewise linear functions by gathering: time and memory of a number do not depend on how many bins there are.

Inside bin k of a feature the function is ``start[k] + share · step[k]``: what all bins before add up to, the share of
the bin that lies below the number, and what this bin adds. Four observations make it cheap.

1. The tables ``start`` and ``step`` take up the linear part and the bias, so that one look-up of two lines gives the sum.
2. The bin is found by halving for all numbers at once: a few gathers from a small table, without a branch.
3. Gradients are summed by bins first: one product with a sparse matrix of two entries a number, whose rows come in the
   order of the batch, so that nothing is sorted. What the tables were made of gets its gradients from these sums.
4. No array of (row, feature, bin), and none of (row, feature, dim) but the result, is made.

Where a batch has so few numbers that calls cost more than work, the dense form is quicker, and its array is small.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from salience.ops.piecewise_linear import naive
from salience.ops.piecewise_linear.naive import Bins
from salience.ops.precision import wide
from salience.ops.transforms import transformed

DENSE_UP_TO = 2**19  # ramps of a batch


def piecewise_linear(
    x: Float[Tensor, "*batch feature"],
    bins: Bins,
    weight: Float[Tensor, "feature bin dim"],
    slope: Float[Tensor, "feature dim"] | None = None,
    bias: Float[Tensor, "feature dim"] | None = None,
) -> Float[Tensor, "*batch feature dim"]:
    """Return ``ramps(x) @ weight + x · slope + bias``, feature by feature; NaN for NaN.

    Same arguments and numbers as ``salience.ops.piecewise_linear.naive.piecewise_linear``, which serves second derivatives,
    forward mode and the transforms of ``torch.func``. Bit-equal from run to run on a processor.
    """
    if transformed():
        return naive.piecewise_linear(x, bins, weight, slope, bias)
    given = [None if tensor is None else wide(tensor) for tensor in (x, weight, slope, bias)]
    bins = bins if bins.left.dtype.itemsize > 2 else Bins(*map(wide, bins))
    dense = x.numel() * weight.shape[1] <= DENSE_UP_TO
    return _PiecewiseLinear.apply(*given, bins, dense).to(weight.dtype)


class _PiecewiseLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        slope: Tensor | None,
        bias: Tensor | None,
        bins: Bins,
        dense: bool,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if dense:
            kept = (rows, _ramps(rows, bins))
            found = _dense(*kept, weight, slope, bias)
        else:
            kept = _locate(rows, bins)
            found = _look_up(_tables(bins, weight, slope, bias), *kept)
        ctx.save_for_backward(x, weight, slope, bias, *kept)
        ctx.bins, ctx.dense = bins, dense
        return found.view(*x.shape, weight.shape[2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, slope, bias, first, second = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_differentiable(ctx, x, weight, slope, bias, gradient), None, None
        in_x = _input_gradient(x, ctx.bins, weight, slope, gradient) if ctx.needs_input_grad[0] else None
        rows = gradient.reshape(-1, *gradient.shape[-2:])
        in_weight, in_slope, in_bias = (_dense_sums if ctx.dense else _sums)(ctx.bins, first, second, rows)
        return (
            in_x,
            in_weight,
            None if slope is None else in_slope,
            None if bias is None else in_bias,
            None,
            None,
        )


def _ramps(x: Float[Tensor, "row feature"], bins: Bins) -> Float[Tensor, "row feature bin"]:
    return torch.sub(x.unsqueeze(-1), bins.left).mul_(bins.scale).clamp_(bins.low, bins.high)


def _dense(
    x: Float[Tensor, "row feature"], ramps: Tensor, weight: Tensor, slope: Tensor | None, bias: Tensor | None
) -> Float[Tensor, "row feature dim"]:
    by_feature = ramps.transpose(0, 1)
    if slope is not None:
        line = x.unsqueeze(-1) * slope if bias is None else torch.addcmul(bias, x.unsqueeze(-1), slope)
        return torch.baddbmm(line.transpose(0, 1), by_feature, weight).transpose(0, 1)
    if bias is not None:
        return torch.baddbmm(bias.unsqueeze(1), by_feature, weight).transpose(0, 1)
    return torch.bmm(by_feature, weight).transpose(0, 1)


def _dense_sums(
    bins: Bins, x: Float[Tensor, "row feature"], ramps: Tensor, gradient: Float[Tensor, "row feature dim"]
) -> tuple[Float[Tensor, "feature bin dim"], Float[Tensor, "feature dim"], Float[Tensor, "feature dim"]]:
    in_weight = torch.bmm(ramps.permute(1, 2, 0), gradient.transpose(0, 1))
    return in_weight, (x.unsqueeze(-1) * gradient).sum(0), gradient.sum(0)


def _bins_of(x: Float[Tensor, "row feature"], bins: Bins) -> Int[Tensor, " number"]:
    """Return the bin of each number, counted through all features; NaN goes to the first."""
    rungs, n_bins = bins.ladder.shape[1], bins.left.shape[1]
    ladder, numbers = bins.ladder.view(-1), x.reshape(-1)
    first = torch.arange(len(bins.left), device=x.device)
    place = (first * rungs).repeat(len(x))
    step = rungs // 2
    while step:
        place.add_(ladder[step - 1 :].index_select(0, place) <= numbers, alpha=step)
        step //= 2
    return place.view_as(x).sub_(first * (rungs - n_bins)).view(-1)


def _locate(
    x: Float[Tensor, "row feature"], bins: Bins
) -> tuple[Int[Tensor, " number"], Float[Tensor, " number"]]:
    """Return the bin of each number, and the share of it that lies below the number."""
    bin_of = _bins_of(x, bins)
    above = x.reshape(-1) - bins.left.view(-1).index_select(0, bin_of)
    return bin_of, above.mul_(bins.scale.view(-1).index_select(0, bin_of))


def _tables(
    bins: Bins, weight: Tensor, slope: Tensor | None, bias: Tensor | None
) -> Float[Tensor, "line dim"]:
    """Return start and step of each bin, in turns."""
    tables = weight.new_zeros(*weight.shape[:2], 2, weight.shape[2])
    start, step = tables.unbind(2)
    torch.cumsum(weight[:, :-1], 1, out=start[:, 1:])
    step.copy_(weight)
    if bias is not None:
        start += bias.unsqueeze(1)
    if slope is not None:
        start.addcmul_(bins.left.unsqueeze(-1), slope.unsqueeze(1))
        step.addcmul_(bins.width.unsqueeze(-1), slope.unsqueeze(1))
    return tables.view(-1, weight.shape[2])


def _pairs(bin_of: Tensor, share: Tensor) -> tuple[Int[Tensor, "number two"], Float[Tensor, "number two"]]:
    """Return the two lines of the tables that each number takes, and their weights: 1 and its share."""
    lines = bin_of.new_empty(len(bin_of), 2)
    torch.mul(bin_of, 2, out=lines[:, 0])
    torch.add(lines[:, 0], 1, out=lines[:, 1])
    weights = share.new_ones(len(share), 2)
    weights[:, 1] = share
    return lines, weights


def _look_up(tables: Tensor, bin_of: Tensor, share: Tensor) -> Float[Tensor, "number dim"]:
    lines, weights = _pairs(bin_of, share)
    return F.embedding_bag(lines, tables, mode="sum", per_sample_weights=weights)


def _sums(
    bins: Bins, bin_of: Tensor, share: Tensor, gradient: Float[Tensor, "row feature dim"]
) -> tuple[Float[Tensor, "feature bin dim"], Float[Tensor, "feature dim"], Float[Tensor, "feature dim"]]:
    """Return the gradients in weight, slope and bias, from sums by bins."""
    shape = (*bins.left.shape, 2, gradient.shape[2])
    start, step = (
        _summed_by_line(bin_of, share, gradient.flatten(0, 1), shape[0] * shape[1]).view(shape).unbind(2)
    )
    onward = (
        start.flip(1).cumsum_(1).flip(1)
    )  # from the last bin, so that bins after which there is nothing get exact zeros
    in_weight = step.clone()
    in_weight[:, :-1] += onward[:, 1:]
    in_slope = torch.einsum("ft,ftd->fd", bins.left, start) + torch.einsum("ft,ftd->fd", bins.width, step)
    return in_weight, in_slope, onward[:, 0]


def _summed_by_line(
    bin_of: Tensor, share: Tensor, gradient: Tensor, n_bins: int
) -> Float[Tensor, "line dim"]:
    """Return, for each bin in turns, the sum of its numbers' gradients, and that weighted by their shares."""
    lines, weights = _pairs(bin_of, share)
    if gradient.device.type != "cpu":
        sums = gradient.new_zeros(2 * n_bins, gradient.shape[1])
        sums.index_add_(0, lines[:, 0], gradient)
        return sums.index_add_(0, lines[:, 1], gradient * share.unsqueeze(-1))
    from scipy.sparse import csr_array

    ends = torch.arange(0, lines.numel() + 1, 2).numpy()
    entries = (weights.view(-1).numpy(), lines.view(-1).numpy(), ends)
    by_number = csr_array(entries, shape=(len(lines), 2 * n_bins))
    return torch.from_numpy(by_number.T @ gradient.numpy())


def _input_gradient(
    x: Tensor, bins: Bins, weight: Tensor, slope: Tensor | None, gradient: Float[Tensor, "*batch feature dim"]
) -> Float[Tensor, "*batch feature"]:
    rates = weight * bins.scale.unsqueeze(-1)
    if slope is not None:
        rates += slope.unsqueeze(1)
    bin_of = _bins_of(x.reshape(-1, x.shape[-1]), bins)
    return rates.flatten(0, 1).index_select(0, bin_of).view_as(gradient).mul_(gradient).sum(-1)


def _differentiable(
    ctx: Any, x: Tensor, weight: Tensor, slope: Tensor | None, bias: Tensor | None, gradient: Tensor
) -> list[Tensor | None]:
    """Return gradients that can be differentiated again."""
    needed = ctx.needs_input_grad
    places = [(i, t) for i, t in enumerate((x, weight, slope, bias)) if t is not None and needed[i]]
    found = naive.piecewise_linear(x, ctx.bins, weight, slope, bias)
    gradients = torch.autograd.grad(found, [tensor for _, tensor in places], gradient, create_graph=True)
    by_place = {i: in_tensor for (i, _), in_tensor in zip(places, gradients, strict=True)}
    return [by_place.get(i) for i in range(4)]
