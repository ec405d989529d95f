"""Backbones of tables: single rows, columns that keep their identity, attention that is shown, what decays."""

import numpy as np
import pandas as pd
import pytest
import torch

from salience.core.errors import ConfigError
from salience.core.registry import cards, load
from salience.data.schema import infer
from salience.explain import engine
from salience.models.backbone import first_scales, has_embeddings
from salience.models.fusions.ft_transformer import FTTransformer
from salience.models.fusions.mlp import MLPBackbone
from salience.models.table_model import ModelConfig, Part, TableModel
from salience.nn.blocks.ft_block import ColumnAttention
from salience.nn.norms.batch_norm import BatchNorm
from salience.nn.watch import watching
from salience.testing.fusions import CELL_DIM, CELLS, DIMS, ROWS, TEXT_DIM, TOKEN_DIMS, example_inputs
from salience.training.loop import Trainer, TrainingConfig
from salience.training.schedule import decay_groups, rate_at

COLUMNS = {"text": [TEXT_DIM], "number": [CELL_DIM] * CELLS}
TINY = {card.key: card.get("tiny") for card in cards("fusion")}
BACKBONES = ("mlp", "resnet", "ft_transformer", "tabm", "tabm_mini")


def frame(rows=60):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"size": rng.normal(size=rows), "age": rng.uniform(0, 80, rows)})
    table["place"] = rng.choice(["north", "south", "west"], rows)
    table["price"] = 100 + 20 * (table["size"] + (table["age"] > 40) + (table["place"] == "west"))
    return table


def make(fusion, number="piecewise_linear", category="category_embedding", **args):
    table = frame()
    schema = infer(table, "price").fitted(table)
    torch.manual_seed(0)
    config = ModelConfig(
        number=Part(number), category=Part(category), fusion=Part(fusion, {**TINY[fusion], **args})
    )
    model = TableModel(schema, config)
    rows = schema.parse(table)
    model.fit_parts(rows, schema.encode_target(rows), torch.Generator().manual_seed(0))
    return model.eval(), rows


