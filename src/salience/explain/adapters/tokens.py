"""A torch module that reads token ids, seen as a model of rows with text."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from salience.core.errors import ConfigError, UnsupportedError
from salience.core.unit import Unit
from salience.data.schema import Schema
from salience.explain.adapters.base import Adapted, check_answers
from salience.explain.adapters.raw import Raw
from salience.explain.adapters.reading import Reading, hide, shown
from salience.explain.state import frozen
from salience.models.slots import Tokens

BATCH_TOKENS = 8192  # rows × longest length of one forward pass: beyond it a CPU gains nothing
ENCODER = "text"
Forward = Callable[..., Any]  # (module, ids (batch, token), mask (batch, token))


class Reader(Protocol):
    """Turn the text of a row into tokens."""

    pad_id: int
    neutral_id: int
    columns: list[str]

    def read(self, texts: tuple[str, ...]) -> Reading:
        """Return the tokens of the texts of a row, one text a column."""

    def trial(self) -> Reading:
        """Return tokens that the module can be tried with; two or more of them belong to units."""


class TokenModel(Adapted, nn.Module):
    """A black box around a module that reads token ids.

    Rows are padded on the right with the pad token. A word is removed by putting the neutral token in place of each
    of its tokens, so that no other token moves; the same is done on tensors, in :meth:`outputs_without`.

    Args:
        module: the module.
        reader: makes tokens of texts.
        forward: calls the module with ids and mask.
        raw: makes outputs of what the module returns.
        schema: text columns, target and classes.
    """

    def __init__(self, module: nn.Module, reader: Reader, forward: Forward, raw: Raw, schema: Schema) -> None:
        super().__init__()
        self.module, self.reader, self.call, self.raw, self.schema = module, reader, forward, raw, schema
        self._read = lru_cache(maxsize=1024)(reader.read)

    @property
    def neutral_words(self) -> str:
        """The neutral input, in words."""
        return "the neutral token in place of every token"

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return next((p.device for p in self.module.parameters()), torch.device("cpu"))

    def reading(self, row: dict[str, Any]) -> Reading:
        """Return the tokens of a row, hidden words taken away."""
        texts, hidden = zip(*(shown(row[name]) for name in self.reader.columns), strict=True)
        whole = self._read(texts)
        if not any(hidden):
            return whole
        return whole.hidden(dict(zip(self.reader.columns, hidden, strict=True)), self.reader.neutral_id)

    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return the words that are read."""
        return self.reading(row).units

    def remove(self, row: dict[str, Any], units: Sequence[Unit]) -> dict[str, Any]:
        """Return the row with these words hidden."""
        spans: dict[str, set[tuple[int, int]]] = {}
        for unit in units:
            start, stop = unit.locator
            spans.setdefault(unit.column, set()).add((int(start), int(stop)))
        return {**row, **{n: hide(row[n], found) for n, found in spans.items()}}

    def outputs(self, frame: pd.DataFrame) -> Float[np.ndarray, "row output"]:
        """Return logits of each class, or the predicted number, in evaluation mode."""
        readings = [self.reading(row) for row in frame[self.reader.columns].to_dict("records")]
        found = self._evaluate(readings, [np.zeros((1, len(r.units)), dtype=bool) for r in readings])
        return np.concatenate(found) if found else np.zeros((0, self.raw.width))

    def outputs_without(
        self, rows: Sequence[dict[str, Any]], removed: Sequence[Bool[np.ndarray, "set unit"]]
    ) -> list[Float[np.ndarray, "set output"]]:
        """Return the outputs of rows without sets of their words, as ``outputs`` of ``remove`` would."""
        return self._evaluate([self.reading(row) for row in rows], removed)

    @torch.no_grad()
    def _evaluate(
        self, readings: Sequence[Reading], removed: Sequence[Bool[np.ndarray, "set unit"]]
    ) -> list[Float[np.ndarray, "set output"]]:
        result = [np.zeros((len(sets), self.raw.width)) for sets in removed]
        with frozen(self):
            for pack in _packs([len(r.ids) for r in readings], [len(sets) for sets in removed]):
                ids = [_without(readings[i], removed[i][a:b], self.reader.neutral_id) for i, a, b in pack]
                found = self._logits(*self.padded(ids))
                for (i, a, b), part in zip(
                    pack, np.split(found, np.cumsum([len(x) for x in ids])[:-1]), strict=True
                ):
                    result[i][a:b] = part
        return result

    def padded(
        self, parts: Sequence[Int[np.ndarray, "line token"]]
    ) -> tuple[Int[Tensor, "batch token"], Bool[Tensor, "batch token"]]:
        """Return ids and mask of lines of tokens, padded on the right."""
        longest = max(1, max(part.shape[1] for part in parts))
        ids = np.full((sum(map(len, parts)), longest), self.reader.pad_id)
        mask, start = np.zeros(ids.shape, dtype=bool), 0
        for part in parts:
            ids[start : start + len(part), : part.shape[1]] = part
            mask[start : start + len(part), : part.shape[1]] = True
            start += len(part)
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)

    def _logits(self, ids: Tensor, mask: Tensor) -> Float[np.ndarray, "line output"]:
        output = self.raw.logits(self.call(self.module, ids, mask), len(ids))
        return check_answers(output.double().cpu().numpy(), len(ids), self.schema.classes, self.raw.source)


