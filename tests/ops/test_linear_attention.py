"""Linear attention: backends agree, gradients check, padding and packing change nothing, bad input is named."""

import itertools

import pytest
import torch

from salience.core.errors import ConfigError
from salience.ops import LinearAttentionState, contribution, linear_attention, top_contributions
from salience.ops.linear import chunk as chunk_module

MODES = ("chunk", "recurrent", "quadratic")
DECAYS = ("none", "fixed", "scalar", "channel")
C = 16
LENGTHS = (1, 2, C - 1, C, C + 1, 3 * C + 5)


def inputs(n, *, batch=2, heads=2, dim=4, value=5, seed=0, dtype=torch.float64, scale=1.0):
    random = torch.Generator().manual_seed(seed)
    widths = (dim, dim, value)
    made = (torch.randn(batch, n, heads, w, generator=random, dtype=torch.float64) for w in widths)
    return [(x * scale).to(dtype).requires_grad_() for x in made]


def decay(kind, q, seed=1):
    batch, n, heads, dim = q.shape
    shape = {"fixed": (heads,), "scalar": (batch, n, heads), "channel": (batch, n, heads, dim)}.get(kind)
    if shape is None:
        return None
    random = torch.Generator().manual_seed(seed)
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    return (-torch.rand(shape, generator=random, dtype=torch.float64)).to(exact).requires_grad_()


def state_for(q, v, sequences=None, seed=2, normalize=False):
    shape = (sequences or q.shape[0], q.shape[2], q.shape[3], v.shape[3])
    random = torch.Generator().manual_seed(seed)
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    s = torch.rand(shape, generator=random, dtype=torch.float64).to(exact).requires_grad_()
    z = s.detach()[..., 0].clone().requires_grad_() if normalize else None
    return LinearAttentionState(s, z, torch.zeros(shape[0], dtype=torch.long))


def everything(q, k, v, g, state, **options):
    """Return output, final state and the gradients of all inputs, for fixed random gradients of both."""
    result = linear_attention(q, k, v, log_decay=g, initial_state=state, output_final_state=True, **options)
    ends = [result.out, result.state.S] + ([result.state.z] if state and state.z is not None else [])
    random = torch.Generator().manual_seed(7)
    grads = [torch.randn(x.shape, generator=random, dtype=torch.float64).to(x) for x in ends]
    wanted = [x for x in (q, k, v, g, state and state.S, state and state.z) if x is not None]
    return [*ends, *torch.autograd.grad(ends, wanted, grads)]


