"""RALA layer and softmax twin: reconstruction from maps, same parameters, switches, masks; 2-D positions."""

import pytest
import torch
from torch.nn import functional as F

from salience.core.errors import ConfigError
from salience.nn.attention.linear.rank_augmented import RankAugmentedAttention, SoftmaxAttention
from salience.nn.embeddings.rope2d import RotaryEmbedding2D

DIM, HEADS, SIZE = 16, 2, (3, 5)
BUILDS = {
    "RALA": lambda: RankAugmentedAttention(DIM, HEADS),
    "without alpha": lambda: RankAugmentedAttention(DIM, HEADS, alpha=False),
    "without gate": lambda: RankAugmentedAttention(DIM, HEADS, gate=False),
    "plain linear": lambda: RankAugmentedAttention(DIM, HEADS, alpha=False, gate=False),
    "softmax": lambda: SoftmaxAttention(DIM, HEADS),
    "softmax without gate": lambda: SoftmaxAttention(DIM, HEADS, gate=False),
}


@pytest.fixture(params=BUILDS)
def layer(request):
    torch.manual_seed(0)
    return BUILDS[request.param]().double().eval()


def image(size=SIZE, batch=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(batch, DIM, *size, dtype=torch.float64, generator=random)


def positions(size=SIZE):
    return RotaryEmbedding2D(DIM // HEADS).double()(*size)


def test_the_map_of_weights_gives_the_output_back(layer):
    """Weights times values, plus the convolution of the values, times the gate, projected: that is the layer."""
    x, rotation = image(), positions()
    weights = layer.attention(x, rotation)
    _, _, values, *gate = layer.qkvo(x).chunk(4 if layer.gate else 3, dim=1)
    tokens = values.view(2, HEADS, DIM // HEADS, -1)
    mixed = torch.einsum("bhqk,bhdk->bhdq", weights, tokens).reshape(x.shape) + layer.lepe(values)
    wanted = layer.proj(mixed * gate[0] if gate else mixed)
    torch.testing.assert_close(layer(x, rotation), wanted, rtol=0, atol=1e-12)


def test_every_parameter_gets_a_gradient(layer):
    layer(image(), positions()).square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in layer.parameters())


def test_cells_outside_the_image_do_not_matter(layer):
    small, big = image((3, 4)), torch.full((2, DIM, 5, 6), 7.0, dtype=torch.float64)
    big[:, :, :3, :4] = small
    mask = torch.zeros(2, 5, 6, dtype=torch.bool)
    mask[:, :3, :4] = True
    leaf = big.clone().requires_grad_()
    out = layer(leaf, positions((5, 6)), mask)[:, :, :3, :4]
    torch.testing.assert_close(out, layer(small, positions((3, 4))), rtol=0, atol=1e-12)
    gradient = torch.autograd.grad(out.square().sum(), leaf)[0]
    assert gradient[:, :, :3, :4].any() and not gradient.masked_select(~mask[:, None]).any()
    weights = layer.attention(big, positions((5, 6)), mask)
    wanted = layer.attention(small, positions((3, 4)))
    real = mask[0].flatten().nonzero()[:, 0]
    torch.testing.assert_close(weights[:, :, real][..., real], wanted, rtol=0, atol=1e-12)
    assert not weights[:, :, ~mask[0].flatten()].any() and not weights[..., ~mask[0].flatten()].any()


def test_an_image_without_a_cell_gives_numbers_and_leaves_the_others_alone(layer):
    mask = torch.ones(2, *SIZE, dtype=torch.bool)
    mask[1] = False
    out = layer(image(), positions(), mask)
    assert out.isfinite().all()
    torch.testing.assert_close(out[0], layer(image()[:1], positions())[0], rtol=0, atol=1e-12)


def test_matrices_are_those_of_the_layer(layer):
    x, rotation = image(), positions()
    found = layer.matrices(x, rotation)
    merged = found["output"][:, 0].mT.reshape(x.shape)
    torch.testing.assert_close(layer.proj(merged), layer(x, rotation), rtol=0, atol=1e-12)
    values = layer.qkvo(x)[:, 2 * DIM : 3 * DIM].view(2, HEADS, DIM // HEADS, -1).mT
    wanted = layer.attention(x, rotation) @ values
    torch.testing.assert_close(found["attention"], wanted, rtol=0, atol=1e-12)
    assert ("buffer" in found) == isinstance(layer, RankAugmentedAttention)


def test_the_buffer_times_a_query_is_the_numerator():
    torch.manual_seed(0)
    layer = RankAugmentedAttention(DIM, HEADS).double()
    x = image()
    found = layer.matrices(x)  # without positions the denominator is the weights' own sum
    query = F.elu(layer.qkvo(x)[:, :DIM]).view(2, HEADS, DIM // HEADS, -1).mT + 1
    numerator = query @ found["buffer"]
    ratio = numerator / found["attention"]
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio), rtol=1e-9, atol=0)


def test_linear_and_softmax_layers_have_the_same_parameters():
    linear, softmax = (cls(DIM, HEADS).state_dict() for cls in (RankAugmentedAttention, SoftmaxAttention))
    assert {n: t.shape for n, t in linear.items()} == {n: t.shape for n, t in softmax.items()}
    names = {f"{layer}.{kind}" for layer in ("qkvo", "lepe", "proj") for kind in ("weight", "bias")}
    assert set(linear) == names


@torch.no_grad()
def test_switches_change_the_numbers():
    torch.manual_seed(0)
    full = RankAugmentedAttention(DIM, HEADS).double()
    plain = RankAugmentedAttention(DIM, HEADS, alpha=False).double()
    soft = SoftmaxAttention(DIM, HEADS).double()
    for other in (plain, soft):
        other.load_state_dict(full.state_dict())
        assert float((other(image(), positions()) - full(image(), positions())).abs().max()) > 1e-3


@pytest.mark.parametrize("heads", [0, 3])
def test_heads_that_do_not_divide_the_channels_are_refused(heads):
    with pytest.raises(ConfigError, match="heads do not divide"):
        RankAugmentedAttention(DIM, heads)


@pytest.mark.parametrize("dim", [0, 2, 6, 13])
def test_positions_need_features_in_fours(dim):
    with pytest.raises(ConfigError, match="in fours"):
        RotaryEmbedding2D(dim)


def test_positions_follow_their_definition():
    dim, size = 12, (3, 4)
    cos, sin = RotaryEmbedding2D(dim).double()(*size)
    for token in range(12):
        row, column = divmod(token, 4)
        for feature in range(dim):
            index, pair = (row, feature) if feature < 6 else (column, feature - 6)
            angle = torch.tensor(index * 10000.0 ** -(pair // 2 / 2), dtype=torch.float64)
            torch.testing.assert_close(cos[token, feature], angle.cos(), rtol=0, atol=1e-6)
            torch.testing.assert_close(sin[token, feature], angle.sin(), rtol=0, atol=1e-6)
    assert RotaryEmbedding2D(4).angle.tolist() == [1.0, 1.0]


def test_positions_are_kept_until_size_type_or_angles_change():
    rope = RotaryEmbedding2D(8)
    first = rope(3, 4)
    assert rope(3, 4)[0] is first[0]
    assert rope(4, 3)[0].shape == (12, 8) and not torch.equal(rope(4, 3)[0], first[0])
    assert rope.double()(3, 4)[0].dtype == torch.float64
    rope.load_state_dict({"angle": torch.full((4,), 0.5)})
    torch.testing.assert_close(rope(1, 2)[0][1, 4:], torch.full((4,), 0.5).double().cos())


def test_positions_made_in_inference_mode_serve_training():
    rope, layer = RotaryEmbedding2D(8), RankAugmentedAttention(DIM, HEADS)
    with torch.inference_mode():
        layer(image().float(), rope(*SIZE))
    layer(image().float(), rope(*SIZE)).sum().backward()
    assert layer.qkvo.weight.grad.any()
