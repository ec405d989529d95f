"""DiSAN's exact attention, streamed and plain, beside Fast-DiSA: time and memory against text length.

The plain form builds the (batch, token, token, dim) tensor with ordinary torch operations; it is the named
peer, since no maintained PyTorch package offers feature-wise token-to-token attention. All forms see the same
inputs, in turns, in one process. Memory is measured in fresh processes. Nothing is asserted: times depend on
the machine.
"""

import json
import statistics
import sys
from collections.abc import Callable
from typing import Any

from salience.benchmarks.measure import fill_to_peak, growth, interleaved, measured_apart, peak_megabytes
from salience.core.progress import Stage

CARD = {
    "key": "disan",
    "kind": "benchmark",
    "title": "DiSAN: streamed, plain and Fast-DiSA",
    "entry": "run",
    "summary": "Forward and backward time of one attention and of the whole encoder, and peak memory,"
    " against the number of tokens.",
    "cost": "about two minutes on two idle cores; quick: 20 seconds",
}
DIM, BATCH = 100, 64
TOKENS, QUICK_TOKENS = (16, 32, 64, 128, 256), (16, 64)
MEMORY_TOKENS, QUICK_MEMORY_TOKENS, MEMORY_BATCH = (64, 128, 256), (64, 128), 8
REPEATS, QUICK_REPEATS = 5, 3
PAIR_TENSOR_MB = 128  # larger batches are made smaller, for all forms alike, so that the plain form fits
MEMORY_CODE = "from salience.benchmarks.disan import peak_memory; peak_memory({op!r}, {tokens}, {seed})"


def run(quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Measure every form at every length.

    Args:
        quick: two lengths, three repeats.
        seed: seed of inputs and initial weights.

    Returns:
        ``rows``: one a part (``attention``: one direction; ``encoder``: both, with all maps), length and
        method, with milliseconds (median, least, most) and the ratio to the plain form, then megabytes;
        ``summary``: the ratios.
    """
    lengths = QUICK_TOKENS if quick else TOKENS
    memory_lengths = QUICK_MEMORY_TOKENS if quick else MEMORY_TOKENS
    rows: list[dict[str, Any]] = []
    with Stage("attention", 2 * len(lengths) + 2 * len(memory_lengths)) as stage:
        for part, build in (("attention", _attention_forms), ("encoder", _encoder_forms)):
            for tokens in lengths:
                rows += _timed_rows(part, build, tokens, QUICK_REPEATS if quick else REPEATS, seed)
                stage.step(f"{part}, {tokens} tokens")
        for op in ("naive", "fast"):
            for tokens in memory_lengths:
                rows.append(_memory_row(op, tokens, seed))
                stage.step(f"memory, {op}, {tokens} tokens")
    return {"rows": rows, "summary": _summary(rows)}


def batch_for(tokens: int) -> int:
    """Return the rows of a batch: 64, or fewer where the plain form's tensor would pass 128 MB."""
    return max(1, min(BATCH, PAIR_TENSOR_MB * 2**20 // (4 * tokens * tokens * DIM)))


def _attention_forms(tokens: int, seed: int) -> dict[str, Callable[[], None]]:
    """Forward and backward of one direction over full texts."""
    from salience.ops.token2token import fast, naive

    return {
        "naive": _attention_step(naive.token2token, batch_for(tokens), tokens, seed),
        "fast": _attention_step(fast.token2token, batch_for(tokens), tokens, seed),
    }


def _attention_step(op: Callable, batch: int, tokens: int, seed: int) -> Callable[[], None]:
    import torch

    random = torch.Generator().manual_seed(seed)
    *inputs, weight = (torch.randn(batch, tokens, DIM, generator=random) for _ in range(4))
    inputs = [tensor.requires_grad_() for tensor in inputs]
    mask = torch.ones(batch, tokens, dtype=torch.bool)
    return lambda: torch.autograd.grad(op(*inputs, mask, "forward"), inputs, weight)


def _encoder_forms(tokens: int, seed: int) -> dict[str, Callable[[], None]]:
    """Forward and backward of the whole encoder, gradients of all weights and of the input."""
    import torch

    from salience.nn.attention.self_attention.disa import DiSAN
    from salience.nn.attention.self_attention.fast_disa import FastDiSAN

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        exact, quick = DiSAN(DIM, DIM, op="fast"), FastDiSAN(DIM, DIM)
        plain = DiSAN(DIM, DIM, op="naive")
    plain.load_state_dict(exact.state_dict())
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(batch_for(tokens), tokens, DIM, generator=random).requires_grad_()
    mask = torch.ones(x.shape[:2], dtype=torch.bool)

    def step(model: Any) -> Callable[[], None]:
        wanted = [x, *model.parameters()]
        return lambda: torch.autograd.grad(model(x, mask)[1].square().mean(), wanted)

    return {"naive": step(plain.eval()), "fast": step(exact.eval()), "Fast-DiSA": step(quick.eval())}


def _timed_rows(part: str, build: Callable, tokens: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    import torch

    seconds = interleaved(build(tokens, seed), repeats)
    plain = statistics.median(seconds["naive"])
    settings = {"part": part, "tokens": tokens, "batch": batch_for(tokens), "dim": DIM}
    return [
        {
            **settings,
            "method": method,
            "threads": torch.get_num_threads(),
            "value": 1e3 * statistics.median(taken),
            "least": 1e3 * min(taken),
            "most": 1e3 * max(taken),
            "unit": "ms",
            "times_faster_than_naive": plain / statistics.median(taken),
        }
        for method, taken in seconds.items()
    ]


def _memory_row(op: str, tokens: int, seed: int) -> dict[str, Any]:
    value = measured_apart(MEMORY_CODE.format(op=op, tokens=tokens, seed=seed))
    settings = {"part": "attention, memory", "tokens": tokens, "batch": MEMORY_BATCH, "dim": DIM}
    return {**settings, "method": op, "value": value, "unit": "MB"}


def peak_memory(op: str, tokens: int, seed: int) -> None:
    """Write to standard output by how many megabytes one step raises the peak of this process.

    A step on two tokens comes first, so that libraries are loaded and threads started. Importing leaves a peak above
    what is in use then; ballast fills that gap, so that everything the step needs on top shows.
    """
    from importlib import import_module

    function = import_module(f"salience.ops.token2token.{op}").token2token
    _attention_step(function, 2, 2, seed)()
    step = _attention_step(function, MEMORY_BATCH, tokens, seed)
    ballast = fill_to_peak()
    before = peak_megabytes()
    step()
    sys.stdout.write(json.dumps(peak_megabytes() - before))
    del ballast


def _summary(rows: list[dict[str, Any]]) -> str:
    timed = [row for row in rows if row["unit"] == "ms"]
    longest = max(row["tokens"] for row in timed)
    faster = {(row["part"], row["method"], row["tokens"]): row["times_faster_than_naive"] for row in timed}
    powers = {
        op: growth([row for row in rows if row["unit"] == "MB" and row["method"] == op])
        for op in ("naive", "fast")
    }
    return (
        f"Streamed attention: {faster['attention', 'fast', 64]:.1f} times as fast as the plain form at 64 tokens, "
        f"{faster['attention', 'fast', longest]:.1f} times at {longest}. "
        f"Whole encoder at 64 tokens: {faster['encoder', 'fast', 64]:.1f} times, "
        f"with Fast-DiSA {faster['encoder', 'Fast-DiSA', 64]:.1f} times. "
        f"Peak memory grows with tokens to the power {powers['fast']:.1f} (plain: {powers['naive']:.1f})."
    )
