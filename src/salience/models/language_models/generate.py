"""Write text with a language model, one token at a time; many prompts at once, as if each were alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salience.core.errors import ConfigError
from salience.models.language_models.base import Cache, LanguageModel

PREFILL = 2048  # prompt tokens that are read at once
BROKEN = "\ufffd"  # what half of a character decodes to
LONGEST_CHARACTER = 8  # tokens; UTF-8 has at most 4 bytes a character

Decode = Callable[[list[int]], str]
Prompts = Int[Tensor, "batch token"] | Sequence[Sequence[int]]


@dataclass(frozen=True)
class Sampling:
    """Say how the next token is chosen.

    Attributes:
        temperature: logits are divided by it; 0 takes the most likely token.
        top_k: keep this many of the most likely tokens.
        top_p: keep the fewest of the most likely tokens whose probabilities add up to this.

    Raises:
        ConfigError: a value is out of its range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        fits = (
            0 <= self.temperature < float("inf")
            and (self.top_k is None or self.top_k >= 1)
            and (self.top_p is None or 0 < self.top_p <= 1)
        )
        if not fits:
            raise ConfigError(
                "The sampling options are out of range",
                f"temperature={self.temperature}, top_k={self.top_k}, top_p={self.top_p}.",
                "Use a temperature of 0 or more, top_k of 1 or more, and top_p above 0 and up to 1.",
                code="SAL-C005",
            )

    def choose(
        self, logits: Float[Tensor, "batch vocab"], generators: Sequence[torch.Generator]
    ) -> Int[Tensor, " batch"]:
        """Return one token a row; each row draws one number from its own generator."""
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        ordered, tokens = (logits.double() / self.temperature).sort(dim=-1, descending=True, stable=True)
        ordered = ordered[:, : self.top_k]
        cumulative = ordered.softmax(dim=-1).cumsum(dim=-1)
        total = cumulative[:, -1:]
        if self.top_p is not None:
            last = (cumulative < self.top_p).sum(dim=-1, keepdim=True).clamp(max=cumulative.shape[1] - 1)
            total = cumulative.gather(1, last)
        drawn = torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
        place = torch.searchsorted(cumulative, drawn.to(total.device)[:, None] * total, right=True)
        return tokens.gather(1, place.clamp(max=cumulative.shape[1] - 1))[:, 0]


@dataclass(frozen=True)
class Generation:
    """Hold what was written after one prompt.

    Attributes:
        ids: the new tokens; with the end token, if one was met.
        reason: why it stopped: ``"length"``, ``"end"`` (the end token) or ``"stop"`` (a stop string).
        text: the decoded tokens up to the stop string; None without ``decode``.
    """

    ids: list[int]
    reason: str
    text: str | None = None


@dataclass
class _Row:
    """Follow one row of the batch: its tokens, their text, and whether it has ended."""

    stop: tuple[str, ...]
    decode: Decode | None
    end_id: int | None
    ids: list[int] = field(default_factory=list)
    text: str = ""
    reason: str = ""
    _context: int = 0  # tokens before this one do not matter for what is decoded next
    _told: int = 0  # tokens before this one are in the text

    def add(self, token: int) -> None:
        self.ids.append(token)
        if token == self.end_id:
            self.reason = "end"
        elif self.decode is not None:
            self._read(last=False)

    def finished(self) -> Generation:
        if self.decode is None:
            return Generation(self.ids, self.reason or "length")
        if self.reason != "stop":
            self._read(last=True)
        return Generation(self.ids, self.reason or "length", self.text)

    def _read(self, last: bool) -> None:
        """Add the text of the new tokens; wait while they end inside a character."""
        end = len(self.ids) - (self.reason == "end")
        known = self.decode(self.ids[self._context : self._told])
        text = self.decode(self.ids[self._context : end])
        if text.endswith(BROKEN) and not last and end - self._told < LONGEST_CHARACTER:
            return
        before, self.text = len(self.text), self.text + text[len(known) :]
        self._context, self._told = self._told, end
        self._cut(before)

    def _cut(self, before: int) -> None:
        """End at the first stop string that reaches into the text after ``before``."""
        places = [self.text.find(stop, max(0, before - len(stop) + 1)) for stop in self.stop]
        found = [place for place in places if place >= 0]
        if found:
            self.text, self.reason = self.text[: min(found)], "stop"

    def certain(self) -> int:
        """Return how many characters of the text no later stop string can take back."""
        longest = max((len(stop) for stop in self.stop), default=1)
        for size in range(min(longest - 1, len(self.text)), 0, -1):
            if any(stop.startswith(self.text[-size:]) for stop in self.stop):
                return len(self.text) - size
        return len(self.text)


