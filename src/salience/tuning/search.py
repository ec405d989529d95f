"""The search itself: Optuna proposes, the predictor trains, validation rows decide; test rows are never looked at."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from salience.api import Predictor
from salience.core import metrics
from salience.core.config import merge, parse_assignments, read_yaml
from salience.core.errors import ConfigError, SalienceError
from salience.core.extras import require
from salience.core.io import dumps
from salience.core.progress import Stage, tell
from salience.core.stats import generator
from salience.data import readers, splits
from salience.data.kinds import KINDS
from salience.settings import Config, config_from_dict, config_to_dict, for_kinds, make_config
from salience.tuning.result import Tuned, gather
from salience.tuning.space import Space, keys_of, nested, space_of

JOURNAL, STUDY = "trials.jsonl", "tuning"
PRUNING = ("median", "none")
STARTUP, WARMUP = 10, 5  # trials drawn at random at first; epochs in which nothing is pruned
FAILURES = 3  # so many failed trials before the first good one end the search


def tune(
    source: Any,
    target: str | None = None,
    *,
    space: "str | Path | Mapping[str, Any] | Space" = "mlp-plr",
    trials: int | None = None,
    time_limit: float | None = None,
    folder: Path | str,
    seed: int | None = None,
    pruning: str = "median",
    preset: str = "good",
    kinds: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    config: Path | str | None = None,
    overrides: Sequence[str] = (),
) -> Tuned:
    """Search for the options with which a model is best on validation rows.

    Rows are split once, as :func:`salience.pipeline.run` splits them with the same options, and the test rows are
    put aside. Optuna's tree-structured Parzen estimator proposes; a trial that is worse at an epoch than the median of
    those before it is ended. Everything is kept in the folder as JSON lines: the same call goes on where it was
    interrupted, and a call with more trials adds to them.

    Args:
        source: a file, a folder, the name of a data set, or a data frame.
        target: column to predict; may be left out where the source names its own.
        space: name of a published space (see :func:`salience.tuning.published`), a YAML file, or a mapping.
        trials: number of trials, those of earlier calls included; what was published for the space if none.
        time_limit: minutes of this call. The trial that is under way then ends with its best weights so far.
        folder: where trials and results are kept.
        seed: seed of the split, of what is proposed, and of every training.
        pruning: ``"median"`` or ``"none"``.
        preset: where the other options start.
        kinds: column → kind, where the guess is wrong.
        drop: columns that are not used.
        config: YAML file of options.
        overrides: options as ``"training.epochs=30"``. What is set here or in the file is not searched.

    Returns:
        The best options and a table of all trials, also written to the folder.

    Raises:
        ConfigError: an unknown space or option, or a folder that holds another search.
        SalienceError: no trial ended with a score (SAL-T003).
        MissingExtraError: Optuna is not installed.
    """
    if pruning not in PRUNING:
        raise ConfigError(
            f"Unknown pruning {pruning!r}", "", f"Valid names: {', '.join(PRUNING)}.", code="SAL-C004"
        )
    require("optuna")
    started = time.perf_counter()
    asked = merge(read_yaml(config) if config else {}, parse_assignments(list(overrides)))

    def options(fixed: list[str]) -> Config:
        return make_config(
            preset, config, [*fixed, *overrides],
            target=target, kinds=dict(kinds or {}), drop=tuple(drop), seed=seed,
        )  # fmt: skip

    with Stage("read"):
        table = readers.read(source, target=options([]).target)
        search = _prepared(options, table, space_of(space), set(keys_of(asked)), pruning)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    limit = None if time_limit is None else time_limit * 60 - (time.perf_counter() - started)
    with _quiet():
        return _run(search, _opened(search, folder), trials or search.space.trials, limit, folder)


@dataclass(frozen=True)
class _Search:
    """What stays the same over all trials.

    Attributes:
        base: options of every trial; what is searched is changed.
        space: what is searched.
        schema: what each column is.
        train, validation: raw rows.
        metric: the score that decides.
        pruning: how trials are ended.
        identity: digest of options, space, split and data: what a folder belongs to.
    """

    base: Config
    space: Space
    schema: Any
    train: pd.DataFrame
    validation: pd.DataFrame
    metric: str
    pruning: str
    identity: str

    @property
    def direction(self) -> str:
        """``"maximize"`` or ``"minimize"``."""
        return "maximize" if metrics.HIGHER_IS_BETTER[self.metric] else "minimize"

    def config(self, options: Mapping[str, Any]) -> Config:
        """Return the options of a trial."""
        return config_from_dict(merge(config_to_dict(self.base), nested(options)))


def _prepared(
    options: Callable[[list[str]], Config], table: Any, space: Space, pinned: set[str], pruning: str
) -> _Search:
    """Infer the schema and split the rows, once for all trials.

    Args:
        options: from assignments that come before the user's own to all options.
        table: all rows.
        space: what is searched.
        pinned: dotted names of the options that the user has set.
        pruning: how trials are ended.
    """
    given = options([])
    schema = Predictor.of(given).infer(table)
    tell("schema", schema)
    split = splits.split(table.frame, schema, **splitting(given))
    train, validation = table.frame[split == "train"], table.frame[split == "validation"]
    kinds = {column.kind for column in schema.inputs}
    unread = {f"model.{kind}" for kind in set(KINDS) - kinds}
    left = space.without(pinned | unread)
    if not left.search:
        raise ConfigError(
            "Nothing is left to search",
            f"Space {space.name!r}: all its options are set, or there is no column that they concern.",
            "Set fewer options, or choose another space.",
            code="SAL-C006",
        )
    base = for_kinds(options(left.assignments(len(train))), kinds)
    base = replace(base, target=schema.target_name)
    what = [config_to_dict(base), {k: vars(c) for k, c in left.search.items()}, pruning, table.sha256]
    identity = hashlib.sha256(dumps(what, indent=None).encode()).hexdigest()
    return _Search(base, left, schema, train, validation, metrics.MAIN[schema.task], pruning, identity)


def splitting(config: Config) -> dict[str, Any]:
    """Return the arguments of the split that a run with these options makes."""
    split = config.split
    return {
        "how": split.how, "test": split.test, "validation": split.validation, "seed": config.seed, "column": split.column
    }  # fmt: skip


def _opened(search: _Search, folder: Path) -> Any:
    """Return the study of the folder, a new one if there is none.

    Optuna's journal is a file of JSON lines; its other storages keep SQL or pickles.

    Raises:
        ConfigError: the folder holds the search of other data, options or another space (SAL-C007).
    """
    import optuna
    from optuna.storages import JournalStorage, journal

    path = str(folder / JOURNAL)
    storage = JournalStorage(journal.JournalFileBackend(path, lock_obj=journal.JournalFileOpenLock(path)))
    study = optuna.create_study(
        storage=storage, study_name=STUDY, direction=search.direction, load_if_exists=True,
        pruner=_pruner(search.pruning),
    )  # fmt: skip
    known = study.user_attrs.get("identity")
    if known is None:
        study.set_user_attr("identity", search.identity)
    elif known != search.identity:
        raise ConfigError(
            "The folder holds another search",
            f"{folder}: other data, options or another space.",
            "Give another folder, or the same options as before.",
            code="SAL-C007",
        )
    return study


def _pruner(name: str) -> Any:
    from optuna.pruners import MedianPruner, NopPruner

    return MedianPruner(STARTUP, WARMUP) if name == "median" else NopPruner()


def _sampler(seed: int, number: int) -> Any:
    """Return the sampler of one trial.

    Each has its own seed, so that a search that was interrupted proposes what it would have proposed otherwise.
    Parameters are modelled one by one, as published: spaces here have parameters that only some trials have.
    """
    from optuna.samplers import TPESampler

    own = int(generator(seed, "tuning", str(number)).integers(2**31))
    return TPESampler(seed=own, multivariate=False, constant_liar=False, n_startup_trials=STARTUP)


def _run(search: _Search, study: Any, trials: int, limit: float | None, folder: Path) -> Tuned:
    """Work through the trials that are left, and write the results after each."""
    started = time.perf_counter()
    with Stage("tune", trials) as stage:
        for _ in range(min(_finished(study), trials)):
            stage.step("kept from before")
        while _finished(study) < trials:
            left = None if limit is None else limit - (time.perf_counter() - started)
            if left is not None and left <= 0:
                break
            _trial(search, study, left)
            _refuse_if_hopeless(study)
            stage.step(_note(study, search.metric))
            _result(search, study, folder)
    result = _result(search, study, folder)
    if result is None:
        raise SalienceError(
            "No trial ended with a score", f"{_finished(study)} trials.", "Give more time, or try a smaller space.", code="SAL-T003"
        )  # fmt: skip
    return result


def _finished(study: Any) -> int:
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def _note(study: Any, metric: str) -> str:
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return f"best {metric} {study.best_value:.4g} in trial {study.best_trial.number}" if done else ""


def _refuse_if_hopeless(study: Any) -> None:
    """Raise if the first trials all failed: the cause is in the options or the data, not in chance."""
    from optuna.trial import TrialState

    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    if len(done) >= FAILURES and all(trial.state is TrialState.FAIL for trial in done):
        raise SalienceError(
            f"The first {len(done)} trials failed", done[-1].user_attrs.get("reason", ""), "Mend what the reason names, and give a new folder.",
            code="SAL-T003",
        )  # fmt: skip


def _result(search: _Search, study: Any, folder: Path) -> Tuned | None:
    """Return and write what was found so far; None before the first score."""
    found = gather(study, search.metric, search.config, search.space, folder)
    if found is not None:
        found.save()
    return found


def _trial(search: _Search, study: Any, left: float | None) -> None:
    """Draw options, train, and write down how it went."""
    import optuna

    trial = _next(search, study)
    began = time.perf_counter()
    options = search.space.draw(trial)
    trial.set_user_attr("options", options)
    try:
        value = _score(search, trial, options, left)
        study.tell(trial, value)
    except optuna.TrialPruned:
        trial.set_user_attr("reason", "worse than the median of earlier trials at this epoch")
        trial.set_user_attr("seconds", round(time.perf_counter() - began, 2))
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except (
        Exception
    ) as error:  # one odd setting must not end a search of hours; all failures show their reason
        trial.set_user_attr("reason", _reason(error))
        trial.set_user_attr("seconds", round(time.perf_counter() - began, 2))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)


def _reason(error: Exception) -> str:
    kind = "" if isinstance(error, SalienceError) else f"{type(error).__name__}: "
    return (kind + " ".join(str(error).split()))[:300]


def _next(search: _Search, study: Any) -> Any:
    """Return the trial that was interrupted, with the parameters it has, or a new one."""
    from optuna.trial import Trial, TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    number = running[0].number if running else len(study.get_trials(deepcopy=False))
    study.sampler = _sampler(search.base.seed, number)
    return Trial(study, running[0]._trial_id) if running else study.ask()


def _score(search: _Search, trial: Any, options: dict[str, Any], left: float | None) -> float:
    """Return the best validation score of a training with these options; the same options are not trained twice."""
    before = _same(trial.study, options)
    if before is not None:
        for name in ("seconds", "epochs", "parameters"):
            trial.set_user_attr(name, before.user_attrs.get(name))
        trial.set_user_attr("reason", f"the same as trial {before.number}, not trained again")
        return before.value
    config = replace(search.config(options), seeds=1)
    limits = [
        seconds for seconds in (left, config.time_limit and config.time_limit * 60) if seconds is not None
    ]
    config = replace(
        config, time_limit=max(min(limits), 1e-4) / 60 if limits else None
    )  # 0 would be no limit
    predictor = Predictor.of(config)
    predictor.fit_split(search.schema, search.train, search.validation, watch=_reporter(trial))
    history = predictor.history
    trial.set_user_attr("seconds", round(history.seconds, 2))
    trial.set_user_attr("epochs", len(history.epochs))
    trial.set_user_attr("parameters", sum(p.numel() for p in predictor.model.parameters()))
    trial.set_user_attr("reason", history.stopped)
    return float(history.epochs[history.best_epoch][search.metric])


def _same(study: Any, options: dict[str, Any]) -> Any:
    """Return the trial that was trained to its end with these options, or None."""
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    trained = [t for t in done if not t.user_attrs.get("reason", "").startswith(("the same", "time limit"))]
    return next((t for t in trained if t.user_attrs.get("options") == options), None)


def _reporter(trial: Any) -> Any:
    """Return a function that takes the score of each epoch and ends a trial that is behind the others."""
    import optuna

    frozen = trial.study.get_trials(deepcopy=False)[trial.number]
    known, count = set(frozen.intermediate_values), iter(range(1_000_000_000))

    def watch(score: float) -> None:
        epoch = next(count)
        if epoch not in known:  # an interrupted trial starts anew and comes by the same scores
            trial.report(score, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    return watch


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from writing a line a trial; salience shows its own progress."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