def _without(
    reading: Reading, removed: Bool[np.ndarray, "set unit"], neutral: int
) -> Int[np.ndarray, "set token"]:
    if not removed.any():
        return np.broadcast_to(reading.ids, (len(removed), len(reading.ids)))
    gone = np.pad(removed, ((0, 0), (0, 1)))[:, np.maximum(reading.unit, -1)]
    return np.where(gone, neutral, reading.ids)


def _packs(lengths: Sequence[int], counts: Sequence[int]) -> Iterator[list[tuple[int, int, int]]]:
    """Yield pieces (row, first set, last set) of forward passes, rows of like length together."""
    pack: list[tuple[int, int, int]] = []
    room = 0
    for i in np.argsort([-length for length in lengths], kind="stable").tolist():
        start = 0
        while start < counts[i]:
            if not room:
                if pack:
                    yield pack
                pack, room = [], max(1, BATCH_TOKENS // max(lengths[i], 1))
            stop = min(counts[i], start + room)
            pack.append((i, start, stop))
            room, start = room - (stop - start), stop
    if pack:
        yield pack


class WhiteTokenModel(TokenModel):
    """A :class:`TokenModel` whose module looks tokens up in one embedding: gradients start there.

    The module is called with ids as before, and its embedding answers with the vectors of the path. Words are
    given the neutral token's id meanwhile, other tokens (such as the separators) their own: the module may read
    ids for its mask and its special tokens, but words only through the embedding; :func:`probe` tries it.

    Args:
        embedding: the module's embedding of tokens; the rest as of :class:`TokenModel`.
    """

    def __init__(self, embedding: nn.Module, *args: Any) -> None:
        super().__init__(*args)
        self._embedding = [embedding]  # in a list: it is registered once already, inside the module

    def prepare(self, frame: pd.DataFrame) -> list[Reading]:
        """Return the tokens of each row."""
        return [self.reading(row) for row in frame[self.reader.columns].to_dict("records")]

    def collate(self, examples: list[Reading]) -> dict[str, Tensor]:
        """Return tokens, mask and unit of each token, padded on the right."""
        ids, mask = self.padded([example.ids[None] for example in examples])
        unit = torch.full_like(ids, -1)
        for line, example in enumerate(examples):
            unit[line, : len(example.unit)] = torch.from_numpy(example.unit).to(unit)
        return {"ids": ids, "mask": mask, "unit": unit}

    def embed(self, batch: dict[str, Tensor]) -> dict[str, Tokens]:
        """Return the embedded tokens."""
        return {ENCODER: Tokens(self._embedding[0](batch["ids"]), batch["mask"], batch["unit"])}

    def baseline(self, batch: dict[str, Tensor]) -> dict[str, Tokens]:
        """Return the neutral token's vector in place of every word's; other tokens stay as they are."""
        ids = torch.where(batch["unit"] >= 0, self.reader.neutral_id, batch["ids"])
        return self.embed({**batch, "ids": ids})

    def forward_tokens(self, tokens: dict[str, Tokens]) -> Float[Tensor, "batch output"]:
        """Return outputs from embedded tokens."""
        found = tokens[ENCODER]
        ids = torch.where(found.unit <= -2, -2 - found.unit, self.reader.neutral_id)
        ids = torch.where(found.mask, ids, self.reader.pad_id)
        with _embedded(self._embedding[0], found.values):
            answer = self.call(self.module, ids, found.mask)
        return self.raw.logits(answer, len(ids))

    def finish(self, output: Tensor) -> Tensor:
        """Return the outputs as they are."""
        return output

    def unit_offsets(self, row: dict[str, Any]) -> dict[str, int]:
        """Return where the words begin: at the first unit."""
        return {ENCODER: 0}


@contextmanager
def _embedded(embedding: nn.Module, values: Float[Tensor, "batch token dim"]) -> Iterator[None]:
    """Let an embedding answer its one call with given vectors."""
    calls: list[tuple[int, ...]] = []

    def answer(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        calls.append(tuple(output.shape))
        return values

    handle = embedding.register_forward_hook(answer)
    try:
        yield
    finally:
        handle.remove()
    if calls != [tuple(values.shape)]:
        raise UnsupportedError(
            "The embedding of this module is not called once with all tokens",
            f"It returned the shapes {calls} for tokens of the shape {tuple(values.shape)}.",
            "Use a method that needs no gradient, such as method='occlusion'.",
        )


def find_embedding(model: TokenModel) -> nn.Module | None:
    """Return the one embedding that is called with the tokens themselves; None if there is none, or several.

    The module is called once with the reader's trial tokens, which also shows whether it can be called at all.

    Raises:
        ConfigError: the call fails, or its answer has the wrong shape (SAL-M003).
    """
    ids, mask = model.padded([model.reader.trial().ids[None]])
    seen: list[nn.Module] = []

    def look(table: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and torch.equal(inputs[0], ids):
            seen.append(table)

    tables = [m for m in model.module.modules() if isinstance(m, nn.Embedding)]
    handles = [table.register_forward_pre_hook(look) for table in tables]
    try:
        _try_out(model, ids, mask)
    finally:
        for handle in handles:
            handle.remove()
    return seen[0] if len(seen) == 1 else None


@torch.no_grad()
def _try_out(model: TokenModel, ids: Tensor, mask: Tensor) -> Tensor:
    with frozen(model):
        try:
            answer = model.call(model.module, ids, mask)
        except Exception as error:
            raise ConfigError(
                "The module cannot be called with token ids",
                f"A trial call with ids of the shape {tuple(ids.shape)} failed: {type(error).__name__}: {error}",
                "Say how it is called: forward=lambda module, ids, mask: module(…).",
                code="SAL-M003",
            ) from error
        return model.raw.logits(answer, len(ids))


def with_gradients(model: TokenModel, white_box: type[WhiteTokenModel] = WhiteTokenModel) -> TokenModel:
    """Return the model as a white box if its module reads words through one embedding alone, else as it is.

    It is tried whether the same vectors give the same outputs.

    Args:
        model: a black box.
        white_box: class of the white box.
    """
    embedding = find_embedding(model)
    if embedding is None:
        return model
    white = white_box(embedding, model.module, model.reader, model.call, model.raw, model.schema)
    batch = white.collate([model.reader.trial()])
    direct = _try_out(model, batch["ids"], batch["mask"])
    with frozen(white), torch.no_grad():
        try:
            through = white.forward_tokens(white.embed(batch))
        except UnsupportedError:
            return model
    return white if torch.allclose(direct, through, rtol=1e-3, atol=1e-4) else model
