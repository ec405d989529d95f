"""Train a model of a table from options and rows: one, or one a seed, with the temperature of its answers."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from salience.core import metrics
from salience.core.progress import Stage
from salience.data.schema import Schema
from salience.models.ensemble import Ensemble
from salience.models.table_model import Part, TableModel
from salience.models.temperature import calibrate
from salience.settings import Config, training_for
from salience.training.loop import History, Trainer

STAGES = "stages"  # folder of what is trained before the model itself
SCORE = "penalised_score"


def fit(
    config: Config,
    schema: Schema,
    train_rows: pd.DataFrame,
    validation: pd.DataFrame,
    *,
    folder: Path | None = None,
    watch: Callable[[float], None] | None = None,
) -> tuple[TableModel | Ensemble, History]:
    """Train and calibrate.

    Args:
        config: options; with several seeds one model each is trained, within its share of the time.
        schema: fitted on the training rows.
        train_rows: raw rows to learn from.
        validation: raw rows that decide when training stops and set the temperature.
        folder: where checkpoints go.
        watch: gets the validation score that decides after each epoch of a single model; what it raises ends the
            training.
    """
    held = schema.parse(validation)
    if config.seeds > 1:
        model, history = _members(config, schema, train_rows, validation, folder)
    else:
        model, history = train(config, schema, schema.parse(train_rows), held, folder=folder, watch=watch)
    calibrate(model, held, schema.encode_target(held))
    return model, history


def _members(
    config: Config, schema: Schema, train_rows: pd.DataFrame, validation: pd.DataFrame, folder: Path | None
) -> tuple[Ensemble, History]:
    """Train one model a seed, each within its share of the time, and join them."""
    started = time.perf_counter()
    members: list[Any] = []
    with Stage("seeds", config.seeds) as stage:
        for number in range(config.seeds):
            left = config.time_limit and config.time_limit - (time.perf_counter() - started) / 60
            share = left and max(left, 1e-6) / (config.seeds - number)  # 0 would be no limit
            one = replace(config, seeds=1, seed=config.seed + number, time_limit=share)
            place = folder / STAGES / f"member{number}" if folder else None
            members.append(fit(one, schema, train_rows, validation, folder=place))
            stage.step(f"seed {one.seed}")
    model = Ensemble([member for member, _ in members])
    held = schema.parse(validation)
    return model, _joined_history([history for _, history in members], _scores(model, held))


def train(
    config: Config,
    schema: Schema,
    rows: pd.DataFrame,
    held: pd.DataFrame,
    *,
    folder: Path | None = None,
    watch: Callable[[float], None] | None = None,
    watchers: Sequence[Any] = (),
) -> tuple[TableModel, History]:
    """Train one model, without its temperature.

    What its encoders need trained first is trained the same way, within half of the time.

    Args:
        config: options; their seed is used as it is.
        schema: fitted on the training rows.
        rows: canonical rows to learn from.
        held: canonical rows that decide when training stops.
        folder: where checkpoints go.
        watch: gets the score that decides after each epoch.
        watchers: see :class:`~salience.training.loop.Watcher`.
    """
    started, limit = time.perf_counter(), config.time_limit * 60 if config.time_limit else None
    target = schema.encode_target(rows)
    torch.manual_seed(config.seed)
    model = TableModel(schema, config.model)
    model.fit_parts(rows, target, torch.Generator().manual_seed(config.seed))

    def train_first(name: str, columns: list[str], part: Part) -> TableModel:
        seen = tuple(c for c in schema.columns if c.role == "target" or c.name in columns)
        part_config = replace(
            config,
            model=replace(config.model, text=part),
            time_limit=config.time_limit and config.time_limit / 2,
        )
        place = folder / STAGES / name if folder else None
        return train(part_config, replace(schema, columns=seen), rows, held, folder=place)[0]

    model.pretrain(train_first)
    score = metrics.MAIN[schema.task]
    better = metrics.HIGHER_IS_BETTER[score]
    decides = SCORE if model.selects else score

    def evaluate(current: Any) -> dict[str, float]:
        found = _with_diagnostics(_scores(current, held), current.diagnostics(held), score, better)
        if watch:
            watch(found[decides])
        return found

    trainer = Trainer(
        model,
        training_for(config, {c.kind for c in schema.inputs}, len(rows)),
        seed=config.seed,
        folder=folder,
        time_limit=None if limit is None else limit - (time.perf_counter() - started),
        watchers=watchers,
    )
    return model, trainer.fit(model.prepare(rows), target, evaluate, decides, better)


def _scores(model: TableModel | Ensemble, held: pd.DataFrame) -> dict[str, float]:
    """Return the scores of validation rows; a main score that they leave undefined is replaced by an error."""
    task, target = model.schema.task, model.schema.encode_target(held)
    scores = metrics.scores(task, target, metrics.as_predictions(task, model.outputs(held)))
    errors = {"auroc": "log_loss", "mean_auroc": "log_loss", "mean_r2": "mean_rmse"}
    undefined = [name for name in errors if not np.isfinite(scores.get(name, 0.0))]
    return scores | {name: -scores[errors[name]] for name in undefined}


def _joined_history(parts: Sequence[History], scores: dict[str, float]) -> History:
    """Return the epochs of all members, named by their place, and the joined model's scores as the best and last."""
    epochs = [record | {"member": number} for number, part in enumerate(parts) for record in part.epochs]
    last = {"epoch": len(epochs), "member": "all", **scores}
    why = "; ".join(dict.fromkeys(part.stopped for part in parts))
    return History((*epochs, last), len(epochs), sum(part.seconds for part in parts), why)


def _with_diagnostics(
    scores: dict[str, float], found: dict[str, float], main: str, higher: bool
) -> dict[str, float]:
    """Add what encoders ask to be watched, and the main score made worse by the share that their penalties say."""
    if not found:
        return scores
    penalty = sum(value for name, value in found.items() if name.endswith("/penalty"))
    worse = abs(scores[main]) * penalty
    return scores | found | {SCORE: scores[main] - worse if higher else scores[main] + worse}
