"""A language model seen as a table model: one text column, and a question about what follows.

So every explainer works on it unchanged: gradients start at the embedded tokens of the context, and words are taken
away from its text.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from salience.core.errors import ConfigError, nearest
from salience.core.unit import Unit
from salience.data.schema import Column, Schema
from salience.explain.explanation import NEXT_TOKEN
from salience.explain.language.prefixes import BATCH_TOKENS, outputs_from, starts
from salience.explain.language.reading import CONTEXT, Reading, check_units, read, visible, without
from salience.explain.state import frozen
from salience.models.slots import Tokens
from salience.nn.watch import show, watched, within

BASELINES = ("space", "mean")
REMOVALS = {"delete": "", "blank": " "}
LOGIT_COPIES = 6  # of the logits of a position, in a forward and backward pass
LAYER_ACTIVATIONS = (
    32  # of its input, kept by a layer for backward: 17 to 22 were measured, backward adds its own
)


class LanguageView(nn.Module):
    """Answer for rows whose only column is ``context``.

    The outputs of a row are the logits of the next token, over the vocabulary and at the last position only. With
    ``continuations`` they are the log-probability of each of these texts after the context, in nats: the sum over
    its tokens, each after the true tokens before it (teacher forcing). A continuation is cut to tokens by itself.

    Contexts of a batch are padded on the left; the models' masks are exact, so a batch gives what single rows give.
    Before the context stands the token that ends a document (``tokenizer.end_id``), as in training; it is no unit, no
    method changes it, and no word is put to it. A tokenizer without one starts an empty context with a space.

    Args:
        model: a language model, with ``embed``, ``features``, ``lm_head`` and ``vocab_size``.
        tokenizer: with ``encode``, ``offsets``, ``token_text``.
        continuations: texts whose log-probability is asked for; empty for the next token.
        units: ``"words"`` or ``"tokens"``.
        baseline: the neutral input of gradient methods: each token of the context becomes ``"space"`` (the token of
            a space) or ``"mean"`` (the mean of all embeddings). Positions stay as they are. Zero vectors are not
            offered: a model that normalises the length of its vectors jumps there, and gradients do not add up.
        removal: how words are taken away: ``"delete"`` closes the gap, so that the words around it move together and
            positions and decay change with it; ``"blank"`` leaves a space for each character.

    Raises:
        ConfigError: an unknown option, or a continuation without tokens.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        continuations: Sequence[str] = (),
        units: str = "words",
        baseline: str = "space",
        removal: str = "delete",
    ) -> None:
        super().__init__()
        check_units(units)
        _check("baseline", baseline, BASELINES)
        _check("removal", removal, REMOVALS)
        self.model, self.tokenizer, self.neutral = model, tokenizer, baseline
        self.filler, self.joint = REMOVALS[removal], " " if units == "words" else ""
        self.continuations = [self._continuation(text) for text in continuations]
        self.schema = _schema(tokenizer, model.vocab_size, continuations)
        self.tokens_saved = 0
        self.reading = lru_cache(maxsize=256)(lambda text: read(text, tokenizer, units))

    @property
    def neutral_words(self) -> str:
        """The neutral input of gradient methods, in words."""
        return {
            "space": "a space in place of every token",
            "mean": "the mean embedding in place of every token",
        }[self.neutral]

    def _continuation(self, text: str) -> list[int]:
        ids = self.tokenizer.encode(text)
        if not ids:
            raise ConfigError("A continuation has no tokens", repr(text), "Give a text.", code="SAL-C005")
        return ids

    # -- black box -----------------------------------------------------------------------------------

    @torch.no_grad()
    def outputs(self, frame: pd.DataFrame) -> Float[np.ndarray, "row output"]:
        """Return logits of the next token, or log-probabilities of the continuations, in evaluation mode."""
        return self._outputs([self._bare(text) for text in frame[CONTEXT]])

    def _outputs(self, examples: Sequence[Reading]) -> Float[np.ndarray, "row output"]:
        order = np.argsort([-len(example.ids) for example in examples], kind="stable")
        width = len(self.continuations) or self.model.vocab_size
        result, start = np.zeros((len(examples), width)), 0
        with frozen(self):
            while start < len(order):  # longest first: batches are of like length
                longest = 1 + len(examples[order[start]].ids) + max(map(len, self.continuations), default=0)
                rows = order[start : start + max(1, BATCH_TOKENS // longest)]
                batch = self.collate([examples[i] for i in rows])
                result[rows] = self.forward_tokens(self.embed(batch)).double().cpu().numpy()
                start += len(rows)
        return result

    @torch.no_grad()
    def outputs_without(
        self, rows: Sequence[dict[str, Any]], removed: Sequence[Bool[np.ndarray, "set unit"]]
    ) -> list[Float[np.ndarray, "set output"]]:
        """Return the outputs of contexts without sets of their units, as ``outputs`` of ``remove`` would.

        Where many of these begin like the whole context, its first tokens are read once: ``tokens_saved`` counts the
        tokens that needed no reading.
        """
        result: list[Any] = [None] * len(rows)
        plain: list[tuple[int, list[Reading]]] = []
        for i, (row, sets) in enumerate(zip(rows, removed, strict=True)):
            examples = self._variants(row, sets)
            whole, *ids = (self._begun(example)[0] for example in (self._bare(row[CONTEXT]), *examples))
            found = starts(whole, ids) if hasattr(self.model, "new_cache") else np.zeros(len(ids), int)
            if not found.any():
                plain.append((i, examples))
                continue
            self.tokens_saved += int(found.sum() - found.max())
            with frozen(self):
                result[i] = outputs_from(self.model, whole, ids, found, self.continuations)
        together = self._outputs([example for _, examples in plain for example in examples])
        parts = np.split(together, np.cumsum([len(examples) for _, examples in plain])[:-1]) if plain else []
        for (i, _), part in zip(plain, parts, strict=True):
            result[i] = part
        return result

    def _variants(self, row: dict[str, Any], removed: Bool[np.ndarray, "set unit"]) -> list[Reading]:
        units = self.units(row)
        gone = [[units[i] for i in np.flatnonzero(line)] for line in removed]
        return [self._bare(self.remove(row, found)[CONTEXT]) for found in gone]

    def _bare(self, text: str) -> Reading:
        """Return a context without its units, which outputs do not need."""
        ids = tuple(self.tokenizer.encode(text))
        return Reading(ids, (), (), (-1,) * len(ids))

    def predict_proba(self, outputs: Float[np.ndarray, "row output"]) -> Float[np.ndarray, "row output"]:
        """Return probabilities of tokens, or of the continuations."""
        from scipy.special import softmax

        return np.exp(outputs) if self.continuations else softmax(outputs, axis=1)

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return the words or tokens of a context."""
        return self.reading(row[CONTEXT]).units

    def remove(self, row: dict[str, Any], units: Sequence[Unit]) -> dict[str, Any]:
        """Return the context without these units and the white space before them."""
        if not units:
            return row
        reading = self.reading(row[CONTEXT])
        span = {unit.locator: span for unit, span in zip(reading.units, reading.spans, strict=True)}
        gone = [span[tuple(unit.locator)] for unit in units]
        return {CONTEXT: without(row[CONTEXT], gone, self.filler, self.joint)}

    # -- white box -----------------------------------------------------------------------------------

    def prepare(self, frame: pd.DataFrame) -> list[Reading]:
        """Return the tokens and units of each context."""
        return [self.reading(text) for text in frame[CONTEXT]]

    def collate(self, examples: list[Reading]) -> dict[str, Tensor]:
        """Return tokens, mask and unit of each token, padded on the left."""
        rows = [self._begun(example) for example in examples]
        longest = max(len(ids) for ids, _ in rows)
        lengths = torch.tensor([len(ids) for ids, _ in rows])
        ids = torch.tensor([[0] * (longest - len(found)) + list(found) for found, _ in rows])
        unit = torch.tensor([[-1] * (longest - len(found)) + list(found) for _, found in rows])
        mask = torch.arange(longest) >= longest - lengths[:, None]
        return {name: x.to(self._device()) for name, x in (("ids", ids), ("mask", mask), ("unit", unit))}

    def _begun(self, example: Reading) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return tokens and units with what stands before the context."""
        end = getattr(self.tokenizer, "end_id", None)
        if end is None and example.ids:
            return example.ids, example.unit
        return (self._space() if end is None else end, *example.ids), (-1, *example.unit)

    def _space(self) -> int:
        ids = self.tokenizer.encode(" ")
        if len(ids) != 1:
            raise ConfigError(
                "The tokenizer has no token for a space",
                f"' ' becomes {len(ids)} tokens.",
                "Use baseline='mean'.",
                code="SAL-C005",
            )
        return ids[0]

    def _device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def embed(self, batch: dict[str, Tensor]) -> dict[str, Tokens]:
        """Return the embedded tokens of the contexts."""
        return {CONTEXT: Tokens(self.model.embed(batch["ids"]), batch["mask"], batch["unit"])}

    def baseline(self, batch: dict[str, Tensor]) -> dict[str, Tokens]:
        """Return the neutral input; tokens that belong to no unit stay as they are."""
        tokens = self.embed(batch)[CONTEXT]
        values = torch.where((tokens.unit >= 0).unsqueeze(-1), self._neutral(), tokens.values)
        return {CONTEXT: tokens.with_values(values)}

    def _neutral(self) -> Float[Tensor, "dim"]:
        ids = torch.arange(self.model.vocab_size) if self.neutral == "mean" else torch.tensor([self._space()])
        return self.model.embed(ids.unsqueeze(0).to(self._device()))[0].mean(0)

    def forward_tokens(self, tokens: dict[str, Tokens]) -> Float[Tensor, "batch output"]:
        """Return the outputs from embedded contexts; logits are computed only where they are needed."""
        context = tokens[CONTEXT]
        if not self.continuations:
            return self._logits(context.values, context.mask, 1)[:, 0]
        return torch.stack([self._log_probability(context, ids) for ids in self.continuations], dim=1)

    def row_bytes(self, tokens: dict[str, Tokens]) -> int:
        """Return the memory of a forward and backward pass of one row: layers and logits, with the continuations."""
        values = tokens[CONTEXT].values
        texts = [len(ids) for ids in self.continuations] or [1]
        length = len(texts) * (values.shape[1] - 1) + sum(texts)
        layers = LAYER_ACTIVATIONS * getattr(self.model.config, "num_layers", 1)
        numbers = length * values.shape[2] * layers + sum(texts) * self.model.vocab_size * LOGIT_COPIES
        return numbers * values.element_size()

    def _logits(self, x: Tensor, mask: Tensor, last: int) -> Float[Tensor, "batch last vocab"]:
        whole = {"need_weights": True} if watched() else {}
        with within(CONTEXT):
            features, weights = self.model.features(x, attention_mask=mask, **whole)
            for layer, found in enumerate(weights):
                show(f"token2token_layer{layer}", found, _heads_last)
            if watched():
                show("pooling", _last_positions(x, last))
        return self.model.lm_head(features[:, -last:])

    def _log_probability(self, context: Tokens, ids: list[int]) -> Float[Tensor, "batch"]:
        text = torch.tensor(ids, device=context.values.device)
        given = self.model.embed(text[:-1].unsqueeze(0)).expand(len(context.values), -1, -1)
        x = torch.cat([context.values, given.to(context.values)], dim=1)
        mask = torch.cat([context.mask, context.mask.new_ones(given.shape[:2])], dim=1)
        wide = torch.promote_types(x.dtype, torch.float32)
        logits = self._logits(x, mask, len(ids)).to(wide).log_softmax(-1)
        return logits.gather(-1, text.expand(len(x), -1).unsqueeze(-1)).sum((1, 2))

    def finish(self, output: Tensor) -> Tensor:
        """Return the outputs as they are."""
        return output

    def unit_offsets(self, row: dict[str, Any]) -> dict[str, int]:
        """Return where the units of the context begin: at the first."""
        return {CONTEXT: 0}

    def attention(self, batch: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return with what share each token enters the last position, (batch, token, layer, head).

        Shares are of absolute effective weights, so that the tokens of a head sum to one; see
        :func:`salience.explain.language.mixing` for the weights with their signs.
        """
        size = self.mixed(batch)[1].abs()
        share = size / size.sum(-1, keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)
        return {CONTEXT: {"source2token": share.permute(0, 3, 1, 2)}}

    def mixed(
        self, batch: dict[str, Tensor]
    ) -> tuple[Float[Tensor, "batch vocab"], Float[Tensor, "batch layer head token"]]:
        """Return the logits of the next token, and the effective weights of every layer at the last position."""
        features, weights = self.model.features(
            self.model.embed(batch["ids"]), attention_mask=batch["mask"], need_weights="last"
        )
        return self.model.lm_head(features[:, -1]), torch.stack([w[:, :, -1] for w in weights], dim=1)


def _heads_last(weights: Float[Tensor, "batch head query key"]) -> Float[Tensor, "batch query key head"]:
    return weights.permute(0, 2, 3, 1)


def _last_positions(x: Float[Tensor, "batch token dim"], last: int) -> Float[Tensor, "batch token"]:
    """Return equal weights of the positions whose logits are looked at."""
    place = torch.arange(x.shape[1], device=x.device) >= x.shape[1] - last
    return (place.to(x) / last).expand(len(x), -1)


def _schema(tokenizer: Any, vocabulary: int, continuations: Sequence[str]) -> Schema:
    context = Column(CONTEXT, "text", "input", baseline="")
    if continuations:
        return Schema((context, Column(visible(continuations[0]), "number", "target")), "regression", None)
    names = TokenNames(tokenizer, vocabulary)
    return Schema((context, Column(NEXT_TOKEN, "category", "target")), "classification", names)


class TokenNames(Sequence[str]):
    """Name each token of a vocabulary as a person reads it, when it is asked for: there may be 100,000."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        self._tokenizer, self._vocabulary = tokenizer, vocabulary

    def __len__(self) -> int:
        return self._vocabulary

    def __getitem__(self, token: Any) -> Any:
        if not 0 <= token < self._vocabulary:
            raise IndexError(token)
        return visible(self._tokenizer.token_text(int(token)))


def _check(what: str, value: str, valid: Any) -> None:
    if value not in valid:
        raise ConfigError(f"Unknown {what} {value!r}", "", nearest(value, valid), code="SAL-C002")
