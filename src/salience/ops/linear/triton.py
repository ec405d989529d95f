"""Linear attention on a GPU: the Triton backend behind ``linear_attention(mode="triton")``.

Each sequence is cut into segments, as few as fill the device. What a segment adds to the state is computed for all
segments at once, those are joined along the sequence, and then all segments are worked through at once, each with
its state in registers. With enough sequences and heads there is one segment each, and the first step falls away.
Only inputs are kept for the backward pass. Sums have a fixed order: the same inputs give the same bits. A new
length, batch or number of packed sequences compiles nothing.

Not measured: speed, memory and numerics on a GPU. The kernels were checked in Triton's interpreter on a CPU, and
compiled, not run, for compute capability 9.0. Tile sizes and the number of segments follow from arithmetic
about the H100, not from tuning.

Source: Qin et al., "Various Lengths, Constant Speed" (ICML 2024), algorithms 5 and 6, with per-token and per-channel
decays. The published kernel walks each sequence in one program, and its state has one more decay than the one here.
"""

from __future__ import annotations

import functools
import os
from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from salience.core.errors import UnsupportedError
from salience.core.extras import require

MAX_HEAD_DIM = 256
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
NAME = "linear_attention(mode='triton')"


def linear_attention_triton(
    q: Float[Tensor, "batch token head dim"],
    k: Float[Tensor, "batch token head dim"],
    v: Float[Tensor, "batch token head value"],
    log_decay: Tensor | None = None,
    initial_state: Float[Tensor, "sequence head dim value"] | None = None,
    cu_seqlens: Int[Tensor, " boundary"] | None = None,
) -> tuple[Float[Tensor, "batch token head value"], Float[Tensor, "sequence head dim value"]]:
    """Compute the causal recurrence with Triton kernels.

    Products of bfloat16 inputs are in bfloat16 and summed in float32; those of float16 use TF32, because scores and
    states may pass 65504; those of float32 are exact float32. States and decays are float32. All inputs have
    gradients, also through the final state; ``log_decay`` (head) too.

    Args:
        q, k, v: float32, bfloat16 or float16 on a CUDA device; head dims up to 256.
        log_decay: ≤ 0; (head), (batch, token, head) or (batch, token, head, dim); below -50 counts as -50,
            without a gradient.
        initial_state: one row a sequence.
        cu_seqlens: boundaries of packed sequences, with a batch of one.

    Raises:
        MissingExtraError: Triton is not installed.
        UnsupportedError: another dtype, a wider head, or no CUDA device (and not Triton's interpreter).
    """
    dtype = torch.promote_types(torch.promote_types(q.dtype, k.dtype), v.dtype)
    _check(q, v, dtype)
    launch = _launch()
    inputs = [x.to(dtype).contiguous() for x in (q, k, v)]
    decay = (
        q.new_zeros(q.shape[2], dtype=torch.float32) if log_decay is None else log_decay.float().contiguous()
    )
    tracked = torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in (*inputs, log_decay, initial_state)
    )
    with torch.cuda.device_of(q):  # kernels go to the current device
        if q.shape[1] == 1 and cu_seqlens is None and not tracked:
            out, state = launch.decode(*inputs, decay, initial_state)
        else:
            out, state = _LinearAttention.apply(*inputs, decay, initial_state, cu_seqlens)
    return out.to(q.dtype), state


@functools.cache
def _launch() -> ModuleType:
    """Import what imports Triton; once, because looking for a package's version takes longer than a token."""
    require("triton")
    from salience.ops.linear import triton_launch

    return triton_launch


def _check(q: Tensor, v: Tensor, dtype: torch.dtype) -> None:
    widest = max(q.shape[-1], v.shape[-1])
    if widest > MAX_HEAD_DIM:
        fix = "Use more heads, or mode='chunk'."
        raise UnsupportedError(f"{NAME} takes head dims up to {MAX_HEAD_DIM}", f"Got {widest}.", fix)
    if dtype not in DTYPES:
        fix = "Cast them, or use mode='chunk'."
        raise UnsupportedError(f"{NAME} takes float32, bfloat16 or float16", f"Got {dtype}.", fix)
    if not q.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        fix = "Move the tensors to a CUDA device, or use mode='chunk'."
        raise UnsupportedError(f"{NAME} needs tensors on a CUDA device", f"Got {q.device}.", fix)


class _LinearAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, log_decay, initial_state, cu_seqlens):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, k, v, log_decay, initial_state, cu_seqlens)
        return _launch().forward(q, k, v, log_decay, initial_state, cu_seqlens)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out, grad_state):
        q, _, v, _, initial_state, _ = ctx.saved_tensors
        grad_out = torch.zeros_like(v) if grad_out is None else grad_out.to(q.dtype).contiguous()
        with torch.cuda.device_of(q):
            grads = _launch().backward(ctx.saved_tensors, grad_out, grad_state, ctx.needs_input_grad[3])
        d_initial = None if initial_state is None else grads[4].to(initial_state.dtype)
        return *grads[:4], d_initial, None
