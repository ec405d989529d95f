"""Triton kernels of linear attention, in Triton's interpreter, against the quadratic form in float64."""

import itertools
import os
import subprocess
import sys
import textwrap
from importlib import metadata
from importlib.util import find_spec

import pytest
import torch

from salience.core.errors import MissingExtraError, UnsupportedError
from salience.ops.linear.triton import linear_attention_triton

CORE = "salience.ops.linear.triton:linear_attention_triton"
PUBLIC = "salience.ops.linear.attention:linear_attention"
MANY_SEGMENTS = {"salience.ops.linear.triton_launch:SHORTEST": 1}
CHUNK = 16  # of float32 inputs
KINDS = ("none", "head", "token", "channel")


def oracle(q, k, v, log_decay=None, initial_state=None, cu_seqlens=None):
    """All pairs of tokens, written out; float64."""
    batch, tokens, heads, dim = q.shape
    decay = torch.zeros(heads, dtype=q.dtype) if log_decay is None else log_decay
    decay = decay[None, None] if decay.dim() == 1 else decay
    decay = (decay if decay.dim() == 4 else decay[..., None]).expand(batch, tokens, heads, dim)
    edges = [0, tokens] if cu_seqlens is None else cu_seqlens.tolist()
    outs, states = [], []
    for i, (a, b) in enumerate(itertools.pairwise(edges)):
        rows = slice(None) if cu_seqlens is None else slice(i, i + 1)
        first = torch.zeros(batch, heads, dim, v.shape[-1]).to(q)
        first = first if initial_state is None else initial_state[rows]
        total = decay[:, a:b].cumsum(1)
        later = torch.ones(b - a, b - a, dtype=torch.bool).triu(1)[None, :, :, None, None]
        gap = (total[:, :, None] - total[:, None]).masked_fill(later, -torch.inf)
        weights = torch.einsum("bthd,bshd,btshd->bhts", q[:, a:b], k[:, a:b], gap.exp())
        read = torch.einsum("bthd,bhde->bthe", q[:, a:b] * total.exp(), first)
        outs.append(torch.einsum("bhts,bshe->bthe", weights, v[:, a:b]) + read)
        left = k[:, a:b] * (total[:, -1:] - total).exp()
        new = torch.einsum("bshd,bshe->bhde", left, v[:, a:b])
        states.append(total[:, -1].exp()[..., None] * first + new)
    return torch.cat(outs, 1), torch.cat(states)


