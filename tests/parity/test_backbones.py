"""Backbones give the numbers of the authors' packages, given their weights: values, gradients, sizes, starts."""

import pytest
import torch

from salience.models.fusions.ft_transformer import FTTransformer
from salience.models.fusions.mlp import MLPBackbone
from salience.models.fusions.resnet import ResNetBackbone
from salience.models.fusions.tabm import TabM
from salience.models.fusions.tabm_mini import TabMMini
from salience.models.slots import MLP, Tokens

ROWS, COLUMNS, DIM = 7, 4, 6
NARROW = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=["float32", "float64"]
)


def layout(size):
    return {"number": COLUMNS * size}, {"number": size}, {"number": [size] * COLUMNS}


def inputs(dtype, size=DIM):
    values = torch.randn(ROWS, COLUMNS, size, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return values.requires_grad_(True)


def ours_of(fusion, head, values):
    mask = torch.ones(values.shape[:2], dtype=torch.bool)
    tokens = Tokens(values, mask, torch.arange(values.shape[1]).expand(mask.shape))
    return head(fusion({"number": values.flatten(1)}, {"number": tokens}))


def randomised(module, dtype):
    """Give a peer's module weights that are not special, biases and norms too."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module.to(dtype)


def load(module, dtype, named):
    """Fill our module with the peer's weights: every one, and none twice."""
    state = module.state_dict()
    assert set(named) == {n for n in state if "running" not in n and "batches" not in n}
    module.load_state_dict({**state, **{n: t.detach().clone() for n, t in named.items()}})
    return module.to(dtype)


def assert_same(ours, theirs, found, peer, values, tolerance):
    """Compare values, and the gradient of a random combination of them in inputs and in all weights."""
    torch.testing.assert_close(found, peer, rtol=tolerance, atol=tolerance)
    weights = torch.randn(peer.shape, dtype=peer.dtype, generator=torch.Generator().manual_seed(2))
    mine = torch.autograd.grad((found * weights).sum(), [values, *ours])
    other = torch.autograd.grad((peer * weights).sum(), [values, *theirs])
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b.reshape(a.shape), rtol=50 * tolerance, atol=50 * tolerance)


def compare(fusion, head, names, peer, run, values, dtype, tolerance):
    """Load the peer's weights by name (ours → theirs) and compare."""
    theirs = dict(peer.named_parameters())
    parts = torch.nn.ModuleDict({"fusion": fusion, "head": head})
    mine = dict(parts.named_parameters())
    load(parts, dtype, {ours: theirs[name].reshape(mine[ours].shape) for ours, name in names.items()})
    mine = dict(parts.named_parameters())
    found, wanted = ours_of(fusion, head, values), run(values)
    assert_same(
        [mine[n] for n in names], [theirs[n] for n in names.values()], found, wanted, values, tolerance
    )


def of_layers(pairs, parts=("weight", "bias")):
    return {f"{mine}.{part}": f"{theirs}.{part}" for mine, theirs in pairs for part in parts}


@NARROW
def test_mlp(dtype, tolerance):
    rtdl = pytest.importorskip("rtdl_revisiting_models")
    torch.manual_seed(0)
    peer = randomised(rtdl.MLP(d_in=COLUMNS * DIM, d_out=2, n_blocks=3, d_block=9, dropout=0.0), dtype)
    dims, token_dims, _ = layout(DIM)
    names = of_layers(
        [*((f"fusion.blocks.{i}.0", f"blocks.{i}.linear") for i in range(3)), ("head.0", "output")]
    )
    fusion = MLPBackbone(dims, token_dims, widths=[9, 9, 9], dropout=0.0)
    values = inputs(dtype)
    compare(fusion, MLP(fusion.dim, 2), names, peer, lambda x: peer(x.flatten(1)), values, dtype, tolerance)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@NARROW
def test_resnet(dtype, tolerance, training):
    rtdl = pytest.importorskip("rtdl_revisiting_models")
    torch.manual_seed(0)
    peer = randomised(
        rtdl.ResNet(
            d_in=COLUMNS * DIM,
            d_out=2,
            n_blocks=2,
            d_block=9,
            d_hidden_multiplier=2.0,
            dropout1=0.0,
            dropout2=0.0,
        ),
        dtype,
    ).train(training)
    dims, token_dims, _ = layout(DIM)
    fusion = ResNetBackbone(dims, token_dims, blocks=2, width=9, dropout=0.0).train(training)
    pairs = [
        ("fusion.first", "input_projection"),
        ("fusion.last.0", "output.normalization"),
        ("head.0", "output.linear"),
    ]
    for i in range(2):
        places = ((0, "normalization"), (1, "linear1"), (4, "linear2"))
        pairs += [(f"fusion.blocks.{i}.{place}", f"blocks.{i}.{name}") for place, name in places]
    values = inputs(dtype)
    compare(fusion, MLP(9, 2), of_layers(pairs), peer, lambda x: peer(x.flatten(1)), values, dtype, tolerance)
    if training:
        torch.testing.assert_close(fusion.last[0].running_var, peer.output.normalization.running_var)


def ft_names(blocks):
    pairs = [("fusion.last.0", "backbone.output.normalization"), ("head.0", "backbone.output.linear")]
    for i in range(blocks):
        mine, theirs = f"fusion.blocks.{i}", f"backbone.blocks.{i}"
        pairs += [
            *(
                (f"{mine}.attention.{a}", f"{theirs}.attention.W_{b}")
                for a, b in zip(("query", "key", "value", "out"), ("q", "k", "v", "out"), strict=True)
            ),
            (f"{mine}.norm2", f"{theirs}.ffn_normalization"),
            (f"{mine}.gate", f"{theirs}.ffn.linear1"),
            (f"{mine}.linear", f"{theirs}.ffn.linear2"),
        ]
        pairs += [(f"{mine}.norm1", f"{theirs}.attention_normalization")] if i else []
    return of_layers(pairs) | {"fusion.cls": "cls_embedding.weight"}


