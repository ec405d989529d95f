"""Language models of plain text: ``fit · evaluate · log_probabilities · generate · explain · save/load``."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from salience.core import registry
from salience.core.config import build
from salience.core.errors import ConfigError, DataError, IntegrityError, NotFittedError
from salience.core.io import read_json, write_json
from salience.core.processes import is_main_process
from salience.core.progress import Stage, tell
from salience.core.saved import check_complete, mark_complete
from salience.data import corpus, tokenizers
from salience.data.corpora.blocks import MOST_VALIDATION_BYTES, Blocks, Stream, divide, streams, texts, whole
from salience.data.corpora.measure import MANY_DOCUMENTS, Meter, Units, summary, token_counts, zlib_bytes
from salience.data.corpora.token_file import BYTES, TokenArray, tokenize
from salience.data.corpus import Reading, Source
from salience.data.datasets.download import cache_folder
from salience.data.tokenizers import BpeTokenizer, ByteTokenizer, Tokenizer
from salience.explain.explanation import Explanation
from salience.explain.language.explain import explain_language
from salience.language_settings import LanguageConfig, make_config
from salience.models.language_models import generate as writing
from salience.models.language_models.score import Window, log_probabilities, window_for
from salience.training.language import HeldOut, LanguageTask
from salience.training.loop import CHECKPOINT, History, Trainer

KIND = "language model"
MODEL_FILES = ("model.safetensors", "config.json", "tokenizer.json", "training.json")
SCORED_AT_ONCE = 1 << 20  # tokens of an evaluation that are held in memory


class LanguageModel:
    """Train a language model on plain text, score text with it, write with it, and ask it why.

    Args:
        model: key of a language model, such as ``"transnormer"`` (linear attention) or ``"transformer"``.
        preset: size of the model.
        tokenizer: ``"byte"`` or ``"bpe"``.
        context: tokens of a training block.
        seed: seed of everything random.
        config: path of a YAML file with options.
        overrides: options as ``"training.steps=500"``.
        options: any other option of :class:`LanguageConfig`.

    Attributes:
        config: the options.
        model: the trained module, after ``fit``.
        tokenizer: the tokenizer, after ``fit``.
        history: how training went; scores are of the held-out part.

    Example:
        >>> from salience import LanguageModel
        >>> text = "the cat sat on the mat. " * 200
        >>> lm = LanguageModel(context=32, overrides=["training.steps=2"]).fit([text])
        >>> sorted(lm.evaluate(["the cat sat on the mat."]))[:2]
        ['baselines', 'bits_per_byte']
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        preset: str | None = None,
        tokenizer: str | None = None,
        context: int | None = None,
        seed: int | None = None,
        config: Path | str | None = None,
        overrides: Sequence[str] = (),
        **options: Any,
    ) -> None:
        self.config = make_config(
            config, overrides, model=model, preset=preset, tokenizer=tokenizer, context=context, seed=seed, **options
        )  # fmt: skip
        registry.card("language_model", self.config.model)
        self.model: Any = None
        self.tokenizer: Tokenizer | None = None
        self.history: History | None = None
        self.unigram: np.ndarray | None = None
        self.source: dict[str, Any] = {}

    # fit

    def fit(
        self,
        source: Source,
        *,
        validation: Source | None = None,
        folder: Path | str | None = None,
        cache: Path | str | None = None,
    ) -> "LanguageModel":
        """Train on a corpus.

        Args:
            source: a text, JSON-lines or Parquet file (also compressed), a folder of them, or a list of documents.
            validation: text that decides which weights are kept; a share of ``source`` if none.
            folder: where checkpoints go, so that an interrupted ``fit`` goes on when called again.
            cache: where the tokens of files are kept; by default ``SALIENCE_CACHE`` or the user's cache.

        Returns:
            The model itself.

        Raises:
            DataError: the corpus cannot be read, or is too small (SAL-D003).
        """
        config = self.config
        if config.threads:
            torch.set_num_threads(config.threads)
        train, held = self._streams(source, validation, cache_folder(cache) / "tokens")
        blocks, held_blocks = Blocks(train, config.context), Blocks(held, config.context)
        if not len(blocks) or not len(held_blocks):
            raise _too_small(corpus.describe(source), len(train), len(held))
        self.unigram = token_counts(train, self.tokenizer.vocab_size)
        torch.manual_seed(config.seed)
        self.model = self._build()
        task = LanguageTask(self.model, self.tokenizer.end_id, config.pack)
        limit = config.time_limit * 60 if config.time_limit else None
        tell("corpus", self._plan(len(train), len(held)))
        trainer = Trainer(task, config.training, seed=config.seed, folder=folder, time_limit=limit)
        score = HeldOut(held_blocks, self.tokenizer.byte_lengths, config.training.batch_size)
        self.history = trainer.fit(blocks, blocks.targets, score, "bits_per_byte", higher=False)
        self.source = {
            "source": corpus.describe(source),
            "train_tokens": len(train),
            "validation_tokens": len(held),
            "data": train.digest(),
        }
        return self

    def _plan(self, train: int, held: int) -> str:
        """Return in one line what will be trained on what."""
        size = sum(parameter.numel() for parameter in self.model.parameters())
        return (
            f"{train:,} tokens to train on, {held:,} to validate; {self.config.model} {self.config.preset}, "
            f"{size:,} parameters, {self.tokenizer.vocab_size:,} token ids"
        )

    def _streams(self, source: Source, validation: Source | None, cache: Path) -> tuple[Stream, Stream]:
        """Return training and validation tokens; what is held out, sub-words are not learned from."""
        config, in_bytes = self.config, ByteTokenizer()
        self.tokenizer = in_bytes
        tokens = tokenize(source, in_bytes, config.reading, cache)
        share = config.validation if validation is None else 0.0
        division = divide(np.asarray(tokens.documents[:, BYTES]), share, config.seed)
        if config.tokenizer == "bpe":
            train, _ = streams(tokens, division, in_bytes.byte_lengths)
            self.tokenizer = BpeTokenizer.train(texts(train, config.seed), config.vocab_size)
            tokens = tokenize(source, self.tokenizer, config.reading, cache)
        train, held = streams(tokens, division, self.tokenizer.byte_lengths)
        if validation is not None:
            held = whole(tokenize(validation, self.tokenizer, self._reading(validation), cache))
        return train, held if len(held) else train.first(MOST_VALIDATION_BYTES)

    def _reading(self, source: Source) -> Reading:
        """Return how further text is read: as the corpus was, but plain text has no column."""
        return self.config.reading if corpus.has_rows(source) else replace(self.config.reading, column=None)

    def _build(self) -> nn.Module:
        config = self.config
        architecture = registry.load("language_model", config.model)
        return architecture.preset(
            config.preset, **{**config.model_args, "vocab_size": self.tokenizer.vocab_size}
        )

    def _fitted(self) -> Any:
        if self.model is None:
            raise NotFittedError(
                "The language model is not trained", "", "Call fit(...) first, or LanguageModel.load(folder)."
            )
        return self.model

    # score

    def evaluate(
        self,
        source: Source,
        *,
        reading: Reading | None = None,
        window: int | None = None,
        stride: int | None = None,
    ) -> dict[str, Any]:
        """Score text: perplexity, bits a byte and bits a character, with 95 % intervals, beside controls.

        Every document is scored on its own, from its start. Its tokens and the mark of its end are predicted; the
        end has no bytes, but costs bits. A model with a state of constant size reads the whole document before
        each token; another one reads sliding windows as long as its training context. Intervals resample
        documents; where there are fewer than 30, parts of them as long as the training context.

        Args:
            source: text that was not trained on, as in :meth:`fit`.
            reading: how it is read; as the corpus was if none.
            window: read at most so many tokens before each, with any model.
            stride: tokens that a window moves by; half of it if none.

        Returns:
            ``perplexity``, ``bits_per_byte`` and ``bits_per_character``, each ``{"value", "interval"}``; the same
            of ``baselines`` (a unigram model of the training text; zlib, which has seen none); ``tokens``, ``bytes``,
            ``characters``, ``documents``, ``window`` and ``resampled``.

        Raises:
            DataError: the text cannot be read.
        """
        self._fitted()
        chosen = self._window(window, stride)
        cache = cache_folder() / "tokens"
        tokens = tokenize(source, self.tokenizer, reading or self._reading(source), cache)
        many = len(tokens.documents) >= MANY_DOCUMENTS
        meter = Meter(self.tokenizer, self.unigram, None if many else self.config.context)
        parts = []
        with Stage("score", len(tokens.documents)) as stage:
            for group in _groups(tokens):
                found = log_probabilities(self.model, group, self.tokenizer.end_id, chosen)
                parts.append(meter.units(group, found))
                for _ in group:
                    stage.step()
        packed = zlib_bytes(self._bytes(group) for group in _groups(tokens))
        return {
            **summary(Units.join(parts), packed, self.config.seed),
            "documents": len(tokens.documents),
            "window": chosen.describe(),
            "resampled": "documents" if many else f"parts of {self.config.context} tokens",
        }

    def _bytes(self, documents: list[np.ndarray]) -> bytes:
        return b"".join(self.tokenizer.token_bytes(int(i)) for document in documents for i in document)

    def _window(self, window: int | None, stride: int | None) -> Window:
        if window is None and stride is None:
            return window_for(self.model, self.config.context)
        window = window or self.config.context
        stride = stride or max(1, window // 2)
        if not 1 <= stride <= window:
            raise ConfigError("stride is out of range", f"Got {stride}, want 1 to {window}.", code="SAL-C005")
        return Window(window, stride)

    def log_probabilities(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the natural log-probability of each token of each text, from the start of a document on.

        Args:
            texts: documents; the tokens of one are ``lm.tokenizer.encode(text)``.
        """
        model = self._fitted()
        documents = self.tokenizer.encode_batch(texts)
        window = window_for(model, self.config.context)
        return log_probabilities(model, documents, self.tokenizer.end_id, window)

    # write

    def generate(self, prompt: str = "", *, max_new_tokens: int = 200, **options: Any) -> str:
        """Return what the model writes after a prompt.

        Args:
            prompt: the start of a document; may be empty.
            max_new_tokens: most tokens to write; less where the document ends.
            options: ``temperature`` (0, the default, takes the most likely token), ``top_k``, ``top_p``, ``stop``
                (strings at which it ends) and ``seed``.

        Raises:
            ConfigError: an option is out of its range (SAL-C005).
        """
        return "".join(self.stream(prompt, max_new_tokens=max_new_tokens, **options))

    def stream(self, prompt: str = "", *, max_new_tokens: int = 200, **options: Any) -> Iterator[str]:
        """Yield what :meth:`generate` returns, piece by piece as it is written."""
        ids = [self.tokenizer.end_id, *self.tokenizer.encode(prompt)] if self._fitted() else []
        return writing.stream(
            self.model,
            ids,
            decode=self.tokenizer.decode,
            end_id=self.tokenizer.end_id,
            max_new_tokens=max_new_tokens,
            **options,
        )

    # explain

    def explain(self, context: str, **options: Any) -> Explanation:
        """Say which words of a context speak for what comes next, and whether that is true.

        Args:
            context: the text before what is explained.
            options: ``target`` (the predicted token if none), ``contrast``, ``continuation``, ``method`` and others
                of :func:`salience.explain.language.explain.explain_language`.
        """
        return explain_language(self._fitted(), self.tokenizer, [context], **options)[0]

    # save and load

    def save(self, folder: Path | str) -> Path:
        """Write the model to a folder: JSON and safetensors, nothing pickled.

        ``run.json`` is written last; a folder without it is not complete and is not loaded. Where ``torchrun``
        started several processes, only the first one writes.
        """
        model, folder = self._fitted(), Path(folder)
        if not is_main_process():
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").unlink(missing_ok=True)
        write_json(folder / "config.json", {"options": asdict(self.config), "model": model.config.to_json()})
        write_json(folder / "tokenizer.json", self.tokenizer.to_json())
        history = vars(self.history) if self.history else None
        write_json(folder / "training.json", {"history": history, "unigram": self.unigram, **self.source})
        temporary = folder / ".model.safetensors.tmp"
        save_file(_own_tensors(model), temporary)
        temporary.replace(folder / "model.safetensors")
        mark_complete(folder, KIND, MODEL_FILES)
        (folder / CHECKPOINT).unlink(missing_ok=True)
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> "LanguageModel":
        """Load a saved language model.

        Raises:
            IntegrityError: the folder is absent, unfinished, damaged, or holds another kind of model.
        """
        folder = Path(folder)
        check_complete(folder, KIND, MODEL_FILES, "salience lm train")
        saved, training = read_json(folder / "config.json"), read_json(folder / "training.json")
        found = cls.__new__(cls)
        found.config = build(LanguageConfig, saved["options"])
        found.tokenizer = tokenizers.from_json(read_json(folder / "tokenizer.json"))
        architecture = registry.load("language_model", found.config.model)
        found.model = architecture(architecture.Config.from_json(saved["model"]))
        _restore(found.model, folder / "model.safetensors")
        found.unigram = np.array(training.pop("unigram"), np.int64)
        history = training.pop("history")
        found.history = History(**{**history, "epochs": tuple(history["epochs"])}) if history else None
        found.source = training
        return found


def _too_small(source: str, train: int, held: int) -> DataError:
    return DataError(
        "The corpus is too small to train on",
        f"{source}: {train} tokens to train on, {held} to validate.",
        "Give more text, or another share: validation=0.2.",
        code="SAL-D003",
    )


def _groups(tokens: TokenArray) -> Iterator[list[np.ndarray]]:
    """Yield documents, each with its end token, about a million tokens at a time."""
    group, size = [], 0
    for start, (length, _) in zip(tokens.starts, tokens.documents, strict=True):
        group.append(tokens.ids[start : start + length + 1])
        size += length
        if size > SCORED_AT_ONCE:
            yield group
            group, size = [], 0
    if group:
        yield group


def _own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model, one that has two names (a tied head) once."""
    return {name: t.contiguous() for name, t in model.state_dict().items() if name not in _aliases(model)}


def _aliases(model: nn.Module) -> set[str]:
    """Return further names of parameters that have one already."""
    return {n for n, _ in model.named_parameters(remove_duplicate=False)} - {
        n for n, _ in model.named_parameters()
    }


def _restore(model: nn.Module, path: Path) -> None:
    try:
        found = model.load_state_dict(load_file(path), strict=False)
    except (SafetensorError, RuntimeError) as error:
        raise IntegrityError("The weights do not fit the model", str(error)[:200], "Train again.") from None
    if found.unexpected_keys or set(found.missing_keys) != _aliases(model):
        names = [*found.unexpected_keys, *found.missing_keys]
        raise IntegrityError("The weights do not fit the model", ", ".join(names)[:200], "Train again.")
    model.eval()
