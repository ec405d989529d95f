"""Log-probabilities of tokens against one pass over each document."""

import numpy as np
import pytest
import torch

from salience.models.language_models import score
from salience.models.language_models.score import Window, log_probabilities, window_for
from salience.models.language_models.transformer import Transformer
from salience.models.language_models.transnormer import TransNormer

START = 16
SIZE = {"vocab_size": 17, "dim": 16, "num_layers": 2, "num_heads": 2, "glu_dim": 24}
BOTH = pytest.mark.parametrize("kind", [TransNormer, Transformer])


def build(kind):
    torch.manual_seed(0)
    model = kind(kind.Config(**SIZE)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)  # predictions that depend clearly on what was read
    return model


def documents(*lengths):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 16, length).astype(np.uint8) for length in lengths]


@torch.no_grad()
def directly(model, document, context=None, stride=None):
    """Score each token by a call of its own: its window is the first one that reaches it."""
    inputs = [START, *map(int, document)]
    found = []
    for place, token in enumerate(document):
        start = 0
        while context and place >= start + context:
            start += stride
        logits = model.eval()(torch.tensor([inputs[start : place + 1]]))[0, -1]
        found.append(float(logits.log_softmax(-1)[int(token)]))
    return found


@BOTH
@pytest.mark.parametrize("chunk", [1, 4, 64])
@pytest.mark.parametrize("tokens", [8, 10_000])
def test_carried_state_reads_everything_before(monkeypatch, kind, chunk, tokens):
    monkeypatch.setattr(score, "CHUNK", chunk)
    monkeypatch.setattr(score, "TOKENS", tokens)
    model, texts = build(kind), documents(0, 1, 5, 13, 4, 30)
    found = log_probabilities(model, texts, START, Window())
    for text, scores in zip(texts, found, strict=True):
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, directly(model, text), atol=1e-5)


@BOTH
@pytest.mark.parametrize(("context", "stride"), [(8, 4), (8, 1), (8, 8), (5, 3), (1, 1)])
def test_windows_read_what_they_say(kind, context, stride):
    model, texts = build(kind), documents(0, 1, 8, 9, 12, 13, 27)
    found = log_probabilities(model, texts, START, Window(context, stride))
    for text, scores in zip(texts, found, strict=True):
        np.testing.assert_allclose(scores, directly(model, text, context, stride), atol=1e-5)


@BOTH
@pytest.mark.parametrize("window", [Window(), Window(8, 4)])
def test_documents_do_not_touch_each_other(kind, window):
    model, texts = build(kind), documents(3, 40, 17)
    together = log_probabilities(model, texts, START, window)
    for text, scores in zip(texts, together, strict=True):
        np.testing.assert_allclose(scores, log_probabilities(model, [text], START, window)[0], atol=1e-5)


def test_usual_windows():
    assert window_for(build(TransNormer), 256) == Window()
    assert window_for(build(Transformer), 256) == Window(256, 128)
    assert "whole document" in Window().describe()
    assert Window(256, 128).describe().startswith("129 to 256 tokens")


def test_calls_are_small(monkeypatch):
    sizes = []
    model = build(Transformer)
    forward = model.forward

    def record(ids, **options):
        sizes.append(ids.numel())
        return forward(ids, **options)

    monkeypatch.setattr(model, "forward", record)
    monkeypatch.setattr(score, "LOGITS", 17 * 40)
    log_probabilities(model, documents(100, 100), START, Window(10, 5))
    log_probabilities(model, documents(9, 10, 10, 10, 10, 10), START, Window())
    assert max(sizes) <= 40


def test_the_mode_of_the_model_is_evaluation():
    model = build(TransNormer).train()
    log_probabilities(model, documents(3), START, Window())
    assert not model.training
