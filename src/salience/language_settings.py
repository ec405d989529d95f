"""The options of a language model, and how files and ``key=value`` change them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from salience.core.config import build, merge, parse_assignments, read_yaml
from salience.core.errors import ConfigError, nearest
from salience.data import tokenizers
from salience.data.corpus import Reading
from salience.training.loop import TrainingConfig

PACKS = ("blocks", "documents")


@dataclass(frozen=True)
class LanguageConfig:
    """Hold every option of a language model.

    Attributes:
        model: key of a language model; see ``salience list language_models``.
        preset: its size.
        model_args: settings of the model that differ from the preset.
        tokenizer: ``"byte"`` or ``"bpe"`` (sub-words learned from the training text).
        vocab_size: ids of the sub-words.
        context: tokens of a training block.
        pack: ``"blocks"``: blocks cross documents, whose ends are marked; ``"documents"``: no token sees another
            document.
        validation: share of the corpus that is held out, at most 2 million bytes; 0 trains on all of it, and scores
            weights by a part of what they were trained on.
        seed: seed of the held-out part, weights, batches and dropout.
        time_limit: minutes of training; none for no limit.
        threads: processor threads; none for torch's choice.
        column, separator, encoding: how the corpus is read, see :class:`salience.data.corpus.Reading`.
        training: options of the training loop.
    """

    model: str = "transnormer"
    preset: str = "tiny"
    model_args: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = "byte"
    vocab_size: int = 4096
    context: int = 256
    pack: str = "blocks"
    validation: float = 0.1
    seed: int = 0
    time_limit: float | None = None
    threads: int | None = None
    column: str | None = None
    separator: str | None = None
    encoding: str | None = None
    training: TrainingConfig = TrainingConfig(
        epochs=5, batch_size=16, learning_rate=2e-3, weight_decay=0.1, warmup=0.05, beta2=0.95, floor=0.1
    )

    def __post_init__(self) -> None:
        tokenizers.check_kind(self.tokenizer)
        if self.pack not in PACKS:
            raise ConfigError(
                f"Unknown way to pack {self.pack!r}", "", nearest(self.pack, PACKS), code="SAL-C002"
            )
        if self.context < 1:
            raise ConfigError(
                "context is out of range", f"Got {self.context}, want 1 or more.", code="SAL-C005"
            )
        if not 0 <= self.validation < 1:
            raise ConfigError(
                "validation is out of range",
                f"Got {self.validation}, want 0 to less than 1.",
                code="SAL-C005",
            )

    @property
    def reading(self) -> Reading:
        """Return how the corpus is read."""
        return Reading(self.column, self.separator, self.encoding)


def make_config(
    file: Path | str | None = None, overrides: Sequence[str] = (), **options: Any
) -> LanguageConfig:
    """Return the options of a language model: defaults, then file, then named options, then ``key=value``.

    Raises:
        ConfigError: an unknown option or value.
    """
    written = read_yaml(file) if file else {}
    given = {name: value for name, value in options.items() if value is not None}
    return build(
        LanguageConfig, merge(asdict(LanguageConfig()), written, given, parse_assignments(list(overrides)))
    )
