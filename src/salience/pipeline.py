"""The main job: read, train, evaluate, explain, audit, report, into one run folder."""

import logging
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from salience import fitting, saved_model
from salience.api import Predictor
from salience.audit import engine as audit_engine
from salience.audit import levels
from salience.audit.baselines import Baseline, fit_baselines
from salience.audit.context import AuditContext
from salience.core import metrics
from salience.core.finding import Finding
from salience.core.io import write_json, write_json_lines
from salience.core.processes import is_main_process
from salience.core.progress import Stage, tell
from salience.core.saved import mark_complete
from salience.data import readers, splits
from salience.explain.explanation import Explanation
from salience.explain.tables import FEWEST_ROWS, QUICK, TABULAR, Settings
from salience.settings import config_to_dict
from salience.training.loop import CHECKPOINT

logger = logging.getLogger("salience")


@dataclass(frozen=True)
class RunResult:
    """Say what a run made.

    Attributes:
        folder: the run folder.
        report: the page.
        metrics: scores of the model and of every baseline.
        findings: answers of the checks.
    """

    folder: Path
    report: Path
    metrics: dict[str, Any]
    findings: tuple[Finding, ...]


def run(
    source: Any,
    *,
    target: str | Sequence[str] | None = None,
    drop: Sequence[str] = (),
    kinds: Mapping[str, str] | None = None,
    preset: str = "good",
    time_limit: float | None = None,
    seed: int | None = None,
    seeds: int | None = None,
    out: Path | str | None = None,
    config: Path | str | None = None,
    overrides: Sequence[str] = (),
    resume: bool = True,
) -> RunResult:
    """Train, evaluate, explain and audit a model of a table; write the run folder and its report.

    Args:
        source: a file, a folder, the name of a data set, or a data frame.
        target: column to predict, or several; may be left out where the source names its own.
        drop: columns that are not used.
        kinds: column → kind, where the guess is wrong.
        preset: ``"fast"``, ``"good"`` or ``"best"``.
        time_limit: minutes of training.
        seed: seed of everything random.
        seeds: models with seeds of their own that are trained and answer together.
        out: the run folder; ``runs/NAME`` if none.
        config: path of a YAML file with options.
        overrides: options as ``"training.epochs=3"``.
        resume: go on from the checkpoint of an interrupted run with the same options and data.

    Returns:
        The folder, the report, and what is in them. Under ``torchrun`` all processes train, the first one does the
        rest, and the others return without metrics and findings.
    """
    started = time.perf_counter()
    predictor = Predictor(
        target,
        preset=preset,
        kinds=kinds,
        drop=drop,
        time_limit=time_limit,
        seed=seed,
        seeds=seeds,
        config=config,
        overrides=overrides,
    )
    with Stage("read"):
        table = readers.read(source, target=predictor.config.target)
        schema = predictor.infer(table)
    folder = Path(out) if out else Path("runs") / table.name
    job = _Run(predictor, table, schema, folder, started)
    if not is_main_process():
        return job.help()
    _clear(folder, checkpoint=not resume)
    with _log_file(folder / "log.txt"):
        return job.go()


def _clear(folder: Path, *, checkpoint: bool) -> None:
    """Remove the mark of completeness, and what a killed run left half written."""
    folder.mkdir(parents=True, exist_ok=True)
    stale = [folder / "run.json", *folder.glob(".*.tmp"), *folder.glob("model/.*.tmp")]
    for path in [*stale, folder / CHECKPOINT] if checkpoint else stale:
        path.unlink(missing_ok=True)
    if checkpoint:
        shutil.rmtree(folder / fitting.STAGES, ignore_errors=True)


