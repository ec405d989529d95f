"""Linear attention: the public function, what it returns, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salience.core.errors import ConfigError, nearest
from salience.ops.linear.check import check_arguments
from salience.ops.linear.chunk import chunk
from salience.ops.linear.naive import effective_weights, quadratic, recurrent, token_decay
from salience.ops.linear.triton import MAX_HEAD_DIM, linear_attention_triton
from salience.ops.precision import exact_dtype, full_precision

MODES = ("auto", "chunk", "recurrent", "quadratic", "triton")
FEATURE_MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu+1": lambda x: F.elu(x) + 1,
    "relu": F.relu,
    "silu": F.silu,
}
EPS = 1e-6


@dataclass(frozen=True)
class LinearAttentionState:
    """Hold all that a sequence has left behind, after its last real token.

    Attributes:
        S: sum of decayed ``k v`` products, float32 (float64 for float64 inputs).
        z: sum of decayed keys, with ``normalize=True``.
        position: number of real tokens read so far.
    """

    S: Float[Tensor, "sequence head dim value"]
    z: Float[Tensor, "sequence head dim"] | None
    position: Int[Tensor, " sequence"]


@dataclass(frozen=True)
class LinearAttentionOutput:
    """Hold the output, the final state and the effective weights, where they were asked for."""

    out: Tensor
    state: LinearAttentionState | None = None
    weights: Float[Tensor, "batch head query key"] | None = None


def linear_attention(
    q: Float[Tensor, "batch token head dim"],
    k: Float[Tensor, "batch token key_head dim"],
    v: Float[Tensor, "batch token key_head value"],
    *,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    normalize: bool = False,
    feature_map: str | Callable[[Tensor], Tensor] | None = None,
    causal: bool = True,
    mask: Bool[Tensor, "batch token"] | None = None,
    cu_seqlens: Int[Tensor, " boundary"] | None = None,
    initial_state: LinearAttentionState | None = None,
    output_final_state: bool = False,
    mode: str = "auto",
    chunk_size: int | None = None,
    layout: str = "bnhd",
    need_weights: bool = False,
) -> LinearAttentionOutput:
    """Attend at a cost that is linear in the number of tokens.

    ``out[t] = sum over s of w[t, s] v[s]`` with ``w[t, s] = scale · (q[t]·k[s]) · exp(sum of the log-decays of the
    tokens after the earlier, up to the later of the two)``, s ≤ t if causal. There is no softmax. Without
    ``normalize`` outputs grow with the number of tokens: put a norm behind them.

    Args:
        q: queries. With ``layout="bhnd"`` all tensors have the head before the token.
        k: keys; the queries' heads are a multiple of theirs, and each is shared by that many.
        v: values; their width may differ.
        log_decay: logarithm of what a state keeps at a token, ≤ 0; -inf forgets all. (head) for all tokens,
            (batch, token, head) or (batch, token, head, dim). None keeps all. Its sign is not checked on a GPU, which
            would have to be waited for.
        scale: factor of the scores.
        normalize: divide by the sum of the weights plus 1e-6; meant for features that are not negative.
        feature_map: ``"elu+1"``, ``"relu"``, ``"silu"`` or a function, applied to queries and keys.
        causal: look at earlier tokens only; else at all, with a decay that is symmetric in time.
        mask: true at real tokens. A masked token writes nothing, decays nothing, does not advance the position; its
            output and all its gradients are zero. So padding anywhere gives the numbers of no padding.
        cu_seqlens: boundaries of packed sequences, 0 … token, with a batch of one; best kept on the CPU.
        initial_state: what was left by tokens before, one row a sequence.
        output_final_state: also return the state after the last real token.
        mode: ``"chunk"`` (linear time, for CPUs), ``"recurrent"`` (token by token), ``"quadratic"`` (the
            reference), ``"triton"`` (CUDA), or ``"auto"``: triton for CUDA tensors where it is installed, recurrent
            for one token, else chunk.
        chunk_size: tokens of a chunk in the chunk mode.
        layout: ``"bnhd"`` or ``"bhnd"``.
        need_weights: also return ``w``, normalised if the output is. It takes token² memory; to ask for a few, see
            ``contribution`` and ``top_contributions``. What the initial state added is not in them.

    Returns:
        Output in the dtype of ``q``; state and weights if asked for.

    Raises:
        ConfigError: for shapes, dtypes, decays or states that do not fit, and for combinations without a meaning.

    Source: Qin et al., "Various Lengths, Constant Speed" (ICML 2024). The state is after the last token, not
    shifted by one decay as in the published kernel. The published model zeroes only the values of masked tokens
    and goes on decaying; here padding has no effect.
    """
    arguments = (q, k, v, log_decay, mask, cu_seqlens, initial_state)
    check_arguments(*arguments, causal, output_final_state, normalize, layout)
    if layout == "bhnd":
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        log_decay = log_decay.transpose(1, 2) if log_decay is not None and log_decay.dim() > 1 else log_decay
    dtype = q.dtype
    q, k = (features(x, feature_map) for x in (q, k))
    q = q * scale if scale != 1.0 else q
    k, v = (share(x, q.shape[2]) for x in (k, v))
    if mask is not None:
        q, k, v, log_decay = masked(q, k, v, log_decay, mask)
    with full_precision(q.device):
        weights = effective_weights(q, k, log_decay, cu_seqlens, causal) if need_weights else None
    if normalize:  # a column of ones carries the denominator through every backend, in the exact dtype
        q, k, v = (x.to(exact_dtype(x)) for x in (q, k, v))
        v = (
            F.pad(v, (0, 1), value=1.0)
            if mask is None
            else torch.cat([v, mask[..., None, None].to(v).expand(*v.shape[:3], 1)], -1)
        )
    core = _core(mode, q, v, chunk_size)
    with full_precision(q.device):  # sums and states stay in the exact dtype
        if causal:
            out, final = core(q, k, v, log_decay, _raw_state(initial_state, normalize), cu_seqlens)
        else:
            out, final = _both_ways(core, q, k, v, log_decay, cu_seqlens), None
    if normalize:
        total = out[..., -1:] + EPS
        out = out[..., :-1] / total
        weights = weights / total.transpose(1, 2) if weights is not None else None
    state = _state(final, initial_state, normalize, q, mask, cu_seqlens) if output_final_state else None
    out = out.to(dtype).transpose(1, 2) if layout == "bhnd" else out.to(dtype)
    return LinearAttentionOutput(out, state, weights)


def features(x: Tensor, feature_map: str | Callable[[Tensor], Tensor] | None) -> Tensor:
    """Apply a feature map, given by name or as a function."""
    if feature_map is None or callable(feature_map):
        return feature_map(x) if feature_map else x
    if feature_map not in FEATURE_MAPS:
        raise ConfigError(
            "linear_attention got an unknown feature_map",
            repr(feature_map),
            nearest(feature_map, FEATURE_MAPS),
        )
    return FEATURE_MAPS[feature_map](x)


def share(x: Tensor, heads: int) -> Tensor:
    """Repeat the heads of keys or values until there are as many as queries'."""
    return x if x.shape[2] == heads else x.repeat_interleave(heads // x.shape[2], 2)


def masked(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, mask: Tensor) -> tuple[Any, ...]:
    """Take masked tokens out of everything: no query, no key, no value, no decay."""
    gone = ~mask[:, :, None, None]
    q, k, v = (x.masked_fill(gone, 0) for x in (q, k, v))
    if log_decay is None:
        return q, k, v, None
    decay = token_decay(log_decay, q).masked_fill(gone, 0.0)
    return q, k, v, decay if log_decay.dim() == 4 else decay[..., 0]


def _core(mode: str, q: Tensor, v: Tensor, chunk_size: int | None) -> Callable[..., tuple[Tensor, Tensor]]:
    if mode not in MODES:
        raise ConfigError("linear_attention got an unknown mode", repr(mode), nearest(mode, MODES))
    if mode == "auto":
        mode = _best_mode(q, v)
    if mode == "triton":
        return linear_attention_triton
    if mode == "chunk":
        return lambda *tensors: chunk(*tensors, chunk_size=chunk_size)
    return recurrent if mode == "recurrent" else quadratic


def _best_mode(q: Tensor, v: Tensor) -> str:
    widest = max(q.shape[-1], v.shape[-1])
    if q.is_cuda and q.dtype != torch.float64 and widest <= MAX_HEAD_DIM and _has_triton():
        return "triton"
    return "recurrent" if q.shape[1] == 1 else "chunk"


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _both_ways(
    core: Callable, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, cu_seqlens: Tensor | None
) -> Tensor:
    """Add the pass forward to the pass backward; what both count, a token's own value, is taken off once."""
    turned = _turn(q.shape[1], cu_seqlens, q.device)
    if log_decay is not None and log_decay.dim() > 1:
        back = log_decay[:, turned]
        back = torch.cat([torch.zeros_like(back[:, :1]), back[:, :-1]], 1)  # decay lies between tokens
        if cu_seqlens is not None:
            back = back.index_fill(1, cu_seqlens[:-1].to(q.device).long(), 0.0)
    else:
        back = log_decay
    ahead, _ = core(q, k, v, log_decay, None, cu_seqlens)
    behind, _ = core(q[:, turned], k[:, turned], v[:, turned], back, None, cu_seqlens)
    own = (q * k).sum(-1, keepdim=True) * v
    return ahead + behind[:, turned] - own


def _turn(tokens: int, cu_seqlens: Tensor | None, device: torch.device) -> Tensor:
    """Return the order in which every sequence is turned around in its place."""
    order = torch.arange(tokens, device=device)
    if cu_seqlens is None:
        return order.flip(0)
    edges = cu_seqlens.to(device)
    sequence = torch.bucketize(order, edges[1:], right=True)
    return edges[sequence] + edges[sequence + 1] - 1 - order


def _raw_state(state: LinearAttentionState | None, normalize: bool) -> Tensor | None:
    if state is None or not normalize:
        return None if state is None else state.S
    return torch.cat([state.S, state.z[..., None]], -1)


def _state(
    final: Tensor,
    initial: LinearAttentionState | None,
    normalize: bool,
    q: Tensor,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
) -> LinearAttentionState:
    position = torch.full((q.shape[0],), q.shape[1], device=q.device) if mask is None else mask.sum(1)
    if cu_seqlens is not None:
        position = cu_seqlens.diff().to(q.device).long()
    if initial is not None:
        position = position + initial.position
    if not normalize:
        return LinearAttentionState(final, None, position)
    return LinearAttentionState(final[..., :-1], final[..., -1], position)