def close(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        a, b = a.detach().double(), b.detach().double()
        assert float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("kind", DECAYS)
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_modes_agree_on_outputs_states_and_gradients(kind, n, dtype, tolerance):
    q, k, v = inputs(n, dtype=dtype)
    g, state = decay(kind, q), state_for(q, v)
    exact = [x if x is None else x.detach().double().requires_grad_() for x in (q, k, v, g, state.S)]
    oracle_state = LinearAttentionState(exact[4], None, state.position)
    oracle = everything(*exact[:4], oracle_state, mode="quadratic")
    for mode in MODES:
        close(everything(q, k, v, g, state, mode=mode, chunk_size=C), oracle, tolerance)


@pytest.mark.parametrize("kind", DECAYS)
@pytest.mark.parametrize("normalize", [False, True])
def test_gradcheck(kind, normalize):
    q, k, v = inputs(7, batch=1, dim=2, value=3)
    g, state = decay(kind, q), state_for(q, v, normalize=normalize)
    z = [state.z] if normalize else []
    feature_map = "elu+1" if normalize else None

    def run(q, k, v, s, *rest):
        start = LinearAttentionState(s, rest[0] if normalize else None, state.position)
        result = linear_attention(
            q, k, v, log_decay=rest[-1] if g is not None else None, initial_state=start, mode="chunk",
            output_final_state=True, chunk_size=3, normalize=normalize, feature_map=feature_map,
        )  # fmt: skip
        return (result.out, result.state.S) + ((result.state.z,) if normalize else ())

    arguments = [q, k, v, state.S, *z, *([g] if g is not None else [])]
    assert torch.autograd.gradcheck(run, arguments)


@pytest.mark.parametrize("kind", DECAYS)
def test_gradcheck_of_the_bidirectional_form(kind):
    q, k, v = inputs(5, batch=1, dim=2, value=2)
    g = decay(kind, q)

    def run(q, k, v, *g):
        return linear_attention(q, k, v, log_decay=g[0] if g else None, causal=False, chunk_size=2).out

    assert torch.autograd.gradcheck(run, [q, k, v, *([g] if g is not None else [])])


@pytest.mark.parametrize("kind", DECAYS)
@pytest.mark.parametrize("mode", ["chunk", "recurrent", "quadratic"])
@pytest.mark.parametrize("normalize", [False, True])
def test_a_split_at_any_point_equals_the_whole(kind, mode, normalize):
    n = 21
    q, k, v = inputs(n)
    g = decay(kind, q)
    options = {"mode": mode, "chunk_size": 8, "normalize": normalize, "output_final_state": True}
    options["feature_map"] = "elu+1" if normalize else None
    whole = linear_attention(q, k, v, log_decay=g, **options)
    for cut in (1, 7, 8, 13, 20):
        state, outs = None, []
        for part in (slice(0, cut), slice(cut, n)):
            piece = g if g is None or g.dim() == 1 else g[:, part]
            result = linear_attention(
                q[:, part], k[:, part], v[:, part], log_decay=piece, initial_state=state, **options
            )
            state, outs = result.state, [*outs, result.out]
        close([torch.cat(outs, 1), state.S], [whole.out, whole.state.S], 1e-10)
        assert state.position.tolist() == [n, n]


PADDINGS = {
    "left": [False] * 4 + [True] * 9,
    "right": [True] * 9 + [False] * 4,
    "interior": [True] * 3 + [False] * 2 + [True] * 4 + [False] * 2 + [True] * 2,
}


@pytest.mark.parametrize("kind", DECAYS)
@pytest.mark.parametrize("where", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{}, {"normalize": True, "feature_map": "elu+1"}, {"causal": False}])
def test_padding_changes_nothing(kind, where, mode, options):
    real = torch.tensor(PADDINGS[where])
    mask = real.expand(2, -1)
    q, k, v = inputs(13)
    g = decay(kind, q)
    state = {"output_final_state": True} if options.get("causal", True) else {}
    padded = linear_attention(q, k, v, log_decay=g, mask=mask, mode=mode, chunk_size=4, **options, **state)
    short_decay = g if g is None or g.dim() == 1 else g[:, real]
    short = linear_attention(
        q[:, real], k[:, real], v[:, real], log_decay=short_decay, mode=mode, chunk_size=4, **options, **state
    )
    close([padded.out[:, real]], [short.out], 1e-10)
    assert not padded.out[:, ~real].any()
    if state:
        close([padded.state.S], [short.state.S], 1e-10)
        assert padded.state.position.tolist() == [9, 9]
    wanted = [q, k, v] + ([g] if g is not None else [])
    weight = torch.randn(padded.out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    grads = torch.autograd.grad((padded.out * weight).sum(), wanted)
    oracle = torch.autograd.grad((short.out * weight[:, real]).sum(), wanted)
    close(grads, oracle, 1e-10)
    for grad in grads:
        if grad.dim() > 1:
            assert not grad[:, ~real].any()


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_of_padding_only_gives_zero(mode):
    q, k, v = inputs(6)
    mask = torch.zeros(2, 6, dtype=torch.bool)
    result = linear_attention(
        q, k, v, mask=mask, mode=mode, normalize=True, feature_map="elu+1", output_final_state=True
    )
    assert not result.out.any() and not result.state.S.any() and not result.state.position.any()
    assert all(not grad.any() for grad in torch.autograd.grad(result.out.sum(), [q, k, v]))


@pytest.mark.parametrize("kind", DECAYS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("causal", [True, False])
def test_packed_sequences_equal_sequences_alone(kind, mode, causal):
    edges = [0, 5, 6, 23, 39]
    q, k, v = inputs(39, batch=1)
    g, state = decay(kind, q), state_for(q, v, sequences=4) if causal else None
    cu = torch.tensor(edges, dtype=torch.int32)
    options = {"mode": mode, "chunk_size": 8, "causal": causal, "output_final_state": causal}
    packed = linear_attention(q, k, v, log_decay=g, initial_state=state, cu_seqlens=cu, **options)
    outs, states = [], []
    for i, (a, b) in enumerate(itertools.pairwise(edges)):
        own = None if state is None else LinearAttentionState(state.S[i : i + 1], None, state.position[:1])
        piece = g if g is None or g.dim() == 1 else g[:, a:b]
        alone = linear_attention(
            q[:, a:b], k[:, a:b], v[:, a:b], log_decay=piece, initial_state=own, **options
        )
        outs, states = [*outs, alone.out], [*states, alone.state.S if causal else alone.out.sum((0, 1))[None]]
    wanted = [x for x in (q, k, v, g, state and state.S) if x is not None]
    ours = [packed.out, packed.state.S] if causal else [packed.out]
    theirs = [torch.cat(outs, 1), torch.cat(states)] if causal else [torch.cat(outs, 1)]
    close(ours, theirs, 1e-10)
    close(
        torch.autograd.grad(sum(x.square().sum() for x in ours), wanted),
        torch.autograd.grad(sum(x.square().sum() for x in theirs), wanted),
        1e-10,
    )
    if causal:
        assert packed.state.position.tolist() == [5, 1, 17, 16]


@pytest.mark.parametrize("mode", MODES)
def test_heads_may_share_keys(mode):
    q, _, _ = inputs(9, heads=4)
    _, k, v = inputs(9, heads=2)
    shared = linear_attention(q, k, v, mode=mode).out
    repeated = linear_attention(q, k.repeat_interleave(2, 2), v.repeat_interleave(2, 2), mode=mode).out
    close([shared], [repeated], 1e-12)
    assert torch.autograd.grad(shared.sum(), k)[0].shape == k.shape


@pytest.mark.parametrize("kind", DECAYS)
def test_layouts_agree(kind):
    q, k, v = inputs(9)
    g = decay(kind, q)
    turned = g if g is None or g.dim() == 1 else g.transpose(1, 2)
    ours = linear_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), log_decay=turned, layout="bhnd"
    )
    close([ours.out.transpose(1, 2)], [linear_attention(q, k, v, log_decay=g).out], 1e-12)


