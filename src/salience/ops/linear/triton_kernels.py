"""Triton kernels of linear attention. Importing this file imports Triton: only ``triton_launch.py`` does.

One kernel, ``scan_kernel``, serves the output and all of its gradients, because they are the same recurrence with
other operands: ``out[r] = sum over i of w(r, i) (a[r]·b[i]) c[i]``, forward or backward in time:

=======  ===  ===  ===  ========  ==========
result   a    b    c    time      state
=======  ===  ===  ===  ========  ==========
output   q    k    v    forward   S
dq       dO   v    k    forward   S turned
dk       v    dO   q    backward  dS turned
dv       k    q    dO   backward  dS
=======  ===  ===  ===  ========  ==========

Tokens lie in segments, segments in chunks. A program owns one segment, one head and a slice of c's channels; it walks
the chunks with its part of the state in registers. Lengths, segments and sequences are run-time numbers that are not
specialised; constants are the head dims, the number of heads, and tile sizes that follow from those.
"""

import triton
import triton.language as tl

from salience.ops.linear.naive import LEAST_LOG_DECAY

FIXED, SCALAR, CHANNEL = (
    tl.constexpr(0),
    tl.constexpr(1),
    tl.constexpr(2),
)  # a log-decay a head, + token, + channel
LEAST = tl.constexpr(LEAST_LOG_DECAY)
INTERPRETED = tl.constexpr(
    triton.knobs.runtime.interpret
)  # it would multiply the bits of bfloat16 as integers
LENGTHS = ["tokens", "per_sequence", "segment"]  # a new value must not compile a new kernel


