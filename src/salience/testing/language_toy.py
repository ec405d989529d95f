"""Hand-set language models whose next token provably depends on known words, and a tokenizer for them."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from salience.explain.language.reading import CONTEXT
from salience.explain.language.view import LanguageView
from salience.nn.watch import show
from salience.testing.toy import ToyFailureError

PIECE = re.compile(r" ?\w{1,5}| ?[^\w\s]|\s")
WEIGHTS = {  # word → what it adds to the logits of the next token
    "crown": {" king": 2.0, " queen": 1.5},
    "throne": {" king": 1.0, " dog": -1.0},
    "she": {" queen": 2.0, " king": -1.5},
    "barks": {" dog": 2.5},
    "sceptre": {" king": 0.75, " queen": 0.5},  # two tokens: "scept" and "re"
    "not": {" king": -0.5},
    "the": {},
    "of": {},
    ",": {},
}
NEXT = (" king", " queen", " dog")


class PieceTokenizer:
    """Cut text to pieces of up to five letters, each with the space before it, so that long words are two tokens.

    Args:
        texts: what the vocabulary is made of; every piece is known with a space before it and without.
    """

    def __init__(self, texts: list[str]) -> None:
        pieces = {
            form for text in texts for p in PIECE.findall(text) for form in (p, p.strip(), " " + p.strip())
        }
        self.pieces = ["<end>", *sorted(pieces - {""} | {" ", "\n"})]
        self.end_id, self.vocab_size = 0, len(self.pieces)
        self._ids = {piece: i for i, piece in enumerate(self.pieces)}

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; an unknown piece is an error."""
        return [self._ids[piece] for piece in PIECE.findall(text)]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the characters of each piece."""
        return [match.span() for match in PIECE.finditer(text)]

    def token_text(self, token: int) -> str:
        """Return a piece."""
        return self.pieces[token]

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids."""
        return "".join(self.pieces[i] for i in ids)


def toy_tokenizer() -> PieceTokenizer:
    """Return the tokenizer of the toys."""
    return PieceTokenizer([" ".join(WEIGHTS), *NEXT])


class ToyLanguageModel(nn.Module):
    """Predict the next token by a rule; vectors are one-hot, so what a token adds can be read off.

    Args:
        tokenizer: a :func:`toy_tokenizer`.
        rule: ``"linear"``: every token adds what :data:`WEIGHTS` says, half of it for each token of a long word;
            ``"nonlinear"``: also a saturating product with the tokens of the first half of the vocabulary;
            ``"bigram"``: the last token alone; ``"copy"``: what followed the last token when it came before;
            ``"zero"``: nothing matters.
        fail_after: raise :class:`~salience.testing.toy.ToyFailureError` after this many calls.
    """

    def __init__(
        self, tokenizer: PieceTokenizer, rule: str = "linear", fail_after: int | None = None
    ) -> None:
        super().__init__()
        self.config, self.rule = SimpleNamespace(num_layers=1), rule
        self.vocab_size = self.dim = tokenizer.vocab_size
        self.fail_after, self.calls, self.rows_seen = fail_after, 0, 0
        self.table = nn.Parameter(torch.eye(self.vocab_size, dtype=torch.float64))
        self.adds = nn.Parameter(_table(tokenizer) * (rule != "zero"))
        self.dropout = nn.Dropout(0.5)  # evaluation mode must switch it off
        self.lm_head = nn.Identity()

    def embed(self, ids: Tensor) -> Tensor:
        """Return one-hot vectors."""
        return self.table[ids]

    def features(
        self, x: Tensor, *, attention_mask: Tensor | None = None, need_weights: Any = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the logits after each token, and as weights of one head whether a token matters."""
        self._count(len(x))
        mask = torch.ones(x.shape[:2], dtype=torch.bool) if attention_mask is None else attention_mask
        x = self.dropout(x) * mask.unsqueeze(-1)
        sizes = (x @ self.adds).abs().sum(-1)
        if need_weights is True:
            x, weights = _pooled(show("context", x), sizes, mask)
            return getattr(self, f"_{self.rule}")(x), [weights]
        return getattr(self, f"_{self.rule}")(x), [sizes[:, None, None]] if need_weights else []

    def _count(self, rows: int) -> None:
        self.calls += 1
        self.rows_seen += rows
        if self.fail_after is not None and self.calls > self.fail_after:
            raise ToyFailureError("the toy was told to fail")

    def _linear(self, x: Tensor) -> Tensor:
        return (x @ self.adds).cumsum(1)

    _zero = _linear

    def _nonlinear(self, x: Tensor) -> Tensor:
        total = (x @ self.adds).cumsum(1)
        return (
            total
            + 2 * torch.tanh(3 * total) * (1 + 0.1 * x[..., : self.dim // 2].sum(-1).cumsum(1))[..., None]
        )

    def _bigram(self, x: Tensor) -> Tensor:
        return x @ self.adds

    def _copy(self, x: Tensor) -> Tensor:
        before = nn.functional.pad(x, (0, 0, 1, 0))[:, :-1]
        match = torch.tril(
            x @ before.transpose(1, 2), diagonal=-1
        )  # (query, key): the key follows the query's token
        earlier = match.masked_fill(torch.eye(x.shape[1], dtype=torch.bool), 0.0)
        return 5 * earlier @ x


def _pooled(x: Tensor, sizes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tokens as they are, each read through one weight (batch, head, query, key) of the last query."""
    shares = (sizes + 1) * mask
    weights = torch.diag_embed(shares)
    weights[:, -1] = shares / shares.sum(1, keepdim=True)
    weights = weights[:, None].detach().requires_grad_(True)
    used = weights[:, 0, -1]
    return x * (used / used.detach().where(mask, torch.ones_like(used))).unsqueeze(-1), weights


def _table(tokenizer: PieceTokenizer) -> Tensor:
    table = torch.zeros(tokenizer.vocab_size, tokenizer.vocab_size, dtype=torch.float64)
    for word, following in WEIGHTS.items():
        for form in (word, " " + word):
            ids = tokenizer.encode(form)
            for token in ids:
                for piece, weight in following.items():
                    table[token, tokenizer.encode(piece)[0]] = weight / len(ids)
    return table


class LanguageToy(LanguageView):
    """The hand-set language model behind the view that explainers see, with its known answers.

    Args:
        rule: as in :class:`ToyLanguageModel`.
        fail_after: likewise.
        options: options of :class:`~salience.explain.language.view.LanguageView`.
    """

    def __init__(self, rule: str = "linear", *, fail_after: int | None = None, **options: Any) -> None:
        tokenizer = toy_tokenizer()
        super().__init__(ToyLanguageModel(tokenizer, rule, fail_after), tokenizer, **options)

    @property
    def rows_seen(self) -> int:
        """Rows that the model evaluated."""
        return self.model.rows_seen

    @rows_seen.setter
    def rows_seen(self, rows: int) -> None:
        self.model.rows_seen = rows

    def contributions(self, row: dict[str, Any]) -> np.ndarray:
        """Return what each word adds to each logit of the linear toy, shape (unit, output)."""
        reading = self.reading(row[CONTEXT])
        result = np.zeros((len(reading.units), self.model.vocab_size))
        adds = self.model.adds.detach().numpy()
        for token, unit in zip(reading.ids, reading.unit, strict=True):
            result[unit] += adds[token]
        return result


def toy_contexts(rows: int, seed: int = 0) -> pd.DataFrame:
    """Return random contexts of one to nine words."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(list(WEIGHTS), rng.integers(1, 10))) for _ in range(rows)]
    return pd.DataFrame({CONTEXT: pd.Series(texts, dtype=object)})
