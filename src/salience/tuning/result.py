"""What a search found: the best options, a table of what was tried, and what mattered."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from salience.core.io import atomic_write_text, write_json
from salience.core.metrics import HIGHER_IS_BETTER
from salience.settings import Config, config_to_dict
from salience.tuning.space import Space

BEST, TABLE = "best.yaml", "trials"
STATES = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "interrupted",
    "WAITING": "waiting",
}
FEWEST = 50  # completed trials from which importance is stated: the best tenth is then five at least


@dataclass(frozen=True)
class Tuned:
    """Hold the result of a search.

    Attributes:
        best: the options of the best trial, as ``salience run --config`` takes them.
        options: what the search chose, option → value.
        value: score of the best trial on the validation rows. It is the best of many, so it flatters: only the test
            rows, which the search never saw, say how good the model is.
        metric: name of that score.
        trials: one line a trial: number, state, score, epochs, seconds, parameters, reason, and each option.
        importance: parameter → share of what decides whether a trial is among the best tenth (PED-ANOVA, Watanabe
            et al. 2023); empty with fewer than 50 completed trials.
        space: what was searched.
        folder: where all of this was written.
    """

    best: Config
    options: dict[str, Any]
    value: float
    metric: str
    trials: pd.DataFrame
    importance: dict[str, float]
    space: Space
    folder: Path

    @property
    def ranked(self) -> pd.DataFrame:
        """The trials, best first; those without a score last."""
        order = {"complete": 0, "pruned": 1}
        keys = pd.DataFrame(
            {"state": self.trials["state"].map(order).fillna(2), "score": self.trials[self.metric]}
        )
        rising = not HIGHER_IS_BETTER[self.metric]
        place = keys.sort_values(["state", "score"], ascending=[True, rising], kind="stable").index
        return self.trials.loc[place].reset_index(drop=True)

    def to_markdown(self) -> str:
        """Return the table of trials, best first, and the importance of each parameter."""
        parts = [f"# {self.space.title or self.space.name}", "", self.summary(), "", *_lines(self.ranked)]
        if self.importance:
            shares = [{"parameter": name, "share": share} for name, share in self.importance.items()]
            parts += [
                "",
                "## What decides whether a trial is among the best tenth",
                "",
                *_lines(pd.DataFrame(shares)),
            ]
        return "\n".join(parts) + "\n"

    def summary(self) -> str:
        """Return what was found in two sentences."""
        counts = self.trials["state"].value_counts()
        tried = ", ".join(f"{count} {state}" for state, count in counts.items())
        return (
            f"Best {self.metric} on the validation rows: {self.value:.4g} (trials: {tried}). "
            "It is the best of many and flatters; the test rows were not looked at."
        )

    def save(self) -> Path:
        """Write ``best.yaml`` and the table as CSV, JSON and Markdown to the folder."""
        best = yaml.safe_dump(config_to_dict(self.best), sort_keys=False, allow_unicode=True)
        atomic_write_text(self.folder / BEST, f"# salience run TABLE --config {BEST}\n{best}")
        atomic_write_text(self.folder / f"{TABLE}.csv", self.trials.to_csv(index=False))
        atomic_write_text(self.folder / f"{TABLE}.md", self.to_markdown())
        write_json(self.folder / f"{TABLE}.json", self.to_json())
        return self.folder / BEST

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "metric": self.metric, "value": self.value, "options": self.options, "importance": self.importance,
            "space": self.space.name, "source": self.space.source, "trials": self.trials.to_dict("records"),
        }  # fmt: skip


def _lines(frame: pd.DataFrame) -> list[str]:
    head = [str(name) for name in frame.columns]
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)]


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")


def gather(
    study: Any, metric: str, config: Callable[[Mapping[str, Any]], Config], space: Space, folder: Path
) -> Tuned | None:
    """Return what a study holds so far; None before the first completed trial.

    Args:
        study: Optuna's study.
        metric: the score that decides.
        config: from searched options to all options of a trial.
        space: what is searched.
        folder: where it is kept.
    """
    trials = study.get_trials(deepcopy=False)
    if not any(trial.state.name == "COMPLETE" for trial in trials):
        return None
    options = study.best_trial.user_attrs["options"]
    table = pd.DataFrame([_record(trial, metric) for trial in trials])
    return Tuned(
        config(options), options, study.best_value, metric, table, _importance(study, trials), space, folder
    )


def _record(trial: Any, metric: str) -> dict[str, Any]:
    """Return the line of a trial; the score of a pruned one is that of its last epoch."""
    known = trial.user_attrs
    line = {
        "trial": trial.number,
        "state": STATES[trial.state.name],
        metric: float("nan") if trial.value is None else trial.value,
        "epochs": known.get("epochs") or len(trial.intermediate_values),
        "seconds": known.get("seconds"),
        "parameters": known.get("parameters"),
        "reason": known.get("reason", ""),
    }
    options = known.get("options", {})
    return line | {k: json.dumps(v) if isinstance(v, list) else v for k, v in options.items()}


def _importance(study: Any, trials: list[Any]) -> dict[str, float]:
    if sum(trial.state.name == "COMPLETE" for trial in trials) < FEWEST:
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
