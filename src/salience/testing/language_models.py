"""What every language model must do, checked on a small one.

``CHECKS`` are functions of the method's card and its class; each fails with a sentence that says what to mend.
A model is built from the ``tiny`` arguments of its card, which are settings of ``entry.Config``.
"""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from salience.core.io import dumps
from salience.core.registry import Card
from salience.testing.tensors import (
    assert_close,
    assert_equal,
    assert_every_parameter_learns,
    assert_finite,
    seeded,
    weighted_sum,
)

Build = Callable[..., Any]
BATCH, TOKENS = 3, 11
CUTS = (0, 1, 4, 5, 11)  # pieces that a cached reading is cut into
REAL = torch.tensor(
    [
        [0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        [1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    ],
    dtype=torch.bool,
)  # left and right padding, holes, none


def build(entry: Build, settings: dict[str, Any] | None, seed: int = 0, scale: float = 5.0) -> Any:
    """Return a model in evaluation mode, its weights drawn wider, so that every part of it matters."""
    with seeded(seed):
        model = entry(entry.Config(**(settings or {})))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(scale)
    return model.eval()


def tiny(card: Card, entry: Build, seed: int = 0) -> Any:
    """Return the model that the card's ``tiny`` settings describe."""
    return build(entry, card.get("tiny"), seed)


def example_ids(model: Any, batch: int = BATCH, tokens: int = TOKENS) -> Tensor:
    """Return random tokens."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(model.vocab_size, (batch, tokens), generator=generator)


@torch.no_grad()
def check_builds_from_defaults(card: Card, entry: Build) -> None:
    """Require that the card's defaults are accepted and give finite logits."""
    model = build(entry, card.get("defaults"), scale=1.0)
    assert_finite(model(example_ids(model)), "logits with the defaults")


@torch.no_grad()
def check_shapes_are_as_promised(card: Card, entry: Build) -> None:
    """Require embeddings of ``dim`` numbers, logits over the vocabulary, and a cache that counts."""
    model = tiny(card, entry)
    ids = example_ids(model)
    for what, found, wanted in (
        ("embeddings", model.embed(ids), (BATCH, TOKENS, model.dim)),
        ("logits", model(ids), (BATCH, TOKENS, model.vocab_size)),
    ):
        assert tuple(found.shape) == wanted, f"{what} have shape {tuple(found.shape)}, want {wanted}"
    cache = model.new_cache(BATCH)
    model(ids, cache=cache)
    counted = cache.position.tolist()
    assert counted == [TOKENS] * BATCH, f"after {TOKENS} tokens the cache is at {counted}"


@torch.no_grad()
def check_forward_is_embed_then_the_rest(card: Card, entry: Build) -> None:
    """Require that gradient methods, which start at the embeddings, see the same model."""
    model = tiny(card, entry)
    ids = example_ids(model)
    assert_close(model.forward_embedded(model.embed(ids)), model(ids), "logits from embeddings")


def check_every_parameter_gets_a_finite_gradient(card: Card, entry: Build) -> None:
    """Require that training reaches every parameter."""

    def loss(model: Any) -> Tensor:
        return weighted_sum(model(example_ids(model)))

    assert_every_parameter_learns(lambda seed: tiny(card, entry, seed), loss)


@torch.no_grad()
def check_the_past_does_not_see_the_future(card: Card, entry: Build) -> None:
    """Require that a later token changes no earlier logits, and does change its own."""
    model = tiny(card, entry)
    ids = example_ids(model)
    changed = ids.clone()
    changed[:, 6] = (changed[:, 6] + 1) % model.vocab_size
    before, after = model(ids), model(changed)
    assert_close(after[:, :6], before[:, :6], "logits before a changed token", 1e-6)
    assert not torch.allclose(after[:, 6:], before[:, 6:]), "a changed token changes no logits"


@torch.no_grad()
def check_the_order_of_the_past_matters(card: Card, entry: Build) -> None:
    """Require that the model knows which of two earlier tokens was first."""
    model = tiny(card, entry)
    ids = torch.tensor([[1, 2, 3, 0], [2, 1, 3, 0]])
    logits = model(ids)[:, -1]
    assert not torch.allclose(logits[0], logits[1], atol=1e-6), "earlier tokens may trade places unnoticed"


def check_padding_changes_nothing(card: Card, entry: Build) -> None:
    """Require that padding on the left, on the right and inside gives the numbers and gradients of no padding."""
    model = tiny(card, entry)
    ids = example_ids(model)
    x = model.embed(ids).detach().requires_grad_()
    logits = model.forward_embedded(x, attention_mask=REAL)
    weighted_sum(logits[REAL]).backward()
    logits = logits.detach()
    assert not x.grad[~REAL].any(), "the logits of real tokens depend on padding"
    for i in range(BATCH):
        alone = model.forward_embedded(model.embed(ids[i : i + 1, REAL[i]])).detach()
        assert_close(logits[i, REAL[i]], alone[0], f"logits of padded row {i}")


@torch.no_grad()
def check_rows_are_independent(card: Card, entry: Build) -> None:
    """Require that a row alone gives the numbers of the row in a batch."""
    model = tiny(card, entry)
    ids = example_ids(model)
    together = model(ids)
    for i in range(BATCH):
        assert_close(together[i], model(ids[i : i + 1])[0], f"logits of row {i}")


@torch.no_grad()
def check_packed_sequences_are_independent(card: Card, entry: Build) -> None:
    """Require that sequences packed in one row give the numbers of each alone."""
    model = tiny(card, entry)
    ids = example_ids(model, 1)
    edges = [0, 4, 5, TOKENS]
    packed = model(ids, cu_seqlens=torch.tensor(edges))
    for a, b in pairwise(edges):
        assert_close(packed[:, a:b], model(ids[:, a:b]), f"packed logits {a} to {b}")


@torch.no_grad()
def check_a_cache_equals_the_whole(card: Card, entry: Build) -> None:
    """Require that tokens read in pieces, with padding among them, give the numbers of one reading."""
    model = tiny(card, entry)
    ids = example_ids(model)
    for mask in (None, REAL):
        cache = model.new_cache(BATCH)
        pieces = []
        for a, b in pairwise(CUTS):
            part = None if mask is None else mask[:, a:b]
            pieces.append(model(ids[:, a:b], attention_mask=part, cache=cache))
        real = torch.ones_like(REAL) if mask is None else mask
        whole = model(ids, attention_mask=mask)
        assert_close(torch.cat(pieces, dim=1)[real], whole[real], "logits read in pieces")
        assert cache.position.tolist() == real.sum(dim=1).tolist(), "the cache counts tokens wrongly"


@torch.no_grad()
def check_caches_do_not_mix(card: Card, entry: Build) -> None:
    """Require that two readings that take turns do not disturb each other."""
    model = tiny(card, entry)
    ids = example_ids(model, 2)
    alone, first, second = (model.new_cache(1) for _ in range(3))
    wanted = [model(ids[:1, a:b], cache=alone) for a, b in pairwise(CUTS)]
    found = []
    for a, b in pairwise(CUTS):
        found.append(model(ids[:1, a:b], cache=first))
        model(ids[1:, a:b], cache=second)
    assert_close(torch.cat(found, dim=1), torch.cat(wanted, dim=1), "logits of a reading beside another")


@torch.no_grad()
def check_weights_have_the_form_of_a_map(card: Card, entry: Build) -> None:
    """Require finite weights of each layer, which look at no later and no padded token and change no logits."""
    model = tiny(card, entry)
    ids = example_ids(model)
    x = model.embed(ids)
    logits, maps = model.forward_embedded(x, attention_mask=REAL, need_weights=True)
    without = model.forward_embedded(x, attention_mask=REAL)
    assert_close(logits[REAL], without[REAL], "logits beside the weights")
    assert maps, "need_weights gives no map"
    later = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
    for i, weights in enumerate(maps):
        assert_finite(weights, f"weights of layer {i}")
        form = (BATCH, *weights.shape[1:2], TOKENS, TOKENS)
        assert tuple(weights.shape) == form, f"weights of layer {i} have shape {tuple(weights.shape)}"
        assert not weights[..., later].any(), f"weights of layer {i} look at later tokens"
        padded = weights.transpose(1, 3)[~REAL]
        assert not padded.any(), f"weights of layer {i} look at padding"


@torch.no_grad()
def check_loss_is_of_the_targets_that_count(card: Card, entry: Build) -> None:
    """Require cross-entropy in nats, averaged over the targets that are not ignored; finite if there are none."""
    model = tiny(card, entry)
    ids = example_ids(model)
    logits = model(ids)
    target = ids.masked_fill(~REAL, -100)
    wanted = -logits.log_softmax(dim=-1).gather(2, ids[..., None])[..., 0][REAL].mean()
    assert_close(model.loss(logits, target), wanted, "loss")
    assert_finite(model.loss(logits, torch.full_like(ids, -100)), "loss without a target")


@torch.no_grad()
def check_same_seed_gives_the_same_numbers(card: Card, entry: Build) -> None:
    """Require that two builds with one seed agree in every tensor and output."""
    first, second = tiny(card, entry, 3), tiny(card, entry, 3)
    others = second.state_dict()
    for name, tensor in first.state_dict().items():
        assert_equal(others[name], tensor, f"{name} of a second build")
    ids = example_ids(first)
    assert_equal(second(ids), first(ids), "logits of a second build")


@torch.no_grad()
def check_saved_and_restored_is_equal(card: Card, entry: Build) -> None:
    """Require that JSON settings and safetensors rebuild the model exactly."""
    model = tiny(card, entry)
    settings = json.loads(dumps(model.config.to_json()))
    tensors = load(save({name: t.clone() for name, t in model.state_dict().items()}))
    with seeded(9):
        again = entry(entry.Config.from_json(settings)).eval()
    again.load_state_dict(tensors)
    assert again.config == model.config, "the settings differ after restoring"
    ids = example_ids(model)
    assert_equal(again(ids), model(ids), "logits after restoring")


@torch.no_grad()
def check_evaluation_is_deterministic(card: Card, entry: Build) -> None:
    """Require the same logits twice."""
    model = tiny(card, entry)
    ids = example_ids(model)
    first = model(ids)
    assert_equal(model(ids), first, "logits of a second call")


def check_bfloat16_is_finite(card: Card, entry: Build) -> None:
    """Require finite logits and gradients in mixed precision, near those in full precision."""
    model = tiny(card, entry)
    ids = example_ids(model)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids)
        loss = model.loss(logits, ids)
    loss.backward()
    assert_finite(logits, "logits in bfloat16")
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), f"gradient of {name} in bfloat16"
    assert_close(loss.detach(), model.loss(model(ids), ids).detach(), "loss in bfloat16", 0.1)


CHECKS = (
    check_builds_from_defaults,
    check_shapes_are_as_promised,
    check_forward_is_embed_then_the_rest,
    check_every_parameter_gets_a_finite_gradient,
    check_the_past_does_not_see_the_future,
    check_the_order_of_the_past_matters,
    check_padding_changes_nothing,
    check_rows_are_independent,
    check_packed_sequences_are_independent,
    check_a_cache_equals_the_whole,
    check_caches_do_not_mix,
    check_weights_have_the_form_of_a_map,
    check_loss_is_of_the_targets_that_count,
    check_same_seed_gives_the_same_numbers,
    check_saved_and_restored_is_equal,
    check_evaluation_is_deterministic,
    check_bfloat16_is_finite,
)