@triton.jit
def _place(index, table, tokens, per_sequence, segment, PACKED: tl.constexpr):
    """Return the sequence of a segment, its first token and its end, counted over all sequences."""
    if PACKED:
        sequence = tl.load(table + index * 3)
        first = tl.load(table + index * 3 + 1)
        end = tl.load(table + index * 3 + 2)
    else:
        sequence = (index // per_sequence).to(tl.int64)
        first = sequence * tokens + (index % per_sequence) * segment
        end = tl.minimum(first + segment, (sequence + 1) * tokens)
    return sequence, first, end


@triton.jit
def _rows(x, begin, real, head, low, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, B: tl.constexpr):
    """Load channels ``low…low+B`` of ``real`` tokens of one head; the rest of the (C, B) tile is zero."""
    row = tl.arange(0, C)[:, None]
    column = low + tl.arange(0, B)[None, :]
    place = (begin + row) * (H * W) + head * W + column
    return tl.load(x + place, mask=(row < real) & (column < W), other=0.0)


@triton.jit
def _row(x, token, head, low, H: tl.constexpr, W: tl.constexpr, B: tl.constexpr):
    """Load channels ``low…low+B`` of one token of one head."""
    column = low + tl.arange(0, B)
    return tl.load(x + token * (H * W) + head * W + column, mask=column < W, other=0.0).to(tl.float32)


@triton.jit
def _product(x, y, DOT: tl.constexpr, PRECISION: tl.constexpr):
    x, y = x.to(DOT), y.to(DOT)
    if INTERPRETED:
        x, y = x.to(tl.float32), y.to(tl.float32)
    return tl.dot(x, y, input_precision=PRECISION)


@triton.jit
def _fade(difference):
    """Return exp of a log-decay; rows past the end may ask for a positive one, and are thrown away later."""
    return tl.exp(tl.minimum(difference, 0.0))


@triton.jit
def _since(
    log_decay, begin, real, head, low, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, B: tl.constexpr,
    KIND: tl.constexpr,
):  # fmt: skip
    """Return the log-decay from the chunk's start through each row (C, 1 or B), and through the whole chunk."""
    row = tl.arange(0, C)
    if KIND == FIXED:
        rate = tl.maximum(tl.load(log_decay + head).to(tl.float32), LEAST)
        since = (rate * (row + 1).to(tl.float32))[:, None]
        total = rate * real.to(tl.float32)
    elif KIND == SCALAR:
        step = tl.load(log_decay + (begin + row) * H + head, mask=row < real, other=0.0)
        step = tl.maximum(step.to(tl.float32), LEAST)
        since = tl.cumsum(step, 0)[:, None]
        total = tl.sum(step, 0)
    else:
        step = tl.maximum(_rows(log_decay, begin, real, head, low, H, W, C, B).to(tl.float32), LEAST)
        since = tl.cumsum(step, 0)
        total = tl.sum(step, 0)
    return since, total


@triton.jit
def _legal(C: tl.constexpr, REVERSE: tl.constexpr):
    """Return which column a row may look at: itself and what is before it in the direction of the scan."""
    row = tl.arange(0, C)[:, None]
    column = tl.arange(0, C)[None, :]
    return row <= column if REVERSE else row >= column


@triton.jit
def _gap(since, other, REVERSE: tl.constexpr):
    """Return the log-decay between rows and another token: not positive where the pair is legal."""
    return other - since if REVERSE else since - other


@triton.jit
def _channel_scores(
    a, b, log_decay, since, begin, real, head,
    H: tl.constexpr, P: tl.constexpr, BP: tl.constexpr, C: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Return ``sum over channels of a b decay`` for the pairs of a chunk, column by column.

    A decay for each channel does not factor into a row and a column without exp of a positive number.
    """
    column = tl.arange(0, C)[None, :]
    scores = tl.zeros([C, C], tl.float32)
    other = tl.zeros([BP], tl.float32)
    a = a.to(tl.float32)
    for i in range(real):
        other += tl.maximum(_row(log_decay, begin + i, head, 0, H, P, BP), LEAST)
        key = _row(b, begin + i, head, 0, H, P, BP)
        weight = _fade(_gap(since, other[None, :], REVERSE))
        pair = tl.sum(a * key[None, :] * weight, 1)
        scores = tl.where(column == i, pair[:, None], scores)
    return tl.where(_legal(C, REVERSE), scores, 0.0)


@triton.jit
def _channel_mix(
    scores, c, log_decay, since, begin, real, head, low,
    H: tl.constexpr, R: tl.constexpr, BR: tl.constexpr, C: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Return ``sum over columns of scores c decay``, where the decay is one of c's channels."""
    column = tl.arange(0, C)[None, :]
    mixed = tl.zeros([C, BR], tl.float32)
    other = tl.zeros([BR], tl.float32)
    for i in range(real):
        other += tl.maximum(_row(log_decay, begin + i, head, low, H, R, BR), LEAST)
        value = _row(c, begin + i, head, low, H, R, BR)
        weight = _fade(_gap(since, other[None, :], REVERSE))
        score = tl.sum(tl.where(column == i, scores, 0.0), 1)
        mixed += score[:, None] * weight * value[None, :]
    return mixed


@triton.jit
def _within(
    a, b, c, b_rows, c_rows, log_decay, since, begin, real, head, low,
    H: tl.constexpr, P: tl.constexpr, R: tl.constexpr, BP: tl.constexpr, BR: tl.constexpr, C: tl.constexpr,
    KIND: tl.constexpr, REVERSE: tl.constexpr, TURNED: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return what the tokens of one chunk give to each other (C, BR); ``b_rows`` and ``c_rows`` are loaded."""
    if KIND == CHANNEL and not TURNED:
        scores = _channel_scores(a, b, log_decay, since, begin, real, head, H, P, BP, C, REVERSE)
        mixed = _product(scores, c_rows, DOT, PRECISION)
    elif KIND == CHANNEL:
        scores = tl.where(_legal(C, REVERSE), _product(a, tl.trans(b_rows), DOT, PRECISION), 0.0)
        mixed = _channel_mix(scores, c, log_decay, since, begin, real, head, low, H, R, BR, C, REVERSE)
    else:
        decay = tl.where(_legal(C, REVERSE), _fade(_gap(since, tl.trans(since), REVERSE)), 0.0)
        scores = _product(a, tl.trans(b_rows), DOT, PRECISION) * decay
        mixed = _product(scores, c_rows, DOT, PRECISION)
    return mixed


@triton.jit
def _before(
    a, state, read, KIND: tl.constexpr, TURNED: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr
):
    """Return what the tokens of a chunk read from the state (C, BR)."""
    if KIND == CHANNEL and not TURNED:
        result = _product(a * read, state, DOT, PRECISION)
    else:
        result = read * _product(a, state, DOT, PRECISION)
    return result


@triton.jit
def _advance(
    state, b, c, write, total, KIND: tl.constexpr, TURNED: tl.constexpr, DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the state after a chunk: the old one decayed, plus what each token still weighs at its end."""
    if KIND == CHANNEL and not TURNED:
        new = _fade(total)[:, None] * state + _product(tl.trans(b * write), c, DOT, PRECISION)
    elif KIND == CHANNEL:
        new = _fade(total)[None, :] * state + _product(tl.trans(b), c * write, DOT, PRECISION)
    else:
        new = _fade(total) * state + _product(tl.trans(b), c * write, DOT, PRECISION)
    return new


@triton.jit
def _write(
    result, out, partner, moments, begin, real, head, part,
    H: tl.constexpr, R: tl.constexpr, BR: tl.constexpr, C: tl.constexpr, KIND: tl.constexpr, MOMENTS: tl.constexpr,
):  # fmt: skip
    """Store a chunk's output and, with ``MOMENTS``, its product with the partner, summed unless KIND is CHANNEL."""
    row, column = tl.arange(0, C)[:, None], part * BR + tl.arange(0, BR)[None, :]
    inside = (row < real) & (column < R)
    place = (begin + row) * (H * R) + head * R + column
    tl.store(out + place, result.to(out.dtype.element_ty), mask=inside)
    if MOMENTS:
        result *= _rows(partner, begin, real, head, part * BR, H, R, C, BR).to(tl.float32)
        if KIND == CHANNEL:
            tl.store(moments + place, result, mask=inside)
        else:
            parts = (R + BR - 1) // BR
            place = ((begin + row) * H + head) * parts + part
            tl.store(moments + place, tl.sum(result, 1)[:, None], mask=row < real)


@triton.jit(do_not_specialize=LENGTHS)
def scan_kernel(
    a, b, c, log_decay, boundaries, totals, out, partner, moments, table, tokens, per_sequence, segment,
    H: tl.constexpr, P: tl.constexpr, R: tl.constexpr, BP: tl.constexpr, BR: tl.constexpr, C: tl.constexpr,
    KIND: tl.constexpr, REVERSE: tl.constexpr, TURNED: tl.constexpr, OUTPUT: tl.constexpr, WRITE_END: tl.constexpr,
    MOMENTS: tl.constexpr, PACKED: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Walk the chunks of one segment, for one head and one slice of c's channels.

    With ``OUTPUT`` it starts from the state at the segment's boundary and writes the output; without, from zero, and
    only the state and the total decay are wanted. ``MOMENTS`` also writes ``out · partner``, of which the gradient of
    the decays is made.
    """
    SLICES: tl.constexpr = (R + BR - 1) // BR
    part, head = tl.program_id(0) % SLICES, (tl.program_id(0) // SLICES) % H
    index = tl.program_id(0) // (SLICES * H)
    low = part * BR
    sequence, first, end = _place(index, table, tokens, per_sequence, segment, PACKED)
    if first >= end:
        return
    p, r = tl.arange(0, BP)[:, None], low + tl.arange(0, BR)[None, :]
    cell = (p + r * P) if TURNED else (p * R + r)
    inside = (p < P) & (r < R)
    before = boundaries + ((index + sequence + (1 if REVERSE else 0)) * H + head) * (P * R)
    after = boundaries + ((index + sequence + (0 if REVERSE else 1)) * H + head) * (P * R)
    state = tl.load(before + cell, mask=inside, other=0.0) if OUTPUT else tl.zeros([BP, BR], tl.float32)
    lost = tl.zeros([BP], tl.float32)
    chunks = tl.cdiv(end - first, C)
    for step in range(chunks):
        begin = first + (chunks - 1 - step if REVERSE else step) * C
        real = tl.minimum(end - begin, C).to(tl.int32)
        b_rows, c_rows = (
            _rows(b, begin, real, head, 0, H, P, C, BP),
            _rows(c, begin, real, head, low, H, R, C, BR),
        )
        if TURNED:
            since, total = _since(log_decay, begin, real, head, low, H, R, C, BR, KIND)
        else:
            since, total = _since(log_decay, begin, real, head, 0, H, P, C, BP, KIND)
        left = total[None, :] - since if KIND == CHANNEL else total - since
        read, write = (_fade(left), _fade(since)) if REVERSE else (_fade(since), _fade(left))
        if OUTPUT:
            a_rows = _rows(a, begin, real, head, 0, H, P, C, BP)
            result = _within(
                a_rows, b, c, b_rows, c_rows, log_decay, since, begin, real, head, low,
                H, P, R, BP, BR, C, KIND, REVERSE, TURNED, DOT, PRECISION,
            )  # fmt: skip
            result += _before(a_rows, state, read, KIND, TURNED, DOT, PRECISION)
            _write(result, out, partner, moments, begin, real, head, part, H, R, BR, C, KIND, MOMENTS)
        else:
            lost += total
        state = _advance(state, b_rows, c_rows, write, total, KIND, TURNED, DOT, PRECISION)
    if WRITE_END:
        tl.store(after + cell, state, mask=inside)
    if not OUTPUT and part == 0:
        place = tl.arange(0, BP)
        if KIND == CHANNEL:
            tl.store(totals + (index * H + head) * P + place, lost, mask=place < P)
        else:
            tl.store(totals + index * H + head + place, lost, mask=place == 0)


@triton.jit(do_not_specialize=["per_sequence"])
def join_kernel(
    boundaries, totals, offsets, per_sequence,
    H: tl.constexpr, D: tl.constexpr, E: tl.constexpr, B: tl.constexpr, KIND: tl.constexpr, REVERSE: tl.constexpr,
    PACKED: tl.constexpr,
):  # fmt: skip
    """Turn what each segment adds to the state into the states at all boundaries, in place, B numbers a program."""
    BLOCKS: tl.constexpr = (D * E + B - 1) // B
    block, head = tl.program_id(0) % BLOCKS, (tl.program_id(0) // BLOCKS) % H
    sequence = (tl.program_id(0) // (BLOCKS * H)).to(tl.int64)
    if PACKED:
        low, high = tl.load(offsets + sequence), tl.load(offsets + sequence + 1)
    else:
        low, high = sequence * per_sequence, (sequence + 1) * per_sequence
    cell = block * B + tl.arange(0, B)
    inside = cell < D * E
    start = (high if REVERSE else low) + sequence
    state = tl.load(boundaries + (start * H + head) * (D * E) + cell, mask=inside, other=0.0)
    for step in range(high - low):
        index = high - 1 - step if REVERSE else low + step
        if KIND == CHANNEL:
            total = tl.load(totals + (index * H + head) * D + cell // E, mask=inside, other=0.0)
        else:
            total = tl.load(totals + index * H + head)
        place = boundaries + ((index + sequence + (0 if REVERSE else 1)) * H + head) * (D * E) + cell
        state = _fade(total) * state + tl.load(place, mask=inside, other=0.0)
        tl.store(place, state, mask=inside)


@triton.jit(do_not_specialize=LENGTHS)
def decay_gradient_kernel(
    query_moments, key_moments, anchors, log_decay, grad, table, tokens, per_sequence, segment,
    W: tl.constexpr, SLICES: tl.constexpr, C: tl.constexpr, B: tl.constexpr, FLAT: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """Sum ``q·dq - k·dk`` from the end of each segment back to each token, starting with ``dS·S`` at that end.

    It is zero where the log-decay is below the least that counts. ``FLAT`` decays are the same for all tokens.
    """
    BLOCKS: tl.constexpr = (W + B - 1) // B
    index = tl.program_id(0) // BLOCKS
    sequence, first, end = _place(index, table, tokens, per_sequence, segment, PACKED)
    if first >= end:
        return
    row = tl.arange(0, C)[:, None]
    column = (tl.program_id(0) % BLOCKS) * B + tl.arange(0, B)
    carry = tl.load(anchors + (index + sequence + 1) * W + column, mask=column < W, other=0.0)
    chunks = tl.cdiv(end - first, C)
    for step in range(chunks):
        begin = first + (chunks - 1 - step) * C
        inside = (begin + row < end) & (column[None, :] < W)
        place = (begin + row) * W + column[None, :]
        drift = tl.zeros([C, B], tl.float32)
        for part in tl.static_range(SLICES):
            drift += tl.load(query_moments + place * SLICES + part, mask=inside, other=0.0)
            drift -= tl.load(key_moments + place * SLICES + part, mask=inside, other=0.0)
        if FLAT:
            decay = tl.load(log_decay + column[None, :], mask=column[None, :] < W, other=0.0)
        else:
            decay = tl.load(log_decay + place, mask=inside, other=0.0)
        whole = tl.cumsum(drift, 0, reverse=True) + carry[None, :]
        tl.store(grad + place, tl.where(decay < LEAST, 0.0, whole), mask=inside)
        carry += tl.sum(drift, 0)


@triton.jit
def decode_kernel(
    q, k, v, log_decay, state, new_state, out,
    H: tl.constexpr, D: tl.constexpr, E: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr, KIND: tl.constexpr,
):  # fmt: skip
    """Advance the state by one token and read it, for one head and one slice of the value's channels."""
    SLICES: tl.constexpr = (E + BE - 1) // BE
    which = tl.program_id(0) // SLICES  # sequence · H + head
    d, e = tl.arange(0, BD), (tl.program_id(0) % SLICES) * BE + tl.arange(0, BE)
    if KIND == CHANNEL:
        decay = tl.load(log_decay + which * D + d, mask=d < D, other=0.0)[:, None]
    else:
        decay = tl.load(log_decay + (which % H if KIND == FIXED else which))
    decay = _fade(tl.maximum(decay.to(tl.float32), LEAST))
    query = tl.load(q + which * D + d, mask=d < D, other=0.0).to(tl.float32)
    key = tl.load(k + which * D + d, mask=d < D, other=0.0).to(tl.float32)
    value = tl.load(v + which * E + e, mask=e < E, other=0.0).to(tl.float32)
    cell = which.to(tl.int64) * (D * E) + d[:, None] * E + e[None, :]
    inside = (d < D)[:, None] & (e < E)[None, :]
    after = decay * tl.load(state + cell, mask=inside, other=0.0) + key[:, None] * value[None, :]
    tl.store(new_state + cell, after, mask=inside)
    tl.store(out + which * E + e, tl.sum(query[:, None] * after, 0).to(out.dtype.element_ty), mask=e < E)
