"""Every registered language model passes the public checks; each broken toy fails exactly the check made for its fault."""

import itertools
from dataclasses import dataclass
from importlib import import_module

import pytest
import torch
from torch import nn

from salience.core import registry
from salience.core.registry import Card
from salience.models.language_models.base import LanguageModel
from salience.testing.language_models import CHECKS

COUNTER = itertools.count()
CASES = [
    pytest.param(card, check, id=f"{card.key}-{check.__name__.removeprefix('check_')}")
    for card in registry.cards("language_model")
    for check in CHECKS
]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("card", "check"), CASES)
def test_registered(card, check):
    check(card, getattr(import_module(card.module), card.fields["entry"]))


def test_both_models_are_registered():
    assert {"transnormer", "transformer"} <= {card.key for card in registry.cards("language_model")}


@dataclass
class State:
    total: torch.Tensor
    position: torch.Tensor


class Decayed(nn.Module):
    """Sum the past with fixed weights: w[t, s] = base^(t − s)."""

    def __init__(self, dim, base=0.5):
        super().__init__()
        self.value = nn.Linear(dim, dim, bias=False)
        self.base = base

    def forward(
        self, x, *, position, mask=None, cu_seqlens=None, state=None, keep_state=False, need_weights=False
    ):
        mask = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
        step = position.expand(x.shape[:2])
        weights = self.weights(step, mask, cu_seqlens)
        v = self.value(x)
        out = weights.to(v.dtype) @ v
        start = torch.zeros(len(x), dtype=torch.long)
        total = torch.zeros_like(x[:, 0])
        if state is not None:
            start, total = state.position, state.total
            out = out + (self.base ** (step - start[:, None] + 1) * mask)[..., None] * total[:, None]
        real = mask.sum(1)
        left = self.base ** ((start + real)[:, None] - 1 - step) * mask
        total = total * self.base ** real[:, None] + (left[..., None] * v).sum(1)
        kept = State(total, start + real) if keep_state else None
        return out, kept, weights[:, None] if need_weights else None

    def weights(self, step, mask, cu_seqlens):
        tokens = step.shape[1]
        allowed = torch.ones(tokens, tokens, dtype=torch.bool).tril() & mask[:, None] & mask[:, :, None]
        if cu_seqlens is not None:
            sequence = torch.bucketize(torch.arange(tokens), cu_seqlens[1:], right=True)
            allowed = allowed & (sequence[:, None] == sequence)
        return self.base ** (step[:, :, None] - step[:, None, :]).clamp(min=0) * allowed


class Toy(LanguageModel):
    def token_mixer(self, layer):
        return Decayed(self.config.dim)


class WrongDim(Toy):
    def __init__(self, config):
        super().__init__(config)
        self.dim = 4 * config.dim


class AddsInForward(Toy):
    def forward(self, ids, **options):
        return super().forward(ids, **options) + 1


class DeadParameter(Toy):
    def __init__(self, config):
        super().__init__(config)
        self.unused = nn.Parameter(torch.zeros(2))


class SeesTheFuture(Toy):
    def features(self, x, **options):
        return super().features(x + torch.cat([x[:, 1:], x[:, -1:]], dim=1), **options)


class Unordered(Toy):
    def token_mixer(self, layer):
        return Decayed(self.config.dim, base=1.0)


class CountsPadding(Toy):
    def features(self, x, *, attention_mask=None, **options):
        features, weights = super().features(x, **options)
        return features, [w if attention_mask is None else masked(w, attention_mask) for w in weights]


def masked(weights, mask):
    return weights * mask[:, None, None, :]


class MixesRows(Toy):
    def features(self, x, **options):
        features, weights = super().features(x, **options)
        return features - features.mean(0), weights


class IgnoresPacking(Toy):
    def features(self, x, *, cu_seqlens=None, **options):
        return super().features(x, **options)


class Forgetful(Toy):
    def features(self, x, *, cache=None, **options):
        if cache is not None:
            cache.states = [None] * len(self.layers)
        return super().features(x, cache=cache, **options)


