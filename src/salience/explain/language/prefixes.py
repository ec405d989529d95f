"""Contexts that begin alike: what they share is read once, and each goes on from the state that it left."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

Ids = Sequence[int]
PLACES = 16  # of the whole context where its state is kept
WORTH = (
    2048,
    0.15,
)  # tokens that must be saved: so many, and this share of all; calls of the model cost time too
BATCH_TOKENS = 16_384  # tokens of one forward pass, padding included
STATE_BYTES = 2**28  # of the copies of a state in one forward pass


def starts(whole: Ids, variants: Sequence[Ids]) -> Int[np.ndarray, " variant"]:
    """Return how many first tokens of each variant need not be read, since the whole context begins with them.

    Starts are rounded down to one of :data:`PLACES` places. At least one token of a variant is left to read. All are
    zero where too little would be saved.
    """
    width = max(map(len, variants), default=0)
    padded = np.full((len(variants), max(width, len(whole))), -1)
    for line, ids in zip(padded, variants, strict=True):
        line[: len(ids)] = ids
    same = (padded[:, : len(whole)] == np.asarray(whole, dtype=int)).cumprod(axis=1).sum(axis=1)
    lengths = np.array([len(ids) for ids in variants], dtype=int)
    step = max(1, -(-len(whole) // PLACES))
    found = np.minimum(same, lengths - 1) // step * step
    saved = found.sum() - found.max(initial=0)  # what is shared is read once
    few, share = WORTH
    return found if saved >= max(few, share * lengths.sum()) else np.zeros_like(found)


@torch.no_grad()
def outputs_from(
    model: Any,
    whole: Ids,
    variants: Sequence[Ids],
    found: Int[np.ndarray, " variant"],
    continuations: Sequence[Ids],
) -> Float[np.ndarray, "variant output"]:
    """Return logits of the next token, or log-probabilities of continuations, of variants of a context.

    Args:
        model: a language model with ``new_cache``.
        whole: tokens of the whole context.
        variants: tokens of each variant.
        found: :func:`starts` of them.
        continuations: tokens of each text that is asked about; none for the next token.
    """
    result = np.zeros((len(variants), len(continuations) or model.vocab_size))
    cache, read = model.new_cache(1), 0
    for start in np.unique(found):
        if start > read:
            model.features(_embedded(model, [whole[read:start]]), cache=cache)
            read = start
        lines = np.flatnonzero(found == start)
        lines = lines[np.argsort([-len(variants[i]) for i in lines], kind="stable")]
        while len(lines):  # longest first: batches are of like length
            longest = len(variants[lines[0]]) - start + max(map(len, continuations), default=0)
            room = max(1, min(BATCH_TOKENS // longest, STATE_BYTES // max(cache.nbytes(), 1)))
            now, lines = lines[:room], lines[room:]
            rest = [list(variants[i][start:]) for i in now]
            result[now] = _answers(model, cache, rest, continuations).double().cpu().numpy()
    return result


def _answers(
    model: Any, cache: Any, rest: Sequence[list[int]], continuations: Sequence[Ids]
) -> Float[Tensor, "variant output"]:
    if not continuations:
        return _logits(model, cache, rest, 1)[:, 0]
    found = []
    for text in continuations:
        given = [ids + list(text[:-1]) for ids in rest]
        logits = _logits(model, cache, given, len(text))
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        asked = torch.tensor(text, device=logits.device).expand(len(rest), -1).unsqueeze(-1)
        found.append(wide.gather(-1, asked).sum((1, 2)))
    return torch.stack(found, dim=1)


def _logits(model: Any, cache: Any, ids: Sequence[Ids], last: int) -> Float[Tensor, "variant last vocab"]:
    """Return the logits at the last positions of each line; padding is on the right, where nothing looks back at it."""
    x = _embedded(model, ids)
    features, _ = model.features(x, cache=copies(cache, len(ids)))
    ends = torch.tensor([len(line) for line in ids], device=x.device)[:, None]
    places = ends - torch.arange(last, 0, -1, device=x.device)
    return model.lm_head(features[torch.arange(len(ids), device=x.device)[:, None], places])


def _embedded(model: Any, ids: Sequence[Ids]) -> Float[Tensor, "line token dim"]:
    longest = max(map(len, ids))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return model.embed(torch.tensor([[*line, *[0] * (longest - len(line))] for line in ids], device=device))


def copies(cache: Any, count: int) -> Any:
    """Return the cache of as many sequences that have all read what one sequence has read."""
    states = [
        None if state is None else replace(state, **_repeated(vars(state), count)) for state in cache.states
    ]
    return replace(cache, states=states, position=cache.position.repeat(count))


def _repeated(fields: dict[str, Any], count: int) -> dict[str, Tensor]:
    tensors = {name: value for name, value in fields.items() if isinstance(value, Tensor)}
    return {name: value.repeat(count, *[1] * (value.dim() - 1)) for name, value in tensors.items()}
