"""Several numbers and several labels through the whole library: fit, predict, explain, audit, report, save."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from salience import Predictor, run
from salience.cli.views import metrics_table
from salience.core.errors import ConfigError, UnsupportedError
from salience.core.metrics import EACH, MAIN, METRICS
from salience.sklearn import SalienceClassifier, SalienceRegressor

TARGETS = {"multi-regression": ["rise", "fall", "noise"], "multi-label": ["rich", "poor", "rare"]}
TASKS = list(TARGETS)
CHECKS = (
    "audit.checks=[performance, calibration, leakage, slices, perturbation, faithfulness, cost, duplicates]"
)
SMALL = [
    "training.epochs=30",
    "training.learning_rate=0.02",
    "explain.rows=6",
    "threads=1",
    "model.hidden=[8]",
    CHECKS,
]


def table(rows=240, seed=0):
    """Return rows where ``x`` raises the first target and lowers the second; the third is mostly chance."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": rng.normal(size=rows), "y": rng.normal(size=rows)})
    frame["kind"] = rng.choice(["plain", "fancy"], rows)
    x, noise = frame["x"].to_numpy(), rng.normal(size=(rows, 3))
    frame["rise"] = 10 * x + 100 + noise[:, 0]
    frame["fall"] = -0.01 * x + 0.001 * noise[:, 1]
    frame["noise"] = noise[:, 2] + 5
    frame["rich"] = np.where(x + 0.3 * noise[:, 0] > 0, "yes", "no")
    frame["poor"] = x + 0.3 * noise[:, 1] < -0.2
    frame["rare"] = (noise[:, 2] > 1.3).astype(int)
    return frame


def rows_of(task, **options):
    other = TARGETS["multi-label" if task == "multi-regression" else "multi-regression"]
    return table(**options).drop(columns=other)


@pytest.fixture(scope="module", params=TASKS)
def task(request):
    return request.param


