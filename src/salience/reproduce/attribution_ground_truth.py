"""Reproduction: do feature attributions, attention and rationales find what a model is known to use?"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from salience.core import registry
from salience.core.errors import DataError
from salience.core.progress import Stage
from salience.data.datasets.download import cache_folder
from salience.data.schema import Schema, infer
from salience.explain import ground_truth as gt
from salience.explain.ground_truth import known_answer
from salience.explain.ground_truth.localisation import summarise
from salience.reproduce.attribution_data import ROWS, SIDE, archive, rows_of
from salience.reproduce.finished import once

CARD = {
    "key": "attribution-ground-truth",
    "kind": "reproduction",
    "title": "Attribution ground truth: Attr% of explainers on models that must use a known region",
    "entry": "run",
    "summary": "Hand-set networks, then small networks trained on changed pictures, texts and tables: Attr% against size of the region, visibility, strength of the old features, and along training.",
    "paper": "Zhou, Booth, Ribeiro, Shah: Do Feature Attribution Methods Correctly Attribute Features? (AAAI 2022)",
    "year": 2022,
    "url": "https://arxiv.org/abs/2104.14403",
    "source": "the procedure of the paper and of its published program, as facts",
    "deviates": "Pairs of CIFAR-10 classes at 32 pixels and a small residual network in place of birds at 224 and ResNet-34; SST-2, SUBJ and clothing reviews in place of beer reviews; tables, planted words and the checks of the trained model are this project's own. One seed, three levels a manipulation.",
    "cost": "about two hours of processor time, resumed where it was stopped; quick: about five minutes",
}
DEFAULT_DATA = Path("../shared/data")
EXACT = 1e-4  # of Attr% on hand-set networks: float32, and least squares of kernel Shapley
EXACT_METHODS = ("gradient_x_input", "integrated_gradients", "leave_one_out", "permutation_shapley")

NETWORK = {"name": "se_resnet", "args": {"size": SIDE, "width": 8, "blocks": 1, "shift": 0.0}}
RECIPE = {"epochs": 12, "batch_size": 64, "learning_rate": 3e-3, "patience": 3}
TEXT_ARGS = {"dim": 32, "embedding_dim": 32, "vectors": "random"}
TEXT_EPOCHS = {"rationale_reinforce": 20, "rationale_hardkuma": 20}
TEXT_MODELS = ("disan", "bilstm_attention", "rationale_reinforce", "rationale_hardkuma", "fresh")

# explainers that draw, at a price that many small trainings can pay
BUDGET: dict[str, dict[str, Any]] = {
    "rise": {"samples": 256},
    "lime": {"samples": 200},
    "kernel_shapley": {"max_forwards": 256},
    "permutation_shapley": {"max_forwards": 256},
    "occlusion": {"max_forwards": 256},
}
FEW = ("gradient", "gradient_x_input", "integrated_gradients", "smooth_grad", "grad_cam", "leave_one_out", "attention", "rationale", "random", "uniform")  # fmt: skip
CONTROLS = ("random", "uniform", "inverse", "oracle")
STEP = 0.05  # of validation accuracy, between two moments of a training
SHOWN = ("attr", "low", "high", "uniform", "lift", "normalised", "mass", "rank", "pointing", "auc", "grown", "undefined")  # fmt: skip
KNOWN, ALL = "known answer", "all"
LEVELS = ("region size", "visibility", "kept labels", "training")


@dataclass(frozen=True)
class Setting:
    """One training and its scores.

    Attributes:
        experiment: ``"region size"``, ``"visibility"``, ``"kept labels"`` (strength of the old features),
            ``"training"``, ``"text"`` or ``"table"``.
        name: what was changed, for people.
        level: where the setting stands on the scale of its experiment.
        data: name of the rows.
        design: from the training rows to the design.
        model: the image network, or the text encoder's key; empty for a table.
        every: whether all explainers are scored, or the cheap ones.
        along: whether to score along training too.
    """

    experiment: str
    name: str
    level: float
    data: str
    design: Callable[[pd.DataFrame], gt.Design]
    model: str = ""
    every: bool = False
    along: bool = field(default=False, compare=False)


def run(data: Path | None = None, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Train on changed data and score explainers where the truth is known.

    Finished settings are kept in the cache folder (``SALIENCE_CACHE``) and not done again.

    Args:
        data: folder that holds ``cifar10``, ``sst2`` and ``subj``; without pictures the digits of scikit-learn are used,
            and texts that are absent are left out, by name.
        quick: hand-set networks, two changes of pictures, one text, one table; fewer rows and explainers.
        seed: seed of splits, draws, weights and explainers.

    Returns:
        ``rows``: one record an experiment, setting and explainer: Attr% with its interval, uniform share, lift,
        normalised Attr%, accuracy, p*, share of predictions that follow the manipulation, and whether it counts;
        ``lines``: all measures, for both classes together and for each apart, and why a score does not count;
        ``left_out``; ``summary``.
    """
    root = Path(data) if data else DEFAULT_DATA
    plan = [s for s in settings(root) if not quick or s.name in QUICK]
    lines, left_out = known_answers(seed, 8 if quick else 32), []
    with Stage("reproduce", len(plan)) as stage:
        for setting in plan:
            try:
                found = finished(setting, root, seed, quick)
            except DataError as error:
                left_out.append(f"{setting.name}: {error}")
                continue
            lines += found["lines"]
            stage.step(f"{setting.experiment}, {setting.name}: {found['seconds']:.0f} s")
    return {
        "rows": [_row(line) for line in lines if line["class"] == ALL],
        "lines": lines,
        "left_out": left_out,
        "summary": summary(lines, left_out),
        "gap": CARD["deviates"],
    }


