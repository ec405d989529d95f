"""What a check may look at: one model, its rows, its outputs (computed once) and the baselines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from salience.audit.baselines import TRIVIAL, Baseline, constant_predictions
from salience.audit.resample import auroc_gain
from salience.core.errors import UnsupportedError
from salience.core.metrics import HIGHER_IS_BETTER, MAIN, METRICS, PROBABLE, as_predictions
from salience.core.stats import bootstrap, generator


@dataclass
class AuditContext:
    """Hold a model and the rows on which it is audited.

    Attributes:
        model: any object with ``outputs(frame)`` over canonical rows (logits, or the target in its own units).
        schema: columns and task.
        frames: split (``"train"``, ``"validation"``, ``"test"``) → raw rows with the target and dropped columns.
        baselines: name → predictions for the test rows, as arrays or as :class:`Baseline`.
        explanations: explanations with a measured faithfulness.
        cost: what is known of the training: ``train_seconds``, ``model_bytes``.
        seed: seed of every sample and resample.
        quick: look at fewer rows and resamples.
        profile: the agent profile, as a mapping or the path of its file; None where it is not known.
        evidence: what was measured elsewhere, as :class:`salience.audit.levels.Evidence`.
        data: SHA-256 of the data; empty where it is not known.
        findings: answers of the checks that ran before.
        directions: column → ``"increasing"`` or ``"decreasing"``, what is known of how columns move the answer.
    """

    model: Any
    schema: Any
    frames: Mapping[str, pd.DataFrame]
    baselines: Mapping[str, Baseline | np.ndarray] = field(default_factory=dict)
    explanations: tuple = ()
    cost: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    quick: bool = False
    profile: Any = None
    evidence: tuple = ()
    data: str = ""
    findings: tuple = ()
    directions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.baselines = {
            name: given if isinstance(given, Baseline) else Baseline(np.asarray(given))
            for name, given in self.baselines.items()
        }
        self.forwards = 0
        self._parsed: dict[str, tuple[pd.DataFrame, pd.DataFrame, np.ndarray]] = {}
        self._outputs: dict[tuple[str, bool], np.ndarray] = {}

    @property
    def task(self) -> str:
        """``"classification"``, ``"regression"``, ``"multi-label"`` or ``"multi-regression"``."""
        return self.schema.task

    @property
    def metric(self) -> str:
        """Name of the task's main metric."""
        return MAIN[self.task]

    @property
    def replicates(self) -> int:
        """Number of bootstrap resamples."""
        return 200 if self.quick else 500

    def frame(self, split: str) -> pd.DataFrame:
        """Return the raw rows of a split that have a target, numbered from 0.

        Raises:
            UnsupportedError: the context has no such rows.
        """
        return self._rows(split)[0]

    def inputs(self, split: str) -> pd.DataFrame:
        """Return the canonical input columns of a split, numbered from 0."""
        return self._rows(split)[1]

    def truth(self, split: str) -> np.ndarray:
        """Return class indices, or target values, of a split; ``(row, target)`` where there are several targets."""
        return self._rows(split)[2]

    def _rows(self, split: str) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
        if split not in self._parsed:
            self._parsed[split] = self._parse(split)
        return self._parsed[split]

    def _parse(self, split: str) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
        found = self.frames.get(split)
        if found is None or len(found) == 0:
            raise UnsupportedError(
                f"There are no {split} rows", "", "Give them to the audit.", code="SAL-A001"
            )
        raw = found.reset_index(drop=True)
        parsed = self.schema.parse(raw)  # may leave out rows without a target
        truth = self.schema.encode_target(parsed)
        names = [column.name for column in self.schema.inputs]
        return (
            raw.loc[parsed.index].reset_index(drop=True),
            parsed[names].reset_index(drop=True),
            truth,
        )

    def outputs(self, split: str) -> np.ndarray:
        """Return outputs of all rows of a split, ``(row, output)``."""
        return self._cached(split, calibrated=True)

    def raw_outputs(self, split: str) -> np.ndarray:
        """Return logits before temperature scaling; the same as :meth:`outputs` without a temperature."""
        return self._cached(split, calibrated=self.temperature is None)

    @property
    def temperature(self) -> float | None:
        """The temperature of the model's head, None if it has none."""
        found = getattr(getattr(self.model, "head", None), "temperature", None)
        return None if found is None else float(found)

    def _cached(self, split: str, *, calibrated: bool) -> np.ndarray:
        key = (split, calibrated)
        if key not in self._outputs:
            options = {} if calibrated else {"calibrated": False}
            self._outputs[key] = self._run(self.inputs(split), **options)
        return self._outputs[key]

    def _run(self, inputs: pd.DataFrame, **options: Any) -> np.ndarray:
        self.forwards += len(inputs)
        return np.asarray(self.model.outputs(inputs, **options), dtype=float)

    def probabilities(self, split: str) -> np.ndarray:
        """Return probabilities of a split, ``(row, class)`` or ``(row, label)``.

        Raises:
            UnsupportedError: the target is a number.
        """
        if self.task not in PROBABLE:
            raise UnsupportedError("Probabilities need classes", f"The task is {self.task}.", "")
        return as_predictions(self.task, self.outputs(split))

    def predictions(self, split: str) -> np.ndarray:
        """Return probabilities ``(row, class)`` or ``(row, label)``, or values ``(row,)`` or ``(row, target)``."""
        return as_predictions(self.task, self.outputs(split))

    def predict(self, inputs: pd.DataFrame) -> np.ndarray:
        """Return predictions for canonical rows that are not a split (not cached)."""
        return as_predictions(self.task, self._run(inputs))

    def score(self, truth: np.ndarray, predictions: np.ndarray) -> float:
        """Return the main metric."""
        return METRICS[self.task][self.metric](truth, predictions)

    def gain(self, better: float, worse: float) -> float:
        """Return by how much the first score is better than the second, positive if it is."""
        return better - worse if HIGHER_IS_BETTER[self.metric] else worse - better

    def paired_gain(
        self, truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray
    ) -> tuple[float, tuple[float, float]]:
        """Return by how much our main metric is better than theirs on the same rows, with its paired interval."""

        def gain(y: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
            return self.gain(self.score(y, p), self.score(y, q))

        draws = {"replicates": self.replicates, "seed": self.seed}
        if self.task in PROBABLE:
            return gain(truth, ours, theirs), auroc_gain(truth, ours, theirs, **draws)
        return gain(truth, ours, theirs), bootstrap(gain, truth, ours, theirs, **draws)

    @property
    def reference(self) -> str:
        """``"train"`` where the context holds training rows, else ``"test"``."""
        return "train" if len(self.frames.get("train", ())) else "test"

    def trivial(self) -> np.ndarray:
        """Return the trivial answer for the test rows: the baseline of that name, or class shares or mean.

        Without training rows these are the test rows' own, the best constant answer there is.
        """
        name = TRIVIAL[self.task]
        if name in self.baselines:
            return self.baselines[name].predictions
        return constant_predictions(self.schema, self.truth(self.reference), len(self.inputs("test")))

    def sample(self, split: str, limit: int, purpose: str) -> np.ndarray:
        """Return sorted positions of at most ``limit`` random rows of a split (a third of them if quick)."""
        rows = len(self.inputs(split))
        limit = max(limit // 3, 1) if self.quick else limit
        if rows <= limit:
            return np.arange(rows)
        return np.sort(generator(self.seed, purpose).choice(rows, limit, replace=False))
