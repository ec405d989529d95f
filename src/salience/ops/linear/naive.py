"""Linear attention written as its equations: the references for ``chunk.py`` and ``triton.py``."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor

from salience.ops.precision import exact_dtype

LEAST_LOG_DECAY = -50.0  # exp(-50) is nothing beside 1, also in float64; so -inf, a reset, stays finite


def token_decay(log_decay: Tensor | None, like: Float[Tensor, "batch token head dim"]) -> Tensor:
    """Return log-decays as one tensor (batch, token, head, 1 or dim) of the exact dtype."""
    batch, tokens, heads, _ = like.shape
    if log_decay is None:
        return torch.zeros(batch, tokens, heads, 1, dtype=exact_dtype(like), device=like.device)
    log_decay = log_decay.to(exact_dtype(like)).clamp(min=LEAST_LOG_DECAY)
    if log_decay.dim() == 1:
        return log_decay[None, None, :, None].expand(batch, tokens, heads, 1)
    return log_decay if log_decay.dim() == 4 else log_decay[..., None]


def sequence_bounds(cu_seqlens: Int[Tensor, " boundary"] | None, tokens: int) -> list[tuple[int, int]]:
    """Return start and end of every packed sequence."""
    if cu_seqlens is None:
        return [(0, tokens)]
    edges = cu_seqlens.tolist()
    return list(itertools.pairwise(edges))


def recurrent(
    q: Float[Tensor, "batch token head dim"],
    k: Float[Tensor, "batch token head dim"],
    v: Float[Tensor, "batch token head value"],
    log_decay: Tensor | None = None,
    initial_state: Float[Tensor, "sequence head dim value"] | None = None,
    cu_seqlens: Int[Tensor, " boundary"] | None = None,
) -> tuple[Float[Tensor, "batch token head value"], Float[Tensor, "sequence head dim value"]]:
    """Read the tokens one by one: ``S = exp(g) S + k v``, ``out = q S``; O(token) time, O(1) memory beside."""
    exact = exact_dtype(q)
    decay = (
        token_decay(log_decay, q).exp().unbind(1)
    )  # one unbinding: the gradient of single slices is quadratic
    queries, keys, values = (x.to(exact).unbind(1) for x in (q, k, v))
    outs, states = [], []
    for number, (start, end) in enumerate(sequence_bounds(cu_seqlens, q.shape[1])):
        rows = slice(number, number + 1) if cu_seqlens is not None else slice(None)
        state = _first_state(q, v, exact) if initial_state is None else initial_state[rows].to(exact)
        for t in range(start, end):
            state = decay[t][..., None] * state + keys[t][..., :, None] * values[t][..., None, :]
            outs.append((queries[t][..., None, :] @ state).squeeze(-2))
        states.append(state)
    return torch.stack(outs, 1).to(q.dtype), torch.cat(states)


def _first_state(q: Tensor, v: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(q.shape[0], q.shape[2], q.shape[3], v.shape[3], dtype=dtype, device=q.device)


def effective_weights(
    q: Float[Tensor, "batch token head dim"],
    k: Float[Tensor, "batch token head dim"],
    log_decay: Tensor | None = None,
    cu_seqlens: Int[Tensor, " boundary"] | None = None,
    causal: bool = True,
) -> Float[Tensor, "batch head query key"]:
    """Return the weight of every key in every query's output: ``(q·k) exp(sum of log-decays between them)``.

    A pair that a packed boundary parts, and a later key of a causal form, weighs exactly zero. Builds
    query × key numbers, with a per-channel decay query × key × dim.
    """
    tokens = q.shape[1]
    total = token_decay(log_decay, q).cumsum(1).transpose(1, 2)  # batch head token 1|dim
    gap = -(total[:, :, :, None] - total[:, :, None]).abs()  # symmetric: what lies between the two tokens
    q, k = (x.to(exact_dtype(x)).transpose(1, 2) for x in (q, k))
    return pair_weights(q, k, gap).masked_fill(~_legal(tokens, cu_seqlens, causal, q.device), 0.0)


def pair_weights(
    q: Float[Tensor, "batch head query dim"], k: Float[Tensor, "batch head key dim"], gap: Tensor
) -> Float[Tensor, "batch head query key"]:
    """Return ``q·k`` with the log-decay between each pair (batch head query key, 1 or dim)."""
    if gap.shape[-1] == 1:
        return q @ k.transpose(-1, -2) * gap[..., 0].exp()
    return torch.einsum("bhid,bhjd,bhijd->bhij", q, k, gap.exp())


def _legal(tokens: int, cu_seqlens: Tensor | None, causal: bool, device: torch.device) -> Tensor:
    legal = torch.ones(tokens, tokens, dtype=torch.bool, device=device)
    if causal:
        legal = legal.tril()
    if cu_seqlens is None:
        return legal
    sequence = torch.bucketize(torch.arange(tokens, device=device), cu_seqlens[1:].to(device), right=True)
    return legal & (sequence[:, None] == sequence)


def quadratic(
    q: Float[Tensor, "batch token head dim"],
    k: Float[Tensor, "batch token head dim"],
    v: Float[Tensor, "batch token head value"],
    log_decay: Tensor | None = None,
    initial_state: Float[Tensor, "sequence head dim value"] | None = None,
    cu_seqlens: Int[Tensor, " boundary"] | None = None,
) -> tuple[Float[Tensor, "batch token head value"], Float[Tensor, "sequence head dim value"]]:
    """Multiply by the whole weight matrix; O(token²) time and memory."""
    exact = exact_dtype(q)
    weights = effective_weights(q, k, log_decay, cu_seqlens)
    out = torch.einsum("bhij,bjhe->bihe", weights, v.to(exact))
    decay = token_decay(log_decay, q)
    states = []
    for number, (start, end) in enumerate(sequence_bounds(cu_seqlens, q.shape[1])):
        total = decay[:, start:end].cumsum(1)
        left = (total[:, -1:] - total).exp() * k[:, start:end].to(exact)
        state = torch.einsum("bthd,bthe->bhde", left, v[:, start:end].to(exact))
        if initial_state is not None:
            rows = slice(number, number + 1) if cu_seqlens is not None else slice(None)
            first = initial_state[rows].to(exact)
            read = torch.einsum("bthd,bhde->bthe", q[:, start:end].to(exact) * total.exp(), first)
            out = torch.cat([out[:, :start], out[:, start:end] + read, out[:, end:]], 1)
            state = state + total[:, -1].exp()[..., None] * first
        states.append(state)
    return out.to(q.dtype), torch.cat(states)
