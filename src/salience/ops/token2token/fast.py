"""Directional token-to-token attention without the (batch, token, token, dim) tensor, in plain torch.

The numbers are those of ``naive.py``; four observations make them cheap.

1. Every logit lies in [-c, c], so the softmax needs no running maximum: numerators and denominators just add up.
2. The pairs (query j, key j - k) of one offset k are two shifted slices of the same arrays. Walking over the
   offsets visits exactly the legal half of the grid: no direction mask, no wasted pairs, contiguous memory.
   The backward direction is the forward one on reversed tokens; the diagonal is the sum of both.
3. With the real tokens of every row first, no key mask is left either.
4. With a = exp(2 dependent / c) and e = exp(-2 head / c), the softmax weight over the constant exp(c) is

       exp(c tanh((dependent + head) / c) - c) = exp(r),   r = -2 c e / (a + e)

   One exponential and one division a pair. r lies in [-2c, 0]; a logit's slope is -(2/c) (r + r^2 / 2c).

Work goes in tiles of (token, row and feature) numbers, small enough for the processor's cache, rows of like length
together. The backward pass computes the weights again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from salience.core.errors import ConfigError
from salience.ops.token2token import naive
from salience.ops.token2token.naive import check_arguments
from salience.ops.transforms import transformed

# Numbers in one buffer of a tile. torch runs an operation on fewer than 32,768 numbers in the calling thread: tiles
# stay below, and the cores share the work by tiles. So nothing waits inside a tile, also on a busy machine.
TILE_NUMBERS = {"cpu": 32 * 1024 - 1}
ACCELERATOR_TILE_NUMBERS = 2**24
KEEP_VIEWS_UP_TO = 512  # tokens; beyond that the views of a tile would outweigh its numbers
DENSE_UP_TO = 2**23  # numbers of the dense form that are made at a time
MAX_C = 40.0  # exp(-2c) must stay a normal float32
PASSES = {"forward": (False,), "backward": (True,), "diagonal": (False, True)}  # reversed reading order?


def token2token(
    dependent: Float[Tensor, "batch token dim"],
    head: Float[Tensor, "batch token dim"],
    values: Float[Tensor, "batch token dim"],
    mask: Bool[Tensor, "batch token"],
    direction: str,
    *,
    c: float = 5.0,
) -> Float[Tensor, "batch token dim"]:
    """Attend from every token to the others, one softmax for each feature, in memory linear in the tokens.

    Same arguments and numbers as ``salience.ops.token2token.naive.token2token`` (bias already added to
    ``head``; padded queries and queries without a legal key give exactly zero). Inputs below float32 are
    computed in float32. Differentiable once in ``dependent``, ``head`` and ``values``; under forward mode and
    ``torch.func`` the dense form stands in. Bit-equal from run to run on a processor.

    Within one row and feature ``dependent`` may spread over 48 c (240 at c = 5) in float32 before values are
    clipped.
    Raises `ConfigError` for an unknown direction, unequal shapes, or c outside (0, 40].
    """
    check_arguments(dependent, head, values, mask, direction)
    if not 0.0 < c <= MAX_C:
        raise ConfigError(
            "token2token got an unusable bound of the logits", f"c={c!r}.", f"Use 0 < c <= {MAX_C:g}."
        )
    if transformed():
        return _without_own_backward(dependent, head, values, mask, direction, c)
    return _Token2Token.apply(dependent, head, values, mask, direction, c)


def _without_own_backward(
    dependent: Tensor, head: Tensor, values: Tensor, mask: Tensor, direction: str, c: float
) -> Tensor:
    """Compute a few rows at a time in the dense form, which forward mode and ``torch.func`` can follow."""
    rows = max(1, DENSE_UP_TO // max(1, values[0].numel() * values.shape[1]))
    parts = zip(*(t.split(rows) for t in (dependent, head, values, mask)), strict=True)
    return torch.cat([naive.token2token(*part, direction, c=c) for part in parts])


@dataclass(frozen=True)
class _Tile:
    """Some rows and features, real tokens first; ``source`` is where a slot comes from in (batch · token)."""

    tokens: int
    features: slice
    source: Int[Tensor, " slot"]
    real: Int[Tensor, " real"] | None  # slots that hold a real token; None when all do

    @property
    def width(self) -> int:
        return self.source.numel() // self.tokens * (self.features.stop - self.features.start)

    def pack(self, tensor: Tensor, out: Tensor) -> Tensor:
        """Copy the tile of a (batch · token, dim) tensor to a flat buffer; return its (token, width) view."""
        shaped = out[: self.tokens * self.width].view(self.source.numel(), -1)
        torch.index_select(tensor[:, self.features], 0, self.source, out=shaped)
        return shaped.view(self.tokens, self.width)

    def add_to(self, target: Tensor, flat: Tensor) -> None:
        """Add a flat buffer's real tokens to a (batch · token, dim) tensor."""
        slots = flat[: self.tokens * self.width].view(self.source.numel(), -1)
        columns = target[:, self.features]
        if self.real is None:
            columns[self.source] += slots
        else:
            columns[self.source[self.real]] += slots[self.real]