class _Run:
    """Hold what the stages of one run pass on."""

    def __init__(self, predictor: Predictor, table: Any, schema: Any, folder: Path, started: float) -> None:
        config = predictor.config
        predictor.config = replace(config, target=schema.target_name)
        self.predictor, self.table, self.schema, self.folder, self.started = (
            predictor,
            table,
            schema,
            folder,
            started,
        )
        self.seconds = {"read": time.perf_counter() - started}
        split = config.split
        self.split = splits.split(
            table.frame,
            schema,
            how=split.how,
            test=split.test,
            validation=split.validation,
            seed=config.seed,
            column=split.column,
        )

    def help(self) -> RunResult:
        """Take part in the training that another process leads."""
        self._train()
        return RunResult(self.folder, self.folder / "report.html", {}, ())

    def _train(self) -> None:
        self.predictor.fit_split(
            self.schema, self._rows("train"), self._rows("validation"), folder=self.folder
        )

    def go(self) -> RunResult:
        """Work through the stages."""
        self._start()
        with self._stage("train"):
            self._train()
        with self._stage("evaluate"):
            baselines = self._baselines()
            scores = self._scores(baselines)
            self._write_predictions()
        with self._stage("explain"):
            explanations = self._explanations()
            effects = self._effects(explanations)
        with self._stage("audit"):
            findings = self._audit(baselines, explanations)
        with self._stage("report"):
            return self._finish(scores, findings, explanations, effects)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        logger.info("%s: started", name)
        yield
        self.seconds[name] = time.perf_counter() - began
        logger.info("%s: %.1f s", name, self.seconds[name])

    def _rows(self, part: str) -> pd.DataFrame:
        return self.table.frame[self.split == part]

    def _start(self) -> None:
        counts = self.split.value_counts().to_dict()
        logger.info(
            "%s: %s rows, target %r, splits %s",
            self.table.name,
            len(self.table.frame),
            self.schema.target_title,
            counts,
        )
        tell("schema", self.schema)
        self.schema.save(self.folder / "schema.json")
        parts = pd.DataFrame({"row": np.arange(len(self.split)), "split": self.split.to_numpy()})
        _write_parquet(self.folder / "splits.parquet", parts)

    def _baselines(self) -> dict[str, Baseline]:
        if not self.predictor.config.audit.baselines:
            return {}
        train = pd.concat([self._rows("train"), self._rows("validation")])
        return fit_baselines(
            self.predictor.schema, train, self._rows("test"), seed=self.predictor.config.seed
        )

    def _scores(self, baselines: dict[str, Baseline]) -> dict[str, Any]:
        schema, seed = self.predictor.schema, self.predictor.config.seed
        truth = schema.encode_target(schema.parse(self._rows("test"), target=True))
        others = {
            name: metrics.scores_with_intervals(
                schema.task, truth, baseline.predictions, targets=schema.outputs, seed=seed
            )
            for name, baseline in baselines.items()
        }
        test = self.predictor.evaluate(self._rows("test"))
        best = self.predictor.history.epochs[self.predictor.history.best_epoch]
        validation = {name: best[name] for name in metrics.METRICS[schema.task]}
        scores = {
            "task": schema.task,
            "test": {**test, "baselines": others},
            "validation": validation,
            "history": [
                {name: value for name, value in epoch.items() if name != "seconds"}
                for epoch in self.predictor.history.epochs
            ],
        }
        write_json(self.folder / "metrics.json", scores)
        return scores

    def _write_predictions(self) -> None:
        test = self._rows("test").reset_index(drop=True)
        truth, predicted = test[[c.name for c in self.schema.targets]], self.predictor.predict(test)
        if isinstance(predicted, pd.DataFrame):
            parts = [truth.add_prefix("truth "), predicted.add_prefix("prediction ")]
        else:
            parts = [truth.set_axis(["truth"], axis=1), predicted.rename("prediction")]
        if self.schema.task in metrics.PROBABLE:
            parts.append(self.predictor.predict_proba(test).add_prefix("probability "))
        rows = pd.Series(np.flatnonzero(self.split == "test"), name="row")
        _write_parquet(self.folder / "predictions.parquet", pd.concat([rows, *parts], axis=1))

    def _explanations(self) -> list[Explanation]:
        rows = self.predictor.sample(self._rows("test"), self.predictor.config.explain.rows)
        found = self.predictor.explain(rows)
        write_json_lines(self.folder / "explanations.jsonl", [e.to_json() for e in found])
        return found

    def _effects(self, explanations: list[Explanation]) -> dict[str, Any]:
        """Return how columns move the answer, where all columns are numbers and categories and rows suffice."""
        config, test = self.predictor.config, self._rows("test")
        tabular = all(column.kind in TABULAR for column in self.predictor.schema.inputs)
        if not (config.explain.effects and tabular and len(test) >= FEWEST_ROWS):
            return {}
        look = QUICK if config.audit.quick else Settings()
        found = self.predictor.effects(
            test, settings=look, explanations=explanations, explain_rows=0
        ).to_json()
        write_json(self.folder / "effects.json", found)
        return found

    def _audit(self, baselines: dict[str, Baseline], explanations: list[Explanation]) -> list[Finding]:
        config = self.predictor.config
        frames = {part: self._rows(part) for part in ("train", "validation", "test")}
        context = AuditContext(
            self.predictor.model, self.predictor.schema, frames, baselines=baselines, explanations=tuple(explanations),
            cost=self.predictor.cost(), seed=config.seed, quick=config.audit.quick,
            profile=config.audit.profile, data=self.table.sha256, directions=config.audit.directions,
        )  # fmt: skip
        findings = audit_engine.audit(context, config.audit.checks)
        write_json(self.folder / "findings.json", [finding.to_json() for finding in findings])
        return findings

    def _finish(
        self,
        scores: dict[str, Any],
        findings: list[Finding],
        explanations: list[Explanation],
        effects: dict[str, Any],
    ) -> RunResult:
        self.predictor.write(self.folder)
        rows = {part: int((self.split == part).sum()) for part in ("train", "validation", "test")}
        report = self.predictor.report(
            findings, explanations, scores, rows, effects,
            seconds={name: round(value, 1) for name, value in self.seconds.items()},
            hashes={"data": self.table.sha256}, command=_command(), config=config_to_dict(self.predictor.config),
        )  # fmt: skip
        path = report.save(self.folder / "report.html")
        report.save(self.folder / "report.md")
        total = round(time.perf_counter() - self.started, 1)
        logger.info("complete: %s s", total)
        mark_complete(
            self.folder,
            saved_model.KIND,
            saved_model.FILES,
            source=self.table.name,
            data=self.table.sha256,
            seconds=total,
            evidence=levels.binding(self.folder),
        )
        (self.folder / CHECKPOINT).unlink(missing_ok=True)  # only now: until then a killed run needs it
        shutil.rmtree(self.folder / fitting.STAGES, ignore_errors=True)
        return RunResult(self.folder, path, scores, tuple(findings))


def _command() -> str:
    """Return the command line, without the folder of the program."""
    program, *arguments = sys.argv or ["salience"]
    return shlex.join([Path(program).name, *arguments])


def _write_parquet(path: Path, frame: pd.DataFrame) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    frame.to_parquet(temporary, index=False)
    temporary.replace(path)


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    except BaseException as error:
        logger.error("stopped: %s", error)
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()