@pytest.mark.parametrize("blocks", [1, 3])
@NARROW
def test_ft_transformer(dtype, tolerance, blocks):
    """Numbers as they are, embedded by the fusion's own linear layer a column, as the paper's tokenizer does."""
    rtdl = pytest.importorskip("rtdl_revisiting_models")
    torch.manual_seed(0)
    peer = randomised(
        rtdl.FTTransformer(
            n_cont_features=COLUMNS, cat_cardinalities=[], n_blocks=blocks, d_block=16, d_out=2,
            attention_n_heads=8, attention_dropout=0.0, ffn_d_hidden_multiplier=4 / 3, ffn_dropout=0.0,
            residual_dropout=0.0,
        ),
        dtype,
    )  # fmt: skip
    fusion = FTTransformer(*layout(1), blocks=blocks, dim=16, attention_dropout=0.0, ffn_dropout=0.0)
    names = ft_names(blocks) | {
        "fusion.project.number.weight": "cont_embeddings.weight",
        "fusion.project.number.bias": "cont_embeddings.bias",
    }
    values = inputs(dtype, 1)
    head = MLP(16, 2)
    compare(fusion, head, names, peer, lambda x: peer(x[:, :, 0], None), values, dtype, tolerance)


@pytest.mark.parametrize("blocks", range(1, 7))
def test_ft_transformer_has_the_published_sizes(blocks):
    rtdl = pytest.importorskip("rtdl_revisiting_models")
    published = rtdl.FTTransformer.get_default_kwargs(blocks)
    peer = rtdl.FTTransformer(n_cont_features=COLUMNS, cat_cardinalities=[], d_out=1, **published)
    fusion = FTTransformer(*layout(1), blocks=blocks)
    assert fusion.dim == published["d_block"]
    first = fusion.blocks[0]
    assert first.attention.dropout == published["attention_dropout"]
    assert first.hidden_dropout.p == published["ffn_dropout"]
    assert first.attention.heads == published["attention_n_heads"]
    ours = sum(p.numel() for p in fusion.parameters()) + fusion.dim + 1
    assert ours == sum(p.numel() for p in peer.parameters())


@pytest.mark.parametrize("key", ["tabm", "tabm-mini"])
@NARROW
def test_tabm(key, dtype, tolerance):
    tabm = pytest.importorskip("tabm")
    torch.manual_seed(0)
    peer = randomised(
        tabm.TabM(
            n_num_features=COLUMNS, d_out=2, n_blocks=2, d_block=9, dropout=0.0, k=5, arch_type=key,
            start_scaling_init="random-signs",
        ),
        dtype,
    )  # fmt: skip
    entry = TabM if key == "tabm" else TabMMini
    fusion = entry(*layout(1), blocks=2, width=9, dropout=0.0, members=5)
    blocks = [(f"fusion.blocks.{i}.0", f"backbone.blocks.{i}.0") for i in range(2)]
    parts = ("weight", "r", "s", "bias") if key == "tabm" else ("weight", "bias")
    names = of_layers(blocks, parts) | of_layers([("head.0", "output")])
    names |= {} if key == "tabm" else {"fusion.scales": "backbone.affine.weight"}
    values = inputs(dtype, 1)
    head = MLP(9, 2, members=5)
    compare(fusion, head, names, peer, lambda x: peer(x[:, :, 0]), values, dtype, tolerance)


@pytest.mark.parametrize(("size", "blocks"), [(1, 3), (DIM, 2)], ids=["plain", "embedded"])
@pytest.mark.parametrize("key", ["tabm", "tabm-mini"])
def test_tabm_starts_as_published(key, size, blocks):
    """Same default sizes, the same kind of random factors, and one factor a column."""
    tabm = pytest.importorskip("tabm")
    embeddings = pytest.importorskip("rtdl_num_embeddings")
    embedding = embeddings.LinearReLUEmbeddings(COLUMNS, size) if size > 1 else None
    peer = tabm.TabM.make(n_num_features=COLUMNS, d_out=1, num_embeddings=embedding, arch_type=key)
    torch.manual_seed(0)
    fusion = (TabM if key == "tabm" else TabMMini)(*layout(size))
    assert len(fusion.blocks) == len(peer.backbone.blocks) == blocks
    assert fusion.members == peer.k == 32
    count = sum(p.numel() for p in fusion.parameters())
    assert count == sum(p.numel() for p in peer.backbone.parameters())
    first = fusion.blocks[0][0].r if key == "tabm" else fusion.scales
    theirs = peer.backbone.blocks[0][0].r if key == "tabm" else peer.backbone.affine.weight
    assert set(first.unique().tolist()) == {-1.0, 1.0} if size == 1 else len(first.unique()) == 32 * COLUMNS
    assert len(theirs.unique()) == len(first.unique())
    columns = first.reshape(32, COLUMNS, size)
    assert torch.equal(columns, columns[:, :, :1].expand_as(columns))
    if key == "tabm":
        for ours, other in zip(fusion.blocks, peer.backbone.blocks, strict=True):
            assert torch.equal(ours[0].s, other[0].s)
            assert torch.equal(ours[0].bias, ours[0].bias[:1].expand_as(ours[0].bias))
