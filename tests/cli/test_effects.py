"""``salience effects`` on a small table of numbers and categories."""

import json

import numpy as np
import pytest
import torch

from salience.api import Predictor
from salience.cli import main as cli
from tables_models import table


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("effects")
    frame = table(300).assign(y=lambda f: 3 * f.a + f.k / 10 + np.where(f.g == "v", 2.0, 0.0))
    frame.to_csv(folder / "rows.csv", index=False)
    options = ["training.epochs=30", "training.learning_rate=0.02", "threads=1"]
    Predictor("y", preset="fast", overrides=options).fit(frame).save(folder / "model")
    return folder


def run(capsys, *arguments):
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def test_table_json_and_page_say_the_same(capsys, place):
    asked = ["effects", place / "model", place / "rows.csv", "--quick", "--explain-rows", 20]
    data = json.loads(run(capsys, *asked, "--json"))
    strongest = data["curves"][0]
    assert strongest["column"] == "a" and strongest["real"]
    text = run(capsys, *asked, "--out", place / "effects.html")
    assert "Effects on y (value), 300 rows" in text and "Contributions by bin" in text
    assert "“a”: the higher, the higher the predicted “y”" in " ".join(text.split())
    page = (place / "effects.html").read_text(encoding="utf-8")
    assert "How each column moves the prediction" in page


def test_columns_and_method_are_chosen(capsys, place):
    asked = [
        "effects",
        place / "model",
        place / "rows.csv",
        "--column",
        "a",
        "--method",
        "partial_dependence",
    ]
    data = json.loads(run(capsys, *asked, "--explain-rows", 0, "--json"))
    assert [c["column"] for c in data["curves"]] == ["a"]
    assert data["curves"][0]["spread"] and data["contributions"] == []


def test_unknown_column_is_a_user_error(capsys, place):
    assert cli.main(["effects", str(place / "model"), str(place / "rows.csv"), "--column", "A"]) == 2
    assert "no column 'A'" in capsys.readouterr().err


def test_predictor_uses_its_training_rows_for_bins(place):
    predictor = Predictor.load(place / "model")
    frame = table(60)
    found = predictor.effects(frame, ["k"], explain_rows=30)
    bins = found.contributions[0].bins
    assert 26 <= sum(line.rows for line in bins) <= 30  # a bin with one row is not told
    predictor.train_rows = table(60).assign(k=lambda f: f.k * 2, y=0.0)
    assert predictor.effects(frame, ["k"], explain_rows=30).contributions[0].bins != bins


def test_audit_takes_directions(capsys, place, tmp_path):
    asked = ["audit", place / "model", place / "rows.csv", "--out", tmp_path / "audit.html"]
    findings = json.loads(run(capsys, *asked, "--direction", "a=increasing", "--json"))["findings"]
    found = next(f for f in findings if f["check"] == "monotone")
    assert found["verdict"] in ("pass", "warn") and "'a'" in found["control"]["name"]
    assert cli.main(["audit", *map(str, asked[1:]), "--direction", "a"]) == 2
    assert "COLUMN=DIRECTION" in capsys.readouterr().err
