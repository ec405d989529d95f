"""Turn text into numbers and back, without loss: bytes, or sub-words learned from a corpus.

Both kinds name the end of a document by a token that no text contains, whatever a user writes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from salience.core.errors import ConfigError, IntegrityError, nearest
from salience.data.kinds import SURROGATES

END_TEXT = "<end of document>"
LOWEST_VOCABULARY = 258


class Tokenizer(Protocol):
    """Map text to token ids and back.

    Attributes:
        kind: ``"byte"`` or ``"bpe"``.
        vocab_size: number of ids.
        end_id: the token between documents; text is never encoded to it.
        byte_lengths: UTF-8 bytes that each token stands for; 0 for the end of a document.
    """

    kind: str
    vocab_size: int
    end_id: int
    byte_lengths: np.ndarray

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""

    def encode_array(self, text: str) -> np.ndarray:
        """Return the ids of a text as an array."""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of many texts, as arrays."""

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids; the end of a document is left out."""

    def token_bytes(self, token: int) -> bytes:
        """Return the UTF-8 bytes that a token stands for, which may be a part of a character."""

    def token_text(self, token: int) -> str:
        """Return a token as a person can read it."""

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the characters ``[start, stop)`` of each token; tokens inside a character share its place."""

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""


class _Tokens(ABC):
    """What follows from the bytes of each token."""

    end_id: int

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """Return the UTF-8 bytes of a token."""

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each text."""

    def encode_array(self, text: str) -> np.ndarray:
        """Return the ids of a text as an array."""
        return self.encode_batch([text])[0]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids; the end of a document is left out, broken characters become U+FFFD."""
        return b"".join(self.token_bytes(int(token)) for token in ids).decode("utf-8", errors="replace")

    def token_text(self, token: int) -> str:
        r"""Return a token as a person can read it: its text, ``\xe2`` for a part of a character, or the end."""
        if token == self.end_id:
            return END_TEXT
        data = self.token_bytes(token)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return "".join(f"\\x{byte:02x}" for byte in data)


class ByteTokenizer(_Tokens):
    """Take each UTF-8 byte as a token: 256 ids, nothing to learn, every text has a form.

    The end of a document is byte 255, which no UTF-8 text contains.

    >>> tokenizer = ByteTokenizer()
    >>> tokenizer.encode("é!")
    [195, 169, 33]
    """

    kind = "byte"
    vocab_size = 256
    end_id = 255

    def __init__(self) -> None:
        self.byte_lengths = np.ones(256, dtype=np.int64)
        self.byte_lengths[self.end_id] = 0

    def encode(self, text: str) -> list[int]:
        """Return the bytes of a text."""
        return list(_whole(text).encode("utf-8"))

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the bytes of many texts, as arrays."""
        return [np.frombuffer(_whole(text).encode("utf-8"), dtype=np.uint8) for text in texts]

    def token_bytes(self, token: int) -> bytes:
        """Return the byte; nothing for the end of a document."""
        return b"" if token == self.end_id else bytes([token])

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the character of each byte."""
        return [(i, i + 1) for i, c in enumerate(_whole(text)) for _ in range(len(c.encode("utf-8")))]

    def to_json(self) -> dict[str, Any]:
        """Return the kind; there is nothing else to keep."""
        return {"kind": self.kind}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ByteTokenizer":
        """Return a tokenizer of bytes."""
        return cls()


class BpeTokenizer(_Tokens):
    """Take frequent sequences of bytes as tokens (byte-pair encoding), so that every text has a form.

    Words are first cut as GPT-2 does: at white space, letters, digits and other signs. The last id is the end of a
    document; it has no text, so that nobody can write it.

    Args:
        model: a ``tokenizers.Tokenizer`` with byte-level pre-tokenizer, as :meth:`train` makes it.

    Source:
        Sennrich, Haddow and Birch 2016, "Neural Machine Translation of Rare Words with Subword Units"; over bytes as
        in Radford et al. 2019.
    """

    kind = "bpe"

    def __init__(self, model: Any) -> None:
        self._model = model
        alphabet = {character: byte for byte, character in enumerate(_byte_characters())}
        vocabulary = model.get_vocab(with_added_tokens=False)
        self.end_id = len(vocabulary)
        self.vocab_size = self.end_id + 1
        self._bytes = [b""] * self.vocab_size
        for text, token in vocabulary.items():
            self._bytes[token] = bytes(alphabet[character] for character in text)
        self.byte_lengths = np.array([len(data) for data in self._bytes], dtype=np.int64)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "BpeTokenizer":
        """Learn a vocabulary from texts.

        Args:
            texts: the training part of a corpus; it is streamed, only its distinct words are held.
            vocab_size: number of ids, at least 258; fewer are made where the texts hold fewer repeated sequences.

        Raises:
            ConfigError: ``vocab_size`` is below 258 (SAL-C005).
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if vocab_size < LOWEST_VOCABULARY:
            raise ConfigError(
                "vocab_size is too small for byte-pair encoding",
                f"Got {vocab_size}, want {LOWEST_VOCABULARY} or more.",
                "256 ids are bytes and one is the end; use the byte tokenizer for fewer.",
                code="SAL-C005",
            )
        model = Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 1,
            min_frequency=2,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        model.train_from_iterator((_whole(text) for text in texts), trainer)
        return cls(model)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        return self._model.encode(_whole(text), add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of many texts, as arrays, computed on all processors."""
        found = self._model.encode_batch_fast([_whole(text) for text in texts], add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in found]

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of a token; nothing for the end of a document."""
        return self._bytes[token]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the characters of each token, white space before a word with it."""
        return self._model.encode(_whole(text), add_special_tokens=False).offsets

    def to_json(self) -> dict[str, Any]:
        """Return the vocabulary and merges, in the format of the ``tokenizers`` library."""
        import json

        return {"kind": self.kind, "tokenizer": json.loads(self._model.to_str())}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "BpeTokenizer":
        """Rebuild from :meth:`to_json`."""
        import json

        from tokenizers import Tokenizer

        return cls(Tokenizer.from_str(json.dumps(data["tokenizer"])))


KINDS = {"byte": ByteTokenizer, "bpe": BpeTokenizer}


def check_kind(kind: str) -> None:
    """Refuse an unknown kind of tokenizer.

    Raises:
        ConfigError: the kind is unknown; the nearest name is suggested (SAL-C002).
    """
    if kind not in KINDS:
        raise ConfigError(f"Unknown tokenizer {kind!r}", "", nearest(kind, KINDS), code="SAL-C002")


def from_json(data: dict[str, Any]) -> Tokenizer:
    """Rebuild a tokenizer from its ``to_json``.

    Raises:
        IntegrityError: the data are no tokenizer (SAL-I001).
    """
    try:
        return KINDS[data["kind"]].from_json(data)
    except Exception as error:  # the tokenizers library raises plain Exception
        raise IntegrityError(
            "The tokenizer is damaged", f"{type(error).__name__}: {error}"[:160], "Restore the folder."
        ) from None


def _whole(text: str) -> str:
    """Replace half surrogate pairs, which have no bytes."""
    return SURROGATES.sub("\ufffd", text)


def _byte_characters() -> list[str]:
    """Return the character that stands for each byte in a byte-level vocabulary.

    Printable bytes stand for themselves; the others are moved, in order, to the code points from 256 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(moved)) for byte in range(256)]