def sample(kind, tokens, *, batch=1, heads=1, dim=12, value=20, sequences=None, state=True, seed=0):
    """Random q, k, v, log_decay, initial state."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    shapes = {"head": (heads,), "token": (batch, tokens, heads), "channel": (batch, tokens, heads, dim)}
    decay = -0.3 * torch.rand(shapes[kind], generator=generator) if kind != "none" else None
    q, k = (normal(batch, tokens, heads, dim) / dim**0.5 for _ in range(2))
    first = normal(sequences or batch, heads, dim, value) if state else None
    return q, k, normal(batch, tokens, heads, value), decay, first


def projections(inputs, sequences, seed=1):
    """Random weights of output and final state: their sum is what is differentiated."""
    generator = torch.Generator().manual_seed(seed)
    q, _, v = inputs[:3]
    shapes = v.shape, (sequences, q.shape[2], q.shape[3], v.shape[3])
    return [torch.randn(shape, generator=generator) for shape in shapes]


def expected(inputs, weights, cu_seqlens=None):
    """Outputs and gradients of the oracle."""
    wide = [None if x is None else x.double().requires_grad_() for x in inputs]
    outputs = oracle(*wide, cu_seqlens)
    total = sum((x * w.double()).sum() for x, w in zip(outputs, weights, strict=True) if w is not None)
    live = [x for x in wide if x is not None]
    return [x.detach() for x in outputs], list(torch.autograd.grad(total, live, allow_unused=True))


def total_decay_gradient(inputs, weights, cu_seqlens):
    """Sum of absolute gradients of a decay for each head, token by token."""
    q, k, v, decay, first = inputs
    by_token = decay.expand(*q.shape[:3]).contiguous()
    _, grads = expected((q, k, v, by_token, first), weights, cu_seqlens)
    return float(grads[3].abs().sum((0, 1)).max())


def check(interpreter, inputs, cu_seqlens=None, *, tolerance=1e-5, settings=None):
    """Compare outputs and all gradients, each in units of its largest number (at least one)."""
    sequences = inputs[0].shape[0] if cu_seqlens is None else len(cu_seqlens) - 1
    weights = projections(inputs, sequences)
    answer = interpreter(CORE, *inputs, cu_seqlens, weights=weights, settings=settings)
    outputs, grads = expected(inputs, weights, cu_seqlens)
    names = [
        "out",
        "state",
        *(n for n, x in zip(("q", "k", "v", "decay", "first"), inputs, strict=True) if x is not None),
    ]
    got = answer["outputs"] + answer["grads"]
    for name, mine, theirs in zip(names, got, outputs + grads, strict=True):
        scale = max(1.0, float(theirs.abs().max()))
        if name == "decay" and theirs.dim() == 1:  # a sum of the tokens' gradients, which have both signs
            scale = max(scale, total_decay_gradient(inputs, weights, cu_seqlens))
        error = float((mine.double() - theirs).abs().max()) / scale
        assert error <= tolerance, f"{name}: {error:.1e}"
    return answer


@pytest.mark.parametrize("tokens", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_all_gradients(interpreter, kind, tokens):
    check(interpreter, sample(kind, tokens))


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_joined_over_segments(interpreter, kind):
    """Three segments of one chunk: the state reaches the output through the joined boundaries."""
    check(interpreter, sample(kind, 2 * CHUNK + 5, dim=9), settings=MANY_SEGMENTS)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences_do_not_touch(interpreter, kind):
    edges = torch.tensor([0, 1, CHUNK + 3, 2 * CHUNK + 3])
    check(interpreter, sample(kind, int(edges[-1]), sequences=3, dim=9), edges, settings=MANY_SEGMENTS)


def test_batches_heads_and_slices_of_wide_values(interpreter):
    """Two programs share the value's, and in the backward pass the key's, channels."""
    check(interpreter, sample("token", 6, batch=2, heads=2, dim=40, value=50))


@pytest.mark.parametrize(("dim", "value"), [(1, 1), (3, 1), (17, 2), (256, 16), (16, 256)])
def test_head_dims(interpreter, dim, value):
    check(interpreter, sample("token", 5, dim=dim, value=value))


def test_wide_heads_with_a_decay_for_each_channel(interpreter):
    check(interpreter, sample("channel", 5, dim=70, value=70))


@pytest.mark.parametrize("kind", ["none", "head", "token"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(interpreter, dtype, kind):
    """Rounded inputs are compared, so that only the products and the results are rounded."""
    inputs = sample(kind, 64 + 3, dim=12, value=12)
    inputs = [x.to(dtype) for x in inputs[:3]] + list(inputs[3:])
    answer = check(interpreter, inputs, tolerance=2e-2 if dtype is torch.bfloat16 else 2e-3)
    assert [x.dtype for x in answer["outputs"]] == [dtype, torch.float32]
    assert {x.dtype for x in answer["grads"][:3]} == {dtype}
    assert {x.dtype for x in answer["grads"][3:]} == {torch.float32}


def test_half_precision_with_a_decay_for_each_channel(interpreter):
    inputs = sample("channel", 20, dim=8, value=8)
    check(interpreter, [x.bfloat16() for x in inputs[:3]] + list(inputs[3:]), tolerance=2e-2)


def test_float16_states_may_pass_its_largest_number(interpreter):
    """Scores and states above 65504, with an output below."""
    ones = torch.ones(1, 20, 1, 8)
    q, k, v = (ones * x for x in (1e-4, 250.0, 250.0))
    out, state = interpreter(CORE, *(x.half() for x in (q, k, v)))["outputs"]
    wanted, _ = oracle(*(x.half().double() for x in (q, k, v)))
    assert state.max() > 1e6
    torch.testing.assert_close(out.double(), wanted, rtol=2e-3, atol=0)


@pytest.mark.parametrize("through", [0, 1])
def test_gradients_through_one_output_only(interpreter, through):
    inputs = sample("token", CHUNK + 1)
    weights = projections(inputs, 1)
    weights[1 - through] = None
    answer = interpreter(CORE, *inputs, weights=weights)
    _, grads = expected(inputs, weights)
    for mine, theirs in zip(answer["grads"], grads, strict=True):
        theirs = torch.zeros_like(mine) if theirs is None else theirs
        torch.testing.assert_close(mine.double(), theirs.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_decode_is_the_recurrence(interpreter, kind):
    """Tokens one by one, from state to state, give the outputs and the final state of all at once."""
    q, k, v, decay, state = sample(kind, 5, batch=2, heads=2, dim=9, value=35)
    wide = [None if x is None else x.double() for x in (q, k, v, decay, state)]
    wanted, final = oracle(*wide)
    for t in range(5):
        now = slice(t, t + 1)
        step = decay if decay is None or decay.dim() == 1 else decay[:, now]
        out, state = interpreter(CORE, q[:, now], k[:, now], v[:, now], step, state)["outputs"]
        torch.testing.assert_close(out.double(), wanted[:, now], rtol=0, atol=1e-5)
    torch.testing.assert_close(state.double(), final, rtol=0, atol=1e-5)


def test_decode_starts_without_a_state_in_bfloat16(interpreter):
    q, k, v, decay, _ = sample("token", 1)
    q, k, v = (x.bfloat16() for x in (q, k, v))
    out, state = interpreter(CORE, q, k, v, decay)["outputs"]
    wanted, final = oracle(*(x.double() for x in (q, k, v)))
    assert out.dtype is torch.bfloat16
    torch.testing.assert_close(out.double(), wanted, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(state.double(), final, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["head", "token", "channel"])
def test_strong_decay_stays_finite(interpreter, kind):
    """exp(+sum of decays) would overflow within a chunk; exp of differences does not."""
    q, k, v, decay, first = sample(kind, CHUNK + 3)
    check(interpreter, (q, k, v, decay * 100, first), tolerance=5e-5)  # of numbers that cancel


@pytest.mark.parametrize("kind", ["token", "channel"])
def test_minus_infinity_forgets_all(interpreter, kind):
    """A reset in the middle of a chunk equals a boundary of packed sequences."""
    q, k, v, decay, _ = sample(kind, CHUNK + 4, state=False)
    reset = decay.clone()
    reset[:, 5] = -torch.inf
    apart = decay.clone()
    apart[:, 5] = 0.0
    edges = torch.tensor([0, 5, CHUNK + 4])
    weights = projections((q, k, v), 2)
    answer = interpreter(CORE, q, k, v, reset, weights=[weights[0], weights[1][1:]])
    weights[1][:1] = 0  # what the first part leaves behind is lost
    (out, states), grads = expected((q, k, v, apart, None), weights, edges)
    grads[3][:, 5] = 0
    wanted = [out, states[1:], *grads]
    for mine, theirs in zip(answer["outputs"] + answer["grads"], wanted, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=0, atol=5e-5)
    assert answer["grads"][3][:, 5].abs().max() == 0


def test_inputs_that_are_not_contiguous(interpreter):
    inputs = sample("channel", CHUNK + 1, heads=2, dim=8, value=8)
    turned = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs[:4]]
    assert not turned[0].is_contiguous()
    for mine, theirs in zip(
        interpreter(CORE, *turned)["outputs"], interpreter(CORE, *inputs[:4])["outputs"], strict=True
    ):
        assert torch.equal(mine, theirs)


def test_only_inputs_are_kept_for_the_backward_pass(interpreter):
    inputs = sample("token", 3 * CHUNK)
    answer = interpreter(CORE, *inputs, weights=projections(inputs, 1))
    assert answer["saved"] == [tuple(x.shape) for x in inputs]


def test_the_public_function_reaches_the_kernels_with_mask_and_shared_heads(interpreter):
    """Masked tokens give zeros, get zero gradients, and do not touch the others."""
    q, k, v, decay, _ = sample("token", 12, batch=2, heads=2, dim=8, value=8)
    k, v = k[:, :, :1], v[:, :, :1]
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[0, 3:6] = mask[1, 9:] = False
    weights = [torch.randn(2, 12, 2, 8, generator=torch.Generator().manual_seed(3))]
    results = {
        mode: interpreter(PUBLIC, q, k, v, log_decay=decay, mask=mask, mode=mode, weights=weights)
        for mode in ("triton", "quadratic")
    }
    for mine, theirs in zip(*(r["outputs"] + r["grads"] for r in results.values()), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)
    for x in results["triton"]["outputs"] + results["triton"]["grads"]:
        assert x[~mask].abs().max() == 0


def test_the_public_function_both_ways_and_normalized(interpreter):
    q, k, v, _, _ = sample("none", 20, dim=8, value=8)
    options = {"causal": False, "normalize": True, "feature_map": "elu+1"}
    mine, theirs = (
        interpreter(PUBLIC, q, k, v, mode=m, **options)["outputs"][0] for m in ("triton", "quadratic")
    )
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)


def run_apart(code, folder):
    """Run a script that Triton's interpreter has no part in; return its lines as name → value."""
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(folder), "TRITON_DEFAULT_FP_FUSION": "1"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return dict(line.split() for line in done.stdout.splitlines())


