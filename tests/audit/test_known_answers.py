"""Each check finds a value that is known in advance, and its interval covers the truth in simulation."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from salience.audit.checks import (
    calibration,
    cost,
    duplicates,
    faithfulness,
    leakage,
    performance,
    perturbation,
    slices,
)
from salience.core.errors import UnsupportedError
from salience.testing.checks import assert_value, column_context, coverage

ENOUGH = 0.85  # of nominal 95 % intervals


def rng_of(seed):
    return np.random.default_rng(seed)


# -- performance -----------------------------------------------------------------------------------------------


def test_performance_of_a_perfect_ranking_is_one():
    truth = np.arange(60) % 2
    finding = assert_value(performance.run, column_context(2.0 * truth - 1, truth), 1.0, 0.0)
    assert finding.verdict == "pass"
    assert finding.control.value == 0.5


def test_performance_by_hand():
    score = np.arange(12.0)
    truth = np.array([0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 1])  # one of 36 pairs is in the wrong order
    assert_value(performance.run, column_context(score, truth), 35 / 36, 1e-12)


def test_performance_of_noise_fails():
    rng = rng_of(0)
    finding = performance.run(column_context(rng.normal(size=300), rng.integers(0, 2, 300)))[0]
    assert finding.verdict == "fail"
    assert "trivial" in finding.advice


def test_performance_warns_below_a_stronger_baseline():
    rng = rng_of(1)
    truth = rng.integers(0, 2, 400)
    context = column_context(truth + rng.normal(0, 1.2, 400), truth)
    strong = expit(4.0 * (truth + rng.normal(0, 0.4, 400) - 0.5))
    context = replace(context, baselines={"oracle": np.stack([1 - strong, strong], 1)})
    finding = performance.run(context)[0]
    assert finding.verdict == "warn"
    assert "oracle" in finding.answer
    assert [row["predictor"] for row in finding.tables["comparison"]] == ["this model", "oracle", "majority"]


def test_performance_confusion_counts_every_row():
    truth = np.array([0, 0, 0, 1, 1, 1, 1, 0, 1, 1])
    score = np.array([-1, -1, 1, 1, 1, -1, 1, -1, 1, 1.0])
    lines = performance.run(column_context(score, truth))[0].tables["confusion"]
    assert {(r["true"], r["predicted"]): r["rows"] for r in lines} == {
        ("0", "0"): 3, ("0", "1"): 1, ("1", "0"): 1, ("1", "1"): 5,
    }  # fmt: skip


def test_performance_interval_covers_the_error():
    def simulated(seed):
        rng = rng_of(seed)
        score = rng.normal(size=120)
        return column_context(score, score + rng.normal(size=120), task="regression", seed=seed)

    assert coverage(performance.run, map(simulated, range(30)), 1.0) >= ENOUGH


def test_performance_refuses_one_class():
    with pytest.raises(UnsupportedError, match="one class only"):
        performance.run(column_context(np.arange(20.0), np.ones(20)))


# -- calibration -----------------------------------------------------------------------------------------------


def calibrated(seed, rows=900, stretch=1.0):
    rng = rng_of(seed)
    score = rng.normal(0.5, 1.5, rows)
    truth = (rng.random(rows) < expit(score)).astype(int)
    return column_context(stretch * score, truth, seed=seed)


def true_error(stretch):
    score = rng_of(99).normal(0.5, 1.5, 200_000)
    return float(np.abs(expit(stretch * score) - expit(score)).mean())


def test_calibrated_model_passes():
    finding = calibration.run(calibrated(0))[0]
    assert finding.verdict == "pass"
    assert finding.interval[0] == 0.0


def test_overconfident_model_has_its_known_error():
    finding = assert_value(calibration.run, calibrated(1, 4000, 3.0), true_error(3.0), 0.02)
    assert finding.verdict in ("warn", "fail")
    assert finding.interval[0] > finding.control.value


@pytest.mark.parametrize("stretch", [1.0, 2.5])
def test_calibration_interval_covers_the_error(stretch):
    contexts = (calibrated(seed, stretch=stretch) for seed in range(30))
    assert coverage(calibration.run, contexts, true_error(stretch)) >= ENOUGH


def test_perfect_control_matches_its_simulation():
    stated = np.full(150, 0.5)
    mean, (low, high) = calibration.perfect_control(stated, seed=0, replicates=2000)
    assert mean == pytest.approx(np.sqrt(2 / np.pi) * 0.5 / np.sqrt(10), rel=0.05)  # 15 bins of 10 rows
    assert low < mean < high


def test_temperature_shows_both_states():
    context = calibrated(2, 1500, 3.0)
    model = context.model

    class Scaled:
        head = SimpleNamespace(temperature=3.0)

        def outputs(self, frame, *, calibrated=True):
            return model.outputs(frame) / (3.0 if calibrated else 1.0)

    finding = calibration.run(replace(context, model=Scaled()))[0]
    before, after = finding.tables["calibration error"]
    assert after["value"] < 0.03 < before["value"]
    assert "T = 3.000" in finding.answer


def test_slope_is_known_and_covered():
    def simulated(seed):
        rng = rng_of(seed)
        score = rng.normal(size=200)
        return column_context(score, 0.5 * score + rng.normal(0, 0.3, 200), task="regression", seed=seed)

    assert_value(calibration.run, simulated(0), 0.5, 0.08)
    assert calibration.run(simulated(0))[0].verdict == "fail"
    assert coverage(calibration.run, map(simulated, range(40)), 0.5) >= ENOUGH


def test_calibration_refuses_few_rows():
    with pytest.raises(UnsupportedError, match="Too few test rows"):
        calibration.run(column_context(np.zeros(50), np.arange(50) % 2))


# -- leakage ---------------------------------------------------------------------------------------------------


def leaking(seed, agree=0.9, rows=300, model_noise=0.3):
    rng = rng_of(seed)
    truth = np.arange(rows) % 2
    flag = np.where(rng.random(rows) < agree, truth, 1 - truth)
    score = rng.normal(size=rows)  # says nothing by itself
    return column_context(score, truth, seed=seed, flag=np.array(["no", "yes"])[flag])


def test_leakage_finds_the_column_and_its_score():
    finding = assert_value(leakage.run, leaking(0), 0.9, 0.06)
    assert "'flag'" in finding.answer
    assert finding.control.value < 0.65


def test_leakage_fails_on_a_copy_of_the_target():
    context = leaking(1, agree=1.0)
    finding = leakage.run(context)[0]
    assert finding.verdict == "fail"
    assert "leave it out" in finding.advice


def test_leakage_reports_a_dropped_copy_without_blame():
    context = leaking(2, agree=1.0)
    columns = tuple(
        replace(c, role="ignored", kind="other") if c.name == "flag" else c for c in context.schema.columns
    )
    finding = leakage.run(replace(context, schema=replace(context.schema, columns=columns)))[0]
    assert finding.verdict == "pass"
    assert "Left out, rightly: 'flag'" in finding.answer
    assert {row["used"] for row in finding.tables["columns"]} == {"input", "left out"}


def test_leakage_interval_covers():
    assert coverage(leakage.run, (leaking(seed) for seed in range(20)), 0.9) >= ENOUGH


def test_leakage_in_a_number_of_a_regression():
    rng = rng_of(3)
    value = rng.uniform(0, 10, 400)
    context = column_context(rng.normal(size=400), np.round(value), task="regression", copy=value)
    finding = leakage.run(context)[0]
    assert finding.value > 0.95
    assert finding.verdict == "fail"


# -- duplicates ------------------------------------------------------------------------------------------------


def copied(seed, share=0.2, rows=150):
    rng = rng_of(seed)
    train, test = rng.normal(size=rows), rng.normal(size=rows)
    copies = rng.random(rows) < share
    test[copies] = rng.choice(train, copies.sum())
    base = column_context(train, train + rng.normal(size=rows), task="regression", seed=seed)
    frame = pd.DataFrame({"score": test, "truth": test + rng.normal(size=rows)})
    return replace(base, frames={**base.frames, "test": frame}), float(copies.mean())


def test_duplicates_counts_the_copies():
    context, share = copied(0)
    finding = assert_value(duplicates.run, context, share, 1e-12)
    assert finding.verdict == "warn"
    assert finding.control.value == 0.0


def test_duplicates_interval_covers_the_rate():
    assert coverage(duplicates.run, (copied(seed)[0] for seed in range(40)), 0.2) >= ENOUGH


def test_duplicates_fails_when_copies_flatter_the_score():
    rng = rng_of(4)
    seen, fresh = np.arange(300.0), np.arange(1000.0, 1300.0)
    base = column_context(seen, seen, task="regression")
    frame = pd.DataFrame({"score": np.r_[seen, fresh], "truth": np.r_[seen, fresh + rng.normal(0, 50, 300)]})
    finding = duplicates.run(replace(base, frames={**base.frames, "test": frame}))[0]
    assert finding.value == 0.5
    assert finding.verdict == "fail"


# -- slices ----------------------------------------------------------------------------------------------------


def sliced(seed, bad=0.4, good=0.1, rows=500):
    rng = rng_of(seed)
    group = rng.choice(["a", "b"], rows, p=[0.3, 0.7])
    truth = rng.integers(0, 2, rows)
    wrong = rng.random(rows) < np.where(group == "a", bad, good)
    score = (2.0 * truth - 1) * np.where(wrong, -1, 1)
    return column_context(score, truth, seed=seed, group=group, shop=rng.choice(["x", "y", "z"], rows))


def test_slices_finds_the_weak_group():
    finding = assert_value(slices.run, sliced(0), 0.3, 0.1)
    assert finding.tables["slices"][0]["slice"] == "group = a"
    assert finding.verdict == "fail"
    assert finding.control.value < finding.interval[0]


def test_slices_interval_covers_the_gap():
    assert coverage(slices.run, (sliced(seed) for seed in range(40)), 0.3) >= 0.95  # widened for all slices


def test_slices_rarely_blames_equal_groups():
    verdicts = [slices.run(sliced(seed, 0.2, 0.2))[0].verdict for seed in range(40)]
    assert verdicts.count("pass") >= 36


def test_slices_of_a_regression():
    rng = rng_of(5)
    group = rng.choice(["a", "b"], 400)
    truth = rng.normal(size=400)
    score = truth + rng.choice([-1, 1], 400) * np.where(group == "a", 3.0, 1.0)
    finding = assert_value(
        slices.run, column_context(score, truth, task="regression", group=group), 2.0, 1e-9
    )
    assert finding.verdict == "fail"


def test_welch_agrees_with_scipy():
    from scipy.stats import ttest_ind

    rng = rng_of(7)
    errors, inside = rng.gamma(2.0, 1.0, 200), (rng.random((5, 200)) < 0.3).astype(float)
    expected = [
        ttest_ind(errors[r > 0], errors[r == 0], equal_var=False, alternative="greater").pvalue
        for r in inside
    ]
    np.testing.assert_allclose(slices.welch(inside, errors), expected, rtol=1e-9)


def test_slices_refuses_without_an_error():
    truth = np.arange(100) % 2
    with pytest.raises(UnsupportedError, match="same error"):
        slices.run(column_context(2.0 * truth - 1, truth, group=np.where(np.arange(100) < 50, "a", "b")))


# -- perturbation ----------------------------------------------------------------------------------------------


class CaseReader:
    """Reads the case of the letters, which a person would not."""

    def outputs(self, frame):
        upper = frame["note"].str.isupper().to_numpy()
        score = np.where(upper, 0.0, frame["score"].to_numpy(dtype=float))
        return np.stack([-score / 2, score / 2], axis=1)


def noted(seed=0, rows=300):
    rng = rng_of(seed)
    truth = rng.integers(0, 2, rows)
    context = column_context(
        truth + rng.normal(0, 0.3, rows), truth, note=np.array(["some words here"] * rows)
    )
    columns = tuple(replace(c, kind="text") if c.name == "note" else c for c in context.schema.columns)
    return replace(context, schema=replace(context.schema, columns=columns))


def test_perturbation_finds_what_the_model_stumbles_over():
    finding = perturbation.run(replace(noted(), model=CaseReader()))[0]
    assert "'all in capital letters'" in finding.answer
    assert finding.verdict == "fail"
    after = next(row["after"] for row in finding.tables["perturbations"] if "capital" in row["change"])
    assert after == 0.5
    assert finding.control.value == 0.0


def test_perturbation_of_what_the_model_ignores_costs_nothing():
    lines = perturbation.run(noted())[0].tables["perturbations"]
    text = [
        row
        for row in lines
        if "word" in row["change"] or "capital" in row["change"] or "space" in row["change"]
    ]
    assert len(text) == 4
    assert all(row["value"] == 0 and row["share of predictions changed"] == 0 for row in text)


def test_perturbation_refuses_a_useless_model():
    rng = rng_of(6)
    context = column_context(np.zeros(100), rng.integers(0, 2, 100))
    with pytest.raises(UnsupportedError, match="not better than the trivial answer"):
        perturbation.run(context)


# -- faithfulness ----------------------------------------------------------------------------------------------


def explained(seed, gain=0.2, rows=40, method="toy"):
    rng = rng_of(seed)

    def one():
        found = SimpleNamespace(
            comprehensiveness=gain + rng.normal(0.3, 0.1), random_comprehensiveness=rng.normal(0.3, 0.1),
            sufficiency=rng.normal(0.2, 0.1) - gain, random_sufficiency=rng.normal(0.2, 0.1),
            verdict="supported", scale="probability",
        )  # fmt: skip
        return SimpleNamespace(faithfulness=found, method=method)

    return replace(
        column_context(np.zeros(4), np.arange(4) % 2), explanations=tuple(one() for _ in range(rows))
    )


def test_faithful_explanations_pass_and_random_ones_fail():
    finding = assert_value(faithfulness.run, explained(0), 0.5, 0.05)
    assert finding.verdict == "pass"
    assert finding.control.value == pytest.approx(0.3, abs=0.05)
    assert faithfulness.run(explained(0, gain=0.0))[0].verdict == "fail"


def test_faithfulness_interval_covers_the_mean():
    assert coverage(faithfulness.run, (explained(seed) for seed in range(60)), 0.5) >= ENOUGH


def test_faithfulness_answers_for_each_method():
    both = explained(1).explanations + explained(2, method="other").explanations
    findings = faithfulness.run(replace(explained(1), explanations=both))
    assert [f.rows for f in findings] == [40, 40]
    assert "other" in findings[1].answer


def test_faithfulness_refuses_without_explanations():
    with pytest.raises(UnsupportedError, match="Too few explanations"):
        faithfulness.run(replace(explained(0), explanations=()))


# -- cost ------------------------------------------------------------------------------------------------------


def test_cost_counts_the_rows_and_reports_what_is_known():
    context = replace(
        column_context(np.zeros(100), np.arange(100) % 2), cost={"train_seconds": 12.5, "model_bytes": 3e6}
    )
    finding = cost.run(context)[0]
    amounts = {row["measure"]: row["amount"] for row in finding.tables["cost"]}
    assert amounts["training (s)"] == 12.5
    assert amounts["size on disk (MB)"] == 3.0
    assert amounts["peak memory of the process (MB)"] > 10
    assert finding.value > finding.control.value >= 0
