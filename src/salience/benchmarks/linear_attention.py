"""Linear attention in all its modes, beside softmax attention and other implementations: time, memory, decoding.

On a CPU the peers are PyTorch's scaled_dot_product_attention, the torch path of transformers' MiniMax lightning
attention, and flash-linear-attention's naive chunk form (its fast ones need a GPU). On CUDA they are
flash-linear-attention's chunk kernel and scaled_dot_product_attention. All see the same inputs, in turns, in one
process; peak memory is taken in fresh processes. The decays are the published model's, eight heads of 64.
A form that took more than two seconds at one length is not run at longer ones. Nothing is asserted.
"""

import json
import statistics
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from salience.benchmarks.measure import (
    fill_to_peak,
    growth,
    interleaved,
    measured_apart,
    once,
    peak_megabytes,
)
from salience.core.progress import Stage

CARD = {
    "key": "linear-attention",
    "kind": "benchmark",
    "title": "Linear attention beside softmax attention and peers",
    "entry": "run",
    "summary": "Forward and backward time, peak memory and time a decoded token, against the number of tokens.",
    "cost": "about four minutes on two idle cores; quick: half a minute",
}
HEADS, DIM, CUDA_BATCH = 8, 64, 4
TOKENS, QUICK_TOKENS = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536), (512, 2048)
MEMORY_TOKENS, QUICK_MEMORY_TOKENS = (4096, 16384, 65536), (1024, 2048)
POSITIONS, QUICK_POSITIONS = (100, 1_000, 10_000, 100_000), (100, 2_000)
REPEATS, QUICK_REPEATS = 7, 3
SECONDS, LIMIT = 6.0, 2.0  # of the repeats at a length; of a step, above which longer inputs are left out
SQUARE_LIMIT = 1024  # tokens: the quadratic form's matrices would not fit above
RECURRENT_LIMIT = 1024  # tokens: its saved states would not fit above
SOFTMAX, SOFTMAX_LIMIT = (
    "torch SDPA (softmax)",
    16384,
)  # tokens: its memory is not measured above, to save time
MEMORY_CODE = (
    "from salience.benchmarks.linear_attention import peak_memory; peak_memory({form!r}, {tokens}, {seed})"
)


