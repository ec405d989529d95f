"""The experiment on suspect labels, tiny: flips, measures, and what is kept."""

import numpy as np
import pytest

from salience.reproduce import suspect_labels as experiment


def test_flips_go_where_they_are_said_to():
    label = np.arange(3000) % 3
    for kind in ("any class", "next class"):
        moved, changed = experiment.flipped(label, 3, kind, 0.2, seed=0)
        assert changed.mean() == pytest.approx(0.2, abs=0.03)
        assert ((moved != label) == changed).all()
    assert (moved[changed] == (label[changed] + 1) % 3).all()


def test_lines_are_means_over_seeds_with_narrower_intervals():
    one = {
        "auroc": 0.8, "auroc_interval": [0.7, 0.9], "precision": 0.5, "precision_interval": [0.4, 0.6],
        "difference": 0.1, "difference_interval": [-0.1, 0.3],
    }  # fmt: skip
    rows = experiment.rows_of("digits", "any class", 0.1, [{"combined": one}] * 4)
    assert rows[0]["auroc"] == pytest.approx(0.8)
    assert (rows[0]["auroc_low"], rows[0]["auroc_high"]) == pytest.approx((0.75, 0.85))
    assert (rows[0]["difference_low"], rows[0]["difference_high"]) == pytest.approx((0.0, 0.2))
    assert "level" in experiment.summary(rows)


def test_run_measures_every_ranking_beside_cleanlab(tmp_path, monkeypatch):
    pytest.importorskip("cleanlab")
    monkeypatch.setenv("SALIENCE_CACHE", str(tmp_path))
    monkeypatch.setattr(experiment, "QUICK", {**experiment.QUICK, "rows": 80, "epochs": 2})
    found = experiment.run(tmp_path, quick=True)
    rankings = [row["ranking"] for row in found["rows"]]
    assert {"combined", "alignment", "loss", "alignment and loss", "cleanlab"} <= set(rankings)
    by_name = {row["ranking"]: row for row in found["rows"]}
    assert by_name["cleanlab"]["difference"] == 0
    assert by_name["cleanlab"]["auroc"] == pytest.approx(by_name["self-confidence"]["auroc"])
    monkeypatch.setattr(experiment, "measured", None)
    assert experiment.run(tmp_path, quick=True)["rows"] == found["rows"]
