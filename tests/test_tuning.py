"""Tuning: spaces that build, a search that learns, stops, resumes and says what it tried."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

optuna = pytest.importorskip("optuna")

from salience import Predictor  # noqa: E402
from salience.core.errors import ConfigError, SalienceError  # noqa: E402
from salience.core.progress import listening  # noqa: E402
from salience.data import splits  # noqa: E402
from salience.models.table_model import TableModel  # noqa: E402
from salience.settings import config_from_dict, config_to_dict, make_config  # noqa: E402
from salience.tuning import published, tune  # noqa: E402
from salience.tuning import search as searching  # noqa: E402
from salience.tuning.space import nested, parse, space_of  # noqa: E402

RATE = {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True}
SMALL = {
    "fixed": {
        "model.number": {"name": "plain_numbers"},
        "model.fusion": {"name": "mlp", "args": {"widths": [4]}},
        "model.hidden": [],
        "training.epochs": 2,
        "training.batch_size": 16,
    },
    "search": {"training.learning_rate": RATE},
}
ONE_THREAD = ["threads=1"]


def table(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"a": rng.normal(size=rows), "b": rng.normal(size=rows), "c": rng.choice(list("xy"), rows)}
    )
    return frame.assign(y=frame.a + 0.1 * rng.normal(size=rows))


def small(folder, **options):
    given = {"trials": 2, "overrides": ONE_THREAD, "pruning": "none", "space": SMALL} | options
    return tune(given.pop("source", table()), "y", folder=folder, **given)


class Ends:
    """A trial that draws one end of every range."""

    def __init__(self, high):
        self.high = high

    def suggest_float(self, key, low, high, log=False):
        return high if self.high else low

    def suggest_int(self, key, low, high, log=False, step=1):
        return high if self.high else low

    def suggest_categorical(self, key, values):
        return values[-1 if self.high else 0]


@pytest.mark.parametrize("end", ["low", "high"])
@pytest.mark.parametrize("name", sorted(published()))
def test_both_ends_of_every_published_space_build_a_model(name, end):
    space = published()[name]
    frame = table(40)
    schema = Predictor("y").infer(_Table(frame)).fitted(frame)
    config = make_config("good", None, space.assignments(len(frame)))
    drawn = space.draw(Ends(end == "high"))
    config = config_from_dict(_merged(config_to_dict(config), drawn))
    assert config.training.batch_size == 128 and config.training.patience == 16
    rows = schema.parse(frame)
    torch.manual_seed(0)
    model = TableModel(schema, config.model)
    model.fit_parts(rows, schema.encode_target(rows), torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.isfinite(model(model.collate(model.prepare(rows)[:4]))).all()
    for key, value in drawn.items():
        assert _found(config_to_dict(config), key) == value


class _Table:
    def __init__(self, frame):
        self.frame, self.name, self.target = frame, "table", "y"


def _merged(options, drawn):
    from salience.core.config import merge

    return merge(options, nested(drawn))


def _found(options, key):
    for part in key.split("."):
        options = options[part]
    return options


def test_published_ends():
    spaces = published()
    assert set(spaces) == {"mlp", "mlp-plr", "mlp-q-lr", "mlp-t-lr", "resnet", "ft-transformer", "tabm-mini"}
    plr = spaces["mlp-plr"].search
    sigma, rate, decay = (
        plr[k] for k in ("model.number.args.sigma", "training.learning_rate", "training.weight_decay")
    )
    assert (sigma.low, sigma.high, sigma.log) == (0.01, 100.0, True)
    assert (rate.low, rate.high, rate.log) == (5e-5, 5e-3, True)
    assert (decay.low, decay.high, decay.log, decay.zero) == (1e-6, 1e-3, True, True)
    assert not spaces["ft-transformer"].search["training.weight_decay"].zero
    widths = spaces["mlp"].search["model.fusion.args.widths"]
    assert (widths.count, widths.low, widths.high) == ((1, 8), 16, 1024)
    mini = spaces["tabm-mini"].search
    assert (mini["model.fusion.args.width"].step, mini["model.number.args.dim"].step) == (16, 4)
    assert spaces["mlp"].assignments(20_000)[-1] == "training.batch_size=256"


def test_layers_have_first_middle_and_last_widths():
    space = parse("s", {"search": {"w": {"kind": "layers", "count": [1, 8], "low": 16, "high": 64}}})
    fixed = {"w count": 4, "w first": 16, "w middle": 20, "w last": 64}
    assert space.draw(optuna.trial.FixedTrial(fixed))["w"] == [16, 20, 20, 64]
    assert space.draw(optuna.trial.FixedTrial({"w count": 1, "w first": 17}))["w"] == [17]


def test_zero_is_drawn_without_looking_at_the_range():
    space = parse("s", {"search": {"d": {**RATE, "zero": True}}})
    assert space.draw(optuna.trial.FixedTrial({"d > 0": False}))["d"] == 0.0
    assert space.draw(optuna.trial.FixedTrial({"d > 0": True, "d": 0.01}))["d"] == 0.01


@pytest.mark.parametrize(
    "values",
    [{}, {"search": {"a": 3}}, {"search": {"a": {"kind": "float", "low": 2, "high": 1}}},
     {"search": {"a": {"kind": "choice"}}}, {"search": {"a": {"kind": "float", "low": 0, "log": True}}},
     {"search": {"a": {"kind": "layers", "count": [3, 2]}}}],
    ids=["nothing", "no kind", "low above high", "no values", "log of zero", "fewest above most"],
)  # fmt: skip
def test_spaces_that_are_none_are_refused(values):
    with pytest.raises(ConfigError) as error:
        parse("mine", values)
    assert error.value.code == "SAL-C006"


def test_unknown_space_names_the_nearest():
    with pytest.raises(ConfigError, match="mlp-plr"):
        space_of("mlp-prl")


def test_search_finds_the_better_rate_and_run_takes_the_best(tmp_path):
    rates = {"kind": "choice", "values": [1e-6, 3e-2]}
    space = SMALL | {"search": {"training.learning_rate": rates}}
    tuned = small(tmp_path / "t", space=space, trials=4)
    assert tuned.best.training.learning_rate == 3e-2
    assert tuned.options == {"training.learning_rate": 3e-2}
    again = tuned.trials[tuned.trials.reason.str.startswith("the same as trial")]
    assert len(again) == 2  # four trials, two different settings
    assert yaml.safe_load((tmp_path / "t/best.yaml").read_text())["training"]["learning_rate"] == 3e-2
    assert make_config(file=tmp_path / "t/best.yaml") == tuned.best


@pytest.mark.parametrize("preset", ["good", "best"])
def test_training_with_the_best_options_repeats_the_trial(tmp_path, preset):
    tuned = small(tmp_path, trials=1, preset=preset)
    assert tuned.best.training.learning_rate == tuned.options["training.learning_rate"]
    assert make_config(file=tmp_path / "best.yaml") == tuned.best
    frame = table()
    predictor = Predictor(config=tmp_path / "best.yaml")
    split = splits.split(frame, predictor.infer(_Table(frame)), **searching.splitting(tuned.best))
    predictor.fit_split(predictor.infer(_Table(frame)), frame[split == "train"], frame[split == "validation"])
    assert predictor.history.epochs[predictor.history.best_epoch]["rmse"] == tuned.value


def test_all_that_was_tried_is_written(tmp_path):
    tuned = small(tmp_path)
    told = json.loads((tmp_path / "trials.json").read_text())
    assert [t["trial"] for t in told["trials"]] == [0, 1]
    assert told["value"] == min(t["rmse"] for t in told["trials"]) == tuned.value
    csv = pd.read_csv(tmp_path / "trials.csv")
    assert list(csv.columns)[:7] == ["trial", "state", "rmse", "epochs", "seconds", "parameters", "reason"]
    assert (csv["training.learning_rate"].between(1e-4, 1e-1)).all()
    page = (tmp_path / "trials.md").read_text()
    best = tuned.ranked.iloc[0]["trial"]
    assert page.splitlines()[6].startswith(f"| {best} | complete |")
    assert tuned.importance == {}  # two trials say nothing about importance


def test_nothing_is_pickled(tmp_path):
    small(tmp_path)
    lines = (tmp_path / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert {p.suffix for p in tmp_path.iterdir()} == {".jsonl", ".json", ".csv", ".md", ".yaml"}


def settings(tuned):
    return tuned.trials[["trial", "state", "rmse", "epochs", "parameters", "training.learning_rate"]]


def test_same_seed_same_search_whether_at_once_or_in_parts(tmp_path):
    at_once = small(tmp_path / "a", trials=3, seed=5)
    small(tmp_path / "b", trials=1, seed=5)
    in_parts = small(tmp_path / "b", trials=3, seed=5)
    pd.testing.assert_frame_equal(settings(at_once), settings(in_parts))
    other = small(tmp_path / "c", trials=1, seed=6)
    assert other.trials["training.learning_rate"][0] != at_once.trials["training.learning_rate"][0]


class Stop:
    """A listener that ends the process's work in the given trial, as Ctrl-C would."""

    def __init__(self, trainings):
        self.left = trainings

    def start(self, stage, total):
        self.left -= stage == "train"
        if self.left < 0:
            raise KeyboardInterrupt

    def advance(self, handle, note): ...

    def finish(self, handle): ...

    def tell(self, topic, value): ...


