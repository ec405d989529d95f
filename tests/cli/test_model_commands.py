"""Commands that train and use a model, on 120 toy reviews."""

import json

import pandas as pd
import pytest
import torch

from salience.cli import main as cli
from salience.data.datasets.toy_reviews import load

TINY = ["--preset", "fast", "--set", "training.epochs=1", "--set", "threads=1"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with rows.csv and a trained model in ``model``."""
    folder = tmp_path_factory.mktemp("place")
    load(rows=120).to_csv(folder / "rows.csv", index=False)
    arguments = [
        "train",
        str(folder / "rows.csv"),
        "--target",
        "recommends",
        "--out",
        str(folder / "model"),
        *TINY,
    ]
    assert cli.main(arguments) == 0
    return folder


def run(capsys, *arguments):
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def run_json(capsys, *arguments):
    return json.loads(run(capsys, *arguments, "--json"))


def test_predict_prints_and_writes_the_same(capsys, place, tmp_path):
    records = run_json(capsys, "predict", place / "model", place / "rows.csv", "--probabilities")
    assert len(records) == 120
    assert set(records[0]) == {"prediction", "probability no", "probability yes"}
    assert records[0]["probability no"] + records[0]["probability yes"] == pytest.approx(1.0)
    for ending, reader in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        out = tmp_path / f"predictions.{ending}"
        run(capsys, "predict", place / "model", place / "rows.csv", "--out", out)
        assert reader(out)["prediction"].tolist() == [r["prediction"] for r in records]
    assert "120 predictions" in run(capsys, "predict", place / "model", place / "rows.csv")


def test_evaluate_has_intervals(capsys, place):
    scores = run_json(capsys, "evaluate", place / "model", place / "rows.csv")
    assert {"auroc", "accuracy", "macro_f1", "log_loss"} <= scores.keys()
    low, high = scores["auroc"]["interval"]
    assert low <= scores["auroc"]["value"] <= high
    assert "AUROC ↑" in run(capsys, "evaluate", place / "model", place / "rows.csv")


def test_explain_chosen_rows(capsys, place, tmp_path):
    arguments = [
        "explain",
        place / "model",
        place / "rows.csv",
        "--row",
        "2",
        "--row",
        "1",
        "--method",
        "occlusion",
    ]
    explained = run_json(capsys, *arguments)
    rows = load(rows=120)
    assert [e["inputs"]["review"] for e in explained] == rows["review"].iloc[[1, 0]].tolist()
    assert all(e["faithfulness"]["verdict"] for e in explained)
    assert "speaks" in run(capsys, *arguments)
    run(capsys, *arguments, "--out", tmp_path / "why.html")
    assert (tmp_path / "why.html").read_text(encoding="utf-8").count("<section") == 2


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--row", "121"], "There is no row 121. The file has 120 rows."),
        (["--method", "oclusion"], "Did you mean 'occlusion'?"),
        (["--out", "why.pdf"], "Use .jsonl or .html."),
    ],
)
def test_explain_mistakes(capsys, place, extra, message):
    capsys.readouterr()
    assert cli.main(["explain", str(place / "model"), str(place / "rows.csv"), "--row", "1", *extra]) == 2
    assert message in capsys.readouterr().err


def test_no_model_in_the_folder(capsys, tmp_path, place):
    assert cli.main(["predict", str(tmp_path), str(place / "rows.csv")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_run_writes_a_complete_folder_and_says_so(capsys, place, tmp_path):
    out = tmp_path / "run"
    few = "audit.checks=[performance,leakage,calibration]"  # tests/test_pipeline.py runs them all
    quick = ["--set", "explain.rows=3", "--set", "audit.baselines=false", "--set", few]
    said = run_json(capsys, "run", place / "rows.csv", "--target", "recommends", "--out", out, *TINY, *quick)
    assert said["folder"] == str(out)
    assert json.loads((out / "run.json").read_text())["state"] == "complete"
    assert said["metrics"]["test"]["auroc"]["interval"]
    assert {f["check"] for f in said["findings"]} == {"performance", "leakage", "calibration"}
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")


def test_demo_explains_and_tells_the_rule(capsys, monkeypatch):
    from salience.cli.commands import demo

    monkeypatch.setattr(demo, "QUICK", ("training.epochs=1", "threads=1"))
    said = run_json(capsys, "demo")
    assert said["sentences"][0].startswith("The model predicts")
    assert said["explanation"]["faithfulness"]["verdict"]
    assert {"warm", "scratchy"} <= said["rule"].keys()


def test_bench_prints_and_writes_one_table(capsys, monkeypatch, tmp_path):
    from salience.benchmarks import startup

    monkeypatch.setattr(startup, "COMMANDS", {name: ["-c", "pass"] for name in startup.COMMANDS})
    said = run_json(capsys, "bench", "startup", "--quick", "--out", tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text()) == said
    assert {"torch", "salience", "numpy"} <= {r["measured"].removeprefix("size of ") for r in said["rows"]}
    assert said["summary"]["size in all (MB)"] > said["summary"]["size without torch (MB)"] > 100


def test_compare_prints_and_writes_the_same_board(capsys, place, tmp_path):
    asked = ["compare", place / "model", place / "rows.csv", "--rows", 5, "--metric", "comprehensiveness"]
    asked += ["--metric", "tau_loo", "--method", "leave_one_out", "--method", "gradient_x_input"]
    board = run_json(capsys, *asked, "--out", tmp_path / "board.json")
    assert board == json.loads((tmp_path / "board.json").read_text()) | {"seconds": board["seconds"]}
    assert [m["name"] for m in board["methods"]] == [
        "leave_one_out", "gradient_x_input", "random", "uniform", "inverse"
    ]  # fmt: skip
    exact = [c for c in board["cells"] if (c["method"], c["metric"]) == ("leave_one_out", "tau_loo")]
    assert exact[0]["mean"] == pytest.approx(1.0, abs=0.02)
    shown = run(capsys, *asked, "--out", tmp_path / "board.md")
    assert "compr. ↑" in shown
    assert "| leave_one_out |" in (tmp_path / "board.md").read_text()
    run(capsys, *asked, "--out", tmp_path / "board.csv")
    assert len(pd.read_csv(tmp_path / "board.csv")) == len(board["cells"])


def test_compare_says_which_endings_it_writes(capsys, place, tmp_path):
    asked = [
        "compare",
        place / "model",
        place / "rows.csv",
        "--rows",
        2,
        "--method",
        "random",
        "--out",
        "x.pdf",
    ]
    assert cli.main([str(a) for a in asked]) == 2
    assert "SAL-C" in capsys.readouterr().err