@pytest.mark.parametrize("category", ["category_embedding", "one_hot"])
@pytest.mark.parametrize("number", ["plain_numbers", "piecewise_linear"])
@pytest.mark.parametrize("fusion", BACKBONES)
def test_every_backbone_takes_every_kind_of_column(fusion, number, category):
    model, rows = make(fusion, number, category)
    whole = model.outputs(rows)
    assert np.isfinite(whole).all()
    for i in (0, 7):
        np.testing.assert_allclose(model.outputs(rows.iloc[[i]]), whole[[i]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fusion", BACKBONES)
def test_a_last_batch_of_one_row_is_trained_on(fusion):
    model, rows = make(fusion)
    target = model.schema.encode_target(rows)[:31]
    config = TrainingConfig(epochs=2, batch_size=10)
    history = Trainer(model, config).fit(
        model.prepare(rows[:31]), target, lambda m: {"rmse": float(np.abs(m.outputs(rows[:31])[:, 0] - target).mean())},
        "rmse", higher=False,
    )  # fmt: skip
    assert len(history.epochs) == 2
    assert np.isfinite(model.outputs(rows)).all()


@pytest.mark.parametrize("fusion", BACKBONES)
def test_a_backbone_has_no_hidden_layer_behind_it_unless_it_is_asked_for(fusion):
    model, _ = make(fusion)
    assert len(model.head.layers) == 1
    asked = TableModel(model.schema, ModelConfig(fusion=Part(fusion, TINY[fusion]), hidden=(5,)))
    asked.restore(model.state())
    assert len(asked.head.layers) == 4
    assert len(make_usual().head.layers) == 4  # the usual fusion has one


def make_usual():
    table = frame()
    schema = infer(table, "price").fitted(table)
    model = TableModel(schema, ModelConfig())
    model.fit_parts(schema.parse(table), schema.encode_target(schema.parse(table)), torch.Generator())
    return model


def test_one_row_is_normalised_by_the_running_statistics():
    norm = BatchNorm(3)
    x = 5 + 2 * torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(200):
        norm(x)
    before = norm.running_mean.clone()
    row = norm(x[:1])
    torch.testing.assert_close(row, (x[:1] - x.mean(0)) / (x.var(0) + norm.eps).sqrt(), rtol=1e-4, atol=1e-4)
    assert torch.equal(norm.running_mean, before)
    assert torch.equal(norm.eval()(x[:1]), row)


def test_many_rows_are_normalised_as_ever():
    x = torch.randn(9, 3)
    torch.testing.assert_close(BatchNorm(3)(x), torch.nn.BatchNorm1d(3)(x))


# perceptrons


def test_layers_have_the_asked_widths():
    fusion = MLPBackbone(DIMS, TOKEN_DIMS, widths=[7, 5])
    sizes = [(b[0].in_features, b[0].out_features) for b in fusion.blocks]
    assert sizes == [(sum(DIMS.values()), 7), (7, 5)]
    assert fusion.dim == 5


# members start apart


def test_members_start_with_one_factor_a_column():
    torch.manual_seed(0)
    scales = first_scales(COLUMNS, True, 500)
    assert scales.shape == (500, sum(DIMS.values()))
    parts = scales.split([TEXT_DIM, *[CELL_DIM] * CELLS], dim=1)
    assert all(torch.equal(part, part[:, :1].expand_as(part)) for part in parts)
    firsts = torch.stack([part[:, 0] for part in parts])
    assert (torch.corrcoef(firsts) - torch.eye(3)).abs().max() < 0.2
    assert firsts.std() == pytest.approx(1, abs=0.1)


def test_members_start_with_signs_where_numbers_are_not_embedded():
    torch.manual_seed(0)
    scales = first_scales({"number": [1] * 8}, False, 500)
    assert set(scales.unique().tolist()) == {-1.0, 1.0}
    assert abs(scales.mean()) < 0.1


@pytest.mark.parametrize(
    ("dims", "token_dims", "wanted"),
    [
        ({"number": 8}, {"number": 1}, False),
        ({"number": 8}, {"number": 4}, True),
        ({"category": 9}, {"category": 3}, False),
        ({"number": 2, "text": 5}, {"number": 1}, True),
    ],
    ids=["plain", "embedded", "categories", "text"],
)
def test_what_counts_as_embedded(dims, token_dims, wanted):
    assert has_embeddings(dims, token_dims) is wanted


@pytest.mark.parametrize("fusion", ["tabm", "tabm_mini"])
@pytest.mark.parametrize("category", ["category_embedding", "one_hot"])
def test_the_first_factors_follow_the_columns_of_the_row_vector(fusion, category):
    """Also where a one-hot column takes as many places as it has values."""
    model, _ = make(fusion, "piecewise_linear", category)
    sizes = [size for encoder in model.encoders.values() for size in encoder.column_dims()]
    scales = model.fusion.scales if fusion == "tabm_mini" else model.fusion.blocks[0][0].r
    assert sum(sizes) == scales.shape[1] == sum(e.dim for e in model.encoders.values())
    start = scales.split(sizes, dim=1)
    assert len(start) == 3
    assert all(torch.equal(part, part[:, :1].expand_as(part)) for part in start)


@pytest.mark.parametrize("fusion", ["tabm", "tabm_mini"])
def test_two_blocks_with_embeddings_and_three_without(fusion):
    entry = load("fusion", fusion)
    embedded = entry({"number": 8}, {"number": 4}, {"number": [4, 4]}, width=4)
    plain = entry({"number": 2}, {"number": 1}, {"number": [1, 1]}, width=4)
    assert (len(embedded.blocks), len(plain.blocks), embedded.members) == (2, 3, 32)


# attention over columns


def test_attention_follows_its_formula_and_is_the_same_while_watched():
    torch.manual_seed(0)
    layer, x = ColumnAttention(6, 2, 0.0).double(), torch.randn(3, 5, 6, dtype=torch.float64)
    q, k, v = layer.query(x), layer.key(x), layer.value(x)
    heads = []
    for h in range(2):
        part = slice(3 * h, 3 * h + 3)
        weights = (q[..., part] @ k[..., part].mT / 3**0.5).softmax(-1)
        heads.append(weights @ v[..., part])
    wanted = layer.out(torch.cat(heads, -1))
    torch.testing.assert_close(layer(x, x), wanted)
    seen = []
    with watching():
        torch.testing.assert_close(layer(x, x, lambda w: seen.append(w) or w), wanted)
    torch.testing.assert_close(seen[0].sum(-1), torch.ones(3, 2, 5, dtype=torch.float64))


def test_columns_with_equal_values_are_told_apart():
    """A number that is not embedded has one place; its column is known by a layer of its own."""
    torch.manual_seed(0)
    fusion = FTTransformer({"number": 2}, {"number": 1}, {"number": [1, 1]}, **TINY["ft_transformer"])
    first, second = fusion.project["number"](torch.ones(1, 2, 1))[0]
    assert not torch.allclose(first, second)


def test_tokens_of_the_right_size_are_not_projected():
    args = {**TINY["ft_transformer"], "dim": CELL_DIM}
    fusion = FTTransformer(dict(DIMS), dict(TOKEN_DIMS), COLUMNS, **args)
    assert [n for n, _ in fusion.project.named_parameters()] == ["text.weight", "text.bias"]


def test_the_answer_does_not_depend_on_the_order_of_columns():
    torch.manual_seed(0)
    fusion = FTTransformer(dict(DIMS), dict(TOKEN_DIMS), COLUMNS, **TINY["ft_transformer"]).eval()
    vectors, tokens = example_inputs()
    swapped = FTTransformer(dict(DIMS), dict(TOKEN_DIMS), COLUMNS, **TINY["ft_transformer"]).eval()
    swapped.load_state_dict(fusion.state_dict())
    with torch.no_grad():
        for parameter in swapped.project["number"].parameters():
            parameter.copy_(parameter.flip(0))
        turned = {**tokens, "number": tokens["number"].with_values(tokens["number"].values.flip(1))}
        torch.testing.assert_close(swapped(vectors, turned), fusion(vectors, tokens))


@pytest.mark.parametrize("method", ["attention", "attention_rollout", "attention_x_gradient"])
def test_attention_methods_read_the_columns(method):
    model, rows = make("ft_transformer")
    found = engine.explain(model, rows.head(3), method=method, faithfulness=False)
    assert all(np.isfinite(e.values).all() and len(e.values) == 3 for e in found)
    if method == "attention":
        assert all(0 < sum(e.values) < 1 for e in found)  # the rest is on the learned token itself


def test_shown_shares_are_those_of_each_encoders_columns():
    model, rows = make("ft_transformer")
    batch = model.collate(model.prepare(rows.head(4)))
    with torch.no_grad():
        maps = model.attention(batch)
    assert maps["number"]["source2token"].shape == (4, 2, 2)  # row, column, head
    assert maps["category"]["source2token"].shape == (4, 1, 2)
    total = sum(m["source2token"].sum(1) for m in maps.values())
    assert ((total > 0) & (total < 1)).all()


@pytest.mark.parametrize("args", [{"blocks": 0}, {"blocks": 7}, {"dim": 10, "heads": 4}], ids=str)
def test_sizes_that_do_not_fit_are_refused(args):
    with pytest.raises(ConfigError):
        FTTransformer(dict(DIMS), dict(TOKEN_DIMS), COLUMNS, **args)


def test_more_blocks_than_published_are_possible_with_sizes_of_their_own():
    fusion = FTTransformer(
        dict(DIMS),
        dict(TOKEN_DIMS),
        COLUMNS,
        blocks=8,
        dim=8,
        heads=2,
        attention_dropout=0.0,
        ffn_dropout=0.0,
    )
    assert fusion.eval()(*example_inputs()).shape == (ROWS, 8)


# what decays


def decayed_names(model):
    decayed = {id(p) for group in decay_groups(model, 0.1) if group["weight_decay"] for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in decayed}


@pytest.mark.parametrize("fusion", BACKBONES)
@pytest.mark.parametrize("number", ["plain_numbers", "linear_numbers", "periodic"])
def test_biases_norms_tokens_and_first_layers_of_columns_do_not_decay(number, fusion):
    model, _ = make(fusion, number)
    decayed = decayed_names(model)
    matrices = {n for n in decayed if n.rsplit(".", 1)[-1] in ("weight", "r", "s", "scales")}
    assert decayed == matrices
    assert not any(
        part in n for n in decayed for part in ("norm", "cls", "project", "embedding.weight", "periodic")
    )
    assert any(n.startswith("fusion.blocks") for n in decayed)
    assert "head.layers.0.weight" in decayed
    layers = {
        n
        for n, p in model.named_parameters()
        if n.startswith("fusion") and n.endswith("0.weight") and p.ndim == 2
    }
    assert layers <= decayed


def test_vectors_of_missing_values_do_not_decay():
    table = frame()
    table.loc[::7, "age"] = np.nan
    schema = infer(table, "price").fitted(table)
    model, rows = TableModel(schema, ModelConfig()), schema.parse(table)
    model.fit_parts(rows, schema.encode_target(rows), torch.Generator().manual_seed(0))
    assert model.encoders["number"].missing.ndim == 2
    assert not {"encoders.number.missing", "encoders.category.embedding.weight"} & decayed_names(model)


def test_every_group_together_is_every_parameter_once():
    model, _ = make("ft_transformer", "periodic")
    grouped = [id(p) for group in decay_groups(model, 0.1) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


# training as published


def test_the_rate_is_constant_where_it_is_asked_for():
    assert {rate_at(i, 500, 3e-4, 0.0, 1.0) for i in range(501)} == {3e-4}


def test_training_stops_when_the_score_does_not_improve_and_keeps_the_best_weights():
    model, rows = make("mlp", dropout=0.1)
    target = model.schema.encode_target(rows)
    scores, states = iter([5.0, 3.0, 4.0, 3.5, 9.0, 1.0]), []

    def evaluate(current):
        states.append({n: t.clone() for n, t in current.state_dict().items()})
        return {"rmse": next(scores)}

    config = TrainingConfig(epochs=1000, batch_size=256, patience=3, warmup=0.0, floor=1.0, clip=0.0)
    history = Trainer(model, config).fit(model.prepare(rows), target, evaluate, "rmse", higher=False)
    assert (history.best_epoch, len(history.epochs)) == (1, 5)
    assert all(torch.equal(t, states[1][n]) for n, t in model.state_dict().items())