def test_an_interrupted_trial_is_done_again(tmp_path):
    whole = small(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt), listening(Stop(1)):
        small(tmp_path / "b")
    resumed = small(tmp_path / "b")
    pd.testing.assert_frame_equal(settings(whole), settings(resumed))


def test_a_folder_of_another_search_is_refused(tmp_path):
    small(tmp_path, trials=1)
    for change in ({"seed": 9}, {"source": table(seed=1)}, {"overrides": [*ONE_THREAD, "training.clip=2"]}):
        with pytest.raises(ConfigError) as error:
            small(tmp_path, **change)
        assert error.value.code == "SAL-C007"


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_trials_that_are_behind_are_pruned_at_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(searching, "STARTUP", 1)
    monkeypatch.setattr(searching, "WARMUP", 1)
    monkeypatch.setattr(searching, "_sampler", _in_turn([3e-2, 1e-6]))
    fixed = SMALL["fixed"] | {"training.epochs": 6}
    search = {"training.learning_rate": {**RATE, "low": 1e-6}}
    tuned = small(tmp_path, pruning="median", space={"fixed": fixed, "search": search})
    good, bad = tuned.trials.itertuples(index=False)
    assert (good.state, good.epochs) == ("complete", 6)
    assert (bad.state, bad.epochs) == ("pruned", 2)
    assert "median" in bad.reason
    assert tuned.value == good.rmse


