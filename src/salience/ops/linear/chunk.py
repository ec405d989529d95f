"""Causal linear attention in chunks of tokens: linear time and memory, made for CPUs.

Within a chunk the tokens meet as in ordinary attention; between chunks only a state (dim × value) is handed
on. Several chunks are worked through together, few enough for their scores to stay in the processor's
cache. The backward pass keeps q, k, v and the decays only, and computes the rest again.

Source: Qin et al., "Various Lengths, Constant Speed" (ICML 2024), algorithms 5 and 6. Their index slips (the
running gradient of the state is the one before the update) are put right. The gradient of the decays is ours:
at each token, the sum over it and all later tokens of ``q·dq - k·dk``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from salience.ops.linear.naive import LEAST_LOG_DECAY
from salience.ops.precision import exact_dtype, full_precision

CHUNK, CHANNEL_CHUNK = (
    64,
    16,
)  # tokens of a chunk; with a decay for each channel, shorter (its pairs are explicit)
SCORES = 2**20  # numbers of the scores that are alive at once: few enough for the cache, enough for two cores


@dataclass(frozen=True)
class Layout:
    """Say how tokens lie in chunks: ``rows`` real tokens in each, ``first`` chunk of each packed sequence."""

    size: int
    rows: tuple[int, ...]
    first: tuple[int, ...]

    @property
    def last(self) -> tuple[int, ...]:
        """Return the chunk in which each sequence ends."""
        return (*(chunk - 1 for chunk in self.first[1:]), len(self.rows) - 1)


def chunk(
    q: Float[Tensor, "batch token head dim"],
    k: Float[Tensor, "batch token head dim"],
    v: Float[Tensor, "batch token head value"],
    log_decay: Tensor | None = None,
    initial_state: Float[Tensor, "sequence head dim value"] | None = None,
    cu_seqlens: Int[Tensor, " boundary"] | None = None,
    chunk_size: int | None = None,
) -> tuple[Float[Tensor, "batch token head value"], Float[Tensor, "sequence head dim value"]]:
    """Compute the recurrence chunk by chunk; O(token) time and memory, exact up to rounding."""
    by_channel = log_decay is not None and log_decay.dim() == 4
    size = chunk_size or (CHANNEL_CHUNK if by_channel else CHUNK)
    size = min(size, max(q.shape[1], 1))
    if log_decay is not None:
        log_decay = log_decay.to(exact_dtype(q)).clamp(min=LEAST_LOG_DECAY)
    if cu_seqlens is None:
        return _Chunked.apply(q, k, v, log_decay, initial_state, _plain_layout(q.shape[1], size))
    edges = cu_seqlens.tolist()
    layout, place = _packed_layout(edges, size, q.device)
    q, k, v = (_spread(x, place, layout) for x in (q, k, v))
    if log_decay is not None and log_decay.dim() > 1:
        log_decay = _spread(log_decay, place, layout)
    out, state = _Chunked.apply(q, k, v, log_decay, initial_state, layout)
    return out[:, place], state


def _plain_layout(tokens: int, size: int) -> Layout:
    full, rest = divmod(tokens, size)
    return Layout(size, (size,) * full + ((rest,) if rest else ()), (0,))


def _packed_layout(edges: list[int], size: int, device: torch.device) -> tuple[Layout, Tensor]:
    """Start every sequence in a chunk of its own; also return the new place of every token."""
    rows: list[int] = []
    first, places = [], []
    for start, end in itertools.pairwise(edges):
        first.append(len(rows))
        places.append(torch.arange(end - start, device=device) + len(rows) * size)
        rows += _plain_layout(end - start, size).rows
    return Layout(size, tuple(rows), tuple(first)), torch.cat(places)


def _spread(x: Tensor, place: Tensor, layout: Layout) -> Tensor:
    empty = x.new_zeros(x.shape[0], len(layout.rows) * layout.size, *x.shape[2:])
    return empty.index_copy(1, place, x)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, log_decay, initial_state, layout):
        ctx.save_for_backward(q, k, v, log_decay, initial_state)
        ctx.layout = layout
        with full_precision(q.device):  # sums stay in the exact dtype
            return _Work(q, k, v, log_decay, layout).forward(initial_state)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out, grad_state):
        q, k, v, log_decay, initial_state = ctx.saved_tensors
        with full_precision(q.device):  # a backward pass inside autocast
            work = _Work(q, k, v, log_decay, ctx.layout)
            return (*work.backward(grad_out, grad_state, initial_state, ctx.needs_input_grad[3]), None)


class _Work:
    """One pass over the chunks: shapes, the loop over groups of chunks, and the algebra of a group.

    A group is (chunk, batch, head, token, …), contiguous and in the exact dtype.
    """

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, layout: Layout) -> None:
        self.q, self.k, self.v, self.log_decay, self.layout = q, k, v, log_decay, layout
        self.exact, self.size, self.chunks = exact_dtype(q), layout.size, len(layout.rows)
        self.batch, _, self.heads, self.dim = q.shape
        self.value = v.shape[3]
        self.by_channel = log_decay is not None and log_decay.dim() == 4
        self.by_token = log_decay is not None and log_decay.dim() > 1
        pair = self.size * self.size * (self.dim if self.by_channel else 1)
        self.group = max(1, SCORES // (self.batch * self.heads * pair))
        self.future = torch.ones(self.size, self.size, dtype=torch.bool, device=q.device).triu(1)
        self.fixed = None if self.by_token else self._fixed_pairs()
        self.begins = {
            chunk: number for number, chunk in enumerate(layout.first)
        }  # sequence that begins there
        self.finishes = {chunk: number for number, chunk in enumerate(layout.last)}

    # what a group is made of

    def groups(self) -> list[tuple[int, int]]:
        return [(low, min(low + self.group, self.chunks)) for low in range(0, self.chunks, self.group)]

    def take(self, x: Tensor, low: int, high: int) -> Tensor:
        """Return chunks low…high of a (batch, token, head, …) tensor as a group; it may share memory with it."""
        x = x[:, low * self.size : high * self.size]
        short = (high - low) * self.size - x.shape[1]
        if short:
            x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, short))
        x = x.unflatten(1, (high - low, self.size)).transpose(0, 1).transpose(2, 3)
        return x.to(self.exact).contiguous()

    def put(self, x: Tensor, low: int, group: Tensor) -> None:
        """Write a group back to its tokens."""
        tokens = x[:, low * self.size : (low + group.shape[0]) * self.size]
        full = tokens.shape[1] // self.size
        whole = tokens[:, : full * self.size].unflatten(1, (full, self.size))
        whole.transpose(0, 1).transpose(2, 3).copy_(group[:full])
        if full < group.shape[0]:
            rest = tokens[:, full * self.size :]
            rest.copy_(group[full, :, :, : rest.shape[1]].transpose(1, 2))

    def decay(self, low: int, high: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the log-decay since the chunk's start, at each token, and to its end (chunk batch head token 1|dim)."""
        if self.by_token:
            each = self.take(self.log_decay if self.by_channel else self.log_decay[..., None], low, high)
            since = each.cumsum(3)
        else:
            rows = torch.tensor(self.layout.rows[low:high], device=self.q.device)
            count = torch.arange(1, self.size + 1, device=self.q.device).minimum(rows[:, None])
            rate = self.q.new_zeros(1, dtype=self.exact) if self.log_decay is None else self.log_decay
            since = (rate[None, :, None] * count[:, None])[:, None, :, :, None]
        last = since[:, :, :, -1:]
        return since.exp(), (last - since).exp(), since

    def _fixed_pairs(self) -> Tensor:
        """Return the decay between the tokens of a chunk, the same in all chunks (head query key)."""
        if self.log_decay is None:
            return (~self.future).to(self.exact)[None]
        steps = torch.arange(self.size, device=self.q.device, dtype=self.exact)
        gap = (steps[:, None] - steps).clamp(min=0)
        return (self.log_decay[:, None, None] * gap).exp().masked_fill(self.future, 0.0)

    def pairs(self, since: Tensor) -> Tensor:
        """Return the decay between the tokens of each chunk (… query key, or … query key dim)."""
        if self.fixed is not None:
            return self.fixed
        if self.by_channel:
            gap = since[:, :, :, :, None] - since[:, :, :, None]
            return gap.masked_fill_(self.future[..., None], -torch.inf).exp_()
        gap = since - since.transpose(-1, -2)
        return gap.masked_fill_(self.future, -torch.inf).exp_()

    # forward

    def forward(self, initial_state: Tensor | None) -> tuple[Tensor, Tensor]:
        out = torch.empty(*self.v.shape, dtype=self.q.dtype, device=self.q.device)
        states, ends = self.start(initial_state), []
        room = self.room(self.group)
        state = states[0]
        for low, high in self.groups():
            q, k, v = (self.take(x, low, high) for x in (self.q, self.k, self.v))
            since, left, total = self.decay(low, high)
            before = room[: high - low]
            state = self.scan(_bmm(_t(k * left), v), since, states, state, low, ends, before)
            mine = _bmm(q * since, before)
            _add_bmm(mine, self.scores(q, k, total), v)
            self.put(out, low, mine)
        return out, torch.cat(ends)

    def room(self, chunks: int) -> Tensor:
        """Return space for a state a chunk."""
        shape = (min(chunks, self.chunks), self.batch, self.heads, self.dim, self.value)
        return self.q.new_empty(shape, dtype=self.exact)

    def start(self, initial_state: Tensor | None) -> list[Tensor]:
        """Return the state before each sequence (batch head dim value)."""
        if initial_state is None:
            zero = self.q.new_zeros(self.batch, self.heads, self.dim, self.value, dtype=self.exact)
            return [zero] * len(self.layout.first)
        whole = initial_state.to(self.exact)
        return [whole] if len(self.layout.first) == 1 else list(whole.split(1))

    def scan(
        self,
        new: Tensor,
        since: Tensor,
        states: list[Tensor],
        state: Tensor,
        low: int,
        ends: list[Tensor],
        before: Tensor,
    ) -> Tensor:
        """Write the state before each chunk of a group, return that after it; note those at sequences' ends."""
        through = since[:, :, :, -1, :, None]
        for i in range(new.shape[0]):
            if low + i in self.begins:
                state = states[self.begins[low + i]]
            before[i] = state
            state = torch.addcmul(new[i], through[i], state, out=new[i])
            if low + i in self.finishes:
                ends.append(state.clone())
        return state

    def scores(self, q: Tensor, k: Tensor, total: Tensor) -> Tensor:
        pairs = self.pairs(total)
        if self.by_channel:
            return _weigh(pairs * k[:, :, :, None], q)
        return _bmm(q, _t(k)).mul_(pairs)

    # backward

    def backward(
        self, grad: Tensor, grad_state: Tensor, initial_state: Tensor | None, wants_decay: bool
    ) -> tuple[Tensor | None, ...]:
        befores, ends = self.all_states(initial_state)
        dq, dk, dv = (torch.empty_like(x) for x in (self.q, self.k, self.v))
        shape = self.q.shape if self.by_channel else (*self.q.shape[:3], 1)
        drift = torch.empty(shape, dtype=self.exact, device=self.q.device) if wants_decay else None
        tails = [grad_state.to(self.exact)] if len(self.layout.first) == 1 else list(grad_state.split(1))
        starts: list[Tensor] = []
        carry = tails[-1]
        for low, high in reversed(self.groups()):
            q, k, v, dout = (self.take(x, low, high) for x in (self.q, self.k, self.v, grad))
            since, left, total = self.decay(low, high)
            after, carry = self.scan_back(_bmm(_t(q * since), dout), since, tails, carry, low, starts)
            dq_, dk_, dv_ = self.within(q, k, v, dout, total)
            dq_ += _bmm(dout, _t(befores[low:high])).mul_(since)
            dk_ += _bmm(v, _t(after)).mul_(left)
            _add_bmm(dv_, k * left, after)
            for x, group in ((dq, dq_), (dk, dk_), (dv, dv_)):
                self.put(x, low, group)
            if drift is not None:
                change = (q * dq_).sub_(k * dk_)
                self.put(drift, low, change if self.by_channel else change.sum(-1, keepdim=True))
        dstate = torch.cat(starts[::-1]) if initial_state is not None else None
        ddecay = None if drift is None else self.decay_gradient(drift, ends, tails)
        return dq, dk, dv, ddecay, dstate

    def all_states(self, initial_state: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Return the states before all chunks and at sequences' ends, from k, v and the decays."""
        states, ends, befores = self.start(initial_state), [], self.room(self.chunks)
        state = states[0]
        for low, high in self.groups():
            k, v = self.take(self.k, low, high), self.take(self.v, low, high)
            since, left, _ = self.decay(low, high)
            new = _bmm(_t(k * left), v)
            state = self.scan(new, since, states, state, low, ends, befores[low:high])
        return befores, ends

    def scan_back(
        self, new: Tensor, since: Tensor, tails: list[Tensor], carry: Tensor, low: int, starts: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of the state after each chunk, and before the first; note those of sequences' starts."""
        through = since[:, :, :, -1, :, None]
        after = torch.empty_like(new)
        for i in reversed(range(new.shape[0])):
            if low + i in self.finishes:
                carry = tails[self.finishes[low + i]]
            after[i] = carry
            carry = torch.addcmul(new[i], through[i], carry, out=new[i])
            if low + i in self.begins:
                starts.append(carry.clone())
        return after, carry

    def within(self, q: Tensor, k: Tensor, v: Tensor, dout: Tensor, total: Tensor) -> tuple[Tensor, ...]:
        """Return what tokens of one chunk owe to each other: parts of dq, dk, dv."""
        pairs = self.pairs(total)
        dscores = _bmm(dout, _t(v))
        if not self.by_channel:
            dscores.mul_(pairs)
            scores = _bmm(q, _t(k)).mul_(pairs)
            return _bmm(dscores, k), _bmm(_t(dscores), q), _bmm(_t(scores), dout)
        keys = pairs * k[:, :, :, None]
        scores = _weigh(keys, q)
        dq = torch.matmul(dscores[..., None, :], keys).squeeze(-2)
        dk = torch.einsum("...ij,...ijd->...jd", dscores, pairs.mul_(q[:, :, :, :, None]))
        return dq, dk, _bmm(_t(scores), dout)

    def decay_gradient(self, drift: Tensor, ends: list[Tensor], tails: list[Tensor]) -> Tensor:
        """Sum the drift from each token to its sequence's end, where the final state's own part is added."""
        edges = [chunk * self.size for chunk in self.layout.first] + [drift.shape[1]]
        parts = []
        for start, end, state, tail in zip(edges[:-1], edges[1:], ends, tails, strict=True):
            final = (state * tail).sum(-1)
            final = final if self.by_channel else final.sum(-1, keepdim=True)
            own = drift[:, start:end].double()
            parts.append(own.flip(1).cumsum(1).flip(1).add_(final[:, None]))
        whole = torch.cat(parts, 1).to(self.exact)
        if self.by_channel:
            return whole
        whole = whole.squeeze(-1)
        if self.by_token:
            return whole
        real = torch.zeros(drift.shape[1], dtype=torch.bool, device=drift.device)
        for number, rows in enumerate(self.layout.rows):
            real[number * self.size : number * self.size + rows] = True
        return whole[:, real].sum((0, 1))


def _t(x: Tensor) -> Tensor:
    return x.transpose(-1, -2)


def _bmm(a: Tensor, b: Tensor) -> Tensor:
    return torch.bmm(a.flatten(0, 2), b.flatten(0, 2)).unflatten(0, a.shape[:3])


def _add_bmm(total: Tensor, a: Tensor, b: Tensor) -> None:
    total.flatten(0, 2).baddbmm_(a.flatten(0, 2), b.flatten(0, 2))


def _weigh(keys: Tensor, q: Tensor) -> Tensor:
    """Return scores of pairs whose decayed keys are given (… query key dim)."""
    return torch.matmul(keys, q[..., None]).squeeze(-1)