def _reading_order(mask: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """Return flat indices (batch, token), real tokens first in reading order, and the number of real tokens.

    Slots after the last real token repeat the first one: finite numbers that no real query looks at.
    """
    batch, tokens = mask.shape
    position = torch.arange(tokens, device=mask.device)
    rank = torch.where(mask, -position if reverse else position, tokens)
    order = rank.argsort(dim=1, stable=True)
    lengths = mask.sum(dim=1)
    order = torch.where(position < lengths[:, None], order, order[:, :1])
    return order + tokens * torch.arange(batch, device=mask.device)[:, None], lengths


def _tiles(mask: Tensor, dim: int, reverse: bool, workers: int) -> list[_Tile]:
    """Cut the batch into tiles of rows of like length and of features; rows without a pair are left out."""
    order, lengths = _reading_order(mask, reverse)
    ordered, rows = lengths.sort(descending=True, stable=True)
    sizes = [size for size in ordered.tolist() if size > 1]
    budget = _tile_numbers(mask.device, sum(sizes) * dim, workers)
    tiles, start = [], 0
    while start < len(sizes):
        tokens = sizes[start]
        features = min(dim, max(1, budget // tokens))
        stop = min(len(sizes), start + max(1, budget // (tokens * features)))
        chosen = rows[start:stop]
        source = order[chosen, :tokens].T.reshape(-1)
        real = None
        if sizes[stop - 1] < tokens:
            slot = torch.arange(tokens, device=mask.device)[:, None]
            real = (slot < lengths[chosen]).view(-1).nonzero().view(-1)
        for first in range(0, dim, features):
            tiles.append(_Tile(tokens, slice(first, min(dim, first + features)), source, real))
        start = stop
    return tiles


def _tile_numbers(device: torch.device, total: int, workers: int) -> int:
    """Numbers in one buffer of a tile: the most that is useful, less where a worker would go empty-handed."""
    most = TILE_NUMBERS.get(device.type, ACCELERATOR_TILE_NUMBERS)
    return min(most, max(most // 4, -(-total // workers)))


class _Workspace:
    """Flat buffers, used again for every tile, and their shifted views, used again for tiles of one shape."""

    def __init__(self, size: int, like: Tensor, keys: int, queries: int, scratch: int) -> None:
        self.keys = [like.new_empty(size) for _ in range(keys)]
        self.queries = [like.new_empty(size) for _ in range(queries)]
        self.scratch = [like.new_empty(size) for _ in range(scratch)]
        self._shape: tuple[int, int] | None = None
        self._shifts: list[tuple[Tensor, ...]] = []

    def shifts(self, tile: _Tile) -> Iterable[tuple[Tensor, ...]]:
        """For each offset k: keys 0 … T-k-1, queries k … T-1 and scratch, as flat slices of one length."""
        if tile.tokens > KEEP_VIEWS_UP_TO:
            return self._walk(tile)
        if self._shape != (tile.tokens, tile.width):
            self._shape, self._shifts = (tile.tokens, tile.width), list(self._walk(tile))
        return self._shifts

    def _walk(self, tile: _Tile) -> Iterator[tuple[Tensor, ...]]:
        total = tile.tokens * tile.width
        for shift in range(tile.width, total, tile.width):
            keys = [buffer[: total - shift] for buffer in self.keys]
            queries = [buffer[shift:total] for buffer in self.queries]
            yield (*keys, *queries, *[buffer[: total - shift] for buffer in self.scratch])


def _for_tiles(
    mask: Tensor,
    direction: str,
    like: Tensor,
    buffers: tuple[int, int, int],
    work: Callable[[_Tile, _Workspace], None],
) -> None:
    """Call ``work`` for every tile, on as many threads as torch may use; tiles of one pass touch disjoint numbers."""
    workers = torch.get_num_threads() if like.device.type == "cpu" else 1
    for reverse in PASSES[direction]:
        tiles = _tiles(mask, like.shape[-1], reverse, workers)
        queue = deque(tiles)
        size = max((tile.tokens * tile.width for tile in tiles), default=0)

        def serve(queue: deque[_Tile] = queue, size: int = size) -> None:
            with torch.inference_mode():
                space = _Workspace(size, like, *buffers)
                while (tile := _next(queue)) is not None:
                    work(tile, space)

        _run_threads(serve, min(workers, len(tiles)))


def _next(queue: deque[_Tile]) -> _Tile | None:
    try:
        return queue.popleft()
    except IndexError:  # asking for the length first would race with the other threads
        return None


def _run_threads(serve: Callable[[], None], count: int) -> None:
    if count <= 1:
        serve()
        return
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(serve) for _ in range(count)]:
            future.result()


def _exponentials(dependent: Tensor, head: Tensor, scaled: Tensor, c: float) -> None:
    """Turn packed ``dependent`` into a, ``head`` into e, and write -2 c e into ``scaled``.

    Only the sum of the two counts, so each column of ``dependent`` is centred and ``head`` shifted the other
    way; ``head`` is then clipped where tanh is 1 to the last bit, so that no exponential overflows.
    """
    info = torch.finfo(dependent.dtype)
    saturated = -c * math.log(info.eps)
    widest = 0.45 * c * math.log(info.max) - saturated
    low, high = dependent.amin(0), dependent.amax(0)
    centre, half = (low + high) / 2, ((high - low) / 2).clamp(max=widest)
    dependent.sub_(centre).clamp_(-half, half).mul_(2 / c).exp_()
    half += saturated
    head.add_(centre).clamp_(-half, half).mul_(-2 / c).exp_()
    torch.mul(head, -2 * c, out=scaled)


def _accumulate(tile: _Tile, space: _Workspace, inputs: tuple[Tensor, ...], c: float) -> None:
    """Add up one tile's numerators and denominators."""
    dependent, head, values = inputs
    a, value = space.keys
    e, scaled, numerator, denominator = space.queries
    size = tile.tokens * tile.width
    tile.pack(values, value)
    numerator[:size].zero_(), denominator[:size].zero_()
    packed = tile.pack(dependent, a), tile.pack(head, e)
    _exponentials(*packed, scaled[:size].view_as(packed[0]), c)
    for a_k, value_k, e_k, scaled_k, numerator_k, denominator_k, weight in space.shifts(tile):
        torch.add(a_k, e_k, out=weight)
        torch.div(scaled_k, weight, out=weight).exp_()
        denominator_k.add_(weight)
        numerator_k.addcmul_(weight, value_k)


def _accumulate_gradients(tile: _Tile, space: _Workspace, inputs: tuple[Tensor, ...], c: float) -> None:
    """Add up, for one tile, the sums over pairs that the three gradients are made of.

    With w the weight, m = w (r + r^2 / 2c), g the incoming gradient over the denominator and s the output,
    the gradient of a pair's logit is -(2/c) m (g_j v_i - g_j s_j): its factors that belong to one end of the
    pair are taken out of the sums, so that no product of three terms is formed for a pair.
    """
    dependent, head, values, grad, grad_output = inputs
    a, value, value_sum, grad_sum, grad_output_sum = space.keys
    e, scaled, g, gs, slope_value_sum, slope_sum = space.queries
    size = tile.tokens * tile.width
    for buffer in (value_sum, grad_sum, grad_output_sum, slope_value_sum, slope_sum):
        buffer[:size].zero_()
    for tensor, buffer in ((values, value), (grad, g), (grad_output, gs)):
        tile.pack(tensor, buffer)
    if tile.real is not None:
        _zero_padding(tile, g, gs)
    packed = tile.pack(dependent, a), tile.pack(head, e)
    _exponentials(*packed, scaled[:size].view_as(packed[0]), c)
    for a_k, v_k, dv_k, n1, n0, e_k, scaled_k, g_k, gs_k, m1, m0, weight, slope in space.shifts(tile):
        torch.add(a_k, e_k, out=weight)
        torch.div(scaled_k, weight, out=weight)
        torch.addcmul(weight, weight, weight, value=0.5 / c, out=slope)
        slope.mul_(weight.exp_())
        dv_k.addcmul_(weight, g_k)
        n1.addcmul_(slope, g_k)
        n0.addcmul_(slope, gs_k)
        m1.addcmul_(slope, v_k)
        m0.add_(slope)
    # d dependent_i = -(2/c) (v_i sum_j m g - sum_j m g s)
    # d head_j = -(2/c) (g_j sum_i m v - g_j s_j sum_i m)
    scale = -2 / c
    grad_sum[:size].mul_(value[:size]).sub_(grad_output_sum[:size]).mul_(scale)
    slope_sum[:size].mul_(gs[:size])
    slope_value_sum[:size].mul_(g[:size]).sub_(slope_sum[:size]).mul_(scale)


def _zero_padding(tile: _Tile, *buffers: Tensor) -> None:
    keep = torch.zeros_like(tile.source, dtype=torch.bool)
    keep[tile.real] = True
    for buffer in buffers:
        buffer[: tile.tokens * tile.width].view(keep.numel(), -1).masked_fill_(~keep[:, None], 0.0)


def _flat(tensor: Tensor) -> Tensor:
    """View as (batch · token, dim), in float32 or better."""
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    return tensor.detach().to(dtype).reshape(-1, tensor.shape[-1])


class _Token2Token(torch.autograd.Function):
    """Keeps its inputs, the output and the denominator; the backward pass computes every weight anew."""

    @staticmethod
    def forward(ctx, dependent, head, values, mask, direction, c):
        inputs = _flat(dependent), _flat(head), _flat(values)
        output, denominator = torch.zeros_like(inputs[2]), torch.zeros_like(inputs[2])

        def work(tile: _Tile, space: _Workspace) -> None:
            _accumulate(tile, space, inputs, c)
            tile.add_to(output, space.queries[2])
            tile.add_to(denominator, space.queries[3])

        _for_tiles(mask, direction, output, (2, 4, 1), work)
        denominator.masked_fill_(denominator == 0, 1.0)
        output.div_(denominator)
        result = output.view_as(values).to(values.dtype)
        ctx.save_for_backward(dependent, head, values, mask, result, denominator)
        ctx.direction, ctx.c = direction, c
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        dependent, head, values, mask, result, denominator = ctx.saved_tensors
        grad = _flat(grad_output) / denominator
        inputs = (_flat(dependent), _flat(head), _flat(values), grad, grad * _flat(result))
        gradients = [torch.zeros_like(inputs[2]) for _ in range(3)]

        def work(tile: _Tile, space: _Workspace) -> None:
            _accumulate_gradients(tile, space, inputs, ctx.c)
            for gradient, buffer in zip(gradients, _gradient_buffers(space), strict=True):
                tile.add_to(gradient, buffer)

        _for_tiles(mask, ctx.direction, grad, (5, 6, 2), work)
        shaped = [g.view_as(x).to(x.dtype) for g, x in zip(gradients, (dependent, head, values), strict=True)]
        return (*shaped, None, None, None)


def _gradient_buffers(space: _Workspace) -> tuple[Tensor, Tensor, Tensor]:
    """Where `_accumulate_gradients` leaves the gradients of dependent, head and values."""
    return space.keys[3], space.queries[4], space.keys[2]
