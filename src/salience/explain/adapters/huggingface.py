"""A text classifier or regressor of transformers, seen as a model of rows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from salience.core.errors import ConfigError, UnsupportedError
from salience.core.unit import Unit
from salience.data.schema import Column
from salience.explain.adapters.base import schema_of
from salience.explain.adapters.raw import Raw
from salience.explain.adapters.reading import Reading, words_of
from salience.explain.adapters.tokens import ENCODER, TokenModel, WhiteTokenModel, with_gradients

TRIAL = "trial of words"
LONGEST = 100_000  # tokenizers without a limit say 1e30


def from_huggingface(
    model: Any,
    tokenizer: Any,
    *,
    classes: Sequence[str] | None = None,
    target: str | None = None,
    columns: Sequence[str] = ("text",),
    max_length: int | None = None,
) -> TokenModel:
    """Return a sequence-classification model of transformers as a model that can be explained.

    Units are the words that the tokenizer reads; pieces of a word are summed up. Special tokens belong to no unit
    and are never removed. A removed word is the mask token in place of each of its pieces (the unknown token where
    there is no mask token, else padding); the same token is the neutral input of gradient methods, which start at
    the token embeddings. Attention maps are those of every layer.

    Args:
        model: such as ``AutoModelForSequenceClassification.from_pretrained`` returns; left as it was.
        tokenizer: its tokenizer; a fast one, since character offsets are needed.
        classes: names of the classes; those of ``model.config.id2label`` if not given.
        target: name of what is predicted, for people.
        columns: name of the text column, or of the two columns of a model that reads pairs.
        max_length: tokens of a row at most; if not given the tokenizer's own limit, or the positions that the model
            has (less two, which some families keep for padding). Words beyond are no units.

    Raises:
        MissingExtraError: transformers is not installed.
        UnsupportedError: a slow tokenizer, or a model of several labels a text.
        ConfigError: neither one column nor two, or a model that answers in another shape (SAL-M003).
    """
    names = _classes(model, classes)
    reader = _Reader(tokenizer, list(columns), max_length or _longest(model, tokenizer))
    inputs = [Column(name, "text", "input", baseline="") for name in columns]
    raw = Raw(names, "logits", type(model).__name__)
    black = TokenModel(model, reader, reader.call, raw, schema_of(inputs, target, names))
    return with_gradients(black, HuggingFaceModel)


def _classes(model: Any, classes: Sequence[str] | None) -> list[str] | None:
    config = model.config
    if getattr(config, "problem_type", None) == "multi_label_classification":
        raise UnsupportedError(
            "A model of several labels a text has no single answer to explain",
            f"{type(model).__name__} with problem_type='multi_label_classification'.",
            "Explain one label: from_torch with forward=lambda module, ids, mask: module(ids, mask).logits[:, label].",
        )
    if config.num_labels == 1:
        return None
    return [str(name) for name in classes or (config.id2label[i] for i in range(config.num_labels))]


def _longest(model: Any, tokenizer: Any) -> int:
    positions = getattr(model.config, "max_position_embeddings", None) or LONGEST
    stated = getattr(tokenizer, "model_max_length", LONGEST)
    return min(stated, positions) if stated < LONGEST else positions - 2


class _Reader:
    """Make tokens with a fast tokenizer of transformers."""

    def __init__(self, tokenizer: Any, columns: list[str], max_length: int) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise UnsupportedError(
                "Words are found by the character offsets of a fast tokenizer",
                f"{type(tokenizer).__name__} has none.",
                "Load it with AutoTokenizer.from_pretrained(…, use_fast=True), or use from_torch with TokenInput.",
            )
        if len(columns) not in (1, 2):
            raise ConfigError(
                "A text classifier reads one text or a pair",
                f"{len(columns)} columns.",
                "Name one or two columns.",
            )
        self.tokenizer, self.columns = tokenizer, columns
        self.max_length = max_length
        ids = (
            tokenizer.mask_token_id,
            tokenizer.unk_token_id,
            tokenizer.pad_token_id,
            tokenizer.eos_token_id,
        )
        known = [i for i in ids if i is not None]
        if not known:
            raise UnsupportedError(
                "The tokenizer has no token that could stand for a removed word",
                "It has no mask, unknown, padding or end token.",
                "Set tokenizer.pad_token.",
            )
        self.neutral_id = known[0]
        self.pad_id = known[-1] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.types = "token_type_ids" in tokenizer.model_input_names

    def trial(self) -> Reading:
        """Return the tokens of a few words."""
        return self.read((TRIAL,) * len(self.columns))

    def read(self, texts: tuple[str, ...]) -> Reading:
        """Return the tokens of a text or a pair, with the special tokens."""
        found = self.tokenizer(
            *([text] for text in texts),
            truncation=True,
            max_length=self.max_length,
            return_offsets_mapping=True,
        )
        ids = np.array(found["input_ids"][0], dtype=np.int64)
        part = np.array([-1 if i is None else i for i in found.sequence_ids(0)], dtype=int)
        spans = np.array(found["offset_mapping"][0], dtype=int).reshape(-1, 2)
        units: list[Unit] = []
        unit = -2 - ids
        for i, (column, text) in enumerate(zip(self.columns, texts, strict=True)):
            mine = part == i
            local, words = words_of(column, text, spans[mine])
            unit[mine] = np.where(np.array(local) >= 0, np.array(local) + len(units), unit[mine])
            units += words
        self._check_types(ids, found)
        return Reading(ids, unit, tuple(units))

    def _check_types(self, ids: np.ndarray, found: Any) -> None:
        if not self.types:
            return
        line = torch.from_numpy(ids)[None]
        if self._types(line, torch.ones_like(line))[0].tolist() != found["token_type_ids"][0]:
            raise UnsupportedError(
                "The tokenizer numbers the texts of a pair in its own way",
                f"token_type_ids {found['token_type_ids'][0][:12]} for the ids {ids[:12].tolist()}.",
                "Take separators out of the texts, or use from_torch with a forward of your own.",
            )

    def call(self, model: nn.Module, ids: Tensor, mask: Tensor, **options: Any) -> Any:
        """Call the model on tokens."""
        if self.types:
            options["token_type_ids"] = self._types(ids, mask)
        return model(input_ids=ids, attention_mask=mask.long(), **options)

    def _types(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return 1 for the second text of a pair: for what follows the first separator."""
        separator = (ids == self.tokenizer.sep_token_id).long()
        return ((separator.cumsum(1) - separator).clamp(max=1) * mask) if len(self.columns) == 2 else 0 * ids


class HuggingFaceModel(WhiteTokenModel):
    """A :class:`WhiteTokenModel` that also shows the attention of each layer."""

    def attention(self, batch: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return token-to-token maps (batch, query, key, head) by layer, from the first on.

        They are computed in the ``eager`` way, since others do not keep them.
        """
        with _eager(self.module):
            answer = self.call(self.module, batch["ids"], batch["mask"], output_attentions=True)
        maps = getattr(answer, "attentions", None) or ()
        return {
            ENCODER: {f"token2token_{i}": m.permute(0, 2, 3, 1) for i, m in enumerate(maps) if m is not None}
        }


@contextmanager
def _eager(model: Any) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
