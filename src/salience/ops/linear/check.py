"""What linear attention refuses, with a sentence on how to mend it."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from salience.core.errors import ConfigError

NAME = "linear_attention"
LAYOUTS = {"bnhd": (0, 1, 2, 3), "bhnd": (0, 2, 1, 3)}


def check_arguments(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None,
    mask: Tensor | None,
    cu_seqlens: Tensor | None,
    initial_state: Any,
    causal: bool,
    output_final_state: bool,
    normalize: bool,
    layout: str,
) -> None:
    """Raise `ConfigError` unless the arguments of ``linear_attention`` fit together."""
    if layout not in LAYOUTS:
        _refuse("got an unknown layout", repr(layout), 'Use "bnhd" or "bhnd".')
    for name, x in (("q", q), ("k", k), ("v", v)):
        _check_tensor(name, x)
    if len({q.dtype, k.dtype, v.dtype}) > 1:
        _refuse("got several dtypes", f"q, k, v: {q.dtype}, {k.dtype}, {v.dtype}.", "Cast them to one dtype.")
    batch, tokens, heads, dim = (q.shape[i] for i in LAYOUTS[layout])
    _check_shapes(q, k, v, layout)
    if log_decay is not None:
        _check_decay(log_decay, (batch, tokens, heads, dim), layout)
    if mask is not None:
        _check_mask(mask, batch, tokens, cu_seqlens)
    if cu_seqlens is not None:
        _check_packing(cu_seqlens, batch, tokens)
    if not causal and (initial_state is not None or output_final_state):
        _refuse(
            "has no state without causal=True", "causal=False.", "Drop initial_state and output_final_state."
        )
    if initial_state is not None:
        sequences = batch if cu_seqlens is None else len(cu_seqlens) - 1
        _check_state(initial_state, q, (sequences, heads, dim, v.shape[-1]), normalize)


def _refuse(what: str, received: str, fix: str) -> None:
    raise ConfigError(f"{NAME} {what}", received, fix) from None


def _check_tensor(name: str, x: Tensor) -> None:
    if x.dim() != 4:
        _refuse(f"wants {name} with 4 axes", f"Shape {tuple(x.shape)}.", "Pass (batch, token, head, dim).")
    if not x.is_floating_point():
        _refuse(f"wants floating-point {name}", f"{x.dtype}.", f"Pass {name}.float().")
    if 0 in x.shape:
        _refuse(f"got an empty {name}", f"Shape {tuple(x.shape)}.", "Pass at least one token, head and dim.")


def _check_shapes(q: Tensor, k: Tensor, v: Tensor, layout: str) -> None:
    (qb, qn, qh, qd), (kb, kn, kh, kd), (vb, vn, vh, _) = (
        tuple(x.shape[i] for i in LAYOUTS[layout]) for x in (q, k, v)
    )
    shapes = f"q, k, v: {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}; layout {layout!r}."
    if not (qb == kb == vb and qn == kn == vn):
        _refuse(
            "got different batches or numbers of tokens",
            shapes,
            "Pass the same for q, k and v, or the other layout.",
        )
    if qd != kd or kh != vh:
        _refuse("got q, k, v that do not fit", shapes, "q and k share the dim, k and v the heads.")
    if qh % kh:
        _refuse("cannot share keys among heads", shapes, "Make q's heads a multiple of k's.")


def _check_decay(log_decay: Tensor, sizes: tuple[int, ...], layout: str) -> None:
    batch, tokens, heads, dim = sizes
    each = (batch, tokens, heads) if layout == "bnhd" else (batch, heads, tokens)
    legal = [(heads,), each, (*each, dim)]
    if tuple(log_decay.shape) not in legal:
        _refuse("got a log_decay of another shape", f"{tuple(log_decay.shape)}.", f"Pass one of {legal}.")
    if not log_decay.is_floating_point():
        _refuse("wants a floating-point log_decay", f"{log_decay.dtype}.", "Pass log_decay.float().")
    if log_decay.is_cuda:
        return
    highest = log_decay.detach().max()  # NaN if there is one
    if not bool(highest <= 0):
        _refuse(
            "got a log_decay that is positive or not a number",
            f"Highest {float(highest):g}.",
            "Pass log(decay), decay in 0…1.",
        )


def _check_mask(mask: Tensor, batch: int, tokens: int, cu_seqlens: Tensor | None) -> None:
    if cu_seqlens is not None:
        _refuse("got both mask and cu_seqlens", "Both.", "Pack real tokens only, or pad and mask.")
    if mask.dtype != torch.bool or tuple(mask.shape) != (batch, tokens):
        _refuse(
            "wants a boolean mask (batch, token)", f"{mask.dtype}, {tuple(mask.shape)}.", "Pass mask.bool()."
        )


def _check_packing(cu_seqlens: Tensor, batch: int, tokens: int) -> None:
    if cu_seqlens.dim() != 1 or cu_seqlens.is_floating_point() or len(cu_seqlens) < 2:
        _refuse("wants cu_seqlens as a list of integers", f"{tuple(cu_seqlens.shape)}.", "Pass 0, …, token.")
    if batch != 1:
        _refuse(
            "packs sequences in a batch of one",
            f"Batch {batch}.",
            "Concatenate the sequences along the token axis.",
        )
    edges = cu_seqlens.tolist()
    if edges[0] != 0 or edges[-1] != tokens or any(a >= b for a, b in itertools.pairwise(edges)):
        _refuse(
            "got cu_seqlens that do not rise from 0 to the number of tokens", f"{edges[:8]}, {tokens} tokens.",
            "Pass cumulative lengths, none of them 0.",
        )  # fmt: skip


def _check_state(state: Any, q: Tensor, shape: tuple[int, ...], normalize: bool) -> None:
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    if tuple(state.S.shape) != shape or state.S.dtype != exact:
        _refuse(
            "got a state that does not fit",
            f"S {tuple(state.S.shape)} {state.S.dtype}.",
            f"Pass S {shape} {exact}.",
        )
    if tuple(state.position.shape) != shape[:1]:
        _refuse(
            "got a state that does not fit", f"position {tuple(state.position.shape)}.", f"Pass {shape[:1]}."
        )
    if normalize and (state.z is None or tuple(state.z.shape) != shape[:3]):
        _refuse(
            "needs the state's z with normalize=True", "No z, or of another shape.", f"Pass z {shape[:3]}."
        )