def generate(
    model: LanguageModel,
    ids: Prompts,
    *,
    attention_mask: Tensor | None = None,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: Sequence[str] = (),
    decode: Decode | None = None,
    end_id: int | None = None,
    seed: int = 0,
    on_tokens: Callable[[list[int | None]], None] | None = None,
) -> list[Generation]:
    """Write after each prompt; the result of a prompt does not depend on the others.

    Args:
        model: the language model.
        ids: prompts, as a tensor or as lists of different lengths.
        attention_mask: with a tensor, true where a token is real.
        max_new_tokens: most tokens to write after each prompt.
        temperature: see :class:`Sampling`; 0 is greedy.
        top_k: see :class:`Sampling`.
        top_p: see :class:`Sampling`.
        stop: strings at which a row ends; needs ``decode``.
        decode: maps tokens to text.
        end_id: token at which a row ends.
        seed: row i draws from seed + i, so it equals the prompt alone with that seed.
        on_tokens: called after each step with the new token of each row, None for a row that has ended.

    Raises:
        ConfigError: an option out of range, an empty prompt, or ``stop`` without ``decode``.
    """
    prompts = _prompts(ids, attention_mask)
    rows = _rows(len(prompts), max_new_tokens, stop, decode, end_id)
    sampling = Sampling(temperature, top_k, top_p)
    for tokens in _steps(model, prompts, rows, sampling, max_new_tokens, seed):
        if on_tokens is not None:
            on_tokens(tokens)
    return [row.finished() for row in rows]


def stream(
    model: LanguageModel,
    ids: Sequence[int],
    *,
    decode: Decode,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: Sequence[str] = (),
    end_id: int | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the text after one prompt in pieces, as soon as they are certain.

    Half a character, or what may become a stop string, is held back until the next token decides. The pieces
    joined are the text of :func:`generate` with the same options.
    """
    prompts = _prompts([ids], None)
    rows = _rows(1, max_new_tokens, stop, decode, end_id)
    row, told = rows[0], 0
    for _ in _steps(model, prompts, rows, Sampling(temperature, top_k, top_p), max_new_tokens, seed):
        ready = len(row.text) if row.reason else row.certain()
        if ready > told:
            yield row.text[told:ready]
            told = ready
    rest = row.finished().text[told:]
    if rest:
        yield rest


@torch.no_grad()
def prefill(
    model: LanguageModel, prompts: Sequence[Sequence[int]], *, piece: int = PREFILL
) -> tuple[Float[Tensor, "batch vocab"], Cache]:
    """Read prompts of any lengths; return the logits of the next token of each, and the cache.

    Args:
        model: the language model.
        prompts: one list of tokens a row, none empty.
        piece: tokens that are read at once; bounds the memory.
    """
    device = model.embed_tokens.weight.device
    ids, mask = _left_padded(prompts)
    ids, mask = ids.to(device), None if mask is None else mask.to(device)
    cache = model.new_cache(len(prompts))
    for start in range(0, ids.shape[1], piece):
        part = slice(start, start + piece)
        real = None if mask is None else mask[:, part]
        features, _ = model.features(model.embed(ids[:, part]), attention_mask=real, cache=cache)
    return model.lm_head(features[:, -1]), cache


@torch.no_grad()
def _steps(
    model: LanguageModel,
    prompts: list[list[int]],
    rows: list[_Row],
    sampling: Sampling,
    steps: int,
    seed: int,
) -> Iterator[list[int | None]]:
    """Write token by token; a row that has ended is masked, so that its state rests."""
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(rows))]
    training = model.training
    model.eval()
    try:
        logits, cache = prefill(model, prompts)
        for step in range(steps):
            tokens = sampling.choose(logits, generators)
            yield _written(rows, tokens.tolist())
            active = torch.tensor([not row.reason for row in rows], device=tokens.device)
            if step == steps - 1 or not active.any():
                return
            mask = None if active.all() else active[:, None]
            logits = model(tokens[:, None], attention_mask=mask, cache=cache)[:, -1]
    finally:
        model.train(training)


def _written(rows: list[_Row], tokens: list[int]) -> list[int | None]:
    written: list[int | None] = [
        None if row.reason else token for row, token in zip(rows, tokens, strict=True)
    ]
    for row, token in zip(rows, written, strict=True):
        if token is not None:
            row.add(token)
    return written


def _prompts(ids: Prompts, mask: Bool[Tensor, "batch token"] | None) -> list[list[int]]:
    if isinstance(ids, Tensor):
        real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        prompts = [row[kept].tolist() for row, kept in zip(ids, real, strict=True)]
    else:
        prompts = [list(row) for row in ids]
    if not prompts or not all(prompts):
        raise ConfigError(
            "A prompt is empty",
            f"Lengths {[len(prompt) for prompt in prompts][:8]}.",
            "Give each row at least one token, such as the start token.",
            code="SAL-C005",
        )
    return prompts


def _rows(
    batch: int, max_new_tokens: int, stop: Sequence[str], decode: Decode | None, end_id: int | None
) -> list[_Row]:
    stop = (stop,) if isinstance(stop, str) else tuple(stop)
    if max_new_tokens < 1 or "" in stop:
        raise ConfigError(
            "Nothing would be written",
            f"max_new_tokens={max_new_tokens}, stop={list(stop)}.",
            "Use at least one new token, and stop strings that are not empty.",
            code="SAL-C005",
        )
    if stop and decode is None:
        raise ConfigError(
            "Stop strings need the text", "Got stop without decode.", "Pass decode=tokenizer.decode."
        )
    return [_Row(stop, decode, end_id) for _ in range(batch)]


def _left_padded(
    prompts: Sequence[Sequence[int]],
) -> tuple[Int[Tensor, "batch token"], Bool[Tensor, "batch token"] | None]:
    """Return the prompts with their ends aligned, and which tokens are real; None if all are."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for i, prompt in enumerate(prompts):
        ids[i, longest - len(prompt) :] = torch.as_tensor(prompt)
        mask[i, longest - len(prompt) :] = True
    return ids, None if mask.all() else mask
