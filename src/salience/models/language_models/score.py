"""The log-probability of each token of documents, with as much of the earlier text as the model can use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

CHUNK = (
    2048  # tokens of one step where the state is carried; measured: 512 is a quarter slower, more gains 5 %
)
LOGITS = 1 << 24  # numbers in the logits of one call, at most
TOKENS = 1 << 14  # tokens of one call, at most


@dataclass(frozen=True)
class Window:
    """Say what a token is predicted from.

    Attributes:
        context: highest number of tokens that a prediction reads; None for the whole document before it, carried in
            the model's state.
        stride: tokens that a window moves by; each prediction reads at least ``context − stride`` tokens, where the
            document has so many.
    """

    context: int | None = None
    stride: int = 1

    def describe(self) -> str:
        """Return the window in words."""
        if self.context is None:
            return "the whole document before each token, carried in the state"
        least = self.context - self.stride + 1
        return f"{least} to {self.context} tokens before each token (windows of {self.context}, {self.stride} apart)"


def window_for(model: nn.Module, context: int) -> Window:
    """Return the usual window: everything for a model with a state of constant size, else sliding windows."""
    if getattr(model, "constant_state", False):
        return Window()
    return Window(context, max(1, context // 2))


@torch.no_grad()
def log_probabilities(
    model: nn.Module, documents: Sequence[Int[np.ndarray, " token"]], start_id: int, window: Window
) -> list[Float[np.ndarray, " token"]]:
    """Return the natural log-probability of each token of each document.

    Args:
        model: the language model; it is put in evaluation mode.
        documents: token ids; each document is scored on its own, from ``start_id`` on.
        start_id: the token that stands before every document.
        window: what a token is predicted from.

    Returns:
        float32 arrays, as long as the documents.
    """
    model.eval()
    found = [np.zeros(len(document), np.float32) for document in documents]
    if window.context is None:
        _carried(model, documents, start_id, found)
    else:
        _windowed(model, documents, start_id, window, found)
    return found


def _carried(model: Any, documents: Sequence[np.ndarray], start_id: int, found: list[np.ndarray]) -> None:
    """Score documents of like length side by side, a chunk at a time."""
    order = sorted((i for i, d in enumerate(documents) if len(d)), key=lambda i: len(documents[i]))
    for rows in _groups(order, documents, _most_tokens(model)):
        cache = model.new_cache(len(rows))
        longest = max(len(documents[i]) for i in rows)
        for start in range(0, longest, CHUNK):
            parts = [_part(documents[i], start_id, start, min(start + CHUNK, longest)) for i in rows]
            scores = _scores(model, parts, cache)
            for i, score in zip(rows, scores, strict=True):
                place = found[i][start : start + CHUNK]
                place[:] = score[: len(place)]


def _groups(order: list[int], documents: Sequence[np.ndarray], most: int) -> Iterator[list[int]]:
    """Yield documents to score together: as many as fit in one call, none twice as long as another."""
    group: list[int] = []
    for i in order:
        length = len(documents[i])
        full = (len(group) + 1) * min(length, CHUNK) > most
        if group and (full or length > 2 * len(documents[group[0]]) + CHUNK):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _most_tokens(model: Any) -> int:
    return max(1, min(TOKENS, LOGITS // model.vocab_size))


def _part(document: np.ndarray, start_id: int, start: int, stop: int) -> np.ndarray:
    """Return inputs and targets of a range of a document, filled up to its width: int64 (2, stop − start)."""
    result = np.full((2, stop - start), start_id, np.int64)
    targets = document[start:stop]
    inputs = document[max(start - 1, 0) : max(stop - 1, 0)]
    first = 0 if start else 1
    result[0, first : first + len(inputs)] = inputs[: stop - start - first]
    result[1, : len(targets)] = targets
    return result


def _scores(model: Any, parts: list[np.ndarray], cache: Any = None) -> np.ndarray:
    device = next(model.parameters()).device
    batch = torch.from_numpy(np.stack(parts)).to(device)
    logits: Tensor = model(batch[:, 0], cache=cache)
    losses = cross_entropy(logits.float().flatten(0, 1), batch[:, 1].flatten(), reduction="none")
    return -losses.view(len(parts), -1).cpu().numpy()


def _windowed(
    model: Any, documents: Sequence[np.ndarray], start_id: int, window: Window, found: list[np.ndarray]
) -> None:
    """Score windows of all documents side by side; of each but the first only what no earlier one has scored."""
    context = window.context or 1
    places = [(i, start) for i, document in enumerate(documents) for start in _starts(len(document), window)]
    rows = max(1, _most_tokens(model) // context)
    for at in range(0, len(places), rows):
        group = places[at : at + rows]
        width = min(context, max(len(documents[i]) - start for i, start in group))
        parts = [_part(documents[i], start_id, start, start + width) for i, start in group]
        for (i, start), score in zip(group, _scores(model, parts), strict=True):
            first = 0 if start == 0 else context - window.stride
            place = found[i][start + first : start + context]
            place[:] = score[first : first + len(place)]


def _starts(length: int, window: Window) -> range:
    """Return where windows start: one more stride until the last token is inside."""
    context = window.context or 1
    return range(0, max(1, length - context + window.stride), window.stride) if length else range(0)