@pytest.fixture(scope="module")
def result(task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / task
    return run(rows_of(task), target=TARGETS[task], preset="fast", out=folder, overrides=SMALL)


@pytest.fixture(scope="module")
def predictor(result):
    return Predictor.load(result.folder)


def test_scores_are_told_for_every_target(result, task):
    test = json.loads((result.folder / "metrics.json").read_text())["test"]
    assert set(METRICS[task]) | {"baselines"} == set(test)
    for scores in (test, *test["baselines"].values()):
        for name in EACH[task]:
            assert list(scores[name]["targets"]) == TARGETS[task]
    main = test[MAIN[task]]
    low, high = main["interval"]
    assert low <= main["value"] <= high
    first, second, chance = (main["targets"][name]["value"] for name in TARGETS[task])
    assert min(first, second) > 0.8 > chance
    trivial = "mean" if task == "multi-regression" else "majority"
    assert main["value"] > test["baselines"][trivial][MAIN[task]]["value"] + 0.2


def test_the_configuration_names_all_targets(result, task):
    assert yaml.safe_load((result.folder / "config.yaml").read_text())["target"] == TARGETS[task]


def test_predictions_are_stored_target_by_target(result, task, predictor):
    stored = pd.read_parquet(result.folder / "predictions.parquet")
    rows = rows_of(task).iloc[stored["row"]]
    predicted = predictor.predict(rows)
    for name in TARGETS[task]:
        np.testing.assert_allclose(stored[f"prediction {name}"], predicted[name], rtol=1e-6)
        assert stored[f"truth {name}"].tolist() == rows[name].tolist()
    assert any(name.startswith("probability ") for name in stored.columns) == (task == "multi-label")


def test_one_column_a_target(task, predictor):
    rows = rows_of(task, rows=30, seed=1)
    predicted = predictor.predict(rows.drop(columns=TARGETS[task]))
    assert list(predicted.columns) == TARGETS[task] and predicted.index.equals(rows.index)
    if task == "multi-regression":
        assert np.corrcoef(predicted["rise"], rows["rise"])[0, 1] > 0.95
        assert np.corrcoef(predicted["fall"], rows["fall"])[0, 1] > 0.95
        with pytest.raises(ConfigError, match="Probabilities need"):
            predictor.predict_proba(rows)
    else:
        probabilities = predictor.predict_proba(rows)
        assert list(probabilities.columns) == TARGETS[task]
        assert set(np.unique(predicted)) <= {0, 1}
        np.testing.assert_array_equal(predicted, probabilities >= 0.5)
        assert ((probabilities.sum(axis=1) - 1).abs() > 0.1).any()  # labels do not exclude each other


def test_evaluation_of_new_rows(task, predictor):
    found = predictor.evaluate(rows_of(task, rows=60, seed=2))
    assert set(found) == set(METRICS[task])
    assert set(found[MAIN[task]]["targets"]) == set(TARGETS[task])


def test_the_target_is_named_by_its_column(task, predictor):
    rows = rows_of(task, rows=4, seed=3)
    for name, sign in zip(TARGETS[task][:2], (1, -1), strict=True):
        for e in predictor.explain(rows, target=name):
            assert (e.target, e.target_column) == (name, name)
            assert e.target in str(e.words()) and name in e.footer()
            value = dict(zip([u.column for u in e.units], e.values, strict=True))["x"]
            x = rows["x"].loc[e.row]
            assert abs(x) < 0.3 or np.sign(value) == np.sign(sign * x)
            truth = rows[name].loc[e.row]
            assert e.truth == (
                truth if task == "multi-regression" else "yes" if truth in ("yes", True) else "no"
            )


def test_contributions_of_a_label_add_up_to_its_log_odds(predictor, task):
    rows = rows_of(task, rows=3, seed=3)
    outputs = predictor.model.outputs(predictor.schema.parse(rows, target=False))
    for i, e in enumerate(predictor.explain(rows, target=TARGETS[task][1])):
        assert e.output == pytest.approx(outputs[i, 1], rel=1e-6)
        assert e.completeness_gap == pytest.approx(sum(e.values) - (e.output - e.baseline_output), abs=1e-9)
        assert abs(e.completeness_gap) < 0.05 * max(1.0, abs(e.output - e.baseline_output))
        assert e.quantity == ("value" if task == "multi-regression" else "log-odds")
        assert e.independent == (task == "multi-label")


def test_predicted_is_the_most_probable_label_or_the_first_number(task, predictor):
    rows = rows_of(task, rows=12, seed=4)
    found = predictor.explain(rows, faithfulness=False)
    if task == "multi-regression":
        assert {e.target for e in found} == {"rise"}
        np.testing.assert_allclose([e.prediction for e in found], predictor.predict(rows)["rise"], rtol=1e-6)
    else:
        probabilities = predictor.predict_proba(rows)
        assert [e.target for e in found] == probabilities.idxmax(axis=1).tolist()
        largest = probabilities.max(axis=1)
        np.testing.assert_allclose([e.probability for e in found], largest.where(largest >= 0.5, 1 - largest))
        assert [e.prediction for e in found] == ["yes" if p >= 0.5 else "no" for p in largest]


def test_a_contrast_is_for_labels(task, predictor):
    rows, pair = rows_of(task, rows=2, seed=5), tuple(TARGETS[task][:2])
    if task == "multi-regression":
        with pytest.raises(UnsupportedError):
            predictor.explain(rows, target=pair)
        return
    outputs = predictor.model.outputs(predictor.schema.parse(rows, target=False))
    found = predictor.explain(rows, target=pair)
    assert [e.target for e in found] == ["rich rather than poor"] * 2
    np.testing.assert_allclose([e.output for e in found], outputs[:, 0] - outputs[:, 1], rtol=1e-6)


def test_an_unknown_target_is_refused_with_the_nearest(task, predictor):
    with pytest.raises(ConfigError, match=TARGETS[task][0]):
        predictor.explain(rows_of(task, rows=2), target=TARGETS[task][0] + "e")


def test_methods_are_compared(task, predictor):
    board = predictor.compare(
        rows_of(task, rows=8, seed=6),
        methods=["leave_one_out", "gradient_x_input"],
        metrics=["comprehensiveness"],
    )
    assert {m.name for m in board.methods} >= {"leave_one_out", "gradient_x_input", "random"}
    changed = next(m.changed for m in board.methods if m.name == "leave_one_out")
    assert np.isnan(changed) if task == "multi-regression" else 0 <= changed <= 1


def test_checks_answer_or_say_why_not(result, task):
    found = {finding.check: finding for finding in result.findings}
    for key in ("performance", "leakage", "faithfulness", "cost"):
        assert found[key].verdict != "not measured", found[key].answer
    assert next(row["target"] for row in found["performance"].tables["targets"]) == TARGETS[task][2]
    best = found["leakage"].tables["columns"][0]
    assert best["column"] == "x" and best["target"] in TARGETS[task][:2]
    assert best["target"] in found["leakage"].answer


def test_the_report_names_the_targets(result, task):
    page = result.report.read_text(encoding="utf-8")
    assert "This model, target by target" in page
    named = "{}, {} and {}".format(*TARGETS[task])
    assert f"What predicts {named}?" in page
    assert ("yes or no for each" if task == "multi-label" else ", all numbers,") in page


def test_scores_in_the_terminal(result, capsys):
    from rich.console import Console

    Console(width=200).print(metrics_table(result.metrics))
    told = capsys.readouterr().out
    assert "target by target" in told and "mean" in told


def test_saved_and_loaded_is_the_same(task, predictor, tmp_path):
    rows = rows_of(task, rows=10)
    again = Predictor.load(predictor.save(tmp_path / "model"))
    pd.testing.assert_frame_equal(again.predict(rows), predictor.predict(rows))
    assert again.config.target == tuple(TARGETS[task])


def test_members_and_seeds_serve_several_targets(task):
    rows, written = rows_of(task, rows=120), ",".join(TARGETS[task])
    overrides = ["threads=1", "model.hidden=[8]", "training.epochs=3", "model.fusion.name=tabm_mini"]
    predictor = Predictor(written, preset="fast", overrides=overrides, seeds=2).fit(rows)
    assert predictor.predict(rows).shape == (120, 3)
    (found,) = predictor.explain(rows.head(1), target=TARGETS[task][1])
    outputs = predictor.model.outputs(predictor.schema.parse(rows.head(1), target=False))
    assert found.output == pytest.approx(outputs[0, 1], rel=1e-5)


@pytest.mark.parametrize("estimator", [SalienceRegressor, SalienceClassifier])
def test_estimators_say_that_they_take_one_target(estimator):
    with pytest.raises(ValueError, match="1d array, got 2 columns"):
        estimator(preset="fast").fit(np.zeros((10, 2)), np.eye(2)[np.arange(10) % 2].astype(int))
