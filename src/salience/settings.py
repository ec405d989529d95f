"""The options of a run, their presets, and how files and ``key=value`` change them."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from salience.core.config import build, merge, parse_assignments, read_yaml
from salience.core.errors import ConfigError, nearest
from salience.core.registry import cards
from salience.models.notation import embedding_named
from salience.models.table_model import ModelConfig
from salience.training.loop import TrainingConfig


@dataclass(frozen=True)
class SplitConfig:
    """Say how rows are split.

    Attributes:
        how: ``auto``, ``stratified``, ``random``, ``grouped``, ``time`` or ``given``.
        test: share of rows held out for the report.
        validation: share of rows that decides when training stops and sets the temperature.
        column: column of the groups, the time or the given split.
    """

    how: str = "auto"
    test: float = 0.2
    validation: float = 0.08
    column: str | None = None


@dataclass(frozen=True)
class ExplainConfig:
    """Say how rows are explained.

    Attributes:
        method: key of the explainer.
        rows: test rows explained in a run, drawn at random.
        memory_mb: memory that a batch of perturbed rows may take.
        effects: measure how each column moves the answer, in runs on tables of numbers and categories.
    """

    method: str = "integrated_gradients"
    rows: int = 48
    memory_mb: int = 256
    effects: bool = True


@dataclass(frozen=True)
class AuditConfig:
    """Say how a run is audited.

    Attributes:
        checks: keys of the checks; none for all.
        quick: look at fewer rows and resamples.
        baselines: fit the baselines to compare with.
        profile: file with the agent profile, for the level of interpretability; see ``salience level --template``.
        directions: column → ``increasing`` or ``decreasing``, what is known of how columns move the answer.
    """

    checks: tuple | None = None
    quick: bool = False
    baselines: bool = True
    profile: str | None = None
    directions: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """Hold every option of a run.

    Attributes:
        target: column to predict, or several.
        task: ``classification`` or ``regression``, of several targets ``multi-label`` or ``multi-regression``; found
            out if none.
        kinds: column → kind, where the one found out is wrong.
        drop: columns that are not used.
        preset: name of the preset the other options started from.
        seed: seed of splits, weights, batches, dropout and samples.
        seeds: models trained with seeds of their own (``seed``, ``seed + 1``, …) on the same rows; their probabilities
            or values are averaged.
        time_limit: minutes of training; none for no limit.
        threads: processor threads; none for torch's choice.
        min_updates: a small table gets more epochs, until the weights are updated this often; 0, and the default
            where ``training.epochs`` is asked for, runs just the epochs.
        model, training, split, explain, audit: the parts' own options.
    """

    target: str | tuple | None = None
    task: str | None = None
    kinds: dict[str, Any] = field(default_factory=dict)
    drop: tuple = ()
    preset: str = "good"
    seed: int = 0
    seeds: int = 1
    time_limit: float | None = None
    threads: int | None = None
    min_updates: int = 260
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    split: SplitConfig = SplitConfig()
    explain: ExplainConfig = ExplainConfig()
    audit: AuditConfig = AuditConfig()

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(
                "seeds is out of its range", f"Got {self.seeds}.", "Give 1 or more.", code="SAL-C005"
            )


MIN_PATIENCE = 5
UPDATES_OF_KIND = {"text": 1, "image": 6}
UPDATES_OF_TABLE = 20


def training_for(config: Config, kinds: set[str], rows: int) -> TrainingConfig:
    """Return the training options for a table: a small or a light one gets more epochs, and more patience.

    ``epochs`` is meant for tens of thousands of texts. Where it would give fewer than ``min_updates`` updates
    (six times as many with images, twenty times as many for numbers and categories alone, whose updates are cheap),
    as many epochs are run as reach that number, and training waits at least five of them for a better score.

    Args:
        config: options of the run.
        kinds: kinds of the input columns.
        rows: number of training rows.
    """
    training = config.training
    factor = max((UPDATES_OF_KIND[kind] for kind in kinds & set(UPDATES_OF_KIND)), default=UPDATES_OF_TABLE)
    steps = max(1, -(-rows // training.batch_size))
    epochs = max(training.epochs, -(-config.min_updates * factor // steps)) if training.epochs else 0
    if epochs == training.epochs:
        return training
    return replace(training, epochs=epochs, patience=max(training.patience, MIN_PATIENCE, epochs // 6))


PRESETS: dict[str, dict[str, Any]] = {
    "fast": {
        "model": {
            "text": {"name": "fast_disan", "args": {"dim": 48, "embedding_dim": 64}},
            "image": {"name": "se_resnet", "args": {"width": 16, "blocks": 1}},
            "hidden": [64],
        },
        "min_updates": 200,
        "training": {"epochs": 6, "learning_rate": 3e-3, "average": 0.98, "patience": 2},
        "explain": {"rows": 24},
        "audit": {"quick": True},
    },
    "good": {
        "model": {
            "text": {
                "name": "disan",
                "args": {"dim": 50, "embedding_dim": 100, "dropout": 0.15, "ngram_dim": 8},
            }
        },
        "training": {"epochs": 1, "learning_rate": 4e-3, "average": 0.99},
    },
    "best": {
        "model": {
            "text": {"name": "disan", "args": {"dim": 100, "embedding_dim": 150, "ngram_dim": 8}},
            "image": {"name": "se_resnet", "args": {"width": 48, "blocks": 2}},
            "hidden": [256],
        },
        "training": {"epochs": 20, "learning_rate": 1e-3, "average": 0.995, "patience": 4},
        "explain": {"rows": 100},
    },
}


def make_config(
    preset: str = "good",
    file: Path | str | None = None,
    overrides: list[str] | None = None,
    **options: Any,
) -> Config:
    """Return the options of a run: preset, then file, then named options, then ``key=value``.

    Raises:
        ConfigError: an unknown preset, option or value.
    """
    written = read_yaml(file) if file else {}
    name = written.get("preset", preset) if preset == "good" else preset
    if name not in PRESETS:
        raise ConfigError(f"Unknown preset {name!r}", "", nearest(str(name), PRESETS), code="SAL-C004")
    given = {key: value for key, value in options.items() if value not in (None, (), {})}
    asked = _with_numbers_named(merge(written, given, parse_assignments(overrides or [])))
    training = asked.get("training")
    exact = {"min_updates": 0} if isinstance(training, dict) and "epochs" in training else {}
    defaults = config_to_dict(Config(preset=name))  # so that model.number.args.dim=8 keeps the encoder's name
    return build(Config, merge(defaults, _for_parts(PRESETS[name], asked), exact, asked))


def _with_numbers_named(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the options with an embedding of numbers such as ``"T-LR"`` as an encoder and its arguments.

    Both ``model.number=T-LR`` and ``model.number.name=T-LR`` are read, the second also with ``model.number.args``; an
    encoder may be named by its key in the same ways.
    """
    model = asked.get("model")
    part = model.get("number") if isinstance(model, dict) else None
    part = {"name": part} if isinstance(part, str) else part
    if not isinstance(part, dict) or not isinstance(part.get("name"), str):
        return asked
    name, args = part["name"], {}
    if name not in {card.key for card in cards("encoder")}:
        name, args = embedding_named(name)
    return merge(asked, {"model": {**model, "number": merge({"args": args}, part, {"name": name})}})


def _for_parts(preset: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Return a preset without the arguments of parts in whose place another method is asked for."""
    wanted = asked.get("model")
    named = {
        kind: part["name"]
        for kind, part in (wanted.items() if isinstance(wanted, dict) else ())
        if isinstance(part, dict) and "name" in part
    }
    parts = {
        kind: part
        for kind, part in preset["model"].items()
        if kind not in named or part["name"] == named[kind]
    }
    return {**preset, "model": parts}


def config_from_dict(values: dict[str, Any]) -> Config:
    """Rebuild a configuration from :func:`config_to_dict`."""
    return build(Config, values)


def config_to_dict(config: Config) -> dict[str, Any]:
    """Return a configuration as plain data: no tuples, so that it is the same in YAML and JSON."""
    return _plain(asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