class StateOnTheModel(Toy):
    def features(self, x, *, cache=None, **options):
        if cache is not None and cache.states[0] is not None:
            cache.states = list(self.kept)
        found = super().features(x, cache=cache, **options)
        self.kept = None if cache is None else cache.states
        return found


class MapsLookAhead(Toy):
    def features(self, x, **options):
        features, weights = super().features(x, **options)
        return features, [w.transpose(2, 3) for w in weights]


class LossOfIgnored(Toy):
    def loss(self, logits, target, ignore_index=-100):
        return super().loss(logits, target.masked_fill(target == ignore_index, 0), ignore_index)


class OtherNumbersEachTime(Toy):
    def __init__(self, config):
        super().__init__(config)
        nn.init.constant_(self.layers[0].channel_mixer.l1.weight, 0.1 + next(COUNTER) / 100)


class ForgetsOnSave(Toy):
    def __init__(self, config):
        super().__init__(config)
        self.gain = float(torch.rand(())) + 0.5

    def features(self, x, **options):
        features, weights = super().features(x, **options)
        return features * self.gain, weights


class Noisy(Toy):
    calls = 0

    def features(self, x, **options):
        features, weights = super().features(x, **options)
        self.calls += 1
        return features * (1 + 3e-7 * self.calls), weights


class OverflowsInBfloat16(Toy):
    def forward_embedded(self, x, **options):
        logits = super().forward_embedded(x, **options)
        return logits / 0 if not isinstance(logits, tuple) and logits.dtype == torch.bfloat16 else logits


TINY = {"vocab_size": 7, "dim": 8, "num_layers": 1, "num_heads": 1, "glu_dim": 8}
# the check that is made for the fault comes first; those behind it cannot be passed with the fault
BROKEN = {
    WrongDim: ("shapes_are_as_promised",),
    AddsInForward: ("forward_is_embed_then_the_rest",),
    DeadParameter: ("every_parameter_gets_a_finite_gradient",),
    SeesTheFuture: (
        "the_past_does_not_see_the_future",
        "a_cache_equals_the_whole",
        "packed_sequences_are_independent",
        "padding_changes_nothing",
    ),
    Unordered: ("the_order_of_the_past_matters",),
    CountsPadding: ("padding_changes_nothing", "a_cache_equals_the_whole"),
    MixesRows: ("rows_are_independent", "padding_changes_nothing"),
    IgnoresPacking: ("packed_sequences_are_independent",),
    Forgetful: ("a_cache_equals_the_whole",),
    StateOnTheModel: ("caches_do_not_mix",),
    MapsLookAhead: ("weights_have_the_form_of_a_map",),
    LossOfIgnored: ("loss_is_of_the_targets_that_count",),
    OtherNumbersEachTime: ("same_seed_gives_the_same_numbers",),
    ForgetsOnSave: ("saved_and_restored_is_equal",),
    Noisy: ("evaluation_is_deterministic",),
    OverflowsInBfloat16: ("bfloat16_is_finite",),
}


def card(**fields):
    base = {"key": "toy", "kind": "language_model", "title": "Toy", "entry": "Toy", "tiny": TINY}
    return Card("toy", base | fields)


def failures(entry, **fields):
    failed = []
    for check in CHECKS:
        try:
            check(card(**fields), entry)
        except Exception:
            failed.append(check.__name__.removeprefix("check_"))
    return failed


def test_the_toy_passes_every_check():
    assert failures(Toy) == []


@pytest.mark.parametrize("toy", BROKEN, ids=lambda toy: toy.__name__)
def test_a_broken_model_fails_the_check_for_its_fault(toy):
    assert set(failures(toy)) == set(BROKEN[toy])


def test_defaults_that_the_class_refuses_are_found():
    assert failures(Toy, defaults={"no_such_setting": 1}) == ["builds_from_defaults"]


def test_every_check_has_a_broken_toy():
    names = {check.__name__.removeprefix("check_") for check in CHECKS}
    assert names == {names[0] for names in BROKEN.values()} | {"builds_from_defaults"}
