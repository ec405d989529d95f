"""Contexts that begin alike are read once up to there, with the numbers of reading each from its start."""

import numpy as np
import pytest
import torch

from salience.core import registry
from salience.data.tokenizers import ByteTokenizer
from salience.explain.language import LanguageView, prefixes
from salience.explain.language.reading import CONTEXT
from salience.explain.perturb import Perturber, singles

torch.set_num_threads(1)
TEXT = "whether 'tis nobler in the mind to suffer the slings and arrows of outrageous fortune " * 2


def view(key, dtype=torch.float64, **options):
    torch.manual_seed(0)
    architecture = registry.load("language_model", key)
    config = architecture.Config(vocab_size=256, dim=16, num_layers=2, num_heads=2, glu_dim=24, init_std=0.3)
    return LanguageView(architecture(config).to(dtype).eval(), ByteTokenizer(), **options)


class Counted:
    """Count the tokens that a model reads."""

    def __init__(self, model):
        self.tokens, self.features = 0, model.features
        model.features = self

    def __call__(self, x, **options):
        self.tokens += x.shape[0] * x.shape[1]
        return self.features(x, **options)


@pytest.fixture
def eager(monkeypatch):
    monkeypatch.setattr(prefixes, "WORTH", (1, 0.0))


@pytest.mark.parametrize("key", ["transnormer", "transformer"])
@pytest.mark.parametrize("options", [{}, {"continuations": [" so", " perhaps"]}, {"removal": "blank"}])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_shared_prefixes_change_no_number(monkeypatch, eager, key, options, dtype):
    found = view(key, dtype, **options)
    rng = np.random.default_rng(0)
    rows = [{CONTEXT: TEXT}, {CONTEXT: "to"}, {CONTEXT: ""}, {CONTEXT: TEXT[:60]}]
    units = [len(found.units(row)) for row in rows]
    removed = [np.concatenate([singles(n), rng.random((4, n)) < 0.2]) for n in units]
    perturber = Perturber(found)
    shared = perturber.outputs(rows, removed)
    assert perturber.tokens_saved > 1000
    monkeypatch.setattr(prefixes, "WORTH", (10**9, 1.0))
    plain = Perturber(found)
    for a, b in zip(shared, plain.outputs(rows, removed), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10 if dtype == torch.float64 else 1e-5)
    assert plain.tokens_saved == 0


def test_fewer_tokens_are_read_and_the_stated_number_is_true(eager):
    found = view("transnormer")
    row, counted = {CONTEXT: TEXT}, Counted(found.model)
    removed = singles(len(found.units(row)))
    variants = [found._begun(e)[0] for e in found._variants(row, removed)]
    found.outputs_without([row], [removed])
    total = sum(map(len, variants))
    assert found.tokens_saved > 0.35 * total
    assert total - found.tokens_saved <= counted.tokens < 1.1 * (total - found.tokens_saved)


def test_a_short_context_is_not_worth_it():
    found = view("transnormer")
    found.outputs_without([{CONTEXT: "to be"}], [singles(2)])
    assert found.tokens_saved == 0


def test_starts_are_shared_and_leave_a_token(eager):
    whole = list(range(40))
    variants = [whole, [*whole[:20], 99], [7, *whole], whole[:1], whole[:3] + whole[5:]]
    found = prefixes.starts(whole, variants)
    for ids, start in zip(variants, found, strict=True):
        assert list(ids[:start]) == whole[:start]
        assert start < len(ids)
    assert found.tolist() == [39, 18, 0, 0, 3]
    assert prefixes.starts(whole, []).tolist() == []


@pytest.mark.parametrize("key", ["transnormer", "transformer"])
def test_copies_of_a_cache_are_its_own(key):
    model = view(key).model
    cache = model.new_cache(1)
    ids = torch.arange(6)[None]
    model(ids, cache=cache)
    before = model(torch.tensor([[9]]), cache=prefixes.copies(cache, 1))
    model(torch.tensor([[1, 2], [3, 4]]), cache=prefixes.copies(cache, 2))
    torch.testing.assert_close(model(torch.tensor([[9]]), cache=prefixes.copies(cache, 1)), before)
    assert cache.position.tolist() == [6]
