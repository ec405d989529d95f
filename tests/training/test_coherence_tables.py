"""Coherence of table models: exact for the parts that they are made of, on the predictor and on the command line."""

import json

import pytest
import torch

from salience import Predictor
from salience.cli.main import main
from salience.data.datasets.toy_reviews import load
from salience.data.schema import infer
from salience.models.table_model import ModelConfig, Part, TableModel
from salience.training.coherence import alignment, coherence, table_batches, table_loss, table_order

ROWS = 40
DISAN = {"dim": 6, "embedding_dim": 8, "ngram_dim": 2}
FORMS = {
    "disan": ModelConfig(text=Part("disan", DISAN), hidden=(8,)),
    "fast disan, pooled": ModelConfig(text=Part("fast_disan", DISAN), fusion=Part("attention_pool")),
    "tabm": ModelConfig(text=Part("fast_disan", DISAN), fusion=Part("tabm", {"members": 3, "width": 8})),
    "ft": ModelConfig(text=Part("fast_disan", DISAN), fusion=Part("ft_transformer", {"blocks": 1, "dim": 8, "heads": 2})),
    "resnet": ModelConfig(text=Part("fast_disan", DISAN), fusion=Part("resnet"), category=Part("one_hot")),
    "periodic": ModelConfig(text=Part("fast_disan", DISAN), number=Part("periodic", {"dim": 4})),
}  # fmt: skip


def fitted(config):
    frame = load(rows=ROWS)
    schema = infer(frame, "recommends", source="toy").fitted(frame)
    rows = schema.parse(frame, target=True)
    torch.manual_seed(0)
    model = TableModel(schema, config)
    model.fit_parts(rows, schema.encode_target(rows), torch.Generator().manual_seed(0))
    return model.eval(), rows


@pytest.mark.parametrize("form", FORMS)
def test_one_pass_equals_single_rows(form):
    model, rows = fitted(FORMS[form])
    exact = coherence(model, table_loss, table_batches(model, rows))
    alone = coherence(model, table_loss, table_batches(model, rows), method="per_example")
    assert exact.method == "exact" and exact.m == ROWS and exact.interval is not None
    assert exact.squared_norms == pytest.approx(alone.squared_norms, rel=1e-4)
    assert exact.m_coherence == pytest.approx(alone.m_coherence, rel=1e-4)
    assert exact.by_parameter.keys() == alone.by_parameter.keys()


def test_alignment_of_a_table_model():
    model, rows = fitted(FORMS["disan"])
    found = alignment(model, table_loss, table_batches(model, rows))
    assert len(found.products) == ROWS and found.gap < 1e-4 and found.method == "forward mode"


def test_packed_sequences_are_measured_alone():
    model, rows = fitted(ModelConfig(text=Part("bilstm_attention", {"dim": 4, "embedding_dim": 6})))
    found = coherence(model, table_loss, table_batches(model, rows.head(8)))
    assert found.method == "per_example" and "packed" in found.reason


def test_order_is_told():
    model, rows = fitted(FORMS["disan"])
    whole = coherence(model, table_loss, table_batches(model, rows, seed=3)).squared_norms
    first = table_order(ROWS, seed=3)[0]
    one = coherence(model, table_loss, table_batches(model, rows.iloc[[first]])).squared_norms
    assert whole[0] == pytest.approx(one[0], rel=1e-4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("coherence"), load(rows=ROWS)
    options = ["training.epochs=1", "model.text.args.dim=8", "model.text.args.embedding_dim=8"]
    predictor = Predictor("recommends", preset="fast", overrides=options).fit(rows)
    predictor.save(folder / "model")
    rows.to_csv(folder / "rows.csv", index=False)
    return predictor, rows, folder


def test_predictor_and_command_say_the_same(saved, capsys):
    predictor, rows, folder = saved
    found = predictor.coherence(rows)
    assert main(["coherence", str(folder / "model"), str(folder / "rows.csv"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["m"] == ROWS and told["alpha"] == pytest.approx(found.alpha, rel=1e-4)
    assert main(["coherence", str(folder / "model"), str(folder / "rows.csv"), "--method", "signs"]) == 0
    shown = capsys.readouterr().out
    assert "the whole model" in shown and "Note: Random signs" in shown
