"""Plan and launch the Triton kernels of linear attention: how tokens are cut, which tiles, which buffers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from salience.ops.linear import triton_kernels as kernels

PROGRAMS = 256  # programs to aim at; about two on each multiprocessor of the largest devices
SHORTEST = 4  # a segment has at least this many tokens for each channel of the head
DECAY_SEGMENT = 1024  # longest run of tokens over which rounding adds up in the gradient of the decays
CHANNEL_CHUNK = 16  # with a decay for each channel the pairs of a chunk are explicit
# dtype → inner head dim up to → (tokens of a chunk, outer channels of a program, warps). Chosen so that the compiler's
# report for compute capability 9.0 shows few or no spilled registers and room for two programs on a multiprocessor.
TILES = {
    torch.bfloat16: {64: (64, 64, 4), 128: (64, 64, 4), 256: (64, 32, 8)},
    torch.float16: {64: (64, 64, 4), 128: (64, 32, 4), 256: (32, 16, 8)},
    torch.float32: {64: (16, 32, 4), 128: (16, 32, 8), 256: (16, 16, 8)},
}
BLOCK = 1024


@dataclass(frozen=True)
class Plan:
    """Say how the tokens are cut: ``segments`` of ``segment`` tokens, worked through in chunks of ``chunk``.

    ``per_sequence`` segments belong to each of ``sequences`` sequences of ``tokens`` tokens. If packed, ``table``
    has sequence, first token and end of each segment, ``offsets`` the first segment of each sequence, and
    ``segments`` is an upper bound that needs no copy from the device.
    """

    chunk: int
    segment: int
    segments: int
    per_sequence: int
    sequences: int
    tokens: int
    table: Int[Tensor, "segment 3"] | None = None
    offsets: Int[Tensor, " boundary"] | None = None

    @property
    def packed(self) -> bool:
        """Tell whether sequences of different lengths lie one behind the other."""
        return self.table is not None

    @property
    def single(self) -> bool:
        """Tell whether each sequence is one segment, so that no state needs to be known beforehand."""
        return not self.packed and self.per_sequence == 1

    def edge(self, last: bool) -> Tensor | slice:
        """Return the index of each sequence's first or last boundary; segment i of sequence s has i+s and i+s+1."""
        if self.offsets is None:
            count = self.per_sequence + 1
            return slice(self.per_sequence if last else 0, None, count)
        number = torch.arange(self.sequences, device=self.offsets.device)
        return (self.offsets[1:] if last else self.offsets[:-1]) + number


def decay_kind(log_decay: Tensor) -> int:
    """Return which of the kernels' three kinds of decay a tensor (head), (… head) or (… head dim) is."""
    return {1: kernels.FIXED, 3: kernels.SCALAR, 4: kernels.CHANNEL}[log_decay.dim()].value


def _tile(width: int) -> int:
    return max(16, 1 << (width - 1).bit_length())


def _tiles(dtype: torch.dtype, inner: int, outer: int) -> tuple[int, int, int]:
    """Return tokens of a chunk, outer channels of a program, and warps."""
    chunk, width, warps = TILES[dtype][max(64, _tile(inner))]
    return chunk, min(width, _tile(outer)), warps


