"""Reproduction: embeddings of numbers on three tables, beside gradient boosting and the published scores."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from salience.core import metrics
from salience.core.config import read_yaml
from salience.core.errors import ConfigError
from salience.core.progress import Stage
from salience.data.datasets.download import cache_folder
from salience.models.notation import embedding_named
from salience.models.table_model import ModelConfig, Part, TableModel
from salience.reproduce import boosting
from salience.reproduce.finished import once
from salience.reproduce.number_tables import CHURN, NAMES, Table, load
from salience.training.loop import Trainer, TrainingConfig

CARD = {
    "key": "number-embeddings",
    "kind": "reproduction",
    "title": "Embeddings of numbers on California, Adult and Churn",
    "entry": "run",
    "summary": "Test scores of perceptrons with and without embedded numbers, FT-Transformer and TabM-mini, and of CatBoost, XGBoost and LightGBM on the same splits, beside the published ones.",
    "paper": "On Embeddings for Numerical Features in Tabular Deep Learning (Gorishniy, Rubachev, Babenko, NeurIPS 2022); TabM (ICLR 2025)",
    "year": 2022,
    "url": "https://arxiv.org/abs/2203.05556",
    "deviates": "The authors' tuned settings. Three seeds in place of fifteen. Members of TabM-mini share a batch. Churn has its ten columns, each once, and a split of our own of the stated sizes. Boosting is not tuned.",
    "cost": "more than a day on one core, resumed where it was stopped; quick: three minutes",
}
DEFAULT_DATA = Path("../shared/data")
SETTINGS = Path(__file__).with_name("number_settings.yaml")
BOOSTING = {"CatBoost": "catboost", "XGBoost": "xgboost", "LightGBM": "lightgbm"}
MODELS = ("MLP", "MLP-PLR", "MLP-Q-LR", "MLP-T-LR", "FT-T", "TabM-mini-PLE", *BOOSTING)
PUBLISHED: dict[str, tuple[float, float, float]] = {  # in the order of NAMES
    "MLP": (0.495, 0.854, 0.856),
    "MLP-PLR": (0.467, 0.870, 0.857),
    "MLP-Q-LR": (0.455, 0.863, 0.857),
    "MLP-T-LR": (0.439, 0.868, 0.861),
    "FT-T": (0.465, 0.858, 0.860),
    "TabM-mini-PLE": (0.4275, 0.870, 0.861),
    "CatBoost": (0.433, 0.872, 0.861),
    "XGBoost": (0.436, 0.874, 0.858),
}
ENCODINGS = {  # model → embedding of numbers, backbone
    "MLP": ("none", "mlp"),
    "MLP-PLR": ("PLR", "mlp"),
    "MLP-Q-LR": ("Q-LR", "mlp"),
    "MLP-T-LR": ("T-LR", "mlp"),
    "FT-T": ("L", "ft_transformer"),
    "TabM-mini-PLE": ("PLE", "tabm_mini"),
}
CONSTANT_RATE = {"epochs": 1000, "patience": 16, "warmup": 0.0, "floor": 1.0, "clip": 0.0}


def published_settings(name: str, model: str) -> tuple[dict[str, Any], dict[str, float], int]:
    """Return encoders and fusion by kind, training options, and the number of parameters, as the authors report them.

    Args:
        name: of the table.
        model: of the model, see :data:`ENCODINGS`.
    """
    found = read_yaml(SETTINGS)[name][model]
    number, fusion = ENCODINGS[model]
    key, named = embedding_named(number)
    tokens = {"dim": found["fusion"].get("dim"), "min_count": 1, "dropout": 0.0}
    one_hot = {"name": "one_hot", "args": {"min_count": 1, "dropout": 0.0}}
    parts = {
        "number": {"name": key, "args": {"scaling": "quantile", **named, **found.get("number", {})}},
        "category": {"name": "category_embedding", "args": tokens} if fusion == "ft_transformer" else one_hot,
        "fusion": {"name": fusion, "args": found["fusion"]},
    }
    return parts, found["training"], found["parameters"]


QUICK = {"seeds": 1, "rows": 1500, "epochs": 3, "trees": 60}
FULL = {"seeds": 3, "rows": None, "epochs": CONSTANT_RATE["epochs"], "trees": boosting.TREES}


def run(
    data: Path | None = None, quick: bool = False, seed: int = 0, seeds: int | None = None
) -> dict[str, Any]:
    """Train and test every model on every table.

    Finished trainings are kept in the cache folder (``SALIENCE_CACHE``) and not done again.

    Args:
        data: folder that holds ``churn/Churn_Modelling.csv.gz``; without it, and without the default folder, Churn is
            left out. The other tables come from a pinned package.
        quick: one seed, 1,500 training and validation rows, three epochs.
        seed: first seed.
        seeds: number of seeds; three if none.

    Returns:
        ``rows``, one a table and model (mean over seeds, interval over test rows and seeds, published score,
        difference, seconds and parameters), and a ``summary``.

    Raises:
        ConfigError: no seeds.
        DataError: ``data`` is given and lacks the table.
        MissingExtraError: a library of boosting is not installed.
    """
    plan = {**(QUICK if quick else FULL), **({} if seeds is None else {"seeds": seeds})}
    if plan["seeds"] < 1:
        raise ConfigError("seeds is out of its range", f"Got {seeds}.", "Give 1 or more.", code="SAL-C005")
    root = data or DEFAULT_DATA
    names = [n for n in NAMES if n != "churn" or data or (root / CHURN).exists()]
    experiment = Experiment(Path(root), plan)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {(n, m): [] for n in names for m in MODELS}
    with Stage("reproduce", len(found) * plan["seeds"]) as stage:
        for number in range(seed, seed + plan["seeds"]):
            for (name, model), results in found.items():
                results.append(experiment.result(name, model, number))
                stage.step(f"{name}, {model}: {results[-1]['score']:.4f}")
    rows = [_row(name, model, results) for (name, model), results in found.items()]
    return {"rows": rows, "summary": _summary(rows), "gap": CARD["deviates"]}


class Experiment:
    """Train and test one model on one table at a time.

    Args:
        root: folder of the tables that are no package.
        plan: rows, epochs and trees, `QUICK` or `FULL`.
        folder: where finished results are kept; the cache if none.
    """

    def __init__(self, root: Path, plan: dict[str, Any], folder: Path | None = None) -> None:
        self.root, self.plan = root, plan
        self.folder = folder or cache_folder() / "reproduce" / "number-embeddings"
        self.tables: dict[str, Table] = {}

    def table(self, name: str) -> Table:
        """Return a table, read once, with the first training and validation rows alone where the plan says so."""
        if name not in self.tables:
            self.tables[name] = _cut(load(name, self.root), self.plan["rows"])
        return self.tables[name]

    def result(self, name: str, model: str, seed: int) -> dict[str, Any]:
        """Return score on test and validation rows, standard error over test rows, seconds, parameters and epochs."""
        table = self.table(name)
        if model in BOOSTING:
            settings: list[Any] = [self.plan["trees"], boosting.PATIENCE, boosting.RATE]
            return self._once(table, model, seed, settings, lambda _: self._boost(table, model, seed))
        parts, rate, _ = published_settings(name, model)
        training = {**CONSTANT_RATE, **rate, "batch_size": table.batch_size, "epochs": self.plan["epochs"]}
        return self._once(
            table, model, seed, [parts, training], lambda f: fit(table, parts, training, seed, f)
        )

    def _once(self, table: Table, model: str, seed: int, settings: list[Any], work: Any) -> dict[str, Any]:
        frames = (table.train, table.validation, table.test)
        rows = [int(pd.util.hash_pandas_object(frame).sum()) for frame in frames]
        return once(self.folder, [table.name, model, seed, rows, *settings], work)

    def _boost(self, table: Table, model: str, seed: int) -> dict[str, Any]:
        started = time.perf_counter()
        schema = table.schema.fitted(table.train)
        frames = [schema.parse(part) for part in (table.train, table.validation, table.test)]
        targets = [schema.encode_target(frame) for frame in frames]
        inputs = [c.name for c in schema.inputs]
        predicted = boosting.predict(
            BOOSTING[model],
            tuple(frame[inputs] for frame in frames),
            (targets[0], targets[1]),
            task=schema.task,
            score=table.score,
            seed=seed,
            trees=self.plan["trees"],
        )
        return _scored(table.score, targets[2], predicted) | {"seconds": time.perf_counter() - started}


def _cut(table: Table, rows: int | None) -> Table:
    if rows is None:
        return table
    return replace(table, train=table.train.head(rows), validation=table.validation.head(rows))


def fit(
    table: Table, parts: dict[str, Any], training: dict[str, Any], seed: int, folder: Path | None = None
) -> dict[str, Any]:
    """Train a model and test it.

    Args:
        table: the table in its split.
        parts: encoders and fusion, by kind.
        training: options of :class:`~salience.training.config.TrainingConfig`.
        seed: seed of parameters, batches, dropout and noise.
        folder: where checkpoints go.
    """
    schema = table.schema.fitted(table.train)
    rows, held, test = (schema.parse(part) for part in (table.train, table.validation, table.test))
    target, wanted = schema.encode_target(rows), schema.encode_target(held)
    torch.manual_seed(seed)
    named = {kind: Part(part["name"], dict(part["args"])) for kind, part in parts.items()}
    model = TableModel(schema, ModelConfig(**named, hidden=(), dropout=0.0))
    model.fit_parts(rows, target, torch.Generator().manual_seed(seed))
    function = metrics.METRICS[schema.task][table.score]

    def evaluate(current: Any) -> dict[str, float]:
        return {table.score: function(wanted, _finished(schema.task, current.outputs(held)))}

    trainer = Trainer(model, TrainingConfig(**training), seed=seed, folder=folder)
    higher = metrics.HIGHER_IS_BETTER[table.score]
    history = trainer.fit(model.prepare(rows), target, evaluate, table.score, higher)
    found = _scored(table.score, schema.encode_target(test), _finished(schema.task, model.outputs(test)))
    return found | {
        "validation": history.epochs[history.best_epoch][table.score],
        "seconds": history.seconds,
        "epochs": len(history.epochs),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _finished(task: str, outputs: np.ndarray) -> np.ndarray:
    return outputs if task == "classification" else outputs[:, 0]


def _scored(score: str, truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return a score and its standard error over rows; that of a root by the delta method."""
    if score == "accuracy":
        hits = (predicted.argmax(1) == truth).astype(float)
        return {"score": float(hits.mean()), "error": float(hits.std() / math.sqrt(len(hits)))}
    squares = (predicted - truth) ** 2
    rmse = math.sqrt(squares.mean())
    return {"score": rmse, "error": float(squares.std() / math.sqrt(len(squares)) / (2 * max(rmse, 1e-12)))}


def _row(name: str, model: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a line of the table; the interval holds both what other test rows and what other seeds would change."""
    scores = np.array([r["score"] for r in results])
    between = scores.var(ddof=1) / len(scores) if len(scores) > 1 else 0.0
    half = 1.96 * math.sqrt(np.mean([r["error"] ** 2 for r in results]) + between)
    published = PUBLISHED[model][NAMES.index(name)] if model in PUBLISHED else None
    mean = float(scores.mean())
    return {
        "data": name,
        "model": model,
        "measured": round(mean, 4),
        "low": round(mean - half, 4),
        "high": round(mean + half, 4),
        "each": " ".join(f"{s:.4f}" for s in scores),
        "published": published,
        "difference": None if published is None else round(mean - published, 4),
        "seconds": round(float(np.mean([r["seconds"] for r in results])), 1),
        "parameters": results[0].get("parameters"),
    }


def _summary(rows: list[dict[str, Any]]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for row in rows:
        beside = "" if row["published"] is None else f" (published {row['published']:g})"
        found.setdefault(row["data"], []).append(f"{row['model']} {row['measured']:.4f}{beside}")
    return {name: ", ".join(parts) for name, parts in found.items()}