# A stand-in for a CUDA device of compute capability 9.0, on which kernels are prepared and not launched.
DEVICE = """
    import sys, torch
    import salience.ops.linear.triton
    print("imported", int("triton" in sys.modules))
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver

    class Device:
        def get_current_target(self): return GPUTarget("cuda", 90, 32)
        def get_current_device(self): return 0
        def get_current_stream(self, device): return 0

    driver.set_active(Device())
    from salience.ops.linear import triton_kernels as kernels, triton_launch as launch

    class Dry:
        def __init__(self, kernel):
            self.kernel = kernel
        def cache(self):
            return self.kernel.device_caches[0][0]
        def __getitem__(self, grid):
            return lambda *args, **options: self.kernel.warmup(*args, grid=grid, **options)

    names = ["scan_kernel", "join_kernel", "decay_gradient_kernel", "decode_kernel"]
    dry = [Dry(getattr(kernels, name)) for name in names]
    for name, kernel in zip(names, dry):
        setattr(kernels, name, kernel)
"""
KEYS = """
    for kernel in dry:  # the key is kept, nothing is compiled
        kernel.kernel._do_compile = lambda key, *rest, kernel=kernel: kernel.cache().setdefault(key, object())

    def run(batch, tokens, edges=None):
        q = torch.zeros(batch, tokens, 2, 32)
        decay = torch.zeros(batch, tokens, 2)
        state = torch.zeros(batch if edges is None else len(edges) - 1, 2, 32, 32)
        edges = edges if edges is None else torch.tensor(edges)
        launch.forward(q, q, q, decay, state, edges)
        launch.backward((q, q, q, decay, state, edges), q, state, True)
        if edges is None:
            launch.decode(q[:, :1], q[:, :1], q[:, :1], decay[:, :1], state)

    def count(word):
        print(word, sum(len(kernel.cache()) for kernel in dry))

    run(2, 1000); run(1, 1)
    count("first")
    for batch, tokens in ((1, 2), (1, 16), (3, 17), (5, 64), (1, 4096), (16, 5001)):
        run(batch, tokens)
    count("again")
    run(1, 300, [0, 100, 300])
    count("packed")
    run(1, 4096, [0, 1, 16, 17, 4096]); run(1, 1, [0, 1]); run(1, 16, list(range(17)))
    count("packed-again")
"""
COMPILE = """
    q = torch.zeros(1, 300, 1, 16, dtype=torch.bfloat16)
    state = torch.zeros(2, 1, 16, 16)
    by_head, by_token, by_channel = torch.zeros(1), torch.zeros(1, 300, 1), torch.zeros(1, 300, 1, 16)
    launch.forward(q, q, q, by_head, state, torch.tensor([0, 100, 300]))
    launch.forward(q, q, q, by_token, state[:1], None)
    launch.backward((q, q, q, by_channel, state[:1], None), q, state[:1], True)
    launch.decode(q[:, :1], q[:, :1], q[:, :1], by_channel[:, :1], state[:1])
    for name, kernel in zip(names, dry):
        compiled = list(kernel.cache().values())
        print(name, len(compiled))
        assert all(".target sm_90a" in x.asm["ptx"] and len(x.asm["cubin"]) for x in compiled)
        assert all(x.metadata.shared <= 232448 for x in compiled)  # bytes a program may have there
"""