def run(quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Measure every form at every length, on CUDA if there is one, else on the CPU.

    Args:
        quick: two lengths, three repeats.
        seed: seed of the inputs.

    Returns:
        ``rows``: one a part (forward, forward and backward, memory, decode), length and method, with median, least
        and most; ``summary``: the ratios; ``device``, ``threads``, ``not_measured``.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    repeats = QUICK_REPEATS if quick else REPEATS
    lengths, memory = (QUICK_TOKENS, QUICK_MEMORY_TOKENS) if quick else (TOKENS, MEMORY_TOKENS)
    positions = QUICK_POSITIONS if quick else POSITIONS
    rows: list[dict[str, Any]] = []
    with Stage("linear attention", 2 * len(lengths) + len(memory) + 1) as stage:
        for part in ("forward", "forward and backward"):
            slow: set[str] = set()
            for tokens in lengths:
                rows += _timed(part, tokens, repeats, seed, device, slow)
                stage.step(f"{part}, {tokens} tokens")
        for tokens in memory if device == "cpu" else ():
            rows += [_memory_row(form, tokens, seed) for form in _memory_forms(tokens)]
            stage.step(f"memory, {tokens} tokens")
        rows += _decoding(positions, 50 * repeats, seed, device)
        stage.step("decoding")
    missing = [] if device == "cuda" else ["GPU: no CUDA device here, so the Triton kernels were not timed."]
    return {
        "rows": rows,
        "summary": _summary(rows),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "not_measured": missing,
    }


# the forms: each takes q, k, v (batch token head dim), requiring gradients, and gives an output to differentiate


def _inputs(tokens: int, seed: int, device: str) -> tuple[Any, ...]:
    import torch

    random = torch.Generator().manual_seed(seed)
    shape = (CUDA_BATCH if device == "cuda" else 1, tokens, HEADS, DIM)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    made = [torch.randn(shape, generator=random).to(device, dtype) for _ in range(4)]
    return *(x.requires_grad_() for x in made[:3]), made[3]


def _forms(tokens: int, device: str) -> dict[str, Callable]:
    forms: dict[str, Callable] = {"ours, chunk": _ours("chunk")}
    if device == "cuda":
        forms = {"ours, triton": _ours("triton"), "ours, chunk": _ours("chunk")}
    if tokens <= RECURRENT_LIMIT and device == "cpu":
        forms["ours, recurrent"] = _ours("recurrent")
    if tokens <= SQUARE_LIMIT:
        forms["ours, quadratic"] = _ours("quadratic")
    forms[SOFTMAX] = _sdpa
    if find_spec("transformers") and device == "cpu":
        forms["transformers MiniMax"] = _minimax()
    if find_spec("fla"):
        forms["fla, chunk" if device == "cuda" else "fla, naive chunk"] = _fla(device)
    return forms


def _log_decay(device: str = "cpu") -> Any:
    from salience.ops.linear.slopes import decay_slopes

    return -decay_slopes(HEADS).float().to(device)


def _ours(mode: str) -> Callable:
    from salience.ops import linear_attention

    return lambda q, k, v: linear_attention(q, k, v, log_decay=_log_decay(q.device.type), mode=mode).out


def _sdpa(q: Any, k: Any, v: Any) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


def _minimax() -> Callable:
    """Return MiniMax's attention with its projections, activation, norm and gate taken out."""
    import torch
    from torch import nn
    from transformers.models.minimax.modeling_minimax import MiniMaxConfig, MiniMaxLightningAttention

    class Open(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.new_full((1,), torch.inf)  # its sigmoid is 1

    settings = {"num_hidden_layers": 2, "layer_types": ["linear_attention"] * 2, "head_dim": DIM}
    config = MiniMaxConfig(hidden_size=HEADS * DIM, num_attention_heads=HEADS, **settings)
    module = MiniMaxLightningAttention(config, 0)
    for name in ("qkv_proj", "act_fn", "norm", "out_proj"):
        setattr(module, name, nn.Identity())
    module.output_gate = Open()

    def attend(q: Any, k: Any, v: Any) -> Any:
        packed = torch.cat([q, k, v], -1).flatten(2)
        return module(packed, None, None)[0].unflatten(-1, (HEADS, DIM))

    return attend


def _fla(device: str) -> Callable:
    if device == "cuda":
        from fla.ops.simple_gla import chunk_simple_gla

        return lambda q, k, v: chunk_simple_gla(q, k, v, g_gamma=_log_decay("cuda"), scale=1.0)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it found no GPU
        from fla.ops.simple_gla.naive import naive_chunk_simple_gla

    def attend(q: Any, k: Any, v: Any) -> Any:
        return naive_chunk_simple_gla(q, k, v, _log_decay().expand(q.shape[:3]), scale=1.0)[0]

    return attend


# time


def _timed(
    part: str, tokens: int, repeats: int, seed: int, device: str, slow: set[str]
) -> list[dict[str, Any]]:
    """Time the forms that are not known to be slow; note those that were, once."""
    forms = {name: form for name, form in _forms(tokens, device).items() if name not in slow}
    steps = {name: _step(form, part, tokens, seed, device) for name, form in forms.items()}
    first = {name: once(step) for name, step in steps.items()}
    repeats = max(1, min(repeats, int(SECONDS / sum(first.values()))))
    seconds = interleaved(steps, repeats)
    slow |= {name for name, taken in seconds.items() if min(taken) > LIMIT}
    ours = statistics.median(seconds["ours, triton" if device == "cuda" else "ours, chunk"])
    return [
        {
            "part": part, "tokens": tokens, "method": name, "value": 1e3 * statistics.median(taken),
            "least": 1e3 * min(taken), "most": 1e3 * max(taken), "unit": "ms",
            "ours_times_faster": statistics.median(taken) / ours,
        }
        for name, taken in seconds.items()
    ]  # fmt: skip


def _step(form: Callable, part: str, tokens: int, seed: int, device: str) -> Callable[[], None]:
    import torch

    q, k, v, grad = _inputs(tokens, seed, device)

    def forward() -> None:
        with torch.no_grad():
            form(q, k, v)
        _wait(device)

    def both() -> None:
        torch.autograd.grad(form(q, k, v), (q, k, v), grad)
        _wait(device)

    return forward if part == "forward" else both


def _wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


# memory


def _memory_forms(tokens: int) -> list[str]:
    left_out = ("recurrent", "quadratic", "fla, naive chunk")  # their time grows with the square
    forms = [name for name in _forms(tokens, "cpu") if not name.endswith(left_out)]
    return [name for name in forms if name != SOFTMAX or tokens <= SOFTMAX_LIMIT]


def _memory_row(form: str, tokens: int, seed: int) -> dict[str, Any]:
    value = measured_apart(MEMORY_CODE.format(form=form, tokens=tokens, seed=seed))
    part = "memory of forward and backward"
    return {"part": part, "tokens": tokens, "method": form, "value": value, "unit": "MB"}


def peak_memory(form: str, tokens: int, seed: int) -> None:
    """Write to standard output by how many MiB a step raises this process's peak, above inputs and gradients.

    A short step comes first, so that libraries are loaded and threads started.
    """
    attend = _forms(tokens, "cpu")[form]
    _step(attend, "both", 256, seed, "cpu")()
    step = _step(attend, "both", tokens, seed, "cpu")
    ballast = fill_to_peak()
    before = peak_megabytes()
    step()
    sys.stdout.write(json.dumps(peak_megabytes() - before))
    del ballast


# decoding


def _decoding(positions: tuple[int, ...], repeats: int, seed: int, device: str) -> list[dict[str, Any]]:
    """Time one more token after a prompt of each length: ours from its state, softmax from its keys and values."""
    import torch

    prompts = {n: [x.detach() for x in _inputs(n, seed, device)[:3]] for n in positions}
    methods = {
        "ours": {n: _decode_ours(*prompt, device) for n, prompt in prompts.items()},
        "ours, language model": {n: _decode_model(n, seed, device) for n in positions},
        SOFTMAX: {n: _decode_sdpa(*prompt, device) for n, prompt in prompts.items()},
    }
    seconds = {}
    with torch.no_grad():
        for (
            method,
            steps,
        ) in methods.items():  # apart: softmax empties the processor's cache for what comes next
            found = interleaved({f"{method}|{n}": step for n, step in steps.items()}, repeats)
            seconds |= found
    rows = []
    for key, taken in seconds.items():
        method, _, tokens = key.partition("|")
        least, most = (1e3 * statistics.quantiles(taken, n=20)[i] for i in (0, -1))
        rows.append(
            {"part": "decode a token", "tokens": int(tokens), "method": method, "unit": "ms",
             "value": 1e3 * statistics.median(taken), "least": least, "most": most}
        )  # fmt: skip
    return rows


def _decode_ours(q: Any, k: Any, v: Any, device: str) -> Callable[[], None]:
    from salience.ops import linear_attention

    decay = _log_decay(device)
    state = linear_attention(q, k, v, log_decay=decay, output_final_state=True).state
    token = (q[:, -1:], k[:, -1:], v[:, -1:])

    def step() -> None:
        linear_attention(*token, log_decay=decay, initial_state=state, output_final_state=True)
        _wait(device)

    return step


def _decode_sdpa(q: Any, k: Any, v: Any, device: str) -> Callable[[], None]:
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v = q[:, -1:].transpose(1, 2), k.transpose(1, 2).contiguous(), v.transpose(1, 2).contiguous()

    def step() -> None:
        scaled_dot_product_attention(q, k, v)
        _wait(device)

    return step


def _decode_model(tokens: int, seed: int, device: str) -> Callable[[], None]:
    """Return a step that goes on by one token behind a prompt, with a small TransNormer."""
    import torch

    from salience.models.language_models.generate import prefill
    from salience.models.language_models.transnormer import TransNormer

    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TransNormer.preset("tiny", vocab_size=256).to(device).eval()
    ids = torch.randint(256, (1, tokens), generator=random)
    _, cache = prefill(model, ids.tolist())
    last = ids[:, -1:].to(device)

    def step() -> None:
        model(last, cache=cache)
        _wait(device)

    return step


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Say the ratios that matter: against each peer, the growth of memory, and late beside early tokens."""
    summary: dict[str, Any] = {}
    both = [row for row in rows if row["part"] == "forward and backward"]
    for peer in (SOFTMAX, "transformers MiniMax", "fla, naive chunk", "fla, chunk"):
        ratios = {row["tokens"]: round(row["ours_times_faster"], 2) for row in both if row["method"] == peer}
        if ratios:
            summary[f"ours, times as fast as {peer}, forward and backward, by tokens"] = ratios
    memory = [row for row in rows if row["part"].startswith("memory") and row["method"] == "ours, chunk"]
    if memory:
        summary["ours, peak memory grows with tokens to the power"] = round(growth(memory), 2)
    for method in ("ours", "ours, language model", SOFTMAX):
        times = {
            row["tokens"]: row["value"]
            for row in rows
            if row["part"].startswith("decode") and row["method"] == method
        }
        summary[f"{method}, a token at position {max(times)}, relative to {min(times)}"] = round(
            times[max(times)] / times[min(times)], 3
        )
    return summary
