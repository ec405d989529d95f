"""Select-then-predict encoders: what they read, what they learn, and what training adds to their loss."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from planted import PLANTED, planted, predictor, trained
from torch import nn

from salience import Predictor
from salience.core import registry
from salience.core.errors import ConfigError, UnsupportedError
from salience.models.encoders.fresh import extract
from salience.models.rationale import share_of, together
from salience.models.slots import Tokens
from salience.testing import encoders as conformance
from salience.training import loop

DRAWN = ("rationale_reinforce", "rationale_hardkuma")
KEYS = (*DRAWN, "fresh")
EPOCHS = {"rationale_reinforce": 12, "rationale_hardkuma": 12, "fresh": 5}
ODD = ["", " ", "one", "word " * 5000, "🙂", "alpha", "never seen before"]


@pytest.fixture(scope="module")
def models():
    """Return one predictor a key, hardly trained."""
    torch.set_num_threads(1)
    return {key: trained(key, 1, rows=64, rate=0.3) for key in KEYS}


def small(key, **options):
    """Return an untrained encoder of the example rows."""
    card = registry.card("encoder", key)
    card = replace(card, fields={**card.fields, "tiny": {**card.get("tiny"), **options}})
    return conformance.build(card, registry.load("encoder", key))


def rows_of(texts):
    return pd.DataFrame({"title": texts, "review": [""] * len(texts)})


# what is learned


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_the_planted_word_is_found_read_and_enough(key):
    options = {} if key == "fresh" else {"ramp": 60}
    found, test = trained(key, EPOCHS[key], rows=500, rate=0.12, **options), planted(200, 2)
    frame = found.schema.parse(test, target=False)
    assert float((found.predict(test) == test.label).mean()) >= 0.95
    assert found.model.diagnostics(frame)["text/selected"] == pytest.approx(0.12, abs=0.03)
    selected = found.model.rationale(found.model.collate(found.model.prepare(frame)))["text"]["selected"]
    hit = [
        bool(selected[i, text.split().index(PLANTED[label])] > 0)
        for i, (text, label) in enumerate(zip(test.text, test.label, strict=True))
    ]
    assert np.mean(hit) >= 0.95


@pytest.mark.parametrize("key", KEYS)
def test_history_holds_the_rate_and_the_score_that_decides(models, key):
    history = models[key].history
    best = history.epochs[history.best_epoch]
    wanted = best["auroc"] * (1 - best.get("text/penalty", 0.0))
    assert best["penalised_score"] == pytest.approx(wanted)
    assert best["penalised_score"] == max(epoch["penalised_score"] for epoch in history.epochs)
    held = models[key].schema.parse(planted(80, 1), target=False)
    assert models[key].model.diagnostics(held)["text/selected"] == pytest.approx(best["text/selected"])


def test_a_regression_is_trained_and_its_error_is_made_worse_by_the_penalty():
    frame = planted(80, 0).assign(label=lambda f: (f.label == "yes") * 10.0 + np.arange(len(f)) / 100)
    found = predictor("rationale_hardkuma", 1).fit(frame)
    epoch = found.history.epochs[0]
    assert epoch["penalised_score"] == pytest.approx(epoch["rmse"] * (1 + epoch["text/penalty"]))
    assert np.isfinite(found.predict(frame)).all()


# what is read


def any_choice(tokens):
    """Return the tokens with words kept at random: wholly, in part, or not at all."""
    generator = torch.Generator().manual_seed(0)
    kept = (1.5 * torch.rand(tokens.mask.shape, generator=generator) - 0.75).clamp(0, 0.5) * 2
    return replace(tokens, kept=kept * tokens.mask)


@pytest.mark.parametrize("key", KEYS)
def test_words_that_are_not_kept_cannot_change_the_answer(models, key):
    model = models[key].model
    frame = models[key].schema.parse(planted(40, 3), target=False)
    with torch.no_grad():
        tokens = any_choice(model.embed(model.collate(model.prepare(frame)))["text"])
        before = model.forward_tokens({"text": tokens})
        dropped, read = (tokens.kept == 0) & tokens.mask, tokens.kept > 0
        for noise in (torch.randn_like(tokens.values), torch.full_like(tokens.values, torch.inf)):
            changed = tokens.with_values(torch.where(dropped.unsqueeze(-1), noise, tokens.values))
            assert torch.equal(model.forward_tokens({"text": changed}), before)
        noise = torch.randn_like(tokens.values)
        changed = tokens.with_values(torch.where(read.unsqueeze(-1), noise, tokens.values))
        after = model.forward_tokens({"text": changed})
        assert bool((after != before).any(1)[read.any(1)].all())


@pytest.mark.parametrize("key", KEYS)
def test_other_words_in_the_places_not_kept_leave_the_answer_bit_equal(models, key):
    model = models[key].model
    frame = models[key].schema.parse(planted(40, 4), target=False)
    batch = model.collate(model.prepare(frame))
    with torch.no_grad():
        tokens = any_choice(model.embed(batch)["text"])
        dropped = (tokens.kept == 0) & tokens.mask
        index = torch.where(
            dropped, torch.randint_like(batch["text"]["index"], 2, 12), batch["text"]["index"]
        )
        assert not torch.equal(index, batch["text"]["index"])
        others = model.embed({"text": {**batch["text"], "index": index}})["text"]
        held = replace(others, kept=tokens.kept)
        assert torch.equal(model.forward_tokens({"text": held}), model.forward_tokens({"text": tokens}))


@pytest.mark.parametrize("key", KEYS)
def test_kept_words_are_read_as_if_the_others_had_never_been_there(key):
    encoder = small(key)
    tokens = encoder.embed(encoder.collate(encoder.prepare(rows_of(["soft warm great fit poor thin"]))))
    tokens = replace(tokens, kept=torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0, 0.0]]))
    _, vector = encoder.encode(tokens)
    short = Tokens(tokens.values[:, [1, 4]], tokens.mask[:, :2], tokens.unit[:, :2], torch.ones(1, 2))
    torch.testing.assert_close(encoder.encode(short)[1], vector, atol=1e-6, rtol=0)
    nothing = replace(tokens, kept=torch.zeros(1, 6))
    context, vector = encoder.encode(nothing)
    assert not vector.any() and not context.values.any()


@pytest.mark.parametrize("key", KEYS)
def test_odd_texts(models, key):
    found = models[key]
    probabilities = found.predict_proba(pd.DataFrame({"text": ODD}))
    assert np.isfinite(probabilities.to_numpy()).all()
    frame = found.schema.parse(pd.DataFrame({"text": ODD}), target=False)
    parts = found.model.rationale(found.model.collate(found.model.prepare(frame)))["text"]
    for values in parts.values():
        assert values.shape == (len(ODD), 160)
        assert bool(((values >= 0) & (values <= 1)).all())
    together_, alone = found.predict_proba(pd.DataFrame({"text": ODD})), []
    for text in ODD:
        alone.append(found.predict_proba(pd.DataFrame({"text": [text]})).to_numpy()[0])
    np.testing.assert_allclose(together_.to_numpy(), alone, atol=1e-6)


@pytest.mark.parametrize("key", KEYS)
def test_float64(models, key):
    frame = models[key].schema.parse(planted(20, 5), target=False)
    single = models[key].model
    wanted = single.outputs(frame, calibrated=False)
    try:
        found = single.double().outputs(frame, calibrated=False)
    finally:
        single.float()
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("key", KEYS)
def test_saved_and_loaded_predicts_and_selects_the_same_bits(models, key, tmp_path):
    found, frame = models[key], planted(60, 6)
    again = Predictor.load(found.save(tmp_path / "model"))
    rows = found.schema.parse(frame, target=False)
    assert np.array_equal(again.model.outputs(rows), found.model.outputs(rows))
    parts = [m.rationale(m.collate(m.prepare(rows)))["text"]["selected"] for m in (again.model, found.model)]
    assert torch.equal(*parts)


def test_the_same_seed_gives_the_same_weights():
    one, other = (trained("rationale_reinforce", 1, rows=64) for _ in range(2))
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name])


# what training adds to the loss


def fixed(encoder, choice, batch, loss_of):
    """Return loss and auxiliary loss of each row with a given choice of words, and what REINFORCE is to minimise."""
    one_by_one = itertools.cycle(choice.unbind(1))
    encoder.draw = lambda parameters: choice if parameters.ndim == 3 else next(one_by_one)
    tokens = encoder.embed(batch)
    losses = loss_of(tokens.kept)
    extra = encoder.auxiliary_loss(losses.detach())
    share = share_of(tokens.kept, tokens.mask)
    changes = (tokens.kept[:, 1:] != tokens.kept[:, :-1]).sum(1) / tokens.mask.sum(1)
    total = losses + encoder.strength * (share - encoder.rate).abs() + encoder.coherence * changes
    logits, _ = encoder.generator(tokens.values, tokens.mask, encoder.draw)
    likelihood = torch.where(choice > 0, logits[..., 0].sigmoid(), 1 - logits[..., 0].sigmoid()).prod(1)
    return extra, total, likelihood


@pytest.mark.parametrize("baseline", ["none", "mean"])
@pytest.mark.parametrize("dependent", [False, True])
def test_the_expected_gradient_of_reinforce_is_that_of_the_expected_cost(baseline, dependent):
    options = {"reward_baseline": baseline, "ramp": 0, "coherence": 0.3, "dropout": 0.0, "word_dropout": 0.0}
    encoder = small("rationale_reinforce", dependent=dependent, **options).double().train()
    batch = encoder.collate(encoder.prepare(rows_of(["soft warm", "great fit"])))
    weights = torch.tensor([[0.3, -1.2], [2.0, 0.4]], dtype=torch.float64)

    def loss_of(kept):
        return (kept * weights).sum(1) + 1.5

    estimate, exact = 0.0, 0.0
    for bits in itertools.product([0.0, 1.0], repeat=4):
        choice = torch.tensor(bits, dtype=torch.float64).reshape(2, 2)
        extra, total, likelihood = fixed(encoder, choice, batch, loss_of)
        estimate = estimate + likelihood.prod().detach() * extra.sum()
        exact = exact + likelihood.prod() * total.detach().sum()
    parameters = list(encoder.generator.parameters())
    wanted = torch.autograd.grad(exact, parameters, allow_unused=True)
    for found, expected in zip(
        torch.autograd.grad(estimate, parameters, allow_unused=True), wanted, strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    assert max(float(g.abs().max()) for g in wanted if g is not None) > 1e-3


def test_the_penalty_of_hardkuma_is_the_distance_of_the_expected_share():
    encoder = small("rationale_hardkuma", rate=0.3, strength=2.0, ramp=4).train()
    batch = encoder.collate(encoder.prepare(rows_of(["soft warm great", "fit"])))
    for risen in (0.25, 0.5, 0.75, 1.0, 1.0):
        torch.manual_seed(0)
        encoder.embed(batch)
        extra = encoder.auxiliary_loss(torch.zeros(2))
        torch.manual_seed(0)
        with torch.no_grad():
            parts = encoder.rationale(batch)["probability"]
        shares = torch.stack([parts[0, :3].mean(), parts[1, 0]])
        torch.testing.assert_close(extra, 2.0 * risen * (shares - 0.3).abs(), atol=0.05, rtol=0.1)
    assert encoder.diagnostics(batch)["penalty"].shape == (2,)


@pytest.mark.parametrize("key", DRAWN)
def test_training_draws_and_evaluation_does_not(key):
    encoder = small(key, word_dropout=0.0)
    batch = encoder.collate(encoder.prepare(rows_of(["soft warm great fit poor thin fabric it is"] * 30)))
    kept = encoder.eval().embed(batch).kept
    assert bool((kept == kept[0]).all())
    torch.manual_seed(0)
    drawn = encoder.train().embed(batch).kept
    assert not bool((drawn == drawn[0]).all())
    assert bool(((drawn == 0) | (drawn == 1)).any()) and bool(((drawn >= 0) & (drawn <= 1)).all())
    encoder.eval().embed(batch)
    assert encoder.batches == 1


@pytest.mark.parametrize("key", DRAWN)
@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
def test_dependent_choices_pass_the_checks_of_encoders(key, check):
    card = registry.card("encoder", key)
    card = replace(card, fields={**card.fields, "tiny": {**card.get("tiny"), "dependent": True}})
    check(card, registry.load("encoder", key))


def test_a_dependent_choice_sees_the_earlier_ones():
    encoder = small("rationale_reinforce", dependent=True)
    states = torch.randn(1, 4, 12)
    logits = []
    for first in (0.0, 1.0):
        choices = iter([first, 0.0, 0.0, 0.0])
        found, _ = encoder.generator._one_by_one(states, lambda p, c=choices: torch.full((1,), next(c)))
        logits.append(found[0, :, 0])
    assert logits[0][0] == logits[1][0]
    assert bool((logits[0][1:] != logits[1][1:]).all())


# FRESH


def test_extraction_takes_the_best_stretch_or_the_best_words():
    scores = np.array([0.1, 0.5, 0.0, 0.4, 0.3, 0.1])
    assert np.flatnonzero(extract(scores, 1 / 3, True)).tolist() == [3, 4]
    assert np.flatnonzero(extract(scores, 1 / 3, False)).tolist() == [1, 3]
    assert np.flatnonzero(extract(scores, 0.01, True)).tolist() == [1]
    assert extract(scores, 1.0, True).all() and extract(scores, 1.0, False).all()
    ties = np.zeros(5)
    assert np.flatnonzero(extract(ties, 0.4, True)).tolist() == [0, 1]
    assert np.flatnonzero(extract(ties, 0.4, False)).tolist() == [0, 1]


def test_the_support_model_is_frozen_and_the_reader_shares_nothing_with_it(models):
    encoder = models["fresh"].model.encoders["text"]
    support = list(encoder.support.parameters())
    assert not any(p.requires_grad for p in support)
    own = {id(p) for p in encoder.parameters()} - {id(p) for p in support}
    assert own and own.isdisjoint(id(p) for p in support)
    encoder.train()
    assert not any(m.training for m in encoder.support.modules())
    encoder.eval()


@pytest.mark.parametrize("saliency", ["gradient", "attention"])
def test_scores_are_those_of_the_support_model(models, saliency):
    encoder, frame = models["fresh"].model.encoders["text"], planted(9, 7)
    before, encoder.saliency = encoder.saliency, saliency
    try:
        examples = [(index, column) for index, column, _ in encoder.prepare(frame)]
        found = encoder._scores(examples)
        support = encoder.support
        for (index, column), scores in zip(examples, found, strict=True):
            batch = support.collate([{"text": (index, column)}])
            if saliency == "attention":
                wanted = support.attention(batch)["text"]["source2token"][0]
            else:
                tokens = support.embed(batch)["text"]
                x = tokens.values.detach().requires_grad_()
                output = support.forward_tokens({"text": tokens.with_values(x)})
                lead = output.max() - output.min()  # of two classes
                wanted = (torch.autograd.grad(lead, x)[0] * x).sum(-1).abs()[0]
            np.testing.assert_allclose(scores, wanted.detach().numpy(), atol=1e-5)
    finally:
        encoder.saliency = before


def test_without_a_support_model_the_first_words_are_kept():
    encoder = small("fresh", rate=0.5)
    kept = encoder.embed(encoder.collate(encoder.prepare(rows_of(["soft warm great fit", "thin"])))).kept
    assert kept.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]


def test_fresh_beside_a_column_of_numbers_trains_its_support_on_the_text_alone():
    frame = planted(64, 0).assign(age=np.random.default_rng(0).normal(40, 9, 64).round(1))
    found = predictor("fresh", 1).fit(frame)
    assert list(found.model.encoders["text"].support.groups) == ["text"]
    assert set(found.model.encoders) == {"text", "number"}


# staged and interrupted training


class StopHere(Exception):
    """Stand in for a kill."""


def fit_until(key, folder, updates, monkeypatch, **options):
    """Fit, and break off after some optimiser steps of all stages; return the predictor if it got through."""
    original, done = loop.Trainer._update_average, [0]

    def update(self):
        original(self)
        done[0] += 1
        if done[0] == updates:
            raise StopHere

    monkeypatch.setattr(loop.Trainer, "_update_average", update)
    frame, held = planted(160, 0), planted(40, 1)
    asked = predictor(key, 2, **options)
    asked.config = replace(
        asked.config, training=replace(asked.config.training, checkpoint_seconds=0.0, accumulate=2)
    )
    try:
        return asked.fit(frame, validation=held, folder=folder)
    except StopHere:
        return None
    finally:
        monkeypatch.setattr(loop.Trainer, "_update_average", original)


@pytest.mark.parametrize(
    ("key", "stops"), [("rationale_reinforce", (2, 4)), ("rationale_hardkuma", (4,)), ("fresh", (2, 9))]
)
def test_interrupted_training_goes_on_to_equal_bits(key, stops, tmp_path, monkeypatch):
    whole = fit_until(key, tmp_path / "whole", -1, monkeypatch)
    for stop in stops:
        folder = tmp_path / str(stop)
        assert fit_until(key, folder, stop, monkeypatch) is None
        resumed = fit_until(key, folder, -1, monkeypatch)
        found, wanted = resumed.model.state_dict(), whole.model.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_finished_support_model_is_not_trained_again(tmp_path, monkeypatch):
    assert (
        fit_until("fresh", tmp_path, 8, monkeypatch) is None
    )  # 6 steps for the support model, 2 for the reader
    steps = []
    original = loop.Trainer._backward
    monkeypatch.setattr(
        loop.Trainer, "_backward", lambda self, batch: (steps.append(1), original(self, batch))[1]
    )
    fit_until("fresh", tmp_path, -1, monkeypatch)
    assert len(steps) == 5  # the last one was broken off before it was written down


# refusals


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("options", [{"rate": 0.0}, {"rate": 1.5}, {"ngram_dim": 4}], ids=str)
def test_impossible_options_are_refused(key, options):
    with pytest.raises(ConfigError):
        registry.load("encoder", key)(["text"], **options)


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("rationale_reinforce", {"strength": -1.0}),
        ("rationale_hardkuma", {"ramp": -1}),
        ("rationale_reinforce", {"reward_baseline": "median"}),
        ("fresh", {"saliency": "gradients"}),
        ("fresh", {"extraction": "longest"}),
    ],
    ids=str,
)
def test_unknown_values_are_refused_with_what_is_known(key, options):
    with pytest.raises(ConfigError):
        registry.load("encoder", key)(["text"], **options)


def test_tokens_that_do_not_say_what_is_kept_are_refused():
    encoder = small("rationale_hardkuma")
    tokens = encoder.embed(encoder.collate(encoder.prepare(rows_of(["soft"]))))
    with pytest.raises(UnsupportedError, match="which words are kept"):
        encoder.encode(replace(tokens, kept=None))


# parts


def test_kept_words_are_moved_together_in_their_order():
    read = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
    order, mask = together(read)
    assert order[0].tolist() == [1, 3] and order[2, 0] == 0
    assert mask.tolist() == [[True, True], [False, False], [True, False]]


def test_tokens_are_taken_and_joined_with_what_is_kept():
    values, mask = torch.randn(3, 2, 4), torch.ones(3, 2, dtype=torch.bool)
    tokens = Tokens(values, mask, torch.zeros(3, 2, dtype=torch.int64), torch.rand(3, 2))
    taken = tokens.take(torch.tensor([2, 0]))
    both = Tokens.joined([taken, tokens.take(torch.tensor([1]))])
    for name in ("values", "mask", "unit", "kept"):
        assert torch.equal(getattr(both, name), getattr(tokens, name)[[2, 0, 1]])
    assert replace(tokens, kept=None).take(torch.tensor([0])).kept is None


def test_share_of_a_row_without_words_is_zero():
    mask = torch.tensor([[True, True], [False, False]])
    assert share_of(torch.ones(2, 2), mask).tolist() == [1.0, 0.0]
    assert isinstance(small("fresh").network, nn.Module)