def make_plan(
    q: Tensor, v: Tensor, log_decay: Tensor, cu_seqlens: Tensor | None, longest: int | None = None
) -> Plan:
    """Cut tokens into enough segments to fill the device, but no more.

    A cut costs a second reading of k and v and some traffic for its state: so segments have a
    shortest length. ``longest`` caps them.
    """
    batch, tokens, heads, dim = q.shape
    value = v.shape[-1]
    widest = max(dim, value)
    chunk = min(_tiles(q.dtype, widest, widest)[0], CHANNEL_CHUNK if log_decay.dim() == 4 else 64)
    lanes = heads * -(-value // _tiles(q.dtype, dim, value)[1])
    segment = max(SHORTEST * widest, -(-batch * tokens * lanes // PROGRAMS))
    segment = min(segment, tokens, longest or tokens)
    segment = -(-segment // chunk) * chunk
    if cu_seqlens is None:
        count = -(-tokens // segment)
        return Plan(chunk, segment, batch * count, count, batch, tokens)
    edges = cu_seqlens.to(q.device).long()
    sequences = len(edges) - 1
    segments = tokens // segment + sequences
    offsets = torch.cat([edges.new_zeros(1), ((edges.diff() + segment - 1) // segment).cumsum(0)])
    index = torch.arange(segments, device=q.device)
    sequence = torch.searchsorted(offsets[1:], index, right=True).clamp_(max=sequences - 1)
    first = edges[sequence] + (index - offsets[sequence]) * segment
    end = torch.minimum(first + segment, edges[sequence + 1])
    return Plan(
        chunk, segment, segments, 0, sequences, tokens, torch.stack([sequence, first, end], 1), offsets
    )


def _precision(x: Tensor) -> dict:
    """Return how operands of matrix products are stored and multiplied.

    float16 goes through TF32 products, which keep its 10 bits of mantissa and do not overflow at 65504.
    """
    dot = kernels.tl.bfloat16 if x.dtype == torch.bfloat16 else kernels.tl.float32
    return {"DOT": dot, "PRECISION": "tf32" if x.dtype == torch.float16 else "ieee"}


def scan(
    plan: Plan,
    operands: tuple[Tensor | None, Tensor, Tensor],
    log_decay: Tensor,
    boundaries: Tensor,
    *,
    reverse: bool = False,
    turned: bool = False,
    write_end: bool = False,
    partner: Tensor | None = None,
) -> tuple[Tensor | None, Tensor]:
    """Run ``scan_kernel``; return its output and its moments, or, without an ``a``, None and the total decays."""
    a, b, c = operands
    heads, inner, outer = *b.shape[2:], c.shape[3]
    _, width, warps = _tiles(b.dtype, inner, outer)
    slices = -(-outer // width)
    kind = decay_kind(log_decay)
    by_channel = kind == kernels.CHANNEL.value
    out = None if a is None else torch.empty_like(c)
    exact = {"dtype": torch.float32, "device": b.device}
    if a is None:
        extra = torch.empty(plan.segments, heads, inner if by_channel else 1, **exact)
    else:
        shape = c.shape if by_channel else (*c.shape[:3], slices)
        extra = torch.empty(shape if partner is not None else (0,), **exact)
    kernels.scan_kernel[(plan.segments * heads * slices,)](
        a, b, c, log_decay, boundaries, extra, out, partner, extra, plan.table,
        plan.tokens, plan.per_sequence, plan.segment,
        H=heads, P=inner, R=outer, BP=_tile(inner), BR=width, C=plan.chunk, KIND=kind, REVERSE=reverse, TURNED=turned,
        OUTPUT=a is not None, WRITE_END=write_end, MOMENTS=partner is not None, PACKED=plan.packed, **_precision(b),
        num_warps=warps, num_stages=2,
    )  # fmt: skip
    return out, extra


def boundary_states(
    plan: Plan, b: Tensor, c: Tensor, log_decay: Tensor, edge: Tensor | None, *, reverse: bool = False
) -> Float[Tensor, "boundary head dim value"]:
    """Return the state at the boundaries of all segments, from the one at an edge of each sequence (None: zero).

    With a single segment a sequence the other edge is left for the kernel that writes the output.
    """
    heads, dim, value = *b.shape[2:], c.shape[3]
    count = plan.segments + plan.sequences
    states = torch.empty(count, heads, dim, value, dtype=torch.float32, device=b.device)
    states[plan.edge(last=reverse)] = 0.0 if edge is None else edge.float()
    if plan.single:
        return states
    _, totals = scan(plan, (None, b, c), log_decay, states, reverse=reverse, write_end=True)
    kernels.join_kernel[(plan.sequences * heads * -(-dim * value // BLOCK),)](
        states, totals, plan.offsets, plan.per_sequence,
        H=heads, D=dim, E=value, B=BLOCK, KIND=decay_kind(log_decay), REVERSE=reverse, PACKED=plan.packed,
    )  # fmt: skip
    return states


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return output and final state of contiguous inputs."""
    plan = make_plan(q, v, log_decay, cu_seqlens)
    states = boundary_states(plan, k, v, log_decay, initial_state)
    out, _ = scan(plan, (q, k, v), log_decay, states, write_end=plan.single)
    return out, states[plan.edge(last=True)].contiguous()


def backward(
    inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None],
    grad_out: Tensor,
    grad_state: Tensor | None,
    wants_decay: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    """Return the gradients of q, k, v, the decays (if wanted) and the initial state; all else is computed again."""
    q, k, v, log_decay, initial_state, cu_seqlens = inputs
    plan = make_plan(q, v, log_decay, cu_seqlens, DECAY_SEGMENT if wants_decay else None)
    states = boundary_states(plan, k, v, log_decay, initial_state)
    grads = boundary_states(plan, q, grad_out, log_decay, grad_state, reverse=True)
    partners = (q, k) if wants_decay else (None, None)
    dq, query_moments = scan(
        plan, (grad_out, v, k), log_decay, states, turned=True, write_end=plan.single, partner=partners[0]
    )
    dk, key_moments = scan(
        plan, (v, grad_out, q), log_decay, grads, reverse=True, turned=True, partner=partners[1]
    )
    dv, _ = scan(plan, (k, q, grad_out), log_decay, grads, reverse=True, write_end=plan.single)
    d_decay = None
    if wants_decay:
        d_decay = _decay_gradient(plan, query_moments, key_moments, states, grads, log_decay)
    return dq, dk, dv, d_decay, grads[plan.edge(last=False)].contiguous()


def _decay_gradient(
    plan: Plan, query_moments: Tensor, key_moments: Tensor, states: Tensor, grads: Tensor, log_decay: Tensor
) -> Tensor:
    """Return the gradient of the log-decays: at a token, of all that passes through its decay.

    That is the sum over this and all later tokens of ``q·dq - k·dk``, plus ``dS·S`` at the end. The sum starts anew
    at each segment, where ``dS·S`` stands for all that follows: fewer rounding errors add up.
    """
    by_channel = log_decay.dim() == 4
    anchors = (states * grads).sum(-1) if by_channel else (states * grads).sum((-1, -2))
    width = anchors[0].numel()
    grad = query_moments.new_empty(*query_moments.shape[:3], *([log_decay.shape[3]] if by_channel else []))
    kernels.decay_gradient_kernel[(plan.segments * -(-width // 32),)](
        query_moments, key_moments, anchors, log_decay, grad, plan.table, plan.tokens, plan.per_sequence, plan.segment,
        W=width, SLICES=1 if by_channel else query_moments.shape[-1], C=64, B=32, FLAT=log_decay.dim() == 1,
        PACKED=plan.packed,
    )  # fmt: skip
    return grad.sum((0, 1)) if log_decay.dim() == 1 else grad


def decode(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor | None
) -> tuple[Float[Tensor, "batch 1 head value"], Float[Tensor, "batch head dim value"]]:
    """Return output and state after one token of each sequence; the work does not depend on its position."""
    batch, _, heads, dim = q.shape
    value = v.shape[-1]
    width = min(32, _tile(value))
    if state is None:
        state = torch.zeros(batch, heads, dim, value, dtype=torch.float32, device=q.device)
    state = state.float().contiguous()
    out, new_state = torch.empty_like(v), torch.empty_like(state)
    kernels.decode_kernel[(batch * heads * -(-value // width),)](
        q, k, v, log_decay, state, new_state, out,
        H=heads, D=dim, E=value, BD=_tile(dim), BE=width, KIND=decay_kind(log_decay),
    )  # fmt: skip
    return out, new_state
