"""The part that all word-level text encoders share: vocabulary, word vectors, units."""

from abc import abstractmethod
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.unit import Unit
from salience.data.kinds import KINDS
from salience.data.vocabulary import PAD, UNKNOWN, Vocabulary
from salience.data.word_vectors import fit_word_vectors, read_word_vectors
from salience.data.words import words as cut_words
from salience.models.slots import Encoder, Tokens
from salience.nn.embeddings.ngrams import NGramEmbedding
from salience.nn.watch import show

Example = tuple[np.ndarray, np.ndarray]  # word index and column position of each token
NGRAM_SCALE = 3.0  # brings the linear part to the size of the network's vector early in training


class WordEncoder(Encoder):
    """Read text columns as one sequence of words, each marked with its column.

    A word is a unit. Unknown words and padding have the constant zero vector, which is also the neutral
    input; training hides a share of the words so that the model learns what a missing word means.
    A subclass provides :meth:`build_network`.

    Args:
        columns: names of the text columns, read one after the other.
        embedding_dim: size of a word vector.
        vectors: ``"fit"`` fits word vectors on the training texts, ``"random"`` starts at random, anything
            else is the path of a text or npz file of word vectors (its dimension wins).
        max_tokens: words read of each column; later ones are ignored.
        min_count: training occurrences that a word needs to be known.
        word_dropout: share of words hidden in training, in [0, 1).
        trainable: whether word vectors are trained on.
        ngram_dim: size of the vectors of words and neighbouring pairs that are summed beside the network, a
            linear part that is strong on small data; 0 for the network alone, as published.
    """

    kind = "text"
    network: nn.Module

    def __init__(
        self,
        columns: list[str],
        embedding_dim: int = 100,
        vectors: str = "fit",
        max_tokens: int = 160,
        min_count: int = 2,
        word_dropout: float = 0.1,
        trainable: bool = True,
        ngram_dim: int = 0,
    ) -> None:
        super().__init__(columns)
        self.embedding_dim, self.vectors, self.max_tokens = embedding_dim, vectors, max_tokens
        self.min_count, self.word_dropout, self.trainable = min_count, word_dropout, trainable
        self.ngram_dim = ngram_dim

    @abstractmethod
    def build_network(self, dim_in: int) -> nn.Module:
        """Return the module ``(x, mask) → (context, sentence)``."""

    def fit(self, frame: pd.DataFrame, target: np.ndarray, generator: torch.Generator) -> None:
        """Learn vocabulary and word vectors from the training texts."""
        cells = frame[self.columns].itertuples(index=False)
        texts = [[word for found in self._words(row) for word in found] for row in cells]
        self.vocabulary = Vocabulary.fit(texts, self.min_count)
        vectors = self._vectors(texts, generator)
        self._build(vectors.shape[1])
        with torch.no_grad():
            self.embedding.weight.copy_(torch.from_numpy(vectors))

    def _vectors(self, texts: list[list[str]], generator: torch.Generator) -> np.ndarray:
        seed = int(torch.randint(0, 2**31 - 1, (1,), generator=generator))
        size, rng = len(self.vocabulary), np.random.default_rng(seed)
        if self.vectors == "fit":
            indices = [np.array(self.vocabulary.encode(words), dtype=np.int64) for words in texts]
            vectors = 0.3 * fit_word_vectors(indices, size, self.embedding_dim, seed=seed)
        elif self.vectors == "random":
            vectors = rng.normal(0, 0.3, (size, self.embedding_dim)).astype(np.float32)
        else:
            found, known = read_word_vectors(self.vectors, self.vocabulary.words)
            spread = found[known].std()
            vectors = rng.normal(0, spread / 2, (size, found.shape[1])).astype(np.float32)
            vectors[2:][known] = found[known]
        vectors[[PAD, UNKNOWN]] = 0.0
        return vectors

    def _build(self, embedding_dim: int) -> None:
        self.embedding = nn.Embedding(len(self.vocabulary), embedding_dim)
        self.embedding.weight.requires_grad_(self.trainable)
        self.column = nn.Parameter(torch.zeros(len(self.columns), embedding_dim))
        self.network = self.build_network(embedding_dim)
        self.ngrams = NGramEmbedding(len(self.vocabulary), self.ngram_dim) if self.ngram_dim else None

    def state(self) -> dict[str, Any]:
        """Return the vocabulary and the size of the word vectors."""
        return {"words": self.vocabulary.words, "embedding_dim": self.embedding.embedding_dim}

    def restore(self, state: dict[str, Any]) -> None:
        """Rebuild from :meth:`state`."""
        self.vocabulary = Vocabulary(state["words"])
        self._build(state["embedding_dim"])

    def _words(self, cells: Any) -> list[list[str]]:
        """Return the words that are read, in lower case, of each column."""
        pieces = [cut_words(text)[: self.max_tokens] for text in cells]
        # One call in place of one a word: no word holds a line break.
        return ["\n".join(found).lower().split("\n") if found else [] for found in pieces]

    def prepare(self, frame: pd.DataFrame) -> list[Example]:
        """Return word indices and column positions of each row; a row without words gets one unknown word."""
        positions = np.arange(len(self.columns))
        examples = []
        for row in frame[self.columns].itertuples(index=False):
            words = self._words(row)
            index = self.vocabulary.encode([word for found in words for word in found]) or [UNKNOWN]
            column = np.repeat(positions, [len(found) for found in words])
            examples.append((np.array(index, dtype=np.int64), column if len(column) else np.array([-1])))
        return examples

    def length(self, example: Example) -> int:
        """Return the number of words."""
        return len(example[0])

    def collate(self, examples: list[Example]) -> dict[str, Tensor]:
        """Pad to the longest example."""
        longest = max(len(index) for index, _ in examples)
        index = np.full((len(examples), longest), PAD, dtype=np.int64)
        column = np.full((len(examples), longest), -1, dtype=np.int64)
        for i, (words, columns) in enumerate(examples):
            index[i, : len(words)], column[i, : len(words)] = words, columns
        return {"index": torch.from_numpy(index), "column": torch.from_numpy(column)}

    def _tokens(self, batch: dict[str, Tensor], words: Float[Tensor, "batch token dim"]) -> Tokens:
        column, index = batch["column"], batch["index"]
        position = torch.arange(index.shape[1], device=index.device).expand_as(index)
        values = words + self.column[column.clamp(min=0)]
        return Tokens(values, index != PAD, torch.where(column >= 0, position, -1))

    def embed(self, batch: dict[str, Tensor]) -> Tokens:
        """Look word vectors up; in training a share of them is hidden. Unknown and padding stay zero."""
        index = batch["index"]
        known = index > UNKNOWN
        if self.training and self.word_dropout:
            known = known & (torch.rand(index.shape, device=index.device) >= self.word_dropout)
        tokens = self._tokens(batch, self.embedding(index) * known.unsqueeze(-1))
        if self.ngrams is None:
            return tokens
        return tokens.with_values(
            torch.cat([tokens.values, self.ngrams(index, batch["column"], known)], dim=-1)
        )

    def baseline(self, batch: dict[str, Tensor]) -> Tokens:
        """Return the same sequence with every word unknown."""
        index = batch["index"]
        tokens = self._tokens(
            batch, self.embedding.weight.new_zeros(*index.shape, self.embedding.embedding_dim)
        )
        return tokens.with_values(nn.functional.pad(tokens.values, (0, self.ngram_dim)))

    def encode(self, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        """Run the network on the word vectors, and put the sum of the n-gram vectors beside its row vector."""
        words, ngrams = tokens.values.split([self.embedding.embedding_dim, self.ngram_dim], dim=-1)
        context, sentence = self.network(words, tokens.mask)
        show("context", context)  # the sentence is pooled from it
        length = tokens.mask.sum(1, keepdim=True).clamp(min=1)
        total = (ngrams * tokens.mask.unsqueeze(-1)).sum(1) * (NGRAM_SCALE / length.sqrt())
        return tokens.with_values(context), torch.cat([sentence, total.to(sentence.dtype)], dim=1)

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return the words that are read, column by column."""
        return tuple(u for c in self.columns for u in KINDS["text"].units(c, row[c])[: self.max_tokens])

    def attention(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the network's attention maps."""
        tokens = self.embed(batch)
        return self.network.attention(tokens.values[..., : self.embedding.embedding_dim], tokens.mask)