def _row(line: dict[str, Any]) -> dict[str, Any]:
    """Return what is printed of a line."""
    short = {name: _rounded(line[name]) for name in ("attr", "uniform", "lift", "normalised", "accuracy")}
    return {
        **{name: line[name] for name in ("experiment", "setting", "method")},
        "attr": short["attr"],
        "interval": f"{line['low']:.2f}–{line['high']:.2f}" if short["attr"] is not None else None,
        **{name: short[name] for name in ("uniform", "lift", "normalised", "accuracy")},
        "p*": _rounded(line["best_original"]),
        "flips": _rounded(line["flips"]),
        "scored": line["scored"].split(":")[0],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(value, 2) + 0.0  # no minus zero


# the experiments


def settings(root: Path) -> list[Setting]:
    """Return all settings: pictures on four scales, texts on every text model, tables."""
    pictures = "cifar" if archive(root).exists() else "digits"
    return [*_picture_settings(pictures), *_text_settings(), *_table_settings()]


# each change of pictures: its usual form, other sizes of the region, other degrees of visibility
_BLUR = gt.PeripheralBlurring("picture", radius=80, sigma=20)
_BRIGHTNESS = gt.CentreBrightnessShift("picture", radius=80, shift=-0.9)
_HUE = gt.StripedHueShift("picture", top=56, bottom=168, shift=0.25)
_NOISE = gt.StripedNoise("picture", top=112, bottom=168, share=0.1)
_WATERMARK = gt.Watermark("picture", top=112, bottom=168, left=56, right=168, size=50)
PICTURES: dict[str, tuple[Any, list[dict[str, Any]], list[dict[str, Any]]]] = {
    "blur": (_BLUR, [{"radius": 120}, {"radius": 50}], [{"sigma": 8}, {"sigma": 40}]),
    "brightness": (_BRIGHTNESS, [{"radius": 55}, {"radius": 110}], [{"shift": -0.6}, {"shift": -1.0}]),
    "hue": (_HUE, [{"top": 112}, {"top": 0}], [{"shift": 0.1}, {"shift": 0.5}]),
    "noise": (_NOISE, [{"bottom": 140}, {"top": 0}], [{"share": 0.04}, {"share": 0.3}]),
    "watermark": (_WATERMARK, [{"left": 112}, {"left": 0, "right": 224}], [{"size": 30}, {"size": 70}]),
}  # fmt: skip
KEPT = (0.7, 0.9, 1.0)  # the usual form keeps half
QUICK = ("blur, usual", "hue, usual", "SST-2, articles, disan", "adult, shifted age")


def _picture_settings(data: str) -> list[Setting]:
    result = []
    for name, (usual, sizes, degrees) in PICTURES.items():
        base = Setting(
            "region size", f"{name}, usual", _area(usual), data, _against(usual), "se_resnet", True, True
        )
        changed = [replace(usual, **change) for change in sizes]
        result += [base]
        result += [
            replace(
                base, name=f"{name}, {_told(c)}", level=_area(m), design=_against(m), every=False, along=False
            )
            for c, m in zip(sizes, changed, strict=True)
        ]
        for level, change in zip((0, 2), degrees, strict=True):
            other = _against(replace(usual, **change))
            named = f"{name}, {_told(change)}"
            result.append(Setting("visibility", named, level, data, other, "se_resnet"))
        result += [
            Setting("kept labels", f"{name}, r = {r:g}", r, data, _against(usual, r), "se_resnet")
            for r in KEPT
        ]
    return result


def _against(change: Any, kept: float = 0.5) -> Callable[[pd.DataFrame], gt.Design]:
    return lambda frame: gt.Design.binary(gt.Untouched(), change, kept=kept)


def _area(change: Any) -> float:
    return float(change.mask(SIDE, SIDE).mean())


def _told(change: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in change.items())


def _articles(frame: pd.DataFrame) -> gt.Design:
    return gt.Design.binary(gt.SetArticles("text", "a"), gt.SetArticles("text", "the"))


def _planted(frame: pd.DataFrame) -> gt.Design:
    return gt.Design.binary(gt.PlantToken("text", "quartz"), gt.PlantToken("text", "velvet"))


def _shifted(frame: pd.DataFrame) -> gt.Design:
    return gt.Design.binary(gt.Untouched(), gt.ShiftColumn.of(frame, "age", 3.0))


def _interaction(frame: pd.DataFrame) -> gt.Design:
    return gt.MatchSides.design(frame, "age", "hours-per-week")


def _text_settings() -> list[Setting]:
    plan = [("SST-2, articles", "sst2", _articles, model) for model in TEXT_MODELS] + [
        ("SUBJ, articles", "subj", _articles, "disan"),
        ("clothing reviews, articles", "clothing", _articles, "disan"),
        ("clothing reviews, planted word", "clothing", _planted, "disan"),
    ]
    return [
        Setting("text", f"{title}, {model}", number, data, design, model, True)
        for number, (title, data, design, model) in enumerate(plan)
    ]


def _table_settings() -> list[Setting]:
    return [
        Setting("table", "adult, shifted age", 0, "adult", _shifted, "", True),
        Setting("table", "adult, age and hours interact", 1, "adult", _interaction, "", True),
    ]


# training and scoring


def finished(setting: Setting, root: Path, seed: int, quick: bool) -> dict[str, Any]:
    """Return the lines of a setting, from the cache where it was done before."""
    frame = rows_of(setting.data, root)
    schema = infer(frame, "label", kinds=_kinds(frame), source=setting.data)
    design = setting.design(frame)
    size = {
        "rows": 16 if quick else 32,
        "methods": _methods(setting, quick),
        "along": setting.along and not quick,
    }
    recipe = [NETWORK, RECIPE, TEXT_ARGS, TEXT_EPOCHS, ROWS]
    key = [setting.name, setting.data, repr(design), setting.model, recipe, size, seed]
    folder = cache_folder() / "reproduce" / "attribution_ground_truth"
    return once(folder, key, lambda _: scored(setting, frame, schema, design, size, seed))


def _kinds(frame: pd.DataFrame) -> dict[str, str]:
    return {name: kind for name, kind in (("picture", "image"), ("text", "text")) if name in frame}


def _methods(setting: Setting, quick: bool) -> dict[str, dict[str, Any]]:
    known = [card.key for card in registry.cards("explainer")]
    names = known if setting.every and not quick else [name for name in known if name in FEW]
    return {name: BUDGET.get(name, {}) for name in names}


def scored(
    setting: Setting, frame: pd.DataFrame, schema: Schema, design: gt.Design, size: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Change the rows, train, check that the model uses the region, and score explainers."""
    start = time.perf_counter()
    parts = gt.altered_splits(frame, schema, design, seed=seed)
    schema = schema.fitted(parts["train"].frame)
    train = _train_picture if setting.model == "se_resnet" else _train_table
    model, moments = train(setting, schema, parts, seed)
    named = {"setting": setting.name, "data": setting.data}
    lines = []
    for accuracy, state in moments if size["along"] else []:
        model.load_state_dict(state)
        about = {"experiment": "training", **named, "level": accuracy}
        few = {name: options for name, options in size["methods"].items() if name in FEW}
        lines += _scores(model, parts["test"], few, size["rows"], seed, about)
    if moments:
        model.load_state_dict(moments[-1][1])
    about = {"experiment": setting.experiment, **named, "level": setting.level}
    lines += _scores(model, parts["test"], size["methods"], size["rows"], seed, about)
    return {"lines": lines, "seconds": round(time.perf_counter() - start, 1)}


def _train_picture(
    setting: Setting, schema: Schema, parts: dict[str, gt.Altered], seed: int
) -> tuple[Any, list[tuple[float, Any]]]:
    """Return the trained model, and its weights each time validation accuracy rose by five points; the best last."""
    import torch

    from salience.models.table_model import ModelConfig, Part, TableModel
    from salience.training.loop import Trainer, TrainingConfig, copy_state

    train, held = parts["train"], parts["validation"]
    moments: list[tuple[float, Any]] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TableModel(schema, ModelConfig(image=Part(**NETWORK), hidden=(), dropout=0.0))
        model.fit_parts(train.frame, train.label, torch.Generator().manual_seed(seed))

        def evaluate(current: Any) -> dict[str, float]:
            accuracy = float((current.outputs(held.frame).argmax(axis=1) == held.label).mean())
            if not moments or accuracy >= max(a for a, _ in moments) + STEP:
                moments.append((accuracy, copy_state(current)))
            return {"accuracy": accuracy}

        trainer = Trainer(model, TrainingConfig(**RECIPE), seed=seed)
        history = trainer.fit(model.prepare(train.frame), train.label, evaluate, "accuracy")
    best = history.epochs[history.best_epoch]["accuracy"]
    return model.eval(), [*(m for m in moments if m[0] < best), (best, copy_state(model))]


def _train_table(
    setting: Setting, schema: Schema, parts: dict[str, gt.Altered], seed: int
) -> tuple[Any, list[tuple[float, Any]]]:
    from salience.api import Predictor

    overrides = []
    if setting.model:
        epochs = TEXT_EPOCHS.get(setting.model, RECIPE["epochs"])
        args = [f"model.text.args.{key}={value}" for key, value in TEXT_ARGS.items()]
        overrides = [
            f"model.text.name={setting.model}",
            *args,
            f"training.epochs={epochs}",
            "training.learning_rate=0.004",
        ]
    predictor = Predictor("label", preset="good", seed=seed, overrides=overrides)
    predictor.fit_split(schema, parts["train"].frame, parts["validation"].frame)
    return predictor.model, []


def _scores(
    model: Any, test: gt.Altered, methods: dict[str, Any], rows: int, seed: int, about: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return one line a method and class: what was changed, whether the score counts, the score."""
    found = gt.preconditions(model, test)
    known = {
        "accuracy": found.accuracy,
        "best_original": found.best_original,
        "flips": found.flips,
        "scored": f"no: {found.reason}" if found.reason else "yes",
    }
    table = gt.score_methods(model, test, methods, rows=rows, seed=seed)
    lines = table[table["refused"] == ""][["method", "class", *SHOWN]].to_dict("records")
    return [{**about, **line, **known} for line in lines]


def known_answers(seed: int, rows: int) -> list[dict[str, Any]]:
    """Return Attr% on the hand-set networks, which read nothing outside the region for certain."""
    lines = []
    for subject in known_answer.networks(rows, seed):
        for method in (*EXACT_METHODS, "random", "uniform"):
            score = summarise(known_answer.score(subject, method, seed=seed))
            about = {"experiment": KNOWN, "setting": subject.name, "data": "hand-set", "level": 0.0}
            shown = {name: score.get(name) for name in SHOWN}
            certain = {"accuracy": None, "best_original": None, "flips": None, "scored": "hand-set"}
            lines.append({**about, "method": method, "class": ALL, **shown, **certain})
    return lines


# in words


def summary(lines: list[dict[str, Any]], left_out: list[str]) -> dict[str, str]:
    """Return what the lines say, in sentences."""
    frame = pd.DataFrame([line for line in lines if line["class"] == ALL])
    told = {"known answers": _exactness(frame[frame["experiment"] == KNOWN])}
    trained = frame[(frame["experiment"] != KNOWN) & ~frame["method"].isin(CONTROLS)]
    sound = trained[trained["scored"] == "yes"]
    # the usual form of each change lies on every scale: its size, the middle of visibility, half of the labels kept
    usual = trained[trained["setting"].str.endswith(", usual") & (trained["experiment"] == LEVELS[0])]
    scales = {
        "region size": sound[sound["experiment"] == "region size"],
        "visibility": pd.concat([sound[sound["experiment"] == "visibility"], usual.assign(level=1.0)]),
        "kept labels": pd.concat([trained[trained["experiment"] == "kept labels"], usual.assign(level=0.5)]),
        "training": trained[trained["experiment"] == "training"],
    }
    told |= {name: _trend(part[part["method"].isin(FEW)]) for name, part in scales.items()}
    counted = sound[sound["experiment"] != "training"]
    kind = counted["experiment"].where(counted["experiment"].isin(["text", "table"]), "picture")
    told |= {f"explainers of {name}s": _standing(part) for name, part in counted.groupby(kind)}
    told["paper"] = (
        "its abstract finds deficiencies in saliency maps, attention and rationales alike; numbers are not compared"
    )
    return {**told, "not scored": _unscored(trained), "left out": "; ".join(left_out) or "nothing"}


def _exactness(part: pd.DataFrame) -> str:
    exact = part[part["method"].isin(EXACT_METHODS)]
    passed = exact.groupby("method")["attr"].min() >= 1 - EXACT
    drawn = part[part["method"] == "random"]
    within = (drawn["low"] <= drawn["uniform"]) & (drawn["uniform"] <= drawn["high"])
    return (
        f"Attr% is 1 (to {EXACT:g}) on every hand-set network for {', '.join(passed.index[passed]) or 'no method'}"
        f"{''.join(f'; not for {name}' for name in passed.index[~passed])}; the share of the region lies in the interval of "
        f"random on {int(within.sum())} of {len(within)}"
    )


def _trend(part: pd.DataFrame) -> str:
    """Say how the normalised Attr% of each method moves from the lowest to the highest level of each change."""
    part = part.assign(change=part["setting"].str.split(",").str[0]).dropna(subset=["normalised"])
    levels = part.groupby(["method", "change"])["level"].transform("nunique")
    ends = (
        part[levels > 1]
        .sort_values("level")
        .groupby(["method", "change"])["normalised"]
        .agg(["first", "last"])
    )
    if ends.empty:
        return "not run at several levels"
    moves = [
        f"{name} {low:.2f} → {high:.2f}" for name, low, high in ends.groupby("method").mean().itertuples()
    ]
    return "normalised Attr%, lowest to highest level, mean over changes: " + ", ".join(moves)


def _standing(part: pd.DataFrame) -> str:
    means = part.groupby("method")["normalised"].mean().sort_values(ascending=False)
    named = ", ".join(f"{name} {value:.2f}" for name, value in means.items())
    return (
        f"{int((means < 0.5).sum())} of {len(means)} go less than half of the way from luck (0) to all inside (1); "
        f"normalised Attr%, mean over scored settings: {named}"
    )


def _unscored(trained: pd.DataFrame) -> str:
    settings = trained[trained["experiment"] != "training"].drop_duplicates("setting")
    failed = settings[settings["scored"] != "yes"]
    reasons = "; ".join(f"{row.setting} ({row.scored[4:]})" for row in failed.itertuples())
    return f"{len(failed)} of {len(settings)} settings{': ' if reasons else ''}{reasons}"