@pytest.mark.parametrize("kind", DECAYS)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("causal", [True, False])
def test_effective_weights_give_the_output(kind, normalize, causal):
    q, k, v = inputs(19)
    options = {"normalize": normalize, "causal": causal, "feature_map": "elu+1" if normalize else None}
    result = linear_attention(q, k, v, log_decay=decay(kind, q), scale=0.5, need_weights=True, **options)
    close([torch.einsum("bhqk,bkhe->bqhe", result.weights, v)], [result.out], 1e-10)
    assert not causal or not result.weights.triu(1).any()


@pytest.mark.parametrize("kind", DECAYS)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("layout", ["bnhd", "bhnd"])
def test_single_weights_are_those_of_the_matrix(kind, normalize, causal, layout, monkeypatch):
    monkeypatch.setattr("salience.ops.linear.weights.KEYS", 5)
    q, k, v = inputs(19)
    g, mask = decay(kind, q), torch.rand(2, 19, generator=torch.Generator().manual_seed(0)) > 0.2
    options = {"normalize": normalize, "causal": causal, "feature_map": "elu+1", "scale": 0.7, "mask": mask}
    weights = linear_attention(q, k, v, log_decay=g, need_weights=True, **options).weights
    if layout == "bhnd":
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        g = g if g is None or g.dim() == 1 else g.transpose(1, 2)
    t, s = torch.tensor([0, 3, 18, 18, 2]), torch.tensor([0, 1, 4, 18, 9])
    close(
        [contribution(q, k, t, s, log_decay=g, layout=layout, **options)],
        [weights[:, :, t, s].masked_fill(~(s <= t) if causal else t < 0, 0)],
        1e-10,
    )
    top = top_contributions(q, k, torch.tensor([4, 18]), count=3, log_decay=g, layout=layout, **options)
    best = weights[:, :, [4, 18]].abs().topk(3, -1)
    close([top.weights.abs()], [best.values], 1e-10)
    close([weights[:, :, [4, 18]].gather(-1, top.keys)], [top.weights], 1e-10)