def _in_turn(rates):
    """Return a maker of samplers that propose these rates, one a trial."""

    def make(seed, number):
        return optuna.samplers.PartialFixedSampler(
            {"training.learning_rate": rates[number]}, optuna.samplers.RandomSampler(seed=0)
        )

    return make


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_failed_trial_is_recorded_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(searching, "_sampler", _in_turn([-1.0, 1e-2]))
    space = SMALL | {"search": {"training.learning_rate": {"kind": "float", "low": -1.0, "high": 1.0}}}
    tuned = small(tmp_path, space=space)
    assert list(tuned.trials.state) == ["failed", "complete"]
    assert "training.learning_rate is out of range" in tuned.trials.reason[0]
    assert tuned.best.training.learning_rate == 1e-2


def test_a_search_where_all_fails_says_why(tmp_path):
    space = SMALL | {"fixed": SMALL["fixed"] | {"model.fusion": {"name": "mlp", "args": {"wide": 3}}}}
    with pytest.raises(
        SalienceError, match=r"first 3 trials failed.*unexpected keyword argument 'wide'"
    ) as error:
        small(tmp_path, space=space, trials=5)
    assert error.value.code == "SAL-T003"


def test_options_of_the_user_are_not_searched(tmp_path):
    search = {"training.learning_rate": RATE, "training.weight_decay": RATE}
    tuned = small(
        tmp_path, space=SMALL | {"search": search}, trials=1,
        overrides=[*ONE_THREAD, "training.weight_decay=0.5", "training.batch_size=32", "model.fusion.args.dropout=0.25"],
    )  # fmt: skip
    assert set(tuned.options) == {"training.learning_rate"}
    assert (tuned.best.training.weight_decay, tuned.best.training.batch_size) == (0.5, 32)
    assert tuned.best.model.fusion.args == {"widths": [4], "dropout": 0.25}
    with pytest.raises(ConfigError, match="Nothing is left"):
        small(tmp_path / "n", overrides=["training.learning_rate=1e-3"])


def test_options_of_absent_kinds_are_not_searched(tmp_path):
    search = {"training.learning_rate": RATE, "model.text.args.dim": {"kind": "int", "low": 2, "high": 4}}
    tuned = small(tmp_path, space=SMALL | {"search": search}, trials=1)
    assert set(tuned.options) == {"training.learning_rate"}


def test_test_rows_are_never_looked_at(tmp_path, monkeypatch):
    seen = []
    whole = Predictor.fit_split

    def fit_split(self, schema, train, validation, **options):
        seen.append((set(train.index), set(validation.index)))
        return whole(self, schema, train, validation, **options)

    monkeypatch.setattr(Predictor, "fit_split", fit_split)
    frame = table()
    small(tmp_path, trials=3)
    assert len({(frozenset(a), frozenset(b)) for a, b in seen}) == 1  # one split for all trials
    assert len(set(frame.index) - seen[0][0] - seen[0][1]) == 12  # a fifth of the rows, put aside


def test_no_time_means_no_trial(tmp_path):
    with pytest.raises(SalienceError, match="0 trials") as error:
        small(tmp_path, time_limit=1e-9)
    assert error.value.code == "SAL-T003"


def test_the_time_limit_ends_the_trial_under_way(tmp_path):
    fixed = SMALL["fixed"] | {"training.epochs": 100_000, "training.patience": 100_000}
    tuned = small(tmp_path, space=SMALL | {"fixed": fixed}, trials=50, time_limit=0.02)
    assert len(tuned.trials) == 1
    assert tuned.trials.reason[0] == "time limit"


def test_command_line(tmp_path, capsys):
    from salience.cli.main import main

    table().to_csv(tmp_path / "t.csv", index=False)
    space = tmp_path / "mine.yaml"
    space.write_text(yaml.safe_dump(SMALL))
    words = ["tune", str(tmp_path / "t.csv"), "--target", "y", "--space", str(space), "--trials", "1"]
    assert main([*words, "--out", str(tmp_path / "out"), "--set", "threads=1"]) == 0
    shown = capsys.readouterr().out
    assert "Best rmse" in shown and "best.yaml" in shown and "training.learning_rate" in shown