def test_a_new_length_compiles_nothing(tmp_path):
    """The keys under which Triton keeps compiled kernels are the same for every length, batch and packing.

    Importing the backend alone does not import Triton.
    """
    # scan_kernel: two states, output, dq, dk, dv; and output, dq, dv of a single segment, which write the end; join_kernel
    # in both directions; decay_gradient_kernel; decode_kernel. Packed, which has no single segments and no decode: 9 more.
    counts = run_apart(DEVICE + KEYS, tmp_path)
    assert counts == {"imported": "0", "first": "13", "again": "13", "packed": "22", "packed-again": "22"}


@pytest.mark.slow
def test_kernels_compile_for_compute_capability_9(tmp_path):
    """The compiler refuses some of what the interpreter runs."""
    # scan_kernel: state and output, twice, then two states, dq, dk, dv; join_kernel: three forward and one backward
    counts = run_apart(DEVICE + COMPILE, tmp_path)
    assert counts == {
        "imported": "0",
        "scan_kernel": "9",
        "join_kernel": "4",
        "decay_gradient_kernel": "1",
        "decode_kernel": "1",
    }


def test_refusals(monkeypatch):
    q = torch.zeros(1, 2, 1, 4)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UnsupportedError, match="needs tensors on a CUDA device"):
        linear_attention_triton(q, q, q)
    with pytest.raises(UnsupportedError, match="float32, bfloat16 or float16"):
        linear_attention_triton(*[q.double()] * 3)
    with pytest.raises(UnsupportedError, match=r"Got torch\.float64"):
        linear_attention_triton(q, q.double(), q)
    with pytest.raises(UnsupportedError, match=r"head dims up to 256\. Got 257"):
        linear_attention_triton(q, q, torch.zeros(1, 2, 1, 257))


def test_a_missing_triton_is_named(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr("salience.core.extras.metadata.version", absent)
    q = torch.zeros(1, 2, 1, 4)
    with pytest.raises(MissingExtraError, match=r"salience\[gpu\]"):
        linear_attention_triton(q, q, q)
