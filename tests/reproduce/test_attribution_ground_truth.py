"""The pieces of the reproduction on few rows; the experiment runs with `salience reproduce attribution-ground-truth`."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from salience.core import registry
from salience.data.schema import infer
from salience.explain import ground_truth as gt
from salience.reproduce import attribution_data
from salience.reproduce import attribution_ground_truth as reproduction

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def _small(tmp_path, monkeypatch):
    monkeypatch.setenv("SALIENCE_CACHE", str(tmp_path))
    monkeypatch.setattr(reproduction, "RECIPE", {**reproduction.RECIPE, "epochs": 2})
    attribution_data.rows_of.cache_clear()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    attribution_data.rows_of.cache_clear()


def named(name, root="/nowhere"):
    return next(s for s in reproduction.settings(Path(root)) if s.name == name)


def test_card_names_a_function_that_runs():
    assert registry.load("reproduction", "attribution-ground-truth") is reproduction.run


def test_settings_have_names_of_their_own_and_the_quick_ones_exist():
    names = [setting.name for setting in reproduction.settings(Path("/nowhere"))]
    assert len(names) == len(set(names))
    assert set(reproduction.QUICK) <= set(names)


def test_each_experiment_varies_one_thing():
    settings = [s for s in reproduction.settings(Path("/nowhere")) if s.model == "se_resnet"]
    frame = pd.DataFrame()
    for change, (usual, sizes, degrees) in reproduction.PICTURES.items():
        mine = [s for s in settings if s.name.startswith(f"{change},")]
        areas = [s.level for s in mine if s.experiment == "region size"]
        assert len(set(areas)) == 1 + len(sizes)
        other = [s.design(frame).manipulations[1] for s in mine if s.experiment == "visibility"]
        assert len(other) == len(degrees)
        assert all(np.array_equal(m.mask(32, 32), usual.mask(32, 32)) for m in other)
        kept = [s for s in mine if s.experiment == "kept labels"]
        assert [s.level for s in kept] == [s.design(frame).best_original for s in kept] == [0.7, 0.9, 1.0]
        assert all(s.design(frame).manipulations[1] == usual for s in kept)


def test_digits_are_two_classes_of_coloured_pictures():
    frame = attribution_data.rows_of("digits", Path("/nowhere"))
    assert set(frame["label"]) == {"three", "eight"}
    picture = frame["picture"].iloc[0]
    assert picture.shape == (32, 32, 3) and picture.dtype == np.uint8
    assert (np.ptp(picture.astype(int), axis=2) > 20).mean() > 0.9  # a hue almost everywhere


def small_picture_setting(monkeypatch, along=False):
    monkeypatch.setitem(attribution_data.ROWS, "picture", 120)
    setting = named("watermark, usual")
    frame = attribution_data.rows_of(setting.data, Path("/nowhere"))
    schema = infer(frame, "label", kinds={"picture": "image"})
    size = {"rows": 6, "methods": {"gradient_x_input": {}, "random": {}}, "along": along}
    return setting, frame, schema, setting.design(frame), size


def test_a_picture_setting_gives_a_line_a_method_and_class_and_says_whether_it_counts(monkeypatch):
    found = reproduction.scored(*small_picture_setting(monkeypatch), 0)
    frame = pd.DataFrame(found["lines"])
    assert frame[["method", "class"]].drop_duplicates().shape[0] == len(frame) == 6
    assert set(frame["experiment"]) == {"region size"}
    assert frame["accuracy"].between(0, 1).all() and frame["attr"].between(0, 1).all()
    assert frame["scored"].str.match("yes|no: ").all()
    weak = frame["accuracy"] < 0.55
    assert frame[weak]["scored"].str.startswith("no").all()


def test_moments_along_training_rise_and_end_at_the_best(monkeypatch):
    monkeypatch.setattr(reproduction, "STEP", 0.01)
    setting, frame, schema, design, size = small_picture_setting(monkeypatch, along=True)
    parts = gt.altered_splits(frame, schema, design)
    model, moments = reproduction._train_picture(setting, schema.fitted(parts["train"].frame), parts, 0)
    accuracies = [accuracy for accuracy, _ in moments]
    assert accuracies == sorted(accuracies)
    held = parts["validation"]
    assert accuracies[-1] == pytest.approx((model.outputs(held.frame).argmax(1) == held.label).mean())
    lines = pd.DataFrame(reproduction.scored(setting, frame, schema, design, size, 0)["lines"])
    assert set(lines["experiment"]) == {"training", "region size"}


def test_a_finished_setting_is_not_done_again(monkeypatch):
    monkeypatch.setitem(attribution_data.ROWS, "picture", 40)
    calls = []
    monkeypatch.setattr(
        reproduction, "scored", lambda *given: calls.append(given) or {"lines": [], "seconds": 0.0}
    )
    for _ in range(2):
        reproduction.finished(named("hue, usual"), Path("/nowhere"), 0, True)
    reproduction.finished(named("hue, usual"), Path("/nowhere"), 1, True)
    assert len(calls) == 2


def test_texts_that_are_absent_are_named_and_left_out(monkeypatch, tmp_path):
    setting = named("SST-2, articles, disan")
    monkeypatch.setattr(reproduction, "settings", lambda root: [setting])
    monkeypatch.setattr(reproduction, "known_answers", lambda seed, rows: exact_rows())
    found = reproduction.run(tmp_path, quick=True)
    assert len(found["left_out"]) == 1 and "SST-2" in found["left_out"][0]
    assert "SST-2" in found["summary"]["left out"]


ABOUT = {"class": "all", "accuracy": 0.99, "best_original": 0.5, "flips": 1.0, "lift": 2.0, "uniform": 0.25}


def exact_rows():
    base = {
        **ABOUT,
        "experiment": "known answer",
        "setting": "net",
        "level": 0.0,
        "scored": "hand-set",
        "normalised": 0.0,
    }
    exact = [{**base, "method": m, "attr": 1.0, "low": 1.0, "high": 1.0} for m in reproduction.EXACT_METHODS]
    return [*exact, {**base, "method": "random", "attr": 0.3, "low": 0.2, "high": 0.4}]


def scored_rows(values, **about):
    base = {
        **ABOUT,
        "experiment": "region size",
        "level": 0.5,
        "scored": "yes",
        "attr": 0.5,
        "low": 0.4,
        "high": 0.6,
    }
    return [{**base, "method": m, "normalised": v, **about} for m, v in values.items()]


def test_the_summary_says_what_the_rows_say():
    rows = [
        *exact_rows(),
        *scored_rows({"gradient": 0.25, "leave_one_out": 0.75, "random": 0.0}, setting="hue, usual"),
        *scored_rows({"gradient": 0.75, "leave_one_out": 0.75}, setting="hue, top 0", level=1.0),
        *scored_rows({"gradient": 0.9}, setting="hue, top 0", level=1.0, **{"class": "cat"}),
        *scored_rows(
            {"gradient": 0.0},
            setting="hue, r = 1",
            scored="no: accuracy",
            experiment="kept labels",
            level=1.0,
        ),
        *scored_rows({"gradient": 0.4}, setting="SST-2", experiment="text"),
    ]
    said = reproduction.summary(rows, [])
    assert said["known answers"].startswith("Attr% is 1") and "on 1 of 1" in said["known answers"]
    assert said["region size"].endswith("gradient 0.25 → 0.75, leave_one_out 0.75 → 0.75")
    assert said["kept labels"].endswith("gradient 0.25 → 0.00")
    assert said["visibility"] == "not run at several levels"
    assert said["explainers of pictures"].endswith("leave_one_out 0.75, gradient 0.50")
    assert said["explainers of pictures"].startswith("0 of 2")
    assert said["explainers of texts"].startswith("1 of 1") and "explainers of tables" not in said
    assert said["not scored"] == "1 of 4 settings: hue, r = 1 (accuracy)"


def test_an_inexact_method_is_named():
    rows = exact_rows()
    rows[0]["attr"] = 0.9
    assert f"not for {reproduction.EXACT_METHODS[0]}" in reproduction.summary(rows, [])["known answers"]


@pytest.mark.skipif(not (DATA / "sst2").exists(), reason="the folder shared/data is absent")
@pytest.mark.parametrize(
    "name, classes", [("sst2", {"negative", "positive"}), ("subj", {"subjective", "objective"})]
)
def test_real_texts_are_read(name, classes):
    frame = attribution_data.rows_of(name, DATA)
    assert set(frame["label"]) == classes
    assert len(frame) == attribution_data.ROWS["text"]
    assert frame["text"].str.len().min() > 0
