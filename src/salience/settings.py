"""The options of a run, their presets, and how files and ``key=value`` change them."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from salience.core.config import build, merge, parse_assignments, read_yaml
from salience.core.errors import ConfigError, nearest
from salience.core.registry import cards
from salience.models.notation import embedding_named
from salience.models.table_model import TABULAR, ModelConfig
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
        tables: options that take the place of the others where all columns are numbers and categories; by default
            those of the preset, without what was asked for otherwise. See :func:`for_kinds`.
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
    tables: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(
                "seeds is out of its range", f"Got {self.seeds}.", "Give 1 or more.", code="SAL-C005"
            )


def for_kinds(config: Config, kinds: set[str]) -> Config:
    """Return the options for columns of these kinds: with numbers and categories alone, ``tables`` is put in place.

    The result has no ``tables`` left, so that it says what is done.

    Raises:
        ConfigError: ``tables`` holds an unknown option or value.
    """
    if not config.tables:
        return config
    values, chosen = config_to_dict(config), config.tables if kinds <= set(TABULAR) else {}
    model = {**values["model"], **chosen.get("model", {})}  # a part as a whole, with its own arguments
    return build(Config, {**merge(values, chosen), "model": model, "tables": {}})


PARTS = ("text", "image", "number", "category", "fusion")
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
        "tables": {
            "model": {
                "number": {
                    "name": "piecewise_linear",
                    "args": {"dim": 16, "n_bins": 48, "scaling": "quantile"},
                },
                "fusion": {"name": "tabm_mini", "args": {"width": 256}},
                "hidden": None,
            },
            "min_updates": 60,
            "training": {
                "epochs": 300,
                "patience": 16,
                "batch_size": 256,
                "learning_rate": 2e-3,
                "weight_decay": 3e-4,
                "warmup": 0.0,
                "floor": 1.0,
                "average": 0.95,
            },
        },
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
    asked = _with_parts_named(merge(written, given, parse_assignments(overrides or [])))
    training = asked.get("training")
    exact = {"min_updates": 0} if isinstance(training, dict) and "epochs" in training else {}
    defaults = config_to_dict(Config(preset=name))  # so that model.number.args.dim=8 keeps the encoder's name
    done = asked.get("tables") == {}  # the options of a finished run: the preset's must not come again
    start = _for_parts(PRESETS[name], asked)
    usual = start.pop("tables", {})
    tables = {} if done else _unasked(usual, merge(exact, asked))
    config = build(Config, merge(defaults, start, {"tables": tables}, exact, asked))
    for_kinds(config, set())  # an error in it is told now
    return config


def _unasked(options: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Return options without what is asked for otherwise; the arguments of a part join those asked for."""
    rest = {}
    for name, value in options.items():
        wanted = asked.get(name)
        if name not in asked:
            rest[name] = value
        elif isinstance(value, dict) and isinstance(wanted, dict):
            if "name" not in value:
                rest[name] = _unasked(value, wanted)
            elif wanted.get("name", value["name"]) == value["name"]:
                rest[name] = merge(value, wanted)
    return rest


def _with_parts_named(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the options with every part as a name and arguments, where ``model.fusion=mlp`` gave the name alone.

    An embedding of numbers such as ``"T-LR"`` becomes an encoder and its arguments.
    """
    model = asked.get("model")
    if not isinstance(model, dict):
        return asked
    named = {
        kind: {"name": part} if kind in PARTS and isinstance(part, str) else part
        for kind, part in model.items()
    }
    number = named.get("number")
    if isinstance(number, dict) and isinstance(number.get("name"), str):
        named["number"] = _number_named(number)
    return {**asked, "model": named}


def _number_named(part: dict[str, Any]) -> dict[str, Any]:
    if part["name"] in {card.key for card in cards("encoder")}:
        return part
    name, args = embedding_named(part["name"])
    return merge({"args": args}, part, {"name": name})


def _for_parts(preset: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Return a preset without the arguments of parts in whose place another method is asked for.

    The head's hidden layers go with the fusion: a backbone has layers of its own.
    """
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
    if named.get("fusion", Config().model.fusion.name) != Config().model.fusion.name:
        parts.pop("hidden", None)
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
