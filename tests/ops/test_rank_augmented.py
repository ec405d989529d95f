"""RALA: linear and quadratic form, a float64 oracle in loops, masks, gradients, types."""

import math
from itertools import product

import pytest
import torch

from salience.core.errors import ConfigError
from salience.nn.embeddings.rope2d import RotaryEmbedding2D
from salience.ops.rank_augmented import fast, naive
from salience.ops.rotary import rotate_pairs

FORMS = [fast.rank_augmented, naive.rank_augmented]
SWITCHES = list(product((True, False), repeat=3))


def inputs(batch=2, height=3, width=4, heads=2, dim=8, channel=5, dtype=torch.float64, seed=0):
    random = torch.Generator().manual_seed(seed)
    shape = (batch, height * width, heads)
    q, k = (torch.randn(*shape, dim, generator=random, dtype=torch.float64).to(dtype) for _ in range(2))
    v, local, gate = (
        torch.randn(*shape, channel, generator=random, dtype=torch.float64).to(dtype) for _ in range(3)
    )
    rotation = tuple(t.to(dtype) for t in RotaryEmbedding2D(dim).double()(height, width))
    return q, k, v, local, gate, rotation


def loops(q, k, v, local, gate, rotation, alpha):
    """Return the result for one row and one head, written token by token in Python numbers."""
    n, dim, channel = q.shape[0], q.shape[1], v.shape[1]
    kernel = lambda x: x + 1 if x > 0 else math.exp(x)  # noqa: E731
    q, k = ([[kernel(x) for x in row] for row in t.tolist()] for t in (q, k))
    mean_query = [sum(row[c] for row in q) / n for c in range(dim)]
    scores = [
        math.exp(sum(a * b for a, b in zip(mean_query, key, strict=True)) / math.sqrt(dim)) for key in k
    ]
    weight = [n * s / sum(scores) if alpha else 1.0 for s in scores]
    k = [[w * x for x in key] for w, key in zip(weight, k, strict=True)]
    mean_key = [sum(row[c] for row in k) / n for c in range(dim)]

    def turn(row, i):
        cos, sin = rotation[0][i].tolist(), rotation[1][i].tolist()
        pairs = [(row[c], row[c + 1], cos[c], sin[c]) for c in range(0, dim, 2)]
        return [x for a, b, c, s in pairs for x in (a * c - b * s, b * c + a * s)]

    turned_q, turned_k = ([turn(row, i) for i, row in enumerate(t)] for t in (q, k))
    out = torch.zeros(n, channel, dtype=torch.float64)
    for i in range(n):
        z = 1 / (sum(a * b for a, b in zip(q[i], mean_key, strict=True)) + 1e-6)
        for j in range(n):
            likeness = sum(a * b for a, b in zip(turned_q[i], turned_k[j], strict=True))
            out[i] += likeness * z / n * v[j]
    return (out + local) * gate


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("alpha", [True, False])
def test_equals_the_definition_in_loops(form, alpha):
    q, k, v, local, gate, rotation = inputs()
    found = form(q, k, v, local=local, gate=gate, rotation=rotation, alpha=alpha)
    for b, h in product(range(2), range(2)):
        one = [t[b, :, h] for t in (q, k, v, local, gate)]
        torch.testing.assert_close(found[b, :, h], loops(*one, rotation, alpha), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 3), (9, 8)])
@pytest.mark.parametrize(("alpha", "gated", "turned"), SWITCHES)
def test_linear_and_quadratic_form_agree(shape, alpha, gated, turned):
    q, k, v, local, gate, rotation = inputs(height=shape[0], width=shape[1])
    options = {
        "alpha": alpha,
        "gate": gate if gated else None,
        "local": local if gated else None,
        "rotation": rotation if turned else None,
    }
    torch.testing.assert_close(
        fast.rank_augmented(q, k, v, **options), naive.rank_augmented(q, k, v, **options), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("alpha", [True, False])
def test_weights_give_the_output_back(alpha):
    q, k, v, _, _, rotation = inputs()
    mask = torch.rand(2, 12, generator=torch.Generator().manual_seed(1)) < 0.7
    weights = naive.attention_weights(q, k, rotation=rotation, mask=mask, alpha=alpha)
    out = fast.rank_augmented(q, k, v, rotation=rotation, mask=mask, alpha=alpha)
    torch.testing.assert_close(torch.einsum("bhqk,bkhe->bqhe", weights, v), out, rtol=0, atol=1e-12)
    assert not weights.transpose(2, 3)[~mask[:, None].expand(-1, 2, -1)].any(), "a masked key has weight"


def test_without_positions_rows_sum_to_one_and_with_them_weights_may_be_negative():
    q, k, _, _, _, rotation = inputs()
    plain = naive.attention_weights(q, k)
    torch.testing.assert_close(plain.sum(-1), torch.ones(2, 2, 12, dtype=torch.float64), rtol=0, atol=1e-5)
    assert bool((plain >= 0).all())
    assert bool((naive.attention_weights(q, k, rotation=rotation) < 0).any())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("alpha", [True, False])
def test_masked_tokens_do_not_matter_and_get_no_gradient(form, alpha):
    q, k, v, local, gate, rotation = inputs()
    real = torch.tensor([1, 4, 5, 9])
    mask = torch.zeros(2, 12, dtype=torch.bool)
    mask[:, real] = True
    leaves = [t.clone().requires_grad_() for t in (q, k, v, local, gate)]
    with torch.no_grad():
        for leaf in leaves:
            leaf[:, ~mask[0]] = torch.nan
    options = {"mask": mask, "rotation": rotation, "alpha": alpha}
    out = form(*leaves[:3], local=leaves[3], gate=leaves[4], **options)
    short = [t[:, real] for t in (q, k, v)]
    wanted = form(
        *short,
        local=local[:, real],
        gate=gate[:, real],
        rotation=tuple(t[real] for t in rotation),
        alpha=alpha,
    )
    torch.testing.assert_close(out[:, real], wanted, rtol=0, atol=1e-12)
    assert not out[:, ~mask[0]].any()
    for gradient in torch.autograd.grad(out.square().sum(), leaves):
        assert gradient.isfinite().all() and gradient[:, real].any()
        assert not gradient[:, ~mask[0]].any()


@pytest.mark.parametrize("form", FORMS)
def test_a_row_without_a_real_token_gives_zero_and_finite_gradients(form):
    q, k, v, _, gate, rotation = inputs()
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1] = False
    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    out = form(*leaves, gate=gate, rotation=rotation, mask=mask)
    assert not out[1].any() and out[0].any()
    for gradient in torch.autograd.grad(out.sum(), leaves):
        assert gradient.isfinite().all() and not gradient[1].any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("alpha", "masked"), [(True, False), (True, True), (False, True)])
