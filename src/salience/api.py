"""The verbs: ``fit · predict · evaluate · explain · audit · save/load``. The one file that users must know."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import salience
from salience import fitting, saved_model
from salience.audit import engine as audit_engine
from salience.audit.context import AuditContext
from salience.audit.labels import SuspectLabels, suspect_labels
from salience.core import metrics
from salience.core.errors import ConfigError, DataError, NotFittedError
from salience.core.finding import Finding
from salience.core.processes import is_main_process
from salience.core.registry import card
from salience.core.saved import mark_complete
from salience.data import readers, splits
from salience.data.schema import Schema, infer
from salience.explain import engine as explain_engine
from salience.explain.board import Leaderboard
from salience.explain.explanation import Explanation
from salience.explain.importance import importance
from salience.explain.leaderboard import METHODS, METRICS, compare
from salience.explain.tables import Effects, Settings
from salience.explain.tables import effects as table_effects
from salience.explain.target import NO, YES
from salience.models.ensemble import Ensemble
from salience.models.table_model import TableModel
from salience.report.report import Report
from salience.settings import Config, for_kinds, make_config
from salience.training.coherence import Coherence, coherence, table_batches, table_loss
from salience.training.loop import History

PACKAGES = ("torch", "numpy", "pandas", "scikit-learn")


class Predictor:
    """Train a model of a table, predict with it, and ask why and how far to trust it.

    Args:
        target: column to predict, or several: all numbers, or all labels of 0 and 1 (see :mod:`salience.data.target`).
            May be left out where the source names its own.
        preset: ``"fast"``, ``"good"`` or ``"best"``.
        kinds: column → ``"text"``, ``"image"``, ``"number"`` or ``"category"``, where the guess is wrong.
        drop: columns that are not used.
        time_limit: minutes of training.
        seed: seed of everything random.
        seeds: models that are trained with seeds of their own, from ``seed`` on, and answer together.
        config: path of a YAML file with options.
        overrides: options as ``"training.epochs=3"``.

    Attributes:
        schema: what each column is, after ``fit``.
        model: the trained :class:`~salience.models.table_model.TableModel`, or an
            :class:`~salience.models.ensemble.Ensemble` of them.
        history: how training went.

    Example:
        >>> from salience import Predictor
        >>> from salience.data.datasets.toy_reviews import load
        >>> frame = load(rows=300)
        >>> predictor = Predictor("recommends", preset="fast").fit(frame)
        >>> list(predictor.predict_proba(frame.head(2)).columns)
        ['no', 'yes']
    """

    def __init__(
        self,
        target: str | Sequence[str] | None = None,
        *,
        preset: str = "good",
        kinds: Mapping[str, str] | None = None,
        drop: Sequence[str] = (),
        time_limit: float | None = None,
        seed: int | None = None,
        seeds: int | None = None,
        config: Path | str | None = None,
        overrides: Sequence[str] = (),
    ) -> None:
        self.config: Config = make_config(
            preset, config, list(overrides),
            target=target if isinstance(target, str | None) else list(target), kinds=dict(kinds or {}), drop=tuple(drop), time_limit=time_limit, seed=seed, seeds=seeds,
        )  # fmt: skip
        self.schema: Schema | None = None
        self.model: TableModel | Ensemble | None = None
        self.history: History | None = None
        self.train_rows: pd.DataFrame | None = None
        self.source = ""

    @classmethod
    def of(cls, config: Config) -> "Predictor":
        """Return a predictor with these options, not trained."""
        predictor = cls()
        predictor.config = config
        return predictor

    # fit

    def fit(self, source: Any, *, validation: Any = None, folder: Path | str | None = None) -> "Predictor":
        """Train on a table.

        Args:
            source: a file, a folder, the name of a data set, or a data frame.
            validation: rows that decide when training stops; a share of ``source`` if none.
            folder: where checkpoints go, so that an interrupted ``fit`` goes on when called again.

        Returns:
            The predictor itself.
        """
        table = readers.read(source, target=self.config.target)
        schema = self.infer(table)
        if validation is None:
            split = self.config.split
            parts = splits.split(
                table.frame,
                schema,
                how=split.how,
                test=split.validation,
                validation=0.0,
                seed=self.config.seed,
                column=split.column,
            )
            held_name = "validation" if (parts == "validation").any() else "test"
            train, held = table.frame[parts == "train"], table.frame[parts == held_name]
        else:
            train, held = table.frame, readers.read(validation, target=[c.name for c in schema.targets]).frame
        return self.fit_split(schema, train, held, folder=folder)

    def infer(self, table: Any) -> Schema:
        """Find out what each column of a table is, with the predictor's overrides."""
        self.source = table.name
        target = self.config.target or table.target
        return infer(
            table.frame, target, kinds=self.config.kinds, drop=self.config.drop, task=self.config.task, source=table.name
        )  # fmt: skip

    def fit_split(
        self,
        schema: Schema,
        train: pd.DataFrame,
        validation: pd.DataFrame,
        *,
        folder: Path | str | None = None,
        watch: Callable[[float], None] | None = None,
    ) -> "Predictor":
        """Train on given rows; what is learned from data is learned from ``train`` only.

        Args:
            schema: what each column is.
            train: raw rows to learn from.
            validation: raw rows that decide when training stops.
            folder: where checkpoints go.
            watch: gets the validation score that decides after each epoch; what it raises ends the training.
        """
        self.config = for_kinds(self.config, {c.kind for c in schema.inputs})
        if self.config.threads:
            torch.set_num_threads(self.config.threads)
        self.schema = schema.fitted(train)
        self.model, self.history = fitting.fit(
            self.config, self.schema, train, validation, folder=Path(folder) if folder else None, watch=watch
        )
        self.train_rows = train
        return self

    # predict

    def predict(self, rows: Any) -> pd.Series | pd.DataFrame:
        """Return the predicted class, or the predicted number in units of the target, of each row.

        Of several targets, in the order of the table: one column each, of numbers, or of 1 where a label has a
        probability of at least one half and 0 elsewhere.
        """
        frame = self._frame(rows)
        predicted = self._predictions(self._outputs(frame))
        if self.schema.task == "classification":
            predicted = np.array(self.schema.classes, dtype=object)[predicted.argmax(1)]
        if predicted.ndim == 1:
            return pd.Series(predicted, index=frame.index, name=self.schema.target.name)
        whole = predicted if self.schema.task == "multi-regression" else (predicted >= 0.5).astype(np.int64)
        return pd.DataFrame(whole, index=frame.index, columns=self.schema.outputs)

    def predict_proba(self, rows: Any) -> pd.DataFrame:
        """Return the calibrated probability of each class, or of each label, one column each."""
        self._fitted()
        if self.schema.task not in metrics.PROBABLE:
            raise ConfigError(
                "Probabilities need a class target",
                f"{self.schema.target.name!r} is a number.",
                "Use predict.",
            )
        frame = self._frame(rows)
        return pd.DataFrame(
            self._predictions(self._outputs(frame)), index=frame.index, columns=self.schema.outputs
        )

    def evaluate(self, rows: Any) -> dict[str, dict[str, Any]]:
        """Return every metric with its 95 % interval on rows that have the target; of several, each one's too."""
        self._fitted()
        frame = self.schema.parse(self._frame(rows), target=True)
        return metrics.scores_with_intervals(
            self.schema.task,
            self.schema.encode_target(frame),
            self._predictions(self.model.outputs(frame)),
            targets=self.schema.outputs,
            seed=self.config.seed,
        )

    def _outputs(self, frame: pd.DataFrame) -> np.ndarray:
        return self._fitted().outputs(self.schema.parse(frame, target=False))

    def _predictions(self, outputs: np.ndarray) -> np.ndarray:
        return metrics.as_predictions(self.schema.task, outputs)

    def _frame(self, rows: Any) -> pd.DataFrame:
        if isinstance(rows, pd.Series):
            return rows.to_frame().T
        if isinstance(rows, dict) and not any(
            isinstance(v, list | tuple | np.ndarray) for v in rows.values()
        ):
            return pd.DataFrame([rows])
        return rows if isinstance(rows, pd.DataFrame) else readers.read(rows).frame

    def _fitted(self) -> TableModel | Ensemble:
        if self.model is None:
            raise NotFittedError(
                "The predictor is not trained", "", "Call fit(...) first, or Predictor.load(folder)."
            )
        return self.model

    # explain and audit

    def explain(
        self,
        rows: Any,
        *,
        method: Any = None,
        options: Mapping[str, Any] | None = None,
        target: Any = "predicted",
        seed: int | None = None,
        faithfulness: bool = True,
    ) -> list[Explanation]:
        """Explain rows: one number a word, cell or region, with a measurement of whether it is true.

        Args:
            rows: a data frame, one row as a dictionary or series, or a file.
            method: key of an explainer, see ``salience list explainers``, or an explainer of your own.
            options: options of a method that is named by its key.
            target: ``"predicted"``, a class, a pair of classes to contrast, or the column of one of several targets;
                predicted is then the most probable label of each row, or the first number.
            seed: seed of random orders; the run's own if none.
            faithfulness: measure comprehensiveness and sufficiency beside a random control.
        """
        self._fitted()
        explain = self.config.explain
        frame = self._frame(rows)
        found = explain_engine.explain(
            self.model,
            self.schema.parse(frame, target=False),
            method=method or explain.method,
            options=options,
            target=target,
            seed=self.config.seed if seed is None else seed,
            memory_mb=explain.memory_mb,
            faithfulness=faithfulness,
        )
        return self._with_truth(found, frame)

    def compare(
        self,
        rows: Any,
        *,
        methods: Sequence[Any] | None = None,
        metrics: Sequence[Any] | None = None,
        target: Any = "predicted",
        seed: int | None = None,
    ) -> Leaderboard:
        """Explain rows by several methods and measure all of them, beside controls.

        Args:
            rows: as for :meth:`explain`.
            methods: keys of explainers; four that suit most models if none.
            metrics: keys of metrics; five that ask whether an explanation is true if none.
            target: as for :meth:`explain`.
            seed: seed of methods, controls and tests; the run's own if none.
        """
        return compare(
            self._fitted(),
            self.schema.parse(self._frame(rows), target=False),
            methods or METHODS,
            metrics or METRICS,
            target=target,
            seed=self.config.seed if seed is None else seed,
            memory_mb=self.config.explain.memory_mb,
        )

    def effects(
        self,
        rows: Any,
        columns: Sequence[str] | None = None,
        *,
        target: Any = None,
        method: str = "ale",
        settings: Settings | None = None,
        explain_rows: int = 100,
        explanations: Sequence[Explanation] = (),
        seed: int | None = None,
    ) -> Effects:
        """Measure how each number and category column moves the answers, alone and in pairs.

        Args:
            rows: a data frame or a file; a thousand rows, not trained on, are plenty.
            columns: columns to look at; all numbers and categories if none.
            target: class, or pair of classes, to follow; the second of two, or the one that is predicted most often.
            method: ``"ale"`` or ``"partial_dependence"``.
            settings: how closely to look; a thousand rows if none.
            explain_rows: rows that are explained for the contributions by bin; 0 for none.
            explanations: explanations that are there already, gathered instead.
            seed: seed of samples, resamples and controls; the run's own if none.
        """
        model, frame = self._fitted(), self._frame(rows)
        if not explanations and explain_rows:
            asked = "predicted" if target is None else target
            explanations = self.explain(self.sample(frame, explain_rows), target=asked, seed=seed)
        return table_effects(
            model,
            self.schema.parse(frame, target=False),
            columns=columns,
            target=target,
            method=method,
            settings=settings or Settings(),
            explanations=explanations,
            reference=None if self.train_rows is None else self.schema.parse(self.train_rows, target=False),
            seed=self.config.seed if seed is None else seed,
            memory_mb=self.config.explain.memory_mb,
        )

    def coherence(
        self,
        rows: Any,
        *,
        method: str = "exact",
        batch_rows: int | None = None,
        draws: int = 8,
        seed: int | None = None,
    ) -> Coherence:
        """Measure how much the gradients of these rows agree at the present weights; of an ensemble, its first member's.

        Rows are taken in random order. Their own numbers, such as ``squared_norms``, come in the order given by
        :func:`salience.training.coherence.table_order`.

        Args:
            rows: a data frame or a file, with the target: training rows say what training could still learn.
            method: ``"exact"``, ``"per_example"`` or ``"signs"``.
            batch_rows: rows of a batch; a sixteenth of all if none, at most 256.
            draws: random signs a row, for ``"signs"``.
            seed: seed of the order, the signs and the resamples; the run's own if none.
        """
        model, seed = self._fitted(), self.config.seed if seed is None else seed
        first: Any = model.members["member0"] if isinstance(model, Ensemble) else model
        frame = self.schema.parse(self._frame(rows), target=True)
        batches = table_batches(first, frame, batch_rows=batch_rows, seed=seed)
        return coherence(first, table_loss, batches, method=method, draws=draws, seed=seed)

    def _with_truth(self, explanations: list[Explanation], frame: pd.DataFrame) -> list[Explanation]:
        """Add the true answers where the rows have the target; they are not looked at by the explanation."""
        names = [column.name for column in self.schema.targets]
        if any(name not in frame or frame[name].isna().any() for name in names):
            return explanations
        try:
            truth = self.schema.parse(frame, target=True)[names]
        except DataError:  # a class that training did not know
            return explanations
        if self.schema.task == "multi-label":
            truth = truth.replace({0: NO, 1: YES})
        rows = truth.to_dict("records")
        return [replace(e, truth=row[e.target_column]) for e, row in zip(explanations, rows, strict=True)]

    def suspect_labels(self, source: Any = None, *, folds: int = 5, control: bool = True) -> SuspectLabels:
        """Rank rows by how much the other rows speak against their label.

        New models of the predictor's options are trained, each without a part of the rows; the predictor itself need not
        be trained, and is left as it is. See :func:`salience.audit.labels.suspect_labels`.

        Args:
            source: rows with their target, as for :meth:`fit`; those that the predictor was trained on if none.
            folds: number of models, at least 3.
            control: train as many again with 5 % of the labels changed on purpose, and say how many are found.
        """
        frame = self._train_rows() if source is None else readers.read(source, target=self.config.target)
        helper = Predictor.of(replace(self.config, seeds=1))
        schema = self.schema or helper.infer(frame)
        raw = frame if isinstance(frame, pd.DataFrame) else frame.frame
        helper.schema = schema.fitted(raw)
        model = TableModel(helper.schema, self.config.model)

        def fit(
            rows: pd.DataFrame, held: pd.DataFrame, watchers: Sequence[Any]
        ) -> tuple[TableModel, History]:
            return fitting.train(helper.config, helper.schema, rows, held, watchers=watchers)

        return suspect_labels(model, raw, fit=fit, folds=folds, control=control, seed=self.config.seed)

    def _train_rows(self) -> pd.DataFrame:
        if self.train_rows is None:
            raise NotFittedError(
                "There are no training rows to look at",
                "A predictor that was loaded from disk does not hold them.",
                "Give the rows.",
            )
        return self.train_rows

    def audit(
        self,
        rows: Any,
        *,
        checks: Sequence[str] | None = None,
        explain_rows: int | None = None,
        directions: Mapping[str, str] | None = None,
    ) -> Report:
        """Ask every check about the model on rows that have the target.

        Args:
            rows: labelled rows that were not trained on.
            checks: keys of the checks; all if none.
            explain_rows: rows that are explained, drawn at random.
            directions: column → ``"increasing"`` or ``"decreasing"``, what is known of how columns move the answer;
                what training was told if none.

        Returns:
            A report. Checks that need the training rows say so where the predictor was loaded from disk.
        """
        self._fitted()
        frame = self._frame(rows).reset_index(drop=True)
        frame = frame.loc[self.schema.parse(frame, target=True).index].reset_index(drop=True)
        frames = {"test": frame} | ({"train": self.train_rows} if self.train_rows is not None else {})
        explanations = self.explain(self.sample(frame, explain_rows or self.config.explain.rows))
        context = AuditContext(
            self.model, self.schema, frames, explanations=tuple(explanations), cost=self.cost(),
            seed=self.config.seed, quick=self.config.audit.quick, profile=self.config.audit.profile,
            directions=directions or self.config.audit.directions,
        )  # fmt: skip
        findings = audit_engine.audit(context, checks or self.config.audit.checks)
        test = self.evaluate(frame)
        return self.report(
            findings, explanations, {"task": self.schema.task, "test": test}, {"test": len(frame)}
        )

    def sample(self, frame: pd.DataFrame, rows: int) -> pd.DataFrame:
        """Return at most ``rows`` rows drawn at random, in their order."""
        return frame.sample(min(rows, len(frame)), random_state=self.config.seed).sort_index()

    def report(
        self,
        findings: Sequence[Finding],
        explanations: Sequence[Explanation],
        scores: dict[str, Any],
        rows: dict[str, int],
        effects: dict[str, Any] | None = None,
        **run: Any,
    ) -> Report:
        """Return the page of findings, explanations and effects of columns of this model."""
        name = self.source or "table"
        about = {
            "dataset": name,
            "rows": rows,
            "target": self.schema.target_title,
            "task": self.schema.task,
            "classes": self.schema.classes,
            "model": self.describe(),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "seed": self.config.seed,
            "versions": versions(),
            "schema": self.schema.to_json()["columns"],
        }
        title = f"What predicts {self.schema.target_title}? A model of {name}"
        found = importance(explanations, classes=self.schema.classes) if explanations else {}
        return Report(title, about | run, scores, tuple(findings), tuple(explanations), found, effects or {})

    def describe(self) -> str:
        """Return the model's parts in one line."""
        parts = [
            card("encoder", getattr(self.config.model, kind).name).get("title")
            for kind, _ in self.model.groups.values()
        ]
        one = " + ".join(dict.fromkeys(parts)) + f" → {self.config.model.fusion.name} → {self.schema.task}"
        return one if self.config.seeds == 1 else f"mean of {self.config.seeds} seeds of {one}"

    def cost(self) -> dict[str, Any]:
        """Return what is known of the training's cost."""
        size = sum(t.numel() * t.element_size() for t in self.model.state_dict().values())
        return {"model_bytes": size} | ({"train_seconds": self.history.seconds} if self.history else {})

    # save and load

    def save(self, folder: Path | str) -> Path:
        """Write the model to a folder: JSON, YAML and safetensors, nothing pickled.

        ``run.json`` is written last; a folder without it is not complete and is not loaded. Where ``torchrun``
        started several processes, only the first one writes.
        """
        if not is_main_process():
            return Path(folder)
        return mark_complete(self.write(folder), saved_model.KIND, saved_model.FILES, source=self.source)

    def write(self, folder: Path | str) -> Path:
        """Write the model's files, without the mark that they are complete."""
        return saved_model.write(Path(folder), self.config, self.schema, self._fitted())

    @classmethod
    def load(cls, folder: Path | str) -> "Predictor":
        """Load a saved predictor.

        Raises:
            IntegrityError: the folder is absent, unfinished or damaged.
        """
        saved = saved_model.read(Path(folder))
        predictor = cls.of(saved.config)
        predictor.schema, predictor.model, predictor.source = saved.schema, saved.model, saved.source
        return predictor


def load(folder: Path | str) -> Predictor:
    """Load a saved predictor; the same as :meth:`Predictor.load`."""
    return Predictor.load(folder)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    from importlib.metadata import version

    found = {name: version(name) for name in PACKAGES}
    return {"salience": salience.__version__, "python": platform.python_version(), **found}
