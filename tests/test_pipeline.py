"""The main job and the verbs, on a small generated table."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from salience import Predictor, run
from salience.core.errors import ConfigError, IntegrityError, NotFittedError
from salience.core.finding import Finding
from salience.data.datasets.toy_reviews import load
from salience.explain.explanation import Explanation

SMALL = [
    "training.epochs=4",
    "explain.rows=4",
    "threads=1",
    "model.text.args.dim=8",
    "model.text.args.embedding_dim=8",
]
FILES = {
    "config.yaml", "schema.json", "metrics.json", "predictions.parquet", "explanations.jsonl", "findings.json",
    "report.html", "report.md", "log.txt", "run.json", "splits.parquet", "model",
}  # fmt: skip


@pytest.fixture(scope="module")
def frame():
    return load(rows=240, seed=1)


@pytest.fixture(scope="module")
def result(frame, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "toy"
    return run(frame, target="recommends", preset="fast", out=folder, overrides=SMALL)


@pytest.fixture(scope="module")
def predictor(result):
    return Predictor.load(result.folder)


def test_run_folder_is_whole(result):
    assert {path.name for path in result.folder.iterdir()} == FILES
    assert json.loads((result.folder / "run.json").read_text())["state"] == "complete"


def test_metrics_hold_value_and_interval_for_model_and_baselines(result):
    test = json.loads((result.folder / "metrics.json").read_text())["test"]
    for scores in (test, *test["baselines"].values()):
        for name in ("auroc", "accuracy", "macro_f1", "log_loss"):
            low, high = scores[name]["interval"]
            assert low <= scores[name]["value"] <= high
    assert set(test["baselines"]) == {"majority", "logistic regression", "gradient boosting"}


def test_predictions_are_those_of_the_saved_model(result, predictor, frame):
    stored = pd.read_parquet(result.folder / "predictions.parquet")
    again = predictor.predict_proba(frame.iloc[stored["row"]])
    np.testing.assert_allclose(stored["probability yes"], again["yes"], atol=1e-6)
    assert (predictor.predict(frame.iloc[stored["row"]]).to_numpy() == stored["prediction"]).all()


def test_explanations_and_findings_read_back(result):
    lines = (result.folder / "explanations.jsonl").read_text().splitlines()
    explanations = [Explanation.from_json(json.loads(line)) for line in lines]
    assert len(explanations) == 4
    assert all(e.faithfulness is not None and e.truth in ("no", "yes") for e in explanations)
    findings = [Finding.from_json(f) for f in json.loads((result.folder / "findings.json").read_text())]
    assert {f.check for f in findings} >= {"performance", "leakage", "faithfulness", "cost"}


def test_batch_of_one_is_the_same_as_in_a_batch(predictor, frame):
    together = predictor.predict_proba(frame.head(8))
    alone = pd.concat([predictor.predict_proba(frame.iloc[[i]]) for i in range(8)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_index_of_the_frame_is_kept(predictor, frame):
    rows = frame.sample(5, random_state=0)
    assert predictor.predict(rows).index.equals(rows.index)


def test_one_row_as_a_dictionary(predictor, frame):
    row = frame.iloc[0].to_dict()
    explanation = predictor.explain(row)[0]
    assert explanation.prediction == predictor.predict(row).iloc[0]
    assert abs(explanation.completeness_gap) < 0.05 * max(
        1.0, abs(explanation.output - explanation.baseline_output)
    )


def test_same_seed_same_weights(frame):
    first, second = (
        Predictor("recommends", preset="fast", overrides=SMALL).fit(frame.head(80)) for _ in range(2)
    )
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_save_refuses_before_fit_and_load_refuses_unfinished(tmp_path, result, frame):
    with pytest.raises(NotFittedError, match="fit"):
        Predictor("recommends").save(tmp_path)
    with pytest.raises(IntegrityError, match="no saved model"):
        Predictor.load(tmp_path / "absent")
    with pytest.raises(IntegrityError, match="not finished"):
        Predictor.load(tmp_path)


def test_load_refuses_changed_weights(tmp_path, predictor):
    folder = predictor.save(tmp_path / "copy")
    weights = folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(IntegrityError, match="not the file that was saved"):
        Predictor.load(folder)


def test_audit_of_other_rows(predictor):
    report = predictor.audit(load(rows=60, seed=5), explain_rows=2)
    checks = {finding.check: finding.verdict for finding in report.findings}
    assert checks["leakage"] == "not measured"  # no training rows after loading
    assert "What predicts recommends?" in report.to_html()


def test_regression_in_units_of_the_target(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=300), "b": rng.choice(["x", "y"], 300)})
    frame["price"] = 1000 + 50 * frame["a"] + 20 * (frame["b"] == "x")
    result = run(frame, target="price", preset="fast", out=tmp_path / "price", overrides=SMALL)
    test = result.metrics["test"]
    assert test["rmse"]["value"] < test["baselines"]["mean"]["rmse"]["value"]
    assert Predictor.load(result.folder).predict(frame).between(700, 1300).all()


def test_unknown_options_are_refused():
    with pytest.raises(ConfigError, match=r"training.epoch'.*epochs"):
        Predictor("y", overrides=["training.epoch=3"])
    with pytest.raises(ConfigError, match="fast"):
        Predictor("y", preset="fasst")


def test_removing_words_moves_no_unread_words_in(predictor):
    limit = predictor.model.encoders["text"].max_tokens
    text = " ".join(["soft"] * limit + ["awful"] * 5)
    row = predictor.schema.parse(
        pd.DataFrame([{"review": text, "days late": 1.0, "delivery": "post"}]), target=False
    )
    row = row.iloc[0].to_dict()
    units = predictor.model.units(row)
    changed = predictor.model.remove(row, [unit for unit in units if unit.kind == "text"][:3])
    assert changed["review"].split() == ["soft"] * (limit - 3)