def test_gradients(form, alpha, masked):
    q, k, v, local, gate, rotation = inputs(batch=1, height=2, width=2, heads=1, dim=4, channel=3)
    mask = torch.tensor([[True, True, False, True]]) if masked else None

    def function(q, k, v, local, gate):
        return form(q, k, v, local=local, gate=gate, rotation=rotation, mask=mask, alpha=alpha)

    leaves = [t.requires_grad_() for t in (q, k, v, local, gate)]
    assert torch.autograd.gradcheck(function, leaves)


def test_key_weights_sum_to_the_number_of_real_tokens():
    q, k, *_ = inputs()
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[0, 5:] = False
    alpha = naive.key_weights(naive.blank(naive.kernel(q), mask), naive.blank(naive.kernel(k), mask), mask)
    wanted = torch.tensor([5.0, 12.0], dtype=torch.float64)[:, None].expand(-1, 2)
    torch.testing.assert_close(alpha.sum(1), wanted)
    assert bool((alpha[0, 5:] == 0).all())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_inputs_are_summed_in_32_bits(form, dtype):
    """70,000 tokens of which one key dominates: α reaches beyond the range of float16."""
    q, k, v, *_ = inputs(
        batch=1, height=100 if form is naive.rank_augmented else 70_000, width=1, heads=1, dim=4
    )
    k = k.clone()
    k[0, 7] = 40.0
    low = [t.to(dtype) for t in (q, k, v)]
    out = form(*low)
    assert out.dtype == dtype and out.isfinite().all()
    wanted = form(*[t.double() for t in low])
    torch.testing.assert_close(out.double(), wanted, rtol=1e-2, atol=1e-2)


def test_autocast_does_not_change_the_numbers():
    q, k, v, local, gate, rotation = inputs(dtype=torch.float32)
    plain = fast.rank_augmented(q, k, v, local=local, gate=gate, rotation=rotation)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = fast.rank_augmented(q, k, v, local=local, gate=gate, rotation=rotation)
    assert torch.equal(plain, mixed)


def test_very_negative_features_stay_finite():
    """ELU + 1 underflows to zero below −104: the denominator is then 1e-6, and nothing is NaN."""
    q, k, v, _, _, rotation = inputs(dtype=torch.float32)
    for shift in (-50.0, -1000.0):
        leaves = [t.clone().requires_grad_() for t in (q + shift, k + shift, v)]
        out = fast.rank_augmented(*leaves, rotation=rotation)
        assert out.isfinite().all()
        assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), leaves))


@pytest.mark.parametrize(
    "change",
    [
        lambda q, k, v: {"k": k[:, :-1]},
        lambda q, k, v: {"v": v[:, :-1]},
        lambda q, k, v: {"q": q[:, :0], "k": k[:, :0], "v": v[:, :0]},
        lambda q, k, v: {"v": v.long()},
        lambda q, k, v: {"mask": torch.ones(2, 11, dtype=torch.bool)},
        lambda q, k, v: {"mask": torch.ones(2, 12)},
        lambda q, k, v: {"gate": v[..., :-1]},
        lambda q, k, v: {"local": v[:, :-1]},
        lambda q, k, v: {"rotation": (torch.ones(12, 4), torch.ones(12, 4))},
        lambda q, k, v: {"q": q[0], "k": k[0], "v": v[0]},
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_inputs_that_do_not_fit_are_refused(form, change):
    q, k, v, *_ = inputs()
    with pytest.raises(ConfigError, match="do not fit together"):
        form(**{"q": q, "k": k, "v": v, **change(q, k, v)})


def test_rotating_keeps_lengths_and_depends_on_the_difference_of_positions():
    rotation = RotaryEmbedding2D(8).double()(5, 6)
    x, y = (torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    everywhere = [rotate_pairs(t.expand(30, 1, 8), *rotation)[:, 0].view(5, 6, 8) for t in (x, y)]
    torch.testing.assert_close(everywhere[0].norm(dim=-1), x.norm().expand(5, 6))
    one = everywhere[0][1, 2] @ everywhere[1][3, 1]
    torch.testing.assert_close(everywhere[0][2, 4] @ everywhere[1][4, 3], one)
    assert abs(float(everywhere[0][2, 4] @ everywhere[1][4, 4] - one)) > 1e-3