def test_top_contributions_can_rank_by_what_is_added_and_name_missing_keys():
    q, k, v = inputs(6, batch=1, heads=1)
    with torch.no_grad():
        v[0, 1] *= 1000
    top = top_contributions(q, k, torch.tensor([0, 5]), count=3, v=v)
    assert top.keys[0, 0, 0].tolist() == [0, -1, -1] and not top.weights[0, 0, 0, 1:].any()
    assert int(top.keys[0, 0, 1, 0]) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["none", "fixed", "scalar"])
def test_low_precision_stays_near_the_exact_result(dtype, kind):
    q, k, v = inputs(70, dtype=dtype, scale=0.3)
    g = decay(kind, q)
    exact = linear_attention(*(x.double() for x in (q, k, v)), log_decay=None if g is None else g.double())
    result = linear_attention(q, k, v, log_decay=g, output_final_state=True)
    assert result.out.dtype == dtype and result.state.S.dtype == torch.float32
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
    close([result.out], [exact.out], tolerance)


@pytest.mark.parametrize("mode", MODES)
def test_autocast_does_not_reach_sums_and_states(mode):
    q, k, v = inputs(9, dtype=torch.float32)
    options = {"log_decay": decay("fixed", q), "mode": mode, "output_final_state": True, "need_weights": True}
    plain = linear_attention(q, k, v, **options)
    with torch.autocast("cpu", torch.bfloat16):
        inside = linear_attention(q, k, v, **options)
    grads = torch.autograd.grad(inside.out.sum(), [q, k, v])
    for a, b in zip(
        (inside.out, inside.state.S, inside.weights), (plain.out, plain.state.S, plain.weights), strict=True
    ):
        assert torch.equal(a, b)
    close(grads, torch.autograd.grad(plain.out.sum(), [q, k, v]), 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("slope", [0.5, 1e-8])
def test_65536_tokens_are_finite(dtype, slope):
    q, k, v = inputs(65536, batch=1, heads=1, dim=16, value=16, dtype=dtype)
    g = torch.tensor([-slope], requires_grad=True)
    out = linear_attention(q, k, v, log_decay=g).out
    assert out.isfinite().all()
    assert all(x.isfinite().all() for x in torch.autograd.grad(out.float().mean(), [q, k, v, g]))


def test_the_factored_form_overflows_where_ours_does_not():
    slope, position = 0.5, 178
    factor = torch.exp(torch.tensor(slope) * torch.arange(200.0))
    assert factor[position - 1].isfinite() and factor[position].isinf()
    q, k, v = inputs(200, batch=1, heads=1, dtype=torch.float32)
    assert linear_attention(q, k, v, log_decay=torch.tensor([-slope])).out.isfinite().all()


def test_minus_infinity_forgets_everything():
    q, k, v = inputs(12)
    g = torch.zeros(2, 12, 2, dtype=torch.float64)
    g[:, 5] = -torch.inf
    for mode in MODES:
        out = linear_attention(q, k, v, log_decay=g, mode=mode, chunk_size=4).out
        fresh = linear_attention(q[:, 5:], k[:, 5:], v[:, 5:], mode=mode, chunk_size=4).out
        close([out[:, 5:]], [fresh], 1e-10)


def test_the_backward_pass_keeps_inputs_only():
    q, k, v = inputs(100)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        linear_attention(q, k, v, log_decay=decay("fixed", q), mode="chunk", chunk_size=8)
    assert sum(x.numel() for x in kept) <= q.numel() + k.numel() + v.numel() + 4  # and the decays


def test_inputs_are_never_written_to():
    for heads in (1, 2):  # with one head a group of chunks shares memory with its input
        q, k, v = inputs(32, batch=1, heads=heads)
        before = [x.detach().clone() for x in (q, k, v)]
        everything(q, k, v, decay("scalar", q), state_for(q, v), mode="chunk", chunk_size=8)
        assert all(torch.equal(x, y) for x, y in zip((q, k, v), before, strict=True))


def test_small_groups_of_chunks_change_nothing(monkeypatch):
    q, k, v = inputs(50)
    g, state = decay("fixed", q), state_for(q, v)
    whole = everything(q, k, v, g, state, mode="chunk", chunk_size=8)
    monkeypatch.setattr(chunk_module, "SCORES", 1)
    close(everything(q, k, v, g, state, mode="chunk", chunk_size=8), whole, 1e-12)


def test_memory_is_not_read_before_it_is_written(monkeypatch):
    plain = torch.empty

    def filled(*size, **options):
        return plain(*size, **options).fill_(torch.nan)

    q, k, v = inputs(37)
    g, state = decay("scalar", q), state_for(q, v)
    wanted = everything(q, k, v, g, state, mode="recurrent")
    monkeypatch.setattr(torch, "empty", filled)
    monkeypatch.setattr(torch, "empty_like", lambda x, **o: torch.full_like(x, torch.nan, **o))
    close(everything(q, k, v, g, state, mode="chunk", chunk_size=8), wanted, 1e-10)


def test_auto_uses_chunks_on_a_cpu():
    q, k, v = inputs(9)
    assert torch.equal(linear_attention(q, k, v).out, linear_attention(q, k, v, mode="chunk").out)


Q, K, V = (torch.zeros(2, 6, 4, 8) for _ in range(3))
STATE = LinearAttentionState(torch.zeros(2, 4, 8, 8), None, torch.zeros(2, dtype=torch.long))
BAD = {
    "an empty q": {"q": Q[:, :0], "k": K[:, :0], "v": V[:, :0]},
    "floating-point q": {"q": Q.long()},
    "several dtypes": {"q": Q.double()},
    "4 axes": {"q": Q[0]},
    "different batches or numbers of tokens": {"k": K[:, :3]},
    "that do not fit": {"k": K[..., :4]},
    "cannot share keys": {"k": K[:, :, :3], "v": V[:, :, :3]},
    "unknown layout": {"layout": "nbhd"},
    "unknown mode": {"mode": "chunks"},
    "unknown feature_map": {"feature_map": "elu"},
    "log_decay of another shape": {"log_decay": torch.zeros(5)},
    "floating-point log_decay": {"log_decay": torch.zeros(4, dtype=torch.long)},
    "positive or not a number": {"log_decay": torch.tensor([0.0, 0.0, 0.1, 0.0])},
    "log_decay that is positive or not a number": {"log_decay": torch.tensor([0.0, torch.nan, 0.0, 0.0])},
    "boolean mask": {"mask": torch.ones(2, 6)},
    "wants a boolean mask": {"mask": torch.ones(2, 5, dtype=torch.bool)},
    "batch of one": {"cu_seqlens": torch.tensor([0, 6])},
    "list of integers": {"cu_seqlens": torch.tensor([0.0, 6.0])},
    "both mask and cu_seqlens": {
        "cu_seqlens": torch.tensor([0, 6]), "mask": torch.ones(2, 6, dtype=torch.bool),
    },
    "no state without causal": {"causal": False, "output_final_state": True},
    "state that does not fit": {"initial_state": LinearAttentionState(STATE.S[:1], None, STATE.position)},
    "S (2, 4, 8, 8) torch.float64": {
        "initial_state": LinearAttentionState(STATE.S.double(), None, STATE.position)
    },
    "needs the state's z": {"initial_state": STATE, "normalize": True},
}  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_bad_input_is_named_and_mended(text):
    arguments = {"q": Q, "k": K, "v": V, **BAD[text]}
    with pytest.raises(ConfigError) as error:
        linear_attention(arguments.pop("q"), arguments.pop("k"), arguments.pop("v"), **arguments)
    assert text in str(error.value)
    assert error.value.fix


@pytest.mark.parametrize("edges", [[1, 6], [0, 5], [0, 4, 2, 6], [0, 3, 3, 6]])
def test_bad_packing_is_refused(edges):
    with pytest.raises(ConfigError, match="do not rise"):
        linear_attention(Q[:1], K[:1], V[:1], cu_seqlens=torch.tensor(edges))


def test_bad_positions_are_refused():
    with pytest.raises(ConfigError, match="t is not a position"):
        contribution(Q, K, 6, 0)
    with pytest.raises(ConfigError, match="queries is not a position"):
        top_contributions(Q, K, -1)
